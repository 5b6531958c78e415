"""What a client tells of a run: its events, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dustrun.client.errors import RunFailed
from dustrun.records import dataclass


@dataclass(frozen=True, slots=True)
class Event:
    """One event of a run; `seq` counts from 1 without gaps, and `data` is the whole object."""

    type: str
    seq: int
    run_id: str
    at: str
    data: Mapping[str, Any]

    @property
    def node_id(self) -> str | None:
        """The node that it is about; None if it is about the run."""
        return self.data.get("nodeId")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a run that has ended; `shown` is all that the server shows of it."""

    run_id: str
    status: str
    mode: str
    passed: bool | None
    error: dict[str, Any] | None
    shown: Mapping[str, Any]

    @property
    def is_success(self) -> bool:
        """Whether it ended in success; a simulation must have passed, too."""
        return self.status == "success" and self.passed is not False

    def result(self, node_id: str) -> Any:
        """The result of one node outside of loops; fractions are `Decimal`. Raises `KeyError` for an unknown node."""
        return (self.shown.get("executionState") or {})[node_id].get("result")

    def check(self) -> Outcome:
        """This outcome, if it is a success; else raises `RunFailed`."""
        if not self.is_success:
            raise RunFailed(self.run_id, self.status, self.error)
        return self


def event_of(data: Mapping[str, Any]) -> Event:
    """An event as a stream sends it."""
    return Event(data["type"], data["seq"], data["runId"], data["at"], data)


def outcome_of(shown: Mapping[str, Any]) -> Outcome:
    """What `GET /v1/runs/{id}` shows of a run that has ended."""
    return Outcome(shown["id"], shown["status"], shown["mode"], shown.get("passed"), shown.get("error"), shown)
