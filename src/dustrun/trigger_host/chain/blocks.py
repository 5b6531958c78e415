"""What is in the blocks of one chain: read once for all subscriptions, kept for those that wait for confirmations."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import field
from typing import Final

from dustrun.chain.watching.reader import BlockReader
from dustrun.core.triggers.chain.headers import KEPT, Header
from dustrun.core.triggers.chain.queries import LogQuery, merge
from dustrun.core.triggers.chain.watch import (
    BlockFacts,
    ChainEvent,
    ChainLog,
    Found,
    NativeMove,
    SentTransaction,
    Traces,
    Watch,
    block_events,
    log_event,
    match_logs,
    move_events,
    transaction_events,
)
from dustrun.records import dataclass

_MOST_LOGS: Final = 50_000
"""Logs that are kept over all blocks; a block that is needed again after that is read again."""


@dataclass(slots=True)
class Content:
    """One block as it was read; `query` is what its logs were asked with."""

    facts: BlockFacts
    query: LogQuery | None
    logs: Sequence[ChainLog]
    moves: dict[Traces, list[NativeMove]] = field(default_factory=dict)
    transactions: list[SentTransaction] | None = None


def can_move(watch: Watch) -> Callable[[NativeMove], bool]:
    """Whether a watch wants a move."""
    match = watch.match_move
    return lambda move: match is not None and match(move) is not None


class Blocks:
    """Blocks of one chain by hash. `watches` are those of all subscriptions, whoever is served now."""

    def __init__(self, reader: BlockReader, watches: Callable[[], Sequence[Watch]]) -> None:
        self._reader = reader
        self._watches = watches
        self._kept: OrderedDict[str, Content] = OrderedDict()
        self._logs = 0
        self._query: LogQuery | None = None
        self.reads = 0
        """How often logs of a block were asked for."""

    def rearm(self) -> None:
        """Subscriptions have come or gone: blocks are asked with another query from now on."""
        self._query = merge(watch.query for watch in self._watches() if watch.query is not None)
        self._kept.clear()
        self._logs = 0

    async def events(self, header: Header, watches: Sequence[Watch]) -> list[list[ChainEvent]]:
        """The events of a block for each of these watches."""
        content = await self._content(header)
        found = [match_logs(watch, content.logs) if watch.query is not None else [] for watch in watches]
        positions = await self.positions([one for several in found for one in several])
        events = []
        for watch, several in zip(watches, found, strict=True):
            if watch.query is not None:
                events.append(place_logs(watch, content.facts, several, positions))
            elif watch.match_move is not None:
                events.append(move_events(watch, content.facts, await self._moves(header, content, watch.traces)))
            elif watch.match_transaction is not None:
                events.append(transaction_events(watch, content.facts, await self._transactions(header, content)))
            else:
                events.append(block_events(watch, content.facts))
        return events

    async def positions(self, found: Sequence[Found]) -> dict[str, int]:
        """The first log index of each transaction that has a wanted log."""
        return await self._reader.first_indexes(one.log for one in found) if found else {}

    async def _content(self, header: Header) -> Content:
        known = self._kept.get(header.hash)
        if known is not None:
            return known
        facts, logs = await self._reader.content(header, self._query)
        self.reads += 1
        content = self._kept[header.hash] = Content(facts, self._query, logs)
        self._logs += len(logs)
        while len(self._kept) > KEPT or (self._logs > _MOST_LOGS and len(self._kept) > 1):
            self._logs -= len(self._kept.popitem(last=False)[1].logs)
        return content

    async def _moves(self, header: Header, content: Content, traces: Traces) -> list[NativeMove]:
        if traces not in content.moves:
            wanting = [can_move(watch) for watch in self._watches() if watch.traces == traces and watch.match_move]
            content.moves[traces] = await self._reader.moves(
                header, traces, lambda move: any(wants(move) for wants in wanting)
            )
        return content.moves[traces]

    async def _transactions(self, header: Header, content: Content) -> list[SentTransaction]:
        if content.transactions is None:
            wanting = [match for watch in self._watches() if (match := watch.match_transaction) is not None]
            content.transactions = await self._reader.transactions(
                header, lambda sent: any(wants(sent) is not None for wants in wanting)
            )
        return content.transactions


def place_logs(watch: Watch, block: BlockFacts, found: Sequence[Found], first: dict[str, int]) -> list[ChainEvent]:
    """The events of matched logs of one block."""
    return [log_event(watch, block, one, one.log.index - first[one.log.transaction_hash]) for one in found]
