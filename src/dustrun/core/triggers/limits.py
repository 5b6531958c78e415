"""Whether an event may start a run: the workflow's status, its remaining runs, its cooldown."""

from __future__ import annotations

from typing import Final

from dustrun.core.values.exact_json import loads
from dustrun.records import dataclass

EXHAUSTED = "max_runs_exhausted"
"""Why a workflow is paused that has no runs left."""


MAX_DEPTH: Final = 10
"""How many runs in a row the server's own events may start."""
OF_THE_SERVER: Final = frozenset(
    {"workflow-finished", "run-finished", "transaction", "approval", "trigger-failed", "connector-failed"}
)
"""The triggers for what happens in the server."""
_KEEP_DEPTH: Final = OF_THE_SERVER | {"table-row"}
"""The triggers whose events say how deep they are."""


@dataclass(frozen=True, slots=True)
class StartLimits:
    """The limits on runs that a workflow's triggers start, as they are in the transaction that decides."""

    status: str
    remain_runs: int | None
    cooldown_ms: int | None
    last_triggered_at: int | None


@dataclass(frozen=True, slots=True)
class Admit:
    """The event starts a run. `remain_runs`: how many may follow; `takes_last`: none, so the workflow pauses."""

    remain_runs: int | None = None

    @property
    def takes_last(self) -> bool:
        """Whether the workflow has no runs left after this one."""
        return self.remain_runs == 0


@dataclass(frozen=True, slots=True)
class Skip:
    """The event starts nothing: a word for programs, a sentence for people."""

    reason: str
    message: str


def decide(limits: StartLimits, now: int) -> Admit | Skip:
    """Whether an event at `now` starts a run. A clock that was set back counts as within the cooldown."""
    if limits.remain_runs is not None and limits.remain_runs <= 0:
        return Skip("exhausted", "The workflow has no runs left; refill it.")
    if limits.status != "active":
        return Skip("paused" if limits.status == "paused" else "inactive", f"The workflow is {limits.status}.")
    if limits.cooldown_ms and limits.last_triggered_at is not None:
        left = limits.last_triggered_at + limits.cooldown_ms - now
        if left > 0:
            return Skip("cooldown", f"Within the cooldown of {limits.cooldown_ms} ms, for another {left} ms.")
    return Admit(None if limits.remain_runs is None else limits.remain_runs - 1)


def through_of(source: str, payload: str) -> list[str]:
    """The workflows whose runs led to a run by the server's own events, oldest first, as `depth_of` counts them."""
    found = loads(payload).get("through") if source in _KEEP_DEPTH else None
    return [one for one in found if isinstance(one, str)] if isinstance(found, list) else []


def depth_of(source: str, payload: str) -> int:
    """How many runs in a row, itself included, the server's own events had started with a run: its source and payload,
    as JSON. Of a called run, ask with those of the run at the root of the calls."""
    found = loads(payload).get("depth") if source in _KEEP_DEPTH else None
    return found if isinstance(found, int) and not isinstance(found, bool) else 0
