"""The expression language of templates: CEL with exact numbers. See `docs/reference/expressions.md`."""

from dustrun.core.expression.payload import CompiledValue, compile_value, measure, read_value
from dustrun.core.expression.references import Reference
from dustrun.core.expression.runtime.fault import ExpressionError, ExpressionErrors
from dustrun.core.expression.runtime.limits import Limits
from dustrun.core.expression.runtime.values import Function, Lazy, Roots
from dustrun.core.expression.template import Template, parse_expression, parse_template

__all__ = [
    "CompiledValue",
    "ExpressionError",
    "ExpressionErrors",
    "Function",
    "Lazy",
    "Limits",
    "Reference",
    "Roots",
    "Template",
    "compile_value",
    "measure",
    "parse_expression",
    "parse_template",
    "read_value",
]
