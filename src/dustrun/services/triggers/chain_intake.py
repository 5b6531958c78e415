"""Takes events of chains: each starts one run, whatever reorgs do to its block; and what was removed is told of.

An event's identity is its transaction and what it says there. A transaction that comes back in another block brings the
same events, also in other places within it: they start no second run. Only if a run has told of a removal
(`onReorg: retract`), another one tells that the event is back, and with which values, so that what the workflow did and
undid ends as the chain does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import count
from typing import Any, Final

from dustrun.core.triggers.chain.cursor import Cursor
from dustrun.core.triggers.chain.identity import KnownEvent, content_of, match, position_of, subject_of
from dustrun.core.triggers.chain.watch import ChainEvent, ChainWatch
from dustrun.core.triggers.event import CursorMove, TriggerEvent
from dustrun.core.triggers.limits import Skip
from dustrun.core.values.exact_json import dumps_text, loads_own
from dustrun.records import dataclass
from dustrun.services.triggers import recording
from dustrun.services.triggers.intake import FireOptions, Intake
from dustrun.services.triggers.recording import EventFailure
from dustrun.services.triggers.subscriptions import Subscription
from dustrun.storage.db.database import Database
from dustrun.storage.db.statement import Tx
from dustrun.storage.db.writer import Writer
from dustrun.storage.triggers import chain_events, events
from dustrun.storage.triggers.chain_events import ChainEventRow
from dustrun.storage.triggers.events import EventRow

RETRACTED: Final = "retracted"
RESTORED: Final = "restored"
_MODES: Final = ("simulate", "dust", "live")
_DELETED: Final = EventFailure(
    "content_deleted", "The event's content was deleted, as the organisation's retention says."
)


@dataclass(frozen=True, slots=True)
class _Known:
    """The knowledge of an event: where it is, its record, and the record of what runs were told of it last, in which
    mode."""

    place: ChainEventRow | None
    first: EventRow | None
    told: EventRow | None = None
    mode: str = "live"

    @property
    def is_told_gone(self) -> bool:
        """Whether runs were last told that it was removed."""
        return (
            self.told is not None
            and self.first is not None
            and self.told.key.startswith(f"{self.first.key}:{RETRACTED}")
        )

    @property
    def content(self) -> dict[str, Any] | None:
        """The event's last content; None if that was deleted, or nothing is known of it."""
        row = self.told or self.first
        payload = loads_own(row.payload) if row is not None else None
        return None if payload is None else content_of(payload)


class ChainIntake:
    """Records events of chains through the intake, together with the block that each is in."""

    def __init__(self, database: Database, writer: Writer, intake: Intake) -> None:
        self._database = database
        self._writer = writer
        self._intake = intake

    async def move(self, sub: Subscription, version: int, cursor: Cursor) -> int:
        """Moves the cursor alone; its new version."""
        return await self._intake.move(sub, CursorMove(version, cursor.public()))

    async def identify(self, sub: Subscription, events: Sequence[ChainEvent]) -> list[ChainEvent]:
        """The events of one block, under the keys by which they are known: all of a transaction at once, since which
        one is which depends on the others."""
        if not events:
            return []

        def query(tx: Tx) -> dict[str, str]:
            found: dict[str, str] = {}
            for subject in dict.fromkeys(subject_of(event.key) for event in events):
                found |= _identified(tx, sub.pk, [event for event in events if subject_of(event.key) == subject])
            return found

        names = await self._database.read(query)
        return [_named(event, names.get(event.key, event.key)) for event in events]

    async def record(
        self,
        sub: Subscription,
        watch: ChainWatch,
        event: ChainEvent,
        move: tuple[int, Cursor | None],
        rest: Sequence[ChainEvent] = (),
    ) -> int:
        """Takes an identified event that is in a canonical block, and moves the cursor (version and new value) with it;
        without a new value it stays. `rest`: the next events of its transaction, which are noted with it: if nobody
        comes to record them before a reorg, it is still known which is which. Returns the cursor's version after
        that."""
        known = await self._database.read(lambda tx: _known(tx, sub.pk, event.key))
        expected, cursor = move[0], sub.cursor if move[1] is None else move[1].public()
        is_stale = (
            known.told is not None and not known.is_told_gone and known.content not in (None, content_of(event.payload))
        )
        if is_stale and watch.on_reorg == "retract" and known.place is not None:
            # nobody was told of its removal, and it has other values now
            await self._tell_gone(sub, known, known.place, CursorMove(expected, _before(cursor, event)))
            expected += 1
            known = await self._database.read(lambda tx: _known(tx, sub.pk, event.key))
        place = _place(sub, event)
        if known.place is not None:
            place = replace(place, retractions=known.place.retractions)
        options = FireOptions(
            given=None if event.failure is None else Skip("filter", event.failure),
            beside=_noting(sub, rest, lambda tx: chain_events.save(tx, place)),
        )
        key, payload = event.key, dict(event.payload)
        if known.place is not None and not known.place.is_live and known.first is not None:
            if known.is_told_gone:
                key, number = await self._new_key(sub, event.key, RESTORED, place.retractions)
                place, payload = replace(place, retractions=number), {**payload, "reorg": RESTORED}
            options = FireOptions(
                beside=_noting(sub, rest, _restore(place, known.place, known.first, event)),
                is_correction=known.is_told_gone,
                mode=_mode(sub, known),
            )
        await self._intake.fire(
            sub, TriggerEvent(key, payload, event.block.time * 1000), CursorMove(expected, cursor), options
        )
        return expected + 1

    async def retract(self, sub: Subscription, watch: ChainWatch, row: ChainEventRow, move: CursorMove) -> None:
        """Marks an event whose block a reorg removed; with `onReorg: retract` a run tells of it.

        Raises `CursorMoved` unless the trigger is armed and where the caller read it, which the `move` says: a watcher
        that was overtaken does not know the blocks that another one has scanned."""
        known = await self._database.read(lambda tx: _known(tx, sub.pk, row.key))
        before = known.first
        if before is None:
            return await self._move_with(sub, move, lambda tx: chain_events.save(tx, replace(row, is_live=0)))
        if watch.on_reorg != "retract" or known.told is None or known.is_told_gone:
            gone = replace(row, is_live=0, was=_outcome_text(before))
            return await self._move_with(sub, move, lambda tx: _remove(tx, gone, before))
        await self._tell_gone(sub, known, row, move)

    async def _tell_gone(self, sub: Subscription, known: _Known, row: ChainEventRow, move: CursorMove) -> None:
        """Takes back what runs were told last, which may be more or less than they were told first."""
        before, told = known.first, known.told
        assert before is not None
        assert told is not None
        key, number = await self._new_key(sub, row.key, RETRACTED, row.retractions + 1)
        was = _outcome_text(before) if row.is_live else row.was
        gone = replace(row, is_live=0, was=was, retractions=number)
        content = loads_own(told.payload)
        place = {"blockNumber": row.block_number, "blockHash": row.block_hash, "reorg": RETRACTED}
        options = FireOptions(
            given=_DELETED if content is None else None,
            beside=lambda tx: _remove(tx, gone, before),
            is_correction=True,
            mode=_mode(sub, known),
        )
        await self._intake.fire(sub, TriggerEvent(key, {**(content or {}), **place}, told.occurred_at), move, options)

    async def follow(self, sub: Subscription, row: ChainEventRow, event: ChainEvent, move: CursorMove) -> None:
        """Notes that an event is in another block than before: whoever ran it need not be told. Raises as `retract`."""
        before = await self._database.read(lambda tx: events.find_by_key(tx, sub.pk, row.key))
        place = replace(_place(sub, event), retractions=row.retractions)
        if before is None:
            place = replace(place, content=row.content)
            return await self._move_with(sub, move, lambda tx: chain_events.save(tx, place))
        await self._move_with(sub, move, _restore(place, replace(row, was=_outcome_text(before)), before, event))

    async def says_the_same(self, sub: Subscription, event: ChainEvent) -> bool:
        """Whether an identified event says what runs were told of it last."""
        known = await self._database.read(lambda tx: _known(tx, sub.pk, event.key))
        return known.told is None or known.content in (None, content_of(event.payload))

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


def _identified(tx: Tx, subscription_pk: int, events: Sequence[ChainEvent]) -> dict[str, str]:
    """The known keys of one transaction's events in one block, by the keys that their positions give them; empty if
    these are the same."""
    chain_id, first = int(events[0].key.split(":")[0]), events[0]
    subject, block = subject_of(first.key), first.block.hash
    if subject != first.key.split(":")[1]:
        return {}  # the height is all that there is to a block
    if not chain_events.has_odd(tx, subscription_pk, chain_id, subject, block):
        return {}
    places = {row.key: row for row in chain_events.list_of(tx, subscription_pk, chain_id, subject)}
    known = []
    for key in dict.fromkeys([*places, *(event.key for event in events)]):
        one, row = _known(tx, subscription_pk, key), places.get(key)
        if one.first is not None or row is not None:
            seen = row.seen if row is not None else None
            is_live = row is not None and row.is_live
            content = one.content
            if one.first is None and row is not None and row.content is not None:
                content = loads_own(row.content)
            known.append(
                KnownEvent(key, seen or position_of(key), content, row.block_hash if row and is_live else None)
            )
    return match(block, events, known)


def _named(event: ChainEvent, key: str) -> ChainEvent:
    position = position_of(event.key)
    return replace(event, key=key, seen=None if key == event.key else position)


def _place(sub: Subscription, event: ChainEvent) -> ChainEventRow:
    subject = subject_of(event.key)
    return ChainEventRow(sub.pk, event.key, event.block.number, event.block.hash, subject=subject, seen=event.seen)


def _noting(sub: Subscription, rest: Sequence[ChainEvent], unit: Callable[[Tx], None]) -> Callable[[Tx], None]:
    """A unit's work, and then notes of events that nobody knows yet."""
    rows = [replace(_place(sub, event), content=dumps_text(content_of(event.payload))) for event in rest]

    def both(tx: Tx) -> None:
        unit(tx)
        for row in rows:
            if chain_events.find(tx, sub.pk, row.key) is None and events.find_by_key(tx, sub.pk, row.key) is None:
                chain_events.save(tx, row)

    return both if rows else unit


def _before(cursor: Any, event: ChainEvent) -> Any:
    """A cursor ahead of an event, if it would be behind it."""
    at = Cursor.of(cursor)
    if at is None or at.hash != event.block.hash:
        return cursor
    return Cursor(at.number, at.hash, event.place - 1).public()


def _known(tx: Tx, subscription_pk: int, key: str) -> _Known:
    place, first = chain_events.find(tx, subscription_pk, key), events.find_by_key(tx, subscription_pk, key)
    if first is None:
        return _Known(place, first, None)
    most = place.retractions if place is not None else 0
    names = [f"{key}:{word}{number}" for number in range(most, 0, -1) for word in (RESTORED, RETRACTED)]
    for name in (*names, key):
        row = events.find_by_key(tx, subscription_pk, name)
        modes = events.list_run_modes(tx, row) if row is not None else []
        if row is not None and modes:
            return _Known(place, first, row, max(modes, key=_MODES.index))
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
    changed = content is not None and content_of(content) != content_of(event.payload)
    message += ", with other values than its run has." if changed else "."

    def unit(tx: Tx) -> None:
        chain_events.save(tx, place)
        events.restore(tx, before.pk, was["outcome"], was["reason"], message)

    return unit
