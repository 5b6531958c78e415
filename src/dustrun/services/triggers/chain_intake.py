"""Takes events of chains: each starts one run, whatever reorgs do to its block; and what was removed is told of.

An event's identity is its transaction and the position in it. A transaction that comes back in another block is the
same event, also if it has moved within its transaction: it starts no second run. Only if a run has told of its removal
(`onReorg: retract`), another one tells that it is back, so that what the workflow did and undid ends as the chain does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import count
from typing import Any, Final

from dustrun.core.triggers.chain.cursor import Cursor
from dustrun.core.triggers.chain.headers import KEPT
from dustrun.core.triggers.chain.watch import ChainEvent, Watch
from dustrun.core.triggers.event import CursorMove, TriggerEvent
from dustrun.core.triggers.limits import Skip
from dustrun.core.values.exact_json import dumps_text, loads_own
from dustrun.records import dataclass
from dustrun.services.triggers import recording
from dustrun.services.triggers.intake import FireOptions, Intake
from dustrun.services.triggers.recording import Failure, Fired
from dustrun.services.triggers.subscriptions import Subscription
from dustrun.storage.db.database import Database
from dustrun.storage.db.statement import Tx
from dustrun.storage.db.writer import Writer
from dustrun.storage.triggers import chain_events, events
from dustrun.storage.triggers.chain_events import ChainEventRow
from dustrun.storage.triggers.events import EventRow

RETRACTED: Final = "retracted"
RESTORED: Final = "restored"
_PLACE: Final = frozenset(
    {"blockNumber", "blockHash", "blockTime", "transactionIndex", "logIndex", "position", "foundIn", "path", "reorg"}
)
_MOVED_WITHIN: Final = 2 * KEPT
"""For so many blocks an event is looked for at another position in its transaction."""
_MODES: Final = ("simulate", "dust", "live")
_DELETED: Final = Failure("content_deleted", "The event's content was deleted, as the organisation's retention says.")


@dataclass(frozen=True, slots=True)
class _Known:
    """What is known of an event: where it is, its record, and the key and mode of what a run was told of it last."""

    place: ChainEventRow | None
    first: EventRow | None
    told: str | None = None
    mode: str = "live"

    @property
    def is_told_gone(self) -> bool:
        """Whether runs were last told that it was removed."""
        return (
            self.told is not None and self.first is not None and self.told.startswith(f"{self.first.key}:{RETRACTED}")
        )


class ChainIntake:
    """Records events of chains through the intake, together with the block that each is in."""

    def __init__(self, database: Database, writer: Writer, intake: Intake) -> None:
        self._database = database
        self._writer = writer
        self._intake = intake
        self._removed: dict[int, int] = {}
        """By subscription, the highest block of an event that a reorg removed, or one of long ago."""

    def begin(self) -> None:
        """Another server may have watched until now."""
        self._removed.clear()

    async def move(self, sub: Subscription, version: int, cursor: Cursor) -> int:
        """Moves the cursor alone; its new version."""
        return await self._intake.move(sub, CursorMove(version, cursor.public()))

    async def record(self, sub: Subscription, event: ChainEvent, move: tuple[int, Cursor | None]) -> Fired:
        """Takes an event that is in a canonical block, and moves the cursor (version and new value) with it; without a
        new value it stays."""
        known, event = await self._database.read(lambda tx: self._known_as(tx, sub.pk, event))
        place = ChainEventRow(sub.pk, event.key, event.block.number, event.block.hash)
        place = replace(place, retractions=known.place.retractions if known.place is not None else 0)
        moved = CursorMove(move[0], sub.cursor if move[1] is None else move[1].public())
        options = FireOptions(
            given=None if event.failure is None else Skip("filter", event.failure),
            beside=lambda tx: chain_events.save(tx, place),
        )
        key, payload = event.key, dict(event.payload)
        if known.place is not None and not known.place.is_live and known.first is not None:
            if known.is_told_gone:
                key, number = await self._new_key(sub, event.key, RESTORED, place.retractions)
                place, payload = replace(place, retractions=number), {**payload, "reorg": RESTORED}
            options = FireOptions(
                beside=_restore(place, known.place, known.first, event),
                is_correction=known.is_told_gone,
                mode=_mode(sub, known),
            )
        return await self._intake.fire(sub, TriggerEvent(key, payload, event.block.time * 1000), moved, options)

    async def retract(self, sub: Subscription, watch: Watch, row: ChainEventRow, move: CursorMove) -> None:
        """Marks an event whose block a reorg removed; with `onReorg: retract` a run tells of it.

        Raises `CursorMoved` unless the trigger is armed and where the caller read it, which the `move` says: a watcher
        that was overtaken does not know the blocks that another one has scanned."""
        known = await self._database.read(lambda tx: _known(tx, sub.pk, row.key))
        self._removed.pop(sub.pk, None)
        before = known.first
        if before is None:
            return await self._move_with(sub, move, lambda tx: chain_events.save(tx, replace(row, is_live=0)))
        gone = replace(row, is_live=0, was=_outcome_text(before))
        if watch.on_reorg != "retract" or known.told is None or known.is_told_gone:
            return await self._move_with(sub, move, lambda tx: _remove(tx, gone, before))
        key, number = await self._new_key(sub, row.key, RETRACTED, row.retractions + 1)
        gone = replace(gone, retractions=number)
        content = loads_own(before.payload)
        place = {"blockNumber": row.block_number, "blockHash": row.block_hash, "reorg": RETRACTED}
        options = FireOptions(
            given=_DELETED if content is None else None,
            beside=lambda tx: _remove(tx, gone, before),
            is_correction=True,
            mode=_mode(sub, known),
        )
        told = TriggerEvent(key, {**(content or {}), **place}, before.occurred_at)
        await self._intake.fire(sub, told, move, options)

    async def follow(self, sub: Subscription, row: ChainEventRow, event: ChainEvent, move: CursorMove) -> None:
        """Notes that an event is in another block than before: whoever ran it need not be told. Raises as `retract`."""
        before = await self._database.read(lambda tx: events.find_by_key(tx, sub.pk, row.key))
        place = replace(row, block_number=event.block.number, block_hash=event.block.hash)
        if before is None:
            return await self._move_with(sub, move, lambda tx: chain_events.save(tx, place))
        await self._move_with(sub, move, _restore(place, replace(row, was=_outcome_text(before)), before, event))

    def _known_as(self, tx: Tx, subscription_pk: int, event: ChainEvent) -> tuple[_Known, ChainEvent]:
        """What is known of an event, with the key under which it is. In another order of transactions the same one may
        emit a log more before it: at a new position it is the removed event of its transaction that says the same."""
        known = _known(tx, subscription_pk, event.key)
        if known.first is not None:
            return known, event
        if subscription_pk not in self._removed:
            self._removed[subscription_pk] = chain_events.find_highest_removed(tx, subscription_pk)
        if event.block.number - self._removed[subscription_pk] > _MOVED_WITHIN:
            return known, event
        for key in chain_events.list_removed_of(tx, subscription_pk, event.key.rpartition(":")[0]):
            before = events.find_by_key(tx, subscription_pk, key)
            content = loads_own(before.payload) if before is not None else None
            if content is not None and _content(content) == _content(event.payload):
                return _known(tx, subscription_pk, key), replace(event, key=key)
        return known, event

    async def _move_with(self, sub: Subscription, move: CursorMove, unit: Callable[[Tx], None]) -> None:
        def both(tx: Tx) -> None:
            recording.move_alone(tx, sub.row, move)
            unit(tx)

        await self._writer.write(both)

    async def _new_key(self, sub: Subscription, key: str, word: str, first: int) -> tuple[str, int]:
        """The first key from this number on that no event has, with its number: one may have been refused."""

        def query(tx: Tx) -> tuple[str, int]:
            names = ((f"{key}:{word}{number}", number) for number in count(first))
            return next(one for one in names if events.find_by_key(tx, sub.pk, one[0]) is None)

        return await self._database.read(query)


def _known(tx: Tx, subscription_pk: int, key: str) -> _Known:
    place, first = chain_events.find(tx, subscription_pk, key), events.find_by_key(tx, subscription_pk, key)
    if place is None or first is None:
        return _Known(place, first, None)
    names = [f"{key}:{word}{number}" for number in range(place.retractions, 0, -1) for word in (RESTORED, RETRACTED)]
    for name in (*names, key):
        row = events.find_by_key(tx, subscription_pk, name)
        modes = events.list_run_modes(tx, row) if row is not None else []
        if modes:
            return _Known(place, first, name, max(modes, key=_MODES.index))
    return _Known(place, first)


def _mode(sub: Subscription, known: _Known) -> str:
    """A correction's mode: what was only rehearsed is corrected in a rehearsal, also when the trigger is live now."""
    return min(sub.row.mode, known.mode, key=_MODES.index)


def _outcome_text(row: EventRow) -> str:
    return dumps_text({"outcome": row.outcome, "reason": row.reason, "message": row.message})


def _remove(tx: Tx, gone: ChainEventRow, before: EventRow) -> None:
    chain_events.save(tx, gone)
    message = f"A reorg removed block {gone.block_number} ({gone.block_hash}), which it was in."
    events.orphan(tx, before.pk, "reorg", message)


def _restore(place: ChainEventRow, known: ChainEventRow, before: EventRow, event: ChainEvent) -> Callable[[Tx], None]:
    assert known.was is not None
    was, content = loads_own(known.was), loads_own(before.payload)
    message = f"A reorg removed block {known.block_number}; it came back in block {place.block_number}"
    changed = content is not None and _content(content) != _content(event.payload)
    message += ", with other values than its run has." if changed else "."

    def unit(tx: Tx) -> None:
        chain_events.save(tx, place)
        events.restore(tx, before.pk, was["outcome"], was["reason"], message)

    return unit


def _content(payload: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in payload.items() if name not in _PLACE}
