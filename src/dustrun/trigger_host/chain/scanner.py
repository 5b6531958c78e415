"""Scans blocks for subscriptions, walks back from blocks that a reorg removed, and finds where their events went."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from contextlib import aclosing
from functools import partial
from itertools import groupby
from typing import Any, Final

from dustrun.chain.watching import BlockReader, ChainMoved, LeftBranch, SeenBlock, TooMuch
from dustrun.core.triggers.chain.cursor import Cursor, ResumedSubscription
from dustrun.core.triggers.chain.headers import KEPT, Header
from dustrun.core.triggers.chain.identity import subject_of
from dustrun.core.triggers.chain.queries import merge
from dustrun.core.triggers.chain.watch import BlockFacts, ChainEvent, MatchedLog
from dustrun.core.triggers.event import CursorMove
from dustrun.records import dataclass
from dustrun.services.triggers.chain_intake import ChainIntake
from dustrun.services.triggers.chain_store import ChainStore
from dustrun.services.triggers.recording import CursorMoved
from dustrun.storage.triggers.chain_events import ChainEventRow
from dustrun.trigger_host.chain.blocks import Blocks, matching, placed
from dustrun.trigger_host.chain.headers import Headers
from dustrun.trigger_host.chain.watched import WatchedSubscription

_FIRST_RANGE: Final = 500
_LARGEST_RANGE: Final = 5000
_AT_ONCE: Final = 16
_NOTED: Final = 500
"""So many events of one transaction are noted at once."""
Change = Callable[[CursorMove], Awaitable[None]]


@dataclass(slots=True)
class ScannerParts:
    """The parts that a scanner works with."""

    reader: BlockReader
    headers: Headers
    blocks: Blocks
    store: ChainStore
    intake: ChainIntake


class Scanner:
    """Scans one chain. `stale` is called with a subscription whose row must be read again."""

    def __init__(self, parts: ScannerParts, stale: Callable[[WatchedSubscription], None]) -> None:
        self._parts = parts
        self._stale = stale
        self._range = _FIRST_RANGE

    @property
    def is_range_refused(self) -> bool:
        """Whether not even the smallest range is answered; blocks are read one by one for once."""
        if self._range > 1:
            return False
        self._range = _FIRST_RANGE // 8
        return True

    async def settle(self, one: WatchedSubscription) -> bool:
        """Walks a subscription back if its block is not canonical any more. False: a reorg went deeper than the stored
        headers."""
        assert one.at is not None
        headers, at = self._parts.headers.chain, one.at
        if headers.is_canonical(at.number, at.hash):
            return True
        ancestor = headers.ancestor(at.hash)
        if ancestor is None:
            return not headers.knows(at.hash) and await self.is_on_chain(at)
        kept = headers.hashes_above(ancestor.number)  # they may change while the rows are read
        rows = await self._parts.store.events_above(one.sub, ancestor.number)
        gone = [row for row in rows if row.block_hash not in kept]
        if await self._retract(one, gone, at):
            one.forgotten = None
            await self.move(one, Cursor(ancestor.number, ancestor.hash))
        return True

    async def begin(self, one: WatchedSubscription, start: Header) -> None:
        """Sets where a subscription begins. It may have watched before: reorgs since then may have removed what it has
        recorded, or brought back what had been removed. What is in another block by now was only moved: no later scan
        comes by there. Blocks that it leaves out become a gap."""
        rows = await self._parts.store.events_above(one.sub, -1)
        numbers = sorted({row.block_number for row in rows})
        blocks = dict(zip(numbers, await self._parts.reader.blocks(numbers), strict=True))
        head = self._parts.headers.chain.newest
        gone = [row for row in rows if _is_gone(row, blocks[row.block_number], head)]
        removed = await self._parts.store.removed_above(one.sub, start.number - KEPT)
        found = await _find_moved(self._parts, one, [*gone, *removed], start.number)
        changes: list[Change] = []
        for row in gone:
            if row.key in found:
                event = found[row.key]
                is_told = one.watch.on_reorg == "retract" and not await self._parts.intake.says_the_same(one.sub, event)
                follow = partial(self._parts.intake.follow, one.sub, row, event)
                changes += self._told_anew(one, row, event) if is_told else [follow]
        changes += [partial(self._restore, one, found[row.key]) for row in removed if row.key in found]
        gone = [row for row in gone if row.key not in found]
        if not (await self._change(one, changes, None) and await self._retract(one, gone, None)):
            return
        left_out = ResumedSubscription.of(one.sub.cursor)
        if left_out is not None and left_out.first <= start.number:
            await self.skip(one, left_out.first, Cursor(start.number, start.hash), left_out.reason)
        else:
            await self.move(one, Cursor(start.number, start.hash))

    async def skip(self, one: WatchedSubscription, first: int, last: Cursor, reason: str) -> None:
        """Leaves out blocks up to this one, which become a gap."""
        try:
            version = await self._parts.store.skip(one.sub, one.version, first, last, reason)
        except CursorMoved:
            self._stale(one)
        else:
            one.moved(last, version)

    def _told_anew(self, one: WatchedSubscription, row: ChainEventRow, event: ChainEvent) -> list[Change]:
        """Takes back what runs were told of an event, and tells what it says in its new block."""
        retract = partial(self._parts.intake.retract, one.sub, one.watch, row)
        return [retract, partial(self._restore, one, event)]

    async def _restore(self, one: WatchedSubscription, event: ChainEvent, move: CursorMove) -> None:
        await self._parts.intake.record(one.sub, one.watch, event, (move.expected, None))

    async def _retract(self, one: WatchedSubscription, rows: Sequence[ChainEventRow], at: Cursor | None) -> bool:
        """Takes back what reorgs have removed; the cursor stays there. False: the row must be read again."""
        retract = self._parts.intake.retract
        return await self._change(one, [partial(retract, one.sub, one.watch, row) for row in rows], at)

    async def _change(self, one: WatchedSubscription, changes: Sequence[Change], at: Cursor | None) -> bool:
        """Changes what is known of events; the cursor stays there. False: the row must be read again."""
        place = one.sub.cursor if at is None else at.public()  # without a place it may say where not to begin
        for change in changes:
            try:
                await change(CursorMove(one.version, place))
            except CursorMoved:
                self._stale(one)
                return False
            one.version += 1
        return True

    async def is_on_chain(self, at: Cursor) -> bool:
        """Whether a block is on the chain now."""
        (block,) = await self._parts.reader.blocks([at.number])
        if block is None:
            raise ChainMoved  # the endpoint lags
        return block.header.hash == at.hash

    async def by_blocks(self, one: WatchedSubscription, first: int, last: Callable[[], int]) -> None:
        """Scans the next blocks of a subscription, up to the `last` one, which may change meanwhile."""
        async with aclosing(self._read(one, first, last)) as blocks:
            async for header, events in blocks:
                assert one.at is not None
                if one.at.hash != (header.hash if one.at.number == header.number else header.parent):
                    raise (
                        ChainMoved if self._parts.headers.chain.is_canonical(one.at.number, one.at.hash) else LeftBranch
                    )
                await self._take(one, header, events())
                if one.at.next <= header.number:
                    return  # the row must be read again

    async def _read(
        self, one: WatchedSubscription, first: int, last: Callable[[], int]
    ) -> AsyncGenerator[tuple[Header, Callable[[], list[ChainEvent]]], None]:
        """Blocks and what gives their events, or raises why they could not be read. Some are read at once: with a slow
        endpoint, one after the other would take longer than the chain takes for new ones. Each comes when it is there,
        and others are begun as soon as the chain has them: newer ones often take longer, since their logs are in doubt.
        Raises `LeftBranch` for a block that a reorg removes meanwhile."""
        reads: dict[int, tuple[Header, asyncio.Task[list[ChainEvent]]]] = {}
        number = first
        try:
            while number <= last():
                await self._begin(one, reads, range(number, min(last() + 1, number + _AT_ONCE)))
                header, task = reads[number]
                either: list[asyncio.Future[Any]] = [task, self._parts.headers.changing()]
                await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
                if self._parts.headers.chain.hash_at(number) not in (None, header.hash):
                    raise LeftBranch
                if task.done():
                    yield header, reads.pop(number)[1].result
                    number += 1
        finally:
            for _, task in reads.values():
                task.cancel()
            await asyncio.gather(*(task for _, task in reads.values()), return_exceptions=True)

    async def _begin(
        self, one: WatchedSubscription, reads: dict[int, tuple[Header, asyncio.Task[list[ChainEvent]]]], numbers: range
    ) -> None:
        """Begins to read blocks; those whose headers are not stored only together, as one exchange gives their
        headers. The first is always begun: where headers were left out at a leap, a later one may be read already."""
        chain = self._parts.headers.chain
        wanted = [number for number in numbers if number not in reads]
        found = {number: chain.get(hash) for number in wanted if (hash := chain.hash_at(number)) is not None}
        if not reads or not (numbers[0] in reads or numbers[0] in found):
            others = await self._by_number([number for number in wanted if number not in found])
            found |= {number: block.header for number, block in others.items()}
        for number, header in found.items():
            reads[number] = header, asyncio.ensure_future(self._events(one, header))

    async def _events(self, one: WatchedSubscription, header: Header) -> list[ChainEvent]:
        return await self._parts.blocks.events(header, one.watch, self._parts.headers.depth_of(header))

    async def _take(self, one: WatchedSubscription, header: Header, events: Sequence[ChainEvent]) -> None:
        """Records what a subscription found in a block, oldest first, each event with a move of the cursor."""
        assert one.at is not None
        done = one.at.done if one.at.number == header.number and one.at.done is not None else -1
        left = [event for event in await self._parts.intake.identify(one.sub, events) if event.place > done]
        for event, rest in _with_rest(left):
            is_last = event is left[-1]
            cursor = Cursor(header.number, header.hash, None if is_last else event.place)
            if not await self._record(one, event, cursor, rest):
                return
        one.at = Cursor(header.number, header.hash)
        one.got_on()
        if one.is_unsaved:
            await self.move(one, one.at)
        elif left:
            await self._forget(one, header.number)

    async def _record(
        self, one: WatchedSubscription, event: ChainEvent, cursor: Cursor, rest: Sequence[ChainEvent]
    ) -> bool:
        try:
            version = await self._parts.intake.record(one.sub, one.watch, event, (one.version, cursor), rest)
        except CursorMoved:
            self._stale(one)
            return False
        one.moved(cursor, version)
        return True

    async def move(self, one: WatchedSubscription, cursor: Cursor) -> None:
        """Stores how far a subscription is."""
        try:
            version = await self._parts.intake.move(one.sub, one.version, cursor)
        except CursorMoved:
            self._stale(one)
            return
        one.moved(cursor, version)
        await self._forget(one, cursor.number)

    async def _forget(self, one: WatchedSubscription, number: int) -> None:
        """Forgets now and then where events are that are too deep below a block to be removed."""
        if one.forgotten is None or number - one.forgotten >= KEPT:
            one.forgotten = number
            await self._parts.store.forget_events(one.sub, number - KEPT)

    # --- catching up ---

    async def _take_range(
        self,
        one: WatchedSubscription,
        end: Header,
        several: Sequence[tuple[BlockFacts, MatchedLog]],
        indexes: dict[str, int],
    ) -> None:
        """Records what a range has for a subscription."""
        assert one.at is not None
        first = one.at.next
        wanted = await placed(one.watch, [found for found in several if found[0].number >= first], indexes)
        for _, of_block in groupby(wanted, key=lambda event: event.block.number):
            for event, rest in _with_rest(await self._parts.intake.identify(one.sub, list(of_block))):
                if not await self._record(one, event, Cursor(event.block.number, event.block.hash, event.place), rest):
                    return
        await self.move(one, Cursor(end.number, end.hash))

    def by_place(self, due: Sequence[WatchedSubscription]) -> list[list[WatchedSubscription]]:
        """Groups subscriptions that want a range by what one read gives to all of a group: one that is far behind holds
        up nobody who is further on."""
        groups: list[list[WatchedSubscription]] = []
        last = -1
        for step, one in sorted(((one.range, one) for one in due if one.range is not None), key=lambda it: it[0].first):
            if not groups or step.first > last:
                groups.append([])
                last = step.first + self._range - 1
            groups[-1].append(one)
            last = min(last, step.last)
        return groups

    async def read_range(self, due: Sequence[WatchedSubscription]) -> dict[int, Callable[[], Awaitable[None]]]:
        """Reads as many blocks as fit into one read, for subscriptions that want a range; what is left to do for each,
        without those that are not on the chain any more.

        Each log's block is compared with the header, and the end of the range must be the same block before and after:
        then all blocks between were of one chain."""
        reader, queries = self._parts.reader, [one.watch.query for one in due if one.watch.query is not None]
        query = merge(queries)
        assert query is not None
        first = min(one.range.first for one in due if one.range is not None)
        wanted_last = min(one.range.last for one in due if one.range is not None)
        head = self._parts.headers.chain.newest
        while True:
            last = min(wanted_last, first + self._range - 1)
            try:
                before, logs = await reader.logs_between(first, last, query, queries, head.number if head else last)
                break
            except TooMuch:  # it is never said of a single block
                self._range = max(1, min(self._range, last - first + 1) // 2)
        self._range = min(self._range * 2, _LARGEST_RANGE)
        alike: dict[tuple[str, str], list[MatchedLog]] = {}
        for one in due:  # the same trigger, in several workflows
            name = one.sub.row.type, one.sub.row.config
            if name not in alike:
                alike[name] = await matching(one.watch, logs)
        found = {id(one): alike[one.sub.row.type, one.sub.row.config] for one in due}
        every = [one for several in alike.values() for one in several]
        wanted = {one.log.block_number for one in every}
        wanted |= {one.at.number for one in due if one.at is not None} | {last}
        blocks = await self._by_number(sorted(wanted))
        if before.header != blocks[last].header:
            raise ChainMoved
        if any(blocks[one.log.block_number].header.hash != one.log.block_hash for one in every):
            raise ChainMoved
        first_indexes = await reader.first_indexes(one.log for one in every) if every else {}
        taken: dict[int, Callable[[], Awaitable[None]]] = {}
        for one in due:
            if one.at is None or one.at.next > last or blocks[one.at.number].header.hash != one.at.hash:
                continue  # `settle` finds out
            several = [(blocks[match.log.block_number].facts, match) for match in found[id(one)]]
            taken[id(one)] = partial(self._take_range, one, before.header, several, first_indexes)
        return taken

    async def _by_number(self, numbers: Sequence[int]) -> dict[int, SeenBlock]:
        found: dict[int, SeenBlock] = {}
        for start in range(0, len(numbers), 64):
            part = numbers[start : start + 64]
            for number, block in zip(part, await self._parts.reader.blocks(part), strict=True):
                if block is None:
                    raise ChainMoved
                found[number] = block
        return found

    async def replay(self, one: WatchedSubscription, first: int, last: int) -> bool:
        """Scans the blocks of a gap; the cursor stays where it is. False: the row must be read again, and these blocks
        are still to be scanned."""
        assert one.at is not None
        async with aclosing(self._read(one, first, lambda: last)) as blocks:
            async for _, events in blocks:
                for event, rest in _with_rest(await self._parts.intake.identify(one.sub, events())):
                    if not await self._record(one, event, one.at, rest):
                        return False
        return True


def _with_rest(events: Sequence[ChainEvent]) -> Iterator[tuple[ChainEvent, Sequence[ChainEvent]]]:
    """Each event with those of its transaction that are to be noted with it: the next ones, so many at a time."""
    for _, group in groupby(events, key=lambda event: subject_of(event.key)):
        of_one = list(group)
        for number, event in enumerate(of_one):
            yield event, of_one[number + 1 : number + _NOTED] if number % (_NOTED - 1) == 0 else ()


def _is_gone(row: ChainEventRow, block: SeenBlock | None, head: Header | None) -> bool:
    """Whether a reorg removed the block of an event; not known of a block that is too old for the node."""
    if block is None:
        return head is not None and row.block_number > head.number
    return block.header.hash != row.block_hash


async def _find_moved(
    parts: ScannerParts, one: WatchedSubscription, gone: Sequence[ChainEventRow], last: int
) -> dict[str, ChainEvent]:
    """Of a subscription's events whose blocks were removed, those that are in another block up to the last one, by key.
    The block that a receipt names is only where to look: what is in the canonical block of that height counts."""
    found: dict[str, ChainEvent] = {}
    keys = {row.key for row in gone}
    numbers = sorted(number for number in await _heights(parts.reader, gone) if number <= last)
    for block in await parts.reader.blocks(numbers):
        if block is None:
            raise ChainMoved
        events = await parts.blocks.events(block.header, one.watch, parts.headers.depth_of(block.header))
        named = await parts.intake.identify(one.sub, events)
        found |= {event.key: event for event in named if event.key in keys}
    return found


async def _heights(reader: BlockReader, gone: Sequence[ChainEventRow]) -> set[int]:
    """Where these events may be: of a transaction wherever it is now, of a block where it was."""
    transactions = {row.key.split(":")[1] for row in gone if not _is_of_block(row)}
    return await reader.heights(sorted(transactions)) | {row.block_number for row in gone if _is_of_block(row)}


def _is_of_block(row: ChainEventRow) -> bool:
    return subject_of(row.key) != row.key.split(":")[1]
