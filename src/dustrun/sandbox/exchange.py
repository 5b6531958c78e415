"""Converts values for scripts and back exactly, although JavaScript's numbers are binary floats.

| Number | In JavaScript |
|---|---|
| an integer up to 2^53 - 1, or a decimal equal to one (`2.0`) | number |
| a larger integer | BigInt |
| a fraction that a double represents with the same digits (`0.1`) | number |
| any other fraction | string of digits |

Integers that become BigInt are 0 in the JSON text and are passed separately as path and digits.
"""

from __future__ import annotations

import re
import signal
from decimal import Decimal
from typing import Any

import orjson

from dustrun.core.values import exact_json
from dustrun.errors import Code, DustrunError, Invalid, Permanent, Problem, Temporary
from dustrun.sandbox.limits import SandboxLimits

SAFE_INTEGER = 2**53 - 1
BigIntegers = list[tuple[list[str | int], str]]


def encode_input(value: Any) -> tuple[bytes, BigIntegers]:
    """The JSON text for the script and its big integers. Raises `ValueError` for values that JSON cannot represent."""
    exact_json.refuse_deep(value)
    try:
        return orjson.dumps(value, option=orjson.OPT_STRICT_INTEGER), []
    except TypeError:
        pass
    bigints: BigIntegers = []
    plain = _Plain(bigints).convert(value, [])
    try:
        return orjson.dumps(plain), bigints
    except TypeError as error:
        raise ValueError(str(error)) from None


def decode_value(text: bytes) -> Any:
    """The value a script returned. Raises `exact_json.JsonError`.

    Fractions come from doubles, some of which QuickJS prints with an extra digit: they get their shortest text here.
    """
    value = exact_json.loads(text)
    return _shortest(value) if b"." in text or b"e-" in text else value


def _shortest(value: Any) -> Any:
    if isinstance(value, Decimal):
        return Decimal(repr(float(value)))
    if isinstance(value, dict):
        return {key: _shortest(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_shortest(item) for item in value]
    return value


class _Plain:
    """Copies a value with its numbers converted for JavaScript."""

    def __init__(self, bigints: BigIntegers) -> None:
        self._bigints = bigints

    def convert(self, value: Any, path: list[str | int]) -> Any:
        if isinstance(value, bool):
            return value
        if isinstance(value, int):
            return self._integer(value, path)
        if isinstance(value, Decimal):
            return self._decimal(value, path)
        if isinstance(value, dict):
            return {key: self.convert(item, [*path, key]) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.convert(item, [*path, index]) for index, item in enumerate(value)]
        return value

    def _integer(self, value: int, path: list[str | int]) -> int:
        if -SAFE_INTEGER <= value <= SAFE_INTEGER:
            return value
        self._bigints.append((path, str(value)))
        return 0

    def _decimal(self, value: Decimal, path: list[str | int]) -> Any:
        if not value.is_finite() or value.adjusted() > exact_json.MAX_EXPONENT:
            raise ValueError(f"the number {str(value)[:40]!r} is out of range")
        if value == value.to_integral_value():
            return self._integer(int(value), path)
        double = float(value)
        return double if Decimal(repr(double)) == value else exact_json.plain_digits(value)


# Errors of scripts, which say how to fix them.


_LINES_BEFORE_CODE = 2
"""QuickJS wraps the code as `(async function anonymous(input` newline `) {` newline."""

_FRAME = re.compile(r"\(<input>:(\d{1,9})\)")
_PARSER = re.compile(r"at <input>:(\d{1,9})")
_TIME_SIGNALS = (signal.SIGPROF, signal.SIGXCPU)
_CRASH_SIGNALS = (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL)


def invalid(message: str, logs: list[str] | None = None, field: str = "code", line: int | None = None) -> Invalid:
    """An error that the author of the script can fix."""
    details: list[Problem | dict[str, Any]] = [Problem(field, message)]
    if line is not None:
        details.append({"line": line})
    if logs:
        details.append({"logs": logs})
    return Invalid(message, code=Code.ACTION_INPUT_INVALID, details=details)


def over_limit(limit: str, limits: SandboxLimits, time_ms: int, logs: list[str] | None = None) -> Invalid:
    """The error for an exceeded limit: `time`, `memory` or `output`."""
    if limit == "time":
        lowered = time_ms < limits.time_ms
        change = "raise the time limit of this call" if lowered else "the setting `sandbox_time_ms` raises the limit"
        return invalid(f"The script ran longer than {time_ms} ms and was stopped; {change}.", logs)
    if limit == "memory":
        return invalid(
            f"The script needed more than {limits.memory_mb} MiB of memory; "
            "the setting `sandbox_memory_mb` raises the limit.",
            logs,
        )
    return invalid(
        f"The script returned more than {limits.output_bytes} bytes of JSON; "
        "the setting `sandbox_output_bytes` raises the limit.",
        logs,
    )


def input_too_large(size: int, limits: SandboxLimits) -> Invalid:
    """The error for code and input that do not fit into the script's memory."""
    return invalid(
        f"Code and input have {size} bytes; with the setting `sandbox_memory_mb` at {limits.memory_mb} "
        f"at most {limits.input_bytes} can be passed.",
        field="input",
    )


def thrown(head: dict[str, Any], code: str) -> Invalid:
    """The error for a script with a syntax error or an uncaught exception."""
    error, logs = head["error"], head["logs"]
    syntax = error["phase"] == "compile"
    line = _line(_PARSER if syntax else _FRAME, error["stack"], code.count("\n") + 1)
    place = f" (line {line})" if line is not None else ""
    name = f"{error['name']}: " if error["name"] else ""
    verb = "does not parse" if syntax else "threw"
    return invalid(f"The script {verb}: {name}{error['message']}{place}", logs, line=line)


def thrown_null(limits: SandboxLimits, logs: list[str]) -> Invalid:
    """The error for a thrown `null`, which QuickJS also throws when it has too little memory to create an error."""
    return invalid(
        f"The script threw null, or needed more than {limits.memory_mb} MiB of memory, which can look the same; "
        "the setting `sandbox_memory_mb` raises the limit.",
        logs,
    )


def _line(frames: re.Pattern[str], stack: str, lines: int) -> int | None:
    """The line of the innermost stack frame in the user's code; the driver's frames are further out."""
    for found in frames.finditer(stack):
        line = int(found.group(1)) - _LINES_BEFORE_CODE
        if line >= 1:
            return min(line, lines)
    return None


def died(status: int | None, limits: SandboxLimits, time_ms: int) -> DustrunError:
    """The error for a process that ended before it answered, derived from its exit status."""
    number = -status if status is not None and status < 0 else None
    if number in _TIME_SIGNALS:
        return over_limit("time", limits, time_ms)
    if number in _CRASH_SIGNALS:
        name = signal.Signals(number).name
        # QuickJS may crash instead of throwing when one of its own allocations fails at the memory limit.
        return invalid(
            f"The script crashed its own process ({name}): too deep a nesting, numbers far too large, or more than "
            f"{limits.memory_mb} MiB of memory, which the setting `sandbox_memory_mb` raises."
        )
    if number == getattr(signal, "SIGSYS", None) and number is not None:
        return Permanent("The script's process made a forbidden system call and was killed.", code=Code.INTERNAL)
    how = f"signal {number}" if number is not None else f"exit status {status}"
    return Temporary(f"The script's process ended before it answered ({how}); the script left no trace.")


def nonsense() -> Permanent:
    """The error for an answer that the worker never sends, so the process is compromised."""
    return Permanent("The script's process gave a malformed answer and was replaced.", code=Code.INTERNAL)
