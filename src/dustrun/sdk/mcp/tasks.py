"""Tools that run as tasks: a call begins one, and its end is asked for until it has come (revision 2025-11-25)."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any, Final

from dustrun.errors import DustrunError, Permanent, Temporary, Uncertain
from dustrun.sdk.mcp.wires import Refusal, Wire, excerpt

Json = dict[str, Any]
_OVER: Final = frozenset({"completed", "failed"})
_LEAST_MS, _MOST_MS, _USUAL_S = 50, 5_000, 1.0
_CANCEL_S: Final = 5.0


async def end_of(wire: Wire, tool: str, begun: Json, timeout_s: float, *, only_reads: bool) -> Json:
    """What the tool answers, once its task has ended. Raises `TimeoutError` when the time is up, after it has told the
    server to cancel; `Uncertain` when a task that may have written is lost."""
    task = begun.get("task")
    name = task.get("taskId") if isinstance(task, dict) else None
    if not isinstance(task, dict) or not isinstance(name, str):
        raise _lost(f'The tool "{tool}" runs only as a task, and its server began none', only_reads=only_reads)
    is_over = False
    try:
        async with asyncio.timeout(timeout_s):
            while task.get("status") not in _OVER:
                _check(tool, task, only_reads=only_reads)
                await asyncio.sleep(_pause_s(task.get("pollInterval")))
                task = await _ask(wire, "tasks/get", name, timeout_s, only_reads=only_reads)
            is_over = True
            failed = task["status"] == "failed"
            return await _ask(wire, "tasks/result", name, timeout_s, only_reads=only_reads, has_failed=failed)
    finally:
        if not is_over:
            with suppress(DustrunError, TimeoutError):
                await wire.ask("tasks/cancel", {"taskId": name}, _CANCEL_S, only_reads=True)


async def _ask(
    wire: Wire, method: str, task: str, timeout_s: float, *, only_reads: bool, has_failed: bool = False
) -> Json:
    """Asks for a task that has begun. Whatever fails here says nothing of a write: it goes on, or is done."""
    try:
        return await wire.ask(method, {"taskId": task}, timeout_s, only_reads=only_reads)
    except (Temporary, Permanent) as error:
        if only_reads or (has_failed and isinstance(error, Refusal)):
            raise
        raise Uncertain(f"{error.message} The tool had begun, so it may have done its work.") from None


def _check(tool: str, task: Json, *, only_reads: bool) -> None:
    """Raises unless the task goes on."""
    status = task.get("status")
    if status == "input_required":
        raise _lost(f'The tool "{tool}" asks back, and nobody is there', only_reads=only_reads)
    if status != "working":
        raise _lost(f'The task of the tool "{tool}" is {excerpt(status)}', only_reads=only_reads)


def _lost(why: str, *, only_reads: bool) -> DustrunError:
    return Permanent(f"{why}.") if only_reads else Uncertain(f"{why}; it may have done its work.")


def _pause_s(interval: Any) -> float:
    """What the server asks for, in milliseconds, within bounds."""
    if isinstance(interval, bool) or not isinstance(interval, int):
        return _USUAL_S
    return min(max(interval, _LEAST_MS), _MOST_MS) / 1000
