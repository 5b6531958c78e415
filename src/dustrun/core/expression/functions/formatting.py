"""`format()` with CEL's `%` clauses. A template can never look up a value by name."""

from __future__ import annotations

import re
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any

from dustrun.core.expression import operators
from dustrun.core.expression.border import as_text
from dustrun.core.expression.fault import Fault
from dustrun.core.expression.operators import is_number
from dustrun.core.expression.values import Meter, kind

MAX_PRECISION = 100
_CLAUSE = re.compile(r"%(?:\.([0-9]{1,3}))?(.?)", re.DOTALL)


def format_text(meter: Meter, template: str, values: list[Any]) -> str:
    """Fills the clauses of a template in order."""
    out: list[str] = []
    last = size = used = 0
    for match in _CLAUSE.finditer(template):
        out.append(template[last : match.start()])
        last = match.end()
        if match.group(2) == "%":
            out.append("%")
        else:
            if used >= len(values):
                raise Fault("value", f"format(): there are more clauses than the {len(values)} values")
            out.append(_fill(meter, match, values[used]))
            used += 1
        size += len(out[-1]) + len(out[-2])
        meter.grow(size)
        meter.charge(1)
    if used < len(values):
        raise Fault("value", f"format(): there are {len(values)} values for {used} clauses")
    return "".join(out) + template[last:]


def _fill(meter: Meter, match: re.Match[str], value: Any) -> str:
    precision, clause = match.groups()
    digits = 6 if precision is None else int(precision)
    if digits > MAX_PRECISION:
        raise Fault("limit", f"format(): at most {MAX_PRECISION} digits after the decimal point")
    if clause == "s":
        return as_text(meter, value)
    if clause == "f" and is_number(value):
        return _fixed(value, digits)
    if clause == "e" and is_number(value):
        return _scientific(value, digits)
    if clause in ("d", "b", "o") and isinstance(value, int):
        return format(int(value), clause)
    if clause in ("x", "X"):
        return _hex(value, clause)
    if clause in ("d", "f", "e", "b", "o"):
        raise Fault("type", f"format(): %{clause} does not take a {kind(value)}")
    raise Fault("value", "format(): the clauses are %s %d %f %.2f %e %b %o %x %X and %%")


def _fixed(value: int | Decimal, digits: int) -> str:
    scale = Decimal(1).scaleb(-digits)
    return format(Decimal(value).quantize(scale, rounding=ROUND_HALF_EVEN, context=_FIXED), "f")


_FIXED = operators.WIDE.copy()
_FIXED.traps = operators.CONTEXT.traps


def _scientific(value: int | Decimal, digits: int) -> str:
    mantissa, _, exponent = format(Decimal(value), f".{digits}e").partition("e")
    return f"{mantissa}e{exponent[0]}{exponent[1:].rjust(2, '0')}"


def _hex(value: Any, clause: str) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return format(value, clause)
    if isinstance(value, str | bytes):
        digits = (value.encode("utf-8", "replace") if isinstance(value, str) else value).hex()
        return digits.upper() if clause == "X" else digits
    raise Fault("type", f"format(): %{clause} does not take a {kind(value)}")
