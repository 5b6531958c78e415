"""Errors of scripts, which say how to fix them."""

from __future__ import annotations

import re
import signal
from typing import Any

from dustrun.errors import Code, DustrunError, Invalid, Permanent, Problem, Temporary
from dustrun.sandbox.limits import Limits

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


def over_limit(limit: str, limits: Limits, time_ms: int, logs: list[str] | None = None) -> Invalid:
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


def input_too_large(size: int, limits: Limits) -> Invalid:
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


def thrown_null(limits: Limits, logs: list[str]) -> Invalid:
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


def died(status: int | None, limits: Limits, time_ms: int) -> DustrunError:
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
