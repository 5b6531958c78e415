"""The time limit of a node: its `timeoutMs`, else the setting `default_timeout_ms`. Everything that keeps one is here.

An attempt of an action is cancelled by an alarm that all attempts of a run share. A spend is limited while it is
planned: what it signed takes as long as the chain needs. A called run is waited for until `timeoutMs`, and without end
otherwise.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import field
from typing import TypeVar

from dustrun.core.workflow.program import ProgramNode
from dustrun.engine.node.outcome import Failed, Job, Outcome, Unknown, request_facts
from dustrun.errors import Temporary
from dustrun.records import dataclass
from dustrun.settings import Settings

T = TypeVar("T")


def limit_ms(job: Job, settings: Settings) -> int:
    """How long an attempt may take."""
    return job.node.node.timeout_ms or settings.default_timeout_ms


def _message(job: Job, settings: Settings) -> str:
    return f"No answer within {limit_ms(job, settings)} ms (timeoutMs of the node, setting default_timeout_ms)."


def timed_out(job: Job, settings: Settings) -> Outcome:
    """The outcome of an attempt that exceeded its time limit."""
    message = _message(job, settings)
    if job.may_have_happened:
        return Unknown(f"{message} It may have happened.", request_facts(job, sent=True))
    return Failed("TIMEOUT", message, retryable=True, facts=job.simulated_facts)


async def plan_within(job: Job, settings: Settings, plan: Awaitable[T]) -> T:
    """The result of a spend's plan; raises `Temporary` after the time limit."""
    try:
        async with asyncio.timeout(limit_ms(job, settings) / 1000):
            return await plan
    except TimeoutError:
        raise Temporary(f"{_message(job, settings)} Nothing was signed.") from None


def call_until(node: ProgramNode, now: int) -> int | None:
    """Until when a called run is waited for, in milliseconds UTC."""
    limit = node.node.timeout_ms
    return None if limit is None else now + limit


def call_timed_out(facts: dict[str, object], run_id: str) -> Failed:
    """The outcome of a call whose run took longer."""
    return Failed("TIMEOUT", f"The called run {run_id} did not end in time (timeoutMs of the node).", facts=facts)


@dataclass(slots=True)
class Alarm:
    """Cancels the attempts of a run whose time limit has passed. One timer serves all of them: most end long before it
    fires, so a timer for each would be wasted."""

    _limits: dict[str, tuple[float, asyncio.Task[None]]] = field(default_factory=dict)
    _timer: asyncio.TimerHandle | None = None
    _late: set[str] = field(default_factory=set)

    def watch(self, path: str, task: asyncio.Task[None], limit_ms: int) -> None:
        """Gives an attempt its time from now."""
        loop = asyncio.get_running_loop()
        at = loop.time() + limit_ms / 1000
        self._limits[path] = (at, task)
        self._set(at, loop)

    def is_late(self, path: str) -> bool:
        """Whether an attempt was cancelled because its time was over."""
        return path in self._late

    def forget(self, path: str) -> None:
        """An attempt has ended."""
        self._limits.pop(path, None)
        self._late.discard(path)

    def stop(self) -> None:
        """Cancels nothing more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _set(self, at: float, loop: asyncio.AbstractEventLoop) -> None:
        if self._timer is not None:
            if self._timer.when() <= at:
                return
            self._timer.cancel()
        self._timer = loop.call_at(at, self._ring, loop)

    def _ring(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer, now = None, loop.time()
        for path, (at, task) in list(self._limits.items()):
            if at <= now:
                del self._limits[path]
                self._late.add(path)
                task.cancel()
        if self._limits:
            self._set(min(at for at, _ in self._limits.values()), loop)
