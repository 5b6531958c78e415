"""The expression language of templates: CEL with exact numbers. See `docs/reference/expressions.md`."""

from dustrun.core.expression.fault import ExpressionError, ExpressionErrors
from dustrun.core.expression.references import Reference
from dustrun.core.expression.template import (
    CompiledValue,
    Template,
    compile_value,
    measure,
    parse_expression,
    parse_template,
    read_value,
)
from dustrun.core.expression.values import DEFAULT_LIMITS, TRIAL, EvaluationLimits, Function, Lazy, OverTrial, Roots

__all__ = [
    "DEFAULT_LIMITS",
    "TRIAL",
    "CompiledValue",
    "EvaluationLimits",
    "ExpressionError",
    "ExpressionErrors",
    "Function",
    "Lazy",
    "OverTrial",
    "Reference",
    "Roots",
    "Template",
    "compile_value",
    "measure",
    "parse_expression",
    "parse_template",
    "read_value",
]
