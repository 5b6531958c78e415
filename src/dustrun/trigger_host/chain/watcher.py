"""Watches one chain for all its subscriptions: follows its head, and scans each block once it has the confirmations."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final

from dustrun import log
from dustrun.chain.endpoints import NotThisChain
from dustrun.chain.watching.reader import ChainMoved, SeenBlock
from dustrun.core.triggers.chain.cursor import Cursor, Scan, Skip, plan
from dustrun.core.triggers.chain.headers import KEPT
from dustrun.core.triggers.chain.watch import FINALIZED, target_of
from dustrun.errors import DustrunError, Temporary
from dustrun.services.triggers.recording import CursorMoved
from dustrun.trigger_host.chain.headers import HeadWentBack
from dustrun.trigger_host.chain.scanner import Parts, Scanner
from dustrun.trigger_host.chain.watched import Watched

_logger = log.get(__name__)
_SHORTEST_MS: Final = 50
_LONGEST_MS: Final = 5_000
_LONGEST_BACKOFF_MS: Final = 30_000
_PER_LOOK: Final = 64
_OFTEN: Final = 20
"""After so many looks in a row that found other blocks than before, the log says so: after a reorg it is one or two."""
_TOO_DEEP: Final = (
    "A reorg removed block {number} ({hash}), up to which this trigger had scanned, and reaches deeper than the "
    f"{KEPT} headers that are stored."
)
Find = Callable[[str], Awaitable[Watched | None]]


class ChainWatcher:
    """The loop of one chain. `most` is how many missed blocks are scanned after a downtime."""

    def __init__(self, chain_id: int, parts: Parts, find: Find, most: int) -> None:
        self._chain_id = chain_id
        self._parts = parts
        self._find = find
        self._most = most
        self._scanner = Scanner(parts, self._mark_stale)
        self._watched: dict[str, Watched] = {}
        self._stale: dict[str, Watched] = {}
        self._wake = asyncio.Event()
        self._looking = asyncio.Lock()
        self._is_loaded = False
        self._genesis: str | None = None

    @property
    def watched(self) -> list[Watched]:
        """Its subscriptions, by age."""
        return list(self._watched.values())

    async def arm(self, one: Watched) -> None:
        """Watches for a subscription, from now on or with its newer row."""
        async with self._looking:
            self._watched[one.sub.id] = one
            one.gaps = await self._parts.store.replaying(one.sub)
            self._parts.blocks.rearm()
        self._wake.set()

    async def disarm(self, subscription_id: str) -> bool:
        """Watches for it no more; whether it did."""
        async with self._looking:
            was = self._watched.pop(subscription_id, None)
            if was is not None:
                self._parts.blocks.rearm()
            return was is not None

    async def work(self) -> None:
        """Looks for as long as there are subscriptions; never returns."""
        failures = moves = 0
        while True:
            self._wake.clear()
            try:
                wait_ms: float | None = 0 if await self.look() else self._every_ms
                failures = moves = 0
            except ChainMoved:
                moves += 1
                if moves in (_OFTEN, 10 * _OFTEN):
                    message = "the blocks of a chain do not fit together, or a node lacks some of what is in them"
                    _logger.warning(message, chain_id=self._chain_id, times=moves)
                wait_ms = self._every_ms / 2
            except Exception as error:
                self._log(error, failures)
                wait_ms = min(self._every_ms * 2 ** min(failures, 10), _LONGEST_BACKOFF_MS)
                failures += 1
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(None if not self._watched else (wait_ms or 0) / 1000):
                    await self._wake.wait()

    def _log(self, error: Exception, failures: int) -> None:
        if not isinstance(error, DustrunError):
            _logger.error("watching a chain failed", chain_id=self._chain_id, exc_info=error)
        elif failures in (0, 10):
            _logger.warning("a chain could not be watched", chain_id=self._chain_id, error=error.message)

    @property
    def _every_ms(self) -> float:
        block_ms = self._parts.reader.chain.network.block_time_ms
        return max(_SHORTEST_MS, min(block_ms // 3, _LONGEST_MS))

    async def look(self) -> bool:
        """Looks once; True if there is more to scan at once."""
        async with self._looking:
            if not self._watched:
                return False
            await self._reread()
            if not await self._is_the_chain():
                return False
            head = await self._parts.reader.head()
            try:
                await self._parts.headers.follow(head)
            except NotThisChain as error:
                await self._fail_all(error.message)
                return False
            except HeadWentBack as back:
                await self._stop_ahead(back)
                return False
            for one in self.watched:
                if not one.is_resting:
                    await self._scanner.guarded(one, partial(self._settle, one, head))
            return await self._scan(head)

    async def _settle(self, one: Watched, head: SeenBlock) -> None:
        """Makes sure that a subscription stands on a canonical block."""
        if one.at is None:
            await self._begin(one, head)
        elif not await self._scanner.settle(one):
            await self._fail(one, _TOO_DEEP.format(number=one.at.number, hash=one.at.hash))

    async def _is_the_chain(self) -> bool:
        """Whether the endpoints serve the chain that was watched before."""
        if not self._is_loaded:
            self._genesis = await self._parts.store.genesis(self._chain_id)
            await self._parts.headers.load()
            self._is_loaded = True
        try:
            await self._parts.reader.chain.verify()
        except NotThisChain as error:
            await self._fail_all(error.message)
            return False
        seen = self._parts.reader.genesis
        if seen is None or seen == self._genesis:
            return True
        known = self._genesis
        if known is not None:  # fails first: an interruption must not make the other chain the known one
            message = f"The endpoint serves a chain with genesis block {seen}, but {known} was watched before."
            await self._fail_all(message)
            await self._parts.headers.forget()
            await self._parts.store.forget_chain(self._chain_id)
        await self._parts.store.save_genesis(self._chain_id, seen)
        self._genesis = seen
        return known is None

    async def _fail_all(self, reason: str) -> None:
        for one in self.watched:
            await self._fail(one, reason)

    async def _stop_ahead(self, back: HeadWentBack) -> None:
        reason = f"The chain's head went back from block {back.seen} to {back.head}."
        for one in self.watched:
            if one.at is not None and one.at.number > back.head:
                await self._fail(one, reason)

    async def _fail(self, one: Watched, reason: str) -> None:
        text = f"{reason} Check the chain and its endpoint, then pause and resume the workflow: it goes on from then."
        if not await self._parts.store.fail(one.sub, text, one.version):
            self._mark_stale(one)
            return
        _logger.error("a chain trigger was stopped", subscription=one.sub.id, chain_id=self._chain_id, reason=reason)
        self._watched.pop(one.sub.id, None)

    def _mark_stale(self, one: Watched) -> None:
        self._stale[one.sub.id] = one
        self._wake.set()

    async def _reread(self) -> None:
        while self._stale:
            name, one = next(iter(self._stale.items()))
            newer = await self._find(name)
            if newer is None or newer.watch.chain_id != self._chain_id:  # the source moves it to its new chain
                self._watched.pop(name, None)
            elif name in self._watched:
                newer.gaps = one.gaps
                self._watched[name] = newer
                self._parts.blocks.rearm()
            del self._stale[name]

    async def _begin(self, one: Watched, head: SeenBlock) -> None:
        """Finds the block after which a new subscription scans."""
        start = await self._start_of(one, head)
        await self._scanner.begin(one, start.header)

    async def _start_of(self, one: Watched, head: SeenBlock) -> SeenBlock:
        if one.watch.from_block is not None and one.sub.cursor is None:  # not after a resume
            return await self._block(max(0, min(one.watch.from_block - 1, head.header.number)))
        armed_s = one.sub.row.armed_at // 1000
        if self._parts.reader.chain.network.is_local or head.time <= armed_s:
            return head  # a development chain may have any clock
        low, high = max(0, head.header.number - self._most), head.header.number
        while low < high:  # the newest block that is not younger than the subscription
            middle = (low + high + 1) // 2
            if (await self._block(middle)).time <= armed_s:
                low = middle
            else:
                high = middle - 1
        return await self._block(low)

    async def _block(self, number: int) -> SeenBlock:
        (block,) = await self._parts.reader.blocks([number])
        if block is None:
            raise ChainMoved
        return block

    # --- scanning ---

    async def _scan(self, head: SeenBlock) -> bool:
        finalized = None
        if any(one.watch.confirmations == FINALIZED for one in self.watched):
            finalized = await self._parts.reader.finalized()
        scans: list[tuple[Watched, Scan]] = []
        for one in self.watched:
            if one.at is None or one.is_resting or one.sub.id in self._stale:
                continue
            if one.watch.confirmations == FINALIZED and finalized is None:
                await self._scanner.guarded(one, _nothing_is_final)
                continue
            target = target_of(one.watch, head.header.number, finalized)
            step = plan(one.at, target, self._most, one.watch.query is not None)
            if isinstance(step, Skip):
                await self._skip(one, step)
            elif isinstance(step, Scan):
                scans.append((one, step))
        # the newest blocks first: a trigger that cannot catch up must not hold up the others
        is_more = await self._scan_blocks([scan for scan in scans if not scan[1].by_range])
        is_more |= await self._scan_ranges([scan for scan in scans if scan[1].by_range])
        is_more |= await self._replay()
        self._parts.headers.lowest_needed = min((one.at.number for one in self.watched if one.at), default=0)
        return is_more

    async def _skip(self, one: Watched, step: Skip) -> None:
        last = await self._block(step.last)
        reason = f"More than {self._most} blocks were missed, which is max_catch_up_blocks."
        cursor = Cursor(last.header.number, last.header.hash)
        try:
            version = await self._parts.store.skip(one.sub, one.version, step.first, cursor, reason)
        except CursorMoved:
            self._mark_stale(one)
        else:
            one.moved(cursor, version)

    async def _scan_ranges(self, scans: Sequence[tuple[Watched, Scan]]) -> bool:
        if not scans:
            return False
        first = min(step.first for _, step in scans)
        await self._scanner.by_range(first, min(step.last for _, step in scans), [one for one, _ in scans])
        return True

    async def _scan_blocks(self, scans: Sequence[tuple[Watched, Scan]]) -> bool:
        if not scans:
            return False
        number = min(step.first for _, step in scans)
        last = max(step.last for _, step in scans)
        until = min(last, number + _PER_LOOK - 1)
        while number <= until:
            due = [one for one, step in scans if one.at is not None and one.at.next == number <= step.last]
            due = [one for one in due if one.sub.id not in self._stale and not one.is_resting]
            if due:
                await self._scanner.by_block(number, due)
            number += 1
        return until < last

    async def _replay(self) -> bool:
        """Scans a piece of one gap that a person wants scanned; whether there was any."""
        for one in self.watched:
            if not one.gaps or one.at is None or one.sub.id in self._stale:
                continue
            gap, first, last = one.gaps.pop(0)
            until = min(last, first + _PER_LOOK - 1)
            try:
                is_done = await self._scanner.replay(one, first, until)
            except BaseException:
                one.gaps.insert(0, (gap, first, last))
                raise
            if not is_done:
                one.gaps.insert(0, (gap, first, last))
            elif until < last:
                one.gaps.insert(0, (gap, until + 1, last))
            else:
                await self._parts.store.close_gap(gap)
            return True
        return False


async def _nothing_is_final() -> None:
    raise Temporary("No endpoint of the chain says which block is finalized.")
