"""Finds the events that a trigger would have had in the past.

A schedule computes them, a chain still has them; of the other kinds, the event log has those that were received.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any, Final, Protocol

from dustrun.core.triggers.schedules.preview import payload_of
from dustrun.core.values.exact_json import loads
from dustrun.errors import Invalid, Problem
from dustrun.records import dataclass
from dustrun.sdk.threads import run_beside
from dustrun.sdk.trigger import Trigger
from dustrun.storage.db.database import Database
from dustrun.storage.triggers import events as event_rows
from dustrun.storage.triggers.events import EventRow

MOST_EVENTS: Final = 200


@dataclass(frozen=True, slots=True)
class Period:
    """The past that is asked for: moments in milliseconds UTC, or blocks of the trigger's chain, both inclusive."""

    from_ms: int | None = None
    to_ms: int | None = None
    from_block: int | None = None
    to_block: int | None = None


@dataclass(frozen=True, slots=True)
class PastEvent:
    """An event of the past: when, what the trigger would have handed over, and the blocks whose state its run would
    have met, by chain id. `headers` and `query` are of an inbound request."""

    key: str
    payload: dict[str, Any]
    occurred_at: int
    blocks: Mapping[int, int] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)

    def public(self) -> dict[str, Any]:
        """As JSON."""
        blocks = {str(chain_id): number for chain_id, number in self.blocks.items()}
        shown = {"key": self.key, "payload": self.payload, "occurredAt": self.occurred_at, "blocks": blocks}
        return {**shown, "headers": dict(self.headers), "query": dict(self.query)}

    @classmethod
    def of(cls, shown: Mapping[str, Any]) -> PastEvent:
        """Parses `public()`."""
        blocks = {int(chain_id): number for chain_id, number in shown["blocks"].items()}
        inbound = shown.get("headers", {}), shown.get("query", {})  # those stored by an earlier version have none
        return cls(shown["key"], shown["payload"], shown["occurredAt"], blocks, *inbound)


@dataclass(frozen=True, slots=True)
class PastTrigger:
    """The trigger whose past is asked for."""

    org_id: str
    workflow_id: str
    node_id: str
    trigger: Trigger
    config: Any


class FindsEvents(Protocol):
    """Finds the past events of one kind of trigger, oldest first, and at most `count`."""

    async def find(self, asked: PastTrigger, period: Period, count: int) -> Sequence[PastEvent]:
        """Raises `Invalid` for a period that it cannot search."""
        ...


class TimedEvents:
    """The fires of a schedule."""

    async def find(self, asked: PastTrigger, period: Period, count: int) -> Sequence[PastEvent]:
        """Computes them, beside the event loop."""
        return await run_beside(_fires, asked, moments_of(period), count)


class RecordedEvents:
    """The events in the log: what a webhook received, what a poll found."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, asked: PastTrigger, period: Period, count: int) -> Sequence[PastEvent]:
        """Reads them, whatever became of them then."""
        from_ms, to_ms = moments_of(period)
        rows = await self._database.read(
            lambda tx: event_rows.list_between(tx, asked.workflow_id, asked.node_id, from_ms, to_ms, count)
        )
        return [_recorded(row) for row in rows]


def _recorded(row: EventRow) -> PastEvent:
    request = loads(row.request) if row.request is not None else {}
    inbound = {name: request.get(name, {}) for name in ("headers", "query")}
    return PastEvent(row.key, loads(row.payload), row.occurred_at, **inbound)


def moments_of(period: Period) -> tuple[int, int]:
    """The period in milliseconds; raises `Invalid` if it is one of blocks."""
    if period.from_ms is None or period.to_ms is None:
        raise Invalid(
            "This trigger has no blocks; say `from` and `to`.",
            details=[Problem("from", "is needed, for example 2026-01-01T00:00:00Z"), Problem("to", "is needed")],
        )
    return period.from_ms, period.to_ms


def _fires(asked: PastTrigger, between: tuple[int, int], count: int) -> list[PastEvent]:
    trigger, (from_ms, to_ms) = asked.trigger, between
    assert trigger.next_fire is not None, "a timed trigger has one"
    found: list[PastEvent] = []
    zone_name = trigger.policy(asked.config).zone_name
    at = trigger.next_fire(asked.config, from_ms - 1, None)
    while at is not None and at <= to_ms and len(found) < count:
        found.append(PastEvent(str(at), payload_of(zone_name, at), at))
        at = trigger.next_fire(asked.config, at, None)
    return found
