"""Contents of the blocks of one chain: read once for all subscriptions that scan them at the same depth.

A node may have a block before it has its logs. So what was read of a block while few others were on top of it serves
nobody who waits for more: it is read again.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import field
from typing import Final

from dustrun.chain.watching import BlockReader
from dustrun.core.triggers.chain.headers import KEPT, Header
from dustrun.core.triggers.chain.queries import LogQuery, merge
from dustrun.core.triggers.chain.watch import (
    BlockFacts,
    ChainEvent,
    ChainLog,
    ChainWatch,
    MatchedLog,
    NativeMove,
    SentTransaction,
    Traces,
    block_events,
    log_event,
    match_logs,
    move_events,
    transaction_events,
)
from dustrun.errors import DustrunError, Temporary
from dustrun.records import dataclass
from dustrun.sdk.threads import in_pieces

_MOST_LOGS: Final = 50_000
"""Logs that are kept over all blocks; a block that is needed again after that is read again."""


@dataclass(slots=True)
class BlockContent:
    """One block as it was read with so many others on top of it. `first`: the first log index of transactions."""

    facts: BlockFacts
    depth: int
    logs: Sequence[ChainLog]
    first: dict[str, int] = field(default_factory=dict)
    moves: dict[Traces, list[NativeMove]] = field(default_factory=dict)
    transactions: list[SentTransaction] | None = None
    locks: dict[str, asyncio.Lock] = field(default_factory=lambda: defaultdict(asyncio.Lock))


def can_move(watch: ChainWatch) -> Callable[[NativeMove], bool]:
    """Whether a watch wants a move."""
    match = watch.match_move
    return lambda move: match is not None and match(move) is not None


class Blocks:
    """Blocks of one chain by hash. `watches` are those of all subscriptions, whoever is served now."""

    def __init__(self, reader: BlockReader, watches: Callable[[], Sequence[ChainWatch]]) -> None:
        self._reader = reader
        self._watches = watches
        self._kept: OrderedDict[str, BlockContent] = OrderedDict()
        self._reading: dict[tuple[str, int], asyncio.Task[BlockContent]] = {}
        self._logs = 0
        self._wanted: list[LogQuery] = []
        self._query: LogQuery | None = None

    def rearm(self) -> None:
        """Subscriptions have come or gone: blocks are asked with another query from now on."""
        self._wanted = list(dict.fromkeys(watch.query for watch in self._watches() if watch.query is not None))
        self._query = merge(self._wanted)
        self._kept.clear()
        self._reading.clear()
        self._logs = 0

    async def events(self, header: Header, watch: ChainWatch, depth: int) -> list[ChainEvent]:
        """The events of a block for a watch; `depth`: how many others are on top of it."""
        try:
            content = await self._content(header, depth, _needed(watch, depth))
        except DustrunError:  # of what others ask for, too; it may be able to go on alone
            wanted = [watch.query] if watch.query is not None else []
            facts, logs = await self._reader.content(header, watch.query, wanted, depth)
            content = BlockContent(facts, depth, logs)
        if watch.query is not None:
            found = await matching(watch, content.logs)
            await self._place(content, found)
            return await placed(watch, [(content.facts, one) for one in found], content.first)
        if watch.match_move is not None:
            return move_events(watch, content.facts, await self._moves(header, content, watch.traces))
        if watch.match_transaction is not None:
            return transaction_events(watch, content.facts, await self._transactions(header, content))
        return block_events(watch, content.facts)

    async def _place(self, content: BlockContent, found: Sequence[MatchedLog]) -> None:
        async with content.locks["first"]:
            left = [one.log for one in found if one.log.transaction_hash not in content.first]
            if left:
                content.first |= await self._reader.first_indexes(left)

    async def _content(self, header: Header, depth: int, needed: int) -> BlockContent:
        known = self._kept.get(header.hash)
        if known is not None and known.depth >= needed:
            return known
        reading = (task for (hash, at), task in self._reading.items() if hash == header.hash and at >= needed)
        task = next(reading, None)
        if task is None:
            name = (header.hash, depth)
            task = self._reading[name] = asyncio.get_running_loop().create_task(self._read(header, depth))
            task.add_done_callback(lambda done: self._read_done(name, done))
        return await asyncio.shield(task)

    def _read_done(self, name: tuple[str, int], done: asyncio.Task[BlockContent]) -> None:
        if self._reading.get(name) is done:
            del self._reading[name]
        if not done.cancelled():
            done.exception()  # whoever waited has it

    async def _read(self, header: Header, depth: int) -> BlockContent:
        query = self._query
        facts, logs = await self._reader.content(header, query, self._wanted, depth)
        content = BlockContent(facts, depth, logs)
        if query == self._query:
            before = self._kept.pop(header.hash, None)
            self._logs += len(logs) - (len(before.logs) if before is not None else 0)
            self._kept[header.hash] = content
        while len(self._kept) > KEPT or (self._logs > _MOST_LOGS and len(self._kept) > 1):
            self._logs -= len(self._kept.popitem(last=False)[1].logs)
        return content

    async def _moves(self, header: Header, content: BlockContent, traces: Traces) -> list[NativeMove]:
        async with content.locks[traces]:
            if traces not in content.moves:
                wanting = [can_move(watch) for watch in self._watches() if watch.traces == traces and watch.match_move]
                content.moves[traces] = await self._reader.moves(
                    header, traces, lambda move: any(wants(move) for wants in wanting)
                )
            return content.moves[traces]

    async def _transactions(self, header: Header, content: BlockContent) -> list[SentTransaction]:
        async with content.locks["transactions"]:
            if content.transactions is None:
                wanting = [match for watch in self._watches() if (match := watch.match_transaction) is not None]
                content.transactions = await self._reader.transactions(
                    header, lambda sent: any(wants(sent) is not None for wants in wanting)
                )
            return content.transactions


def _needed(watch: ChainWatch, depth: int) -> int:
    """How many blocks must have been on top of a block when it was read: as many as its watch waits for, even if there
    are more by now. A watch that failed at one block finds those beside it as they were read."""
    return min(depth, watch.confirmations) if isinstance(watch.confirmations, int) else depth


async def matching(watch: ChainWatch, logs: Sequence[ChainLog]) -> list[MatchedLog]:
    """The logs that a subscription wants, in the same order; of many, without holding up the loop."""
    return await in_pieces(lambda part: match_logs(watch, part), logs)


async def placed(
    watch: ChainWatch, found: Sequence[tuple[BlockFacts, MatchedLog]], first: Mapping[str, int]
) -> list[ChainEvent]:
    """The events of matched logs; raises `Temporary` if nothing says where in its transaction one is."""

    def place(part: Sequence[tuple[BlockFacts, MatchedLog]]) -> Iterator[ChainEvent]:
        for block, one in part:
            hash = one.log.transaction_hash
            if hash not in first:
                message = (
                    f"The node has neither the receipt nor all logs of transaction {hash} in block {block.number}."
                )
                raise Temporary(message, retry_after_s=1)
            yield log_event(watch, block, one, one.log.index - first[hash])

    return await in_pieces(place, found)
