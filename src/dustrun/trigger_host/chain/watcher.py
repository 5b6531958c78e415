"""Watches one chain for all its subscriptions: follows its head, and lets each scan what has its confirmations.

Each subscription works in a task of its own, which the others do not wait for: one that rests, that a node refuses
something, or whose runs take long, holds up nobody.

What they read of a block they share. `Stalls` notices a chain or a subscription that stands still.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Final

from dustrun import clock, log, metrics
from dustrun.chain.endpoints import NotThisChain
from dustrun.chain.watching import ChainMoved, LeftBranch, SeenBlock
from dustrun.core.triggers.chain.cursor import Cursor, ResumedSubscription, Scan, Skip, plan
from dustrun.core.triggers.chain.headers import KEPT, Finality
from dustrun.core.triggers.chain.watch import FINALIZED, target_of
from dustrun.errors import DustrunError, Temporary
from dustrun.sdk.threads import side_by_side
from dustrun.trigger_host.chain.headers import HeadWentBack
from dustrun.trigger_host.chain.scanner import Scanner, ScannerParts
from dustrun.trigger_host.chain.watched import WatchedSubscription, WatchOptions

# Notices when chain triggers stand still, tells it, and keeps how far each is where every server can read it.


_SHORTEST_S: Final = 60.0
_FINALITY_S: Final = 1200.0
_FINALITY_BLOCKS: Final = 100
"""How long a finalized block may stay the same: chains finalize many blocks at once, each some minutes."""
_SAVED_EVERY_S: Final = 5.0
_BLOCKS: Final = 20
_STALLS = metrics.counter("dustrun_trigger_stalls", "Chain triggers that stood still, by chain.", "chain")
_STALLED = metrics.gauge("dustrun_triggers_stalled", "Chain triggers that stand still now, by chain.", "chain")
_BEHIND = metrics.gauge("dustrun_trigger_lag_blocks", "Blocks that the slowest chain trigger lags, by chain.", "chain")


class Stalls:
    """The stalls of one chain. `stalled_s`: after how long (None: a minute, or the time of 20 blocks)."""

    def __init__(self, chain_id: int, parts: ScannerParts, stalled_s: float | None) -> None:
        network = parts.reader.chain.network
        self._chain_id = chain_id
        self._parts = parts
        self._is_local = network.is_local
        self._limit_s = max(_SHORTEST_S, _BLOCKS * network.block_time_ms / 1000) if stalled_s is None else stalled_s
        self._finality_s = max(self._limit_s, _FINALITY_S, _FINALITY_BLOCKS * network.block_time_ms / 1000)
        if network.is_local:
            self._finality_s = self._limit_s
        self._finality: Finality | None = None
        self._head = -1
        self._grew_s = clock.monotonic_s()
        self._trouble_s: float | None = None
        self._saved_s = -1e9
        self._saved: dict[str, Any] = {}

    async def tell(self, watched: Sequence[WatchedSubscription], finalized: int | None, trouble: str | None) -> None:
        """Tells who stands still and who goes on again. `trouble`: why nothing was seen of the chain, if so."""
        newest, now_s = self._parts.headers.chain.newest, clock.monotonic_s()
        head = newest.number if newest is not None else -1
        if head != self._head:
            self._head, self._grew_s = head, now_s
        if trouble is None:
            self._trouble_s = None
        elif self._trouble_s is None:
            self._trouble_s = now_s
        since_s = now_s if self._trouble_s is None else self._trouble_s
        if trouble is None and not self._is_local and now_s - self._grew_s >= self._limit_s:
            since_s = self._grew_s
            trouble = f"The chain has had no block after {head} for {round(now_s - self._grew_s)} seconds."
        frozen = await self._frozen(finalized, now_s)
        changed = False
        for one in watched:
            at_s, why = since_s, trouble
            if why is None and frozen is not None and one.watch.confirmations == FINALIZED:
                at_s, why = frozen
            well_s = min(one.well_s, at_s)
            is_still = now_s - well_s >= self._limit_s
            if is_still != (one.stalled_ms is not None) and not one.is_failed:
                changed |= await (self._stall(one, why, well_s) if is_still else self._recover(one, why))
        if changed or now_s - self._saved_s >= _SAVED_EVERY_S:
            await self._save(watched, finalized, trouble)

    async def _frozen(self, finalized: int | None, now_s: float) -> tuple[float, str] | None:
        """Since when, and why, the finalized block stays the same for too long while the chain goes on."""
        if finalized is None:
            return None
        if self._finality is None:  # the last server may have seen it stand still
            stored = await self._parts.store.progress(self._chain_id)
            self._finality = Finality.of((stored or {}).get("finality"), clock.now_ms(), now_s)
        if finalized > self._finality.number or self._head < self._finality.number:  # or it is another chain
            self._finality = self._finality.grown(finalized, now_s, self._head)
        still_s = now_s - self._finality.grew_s
        if still_s < self._finality.patience_s(self._finality_s) or self._head <= self._finality.head:
            return None
        text = (
            f"The finalized block is {self._finality.number} for {round(still_s)} seconds, while the chain has grown "
        )
        return self._finality.grew_s, text + f"to {self._head}."

    async def _stall(self, one: WatchedSubscription, trouble: str | None, well_s: float) -> bool:
        reason = one.error or trouble or "It takes long over the events that it has found."
        one.stalled_ms = clock.now_ms() - round(1000 * (clock.monotonic_s() - well_s))
        _STALLS.add(str(self._chain_id))
        _logger.warning("a chain trigger stands still", subscription=one.sub.id, reason=reason)
        await self._parts.store.stall(one.sub, one.stalled_ms, reason, self._facts(one))
        return True

    async def _recover(self, one: WatchedSubscription, trouble: str | None) -> bool:
        if trouble is not None or one.at is None or one.stalled_ms is None:
            return False
        await self._parts.store.recover(one.sub, one.stalled_ms, self._facts(one))
        one.stalled_ms = None
        return True

    def _facts(self, one: WatchedSubscription) -> dict[str, Any]:
        return {
            "chainId": self._chain_id,
            "lastScannedBlock": one.at.number if one.at is not None else None,
            "head": max(self._head, 0),
        }

    async def _save(self, watched: Sequence[WatchedSubscription], finalized: int | None, trouble: str | None) -> None:
        """Stores how far each subscription is, now and then: the targets that most have reached, and those behind."""
        targets: dict[str, int] = {}
        behind: dict[str, Any] = {}
        for one in watched:
            if one.watch.confirmations == FINALIZED and finalized is None:
                target = -1
            else:
                target = target_of(one.watch, self._head, finalized)
            targets[str(getattr(one.sub.config, "confirmations", None))] = target
            at = one.at.number if one.at is not None else None
            if at is None or at < target or one.error is not None:
                lag = max(0, target - at) if at is not None else None
                behind[one.sub.id] = {"at": at, "lag": lag, "error": one.error}
        self._measure(watched, behind)
        state = {"head": self._head, "targets": targets, "behind": behind, "error": trouble}
        if self._finality is not None:
            state["finality"] = self._finality.public(clock.now_ms(), clock.monotonic_s())
        self._saved_s = clock.monotonic_s()
        if state != self._saved:
            await self._parts.store.save_progress(self._chain_id, state)
            self._saved = state

    def _measure(self, watched: Sequence[WatchedSubscription], behind: dict[str, Any]) -> None:
        name = str(self._chain_id)
        _STALLED.set(sum(one.stalled_ms is not None or one.is_failed for one in watched), name)
        _BEHIND.set(max((one["lag"] or 0 for one in behind.values()), default=0), name)


_logger = log.get(__name__)
_SHORTEST_MS: Final = 50
_LONGEST_MS: Final = 5_000
_LONGEST_BACKOFF_MS: Final = 30_000
_PER_LOOK: Final = 64
_OFTEN: Final = 20
"""After so many looks in a row that found other blocks than before, the log says so: after a reorg it is one or two."""
_UNFIT: Final = "the blocks of a chain do not fit together, or a node lacks some of what is in them"
_INCONSISTENT: Final = "The blocks of the chain do not fit together, or the node lacks some of them."
_TOO_DEEP: Final = (
    "A reorg removed block {number} ({hash}), up to which this trigger had scanned, and reaches deeper than the "
    f"{KEPT} headers that are stored."
)
Find = Callable[[str], Awaitable[WatchedSubscription | None]]


class ChainWatcher:
    """The loop of one chain."""

    def __init__(self, chain_id: int, parts: ScannerParts, find: Find, options: WatchOptions) -> None:
        self._chain_id = chain_id
        self._parts = parts
        self._find = find
        self._most = options.most
        self._scanner = Scanner(parts, self._mark_stale)
        self._stalls = Stalls(chain_id, parts, options.stalled_s)
        self._watched: dict[str, WatchedSubscription] = {}
        self._stale: dict[str, WatchedSubscription] = {}
        self._busy: dict[str, asyncio.Task[None]] = {}
        self._ranging: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._looking = asyncio.Lock()
        self._is_loaded = False
        self._genesis: str | None = None
        self._finalized: int | None = None
        self._moves = 0

    @property
    def watched(self) -> list[WatchedSubscription]:
        """Its subscriptions, by age."""
        return list(self._watched.values())

    async def arm(self, one: WatchedSubscription) -> None:
        """Watches for a subscription, from now on or with its newer row."""
        async with self._looking:
            await self._end(one.sub.id)
            self._watched[one.sub.id] = one
            self._stale.pop(one.sub.id, None)
            one.gaps = await self._parts.store.replaying(one.sub)
            self._parts.blocks.rearm()
        self._wake.set()

    async def disarm(self, subscription_id: str) -> bool:
        """Watches for it no more; whether it did."""
        async with self._looking:
            was = self._watched.pop(subscription_id, None)
            if was is not None:
                await self._end(subscription_id)
                self._parts.blocks.rearm()
            return was is not None

    async def _end(self, subscription_id: str) -> None:
        task = self._busy.pop(subscription_id, None)
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def stop(self) -> None:
        """Ends what the subscriptions do."""
        tasks = [*self._busy.values(), *([self._ranging] if self._ranging is not None else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._busy.clear()

    async def work(self) -> None:
        """Looks for as long as there are subscriptions; never returns."""
        failures = 0
        while True:
            self._wake.clear()
            begun_s = clock.monotonic_s()
            try:
                await self.look()
                wait_ms = max(_SHORTEST_MS, self._every_ms - 1000 * (clock.monotonic_s() - begun_s))
                failures = 0
            except Exception as error:
                self._log(error, failures)
                await self._tell_trouble(error)
                wait_ms = min(self._every_ms * 2 ** min(failures, 10), _LONGEST_BACKOFF_MS)
                failures += 1
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(None if not self._watched else wait_ms / 1000):
                    await self._wake.wait()

    def _log(self, error: Exception, failures: int) -> None:
        if not isinstance(error, DustrunError):
            _logger.error("watching a chain failed", chain_id=self._chain_id, exc_info=error)
        elif failures in (0, 10):
            _logger.warning("a chain could not be watched", chain_id=self._chain_id, error=error.message)

    async def _tell_trouble(self, error: Exception) -> None:
        """An outage of the store must not end the loop: it is told after it."""
        text = error.message if isinstance(error, DustrunError) else "Watching the chain failed; the log says more."
        try:
            await self._stalls.tell(self.watched, self._finalized, text)
        except Exception as other:
            _logger.warning("a stall could not be recorded", chain_id=self._chain_id, exc_info=other)

    @property
    def _every_ms(self) -> float:
        block_ms = self._parts.reader.chain.network.block_time_ms
        return max(_SHORTEST_MS, min(block_ms // 3, clock.polled_within_ms(_LONGEST_MS)))

    async def look(self) -> None:
        """Follows the head once, and starts those who have work. Raises what keeps the chain from being read at all."""
        async with self._looking:
            if not self._watched:
                return
            await self._reread()
            headers, finalized = self._parts.headers, self._read_finalized()
            is_right, (head, near), self._finalized = await side_by_side(
                self._is_the_chain(), self._parts.reader.head_and(headers.near()), finalized
            )
            if not is_right:
                return
            trouble = await self._follow(head, near)
            for one in self.watched:
                if not self._may_work(one):
                    continue
                if self._has_work(one):
                    self._start(one, partial(self._advance, one))
                else:
                    one.got_on()
            self._start_range()
            await self._stalls.tell(self.watched, self._finalized, trouble)
            headers.lowest_needed = min((one.at.number for one in self.watched if one.at), default=0)

    async def _read_finalized(self) -> int | None:
        if any(one.watch.confirmations == FINALIZED for one in self.watched):
            return await self._parts.reader.finalized()
        return None

    async def _follow(self, head: SeenBlock, near: Sequence[SeenBlock]) -> str | None:
        """Follows the head of the chain; why it does not go on, if so. Scanning does: of blocks that were seen."""
        trouble = None
        try:
            await self._parts.headers.follow(head, near)
            self._moves = 0
        except ChainMoved:
            self._moves = self._count_moves(self._moves)
        except HeadWentBack as back:
            trouble = f"The newest block of the endpoint is {back.head}, but block {back.seen} was seen before."
        return trouble

    def _count_moves(self, moves: int, **names: str) -> int:
        if moves + 1 in (_OFTEN, 10 * _OFTEN):
            _logger.warning(_UNFIT, chain_id=self._chain_id, times=moves + 1, **names)
        return moves + 1

    def _has_moved_often(self, one: WatchedSubscription) -> bool:
        """Counts that a subscription found other blocks than before; whether that is more than a reorg brings about."""
        one.moves = self._count_moves(one.moves, subscription=one.sub.id)
        return one.moves > 2

    # --- who works ---

    def _may_work(self, one: WatchedSubscription) -> bool:
        return not (one.sub.id in self._busy or one.sub.id in self._stale or one.is_resting or one.range is not None)

    def _has_work(self, one: WatchedSubscription) -> bool:
        """Whether a subscription has anything to do: of a thousand, few have at any moment."""
        headers = self._parts.headers.chain
        if one.at is None or one.gaps or one.is_failed or not headers.is_canonical(one.at.number, one.at.hash):
            return True
        if headers.newest is None or (one.watch.confirmations == FINALIZED and self._finalized is None):
            return True
        return one.at.next <= target_of(one.watch, headers.newest.number, self._finalized)

    def _start(self, one: WatchedSubscription, work: Callable[[], Awaitable[bool]]) -> None:
        task = self._busy[one.sub.id] = asyncio.get_running_loop().create_task(self._work_on(one, work))
        task.add_done_callback(lambda done: self._ended(one, done))

    def _ended(self, one: WatchedSubscription, done: asyncio.Task[None]) -> None:
        if self._busy.get(one.sub.id) is done:
            del self._busy[one.sub.id]
            self._start_range()

    async def _work_on(self, one: WatchedSubscription, work: Callable[[], Awaitable[bool]]) -> None:
        """Works for as long as there is more to do of what was seen of the chain: with a slow endpoint, that grew
        meanwhile."""
        is_more = True
        while is_more:
            before = one.at
            is_more = await self._guarded(one, work) or (one.at != before and self._has_work(one))
            is_more = is_more and self._watched.get(one.sub.id) is one and not one.is_failed
            is_more = is_more and not (one.sub.id in self._stale or one.is_resting or one.range is not None)
            work = partial(self._advance, one)

    async def _guarded(self, one: WatchedSubscription, work: Callable[[], Awaitable[bool]]) -> bool:
        """Lets a subscription that cannot go on rest, so that it holds up no other; whether it has more to do."""
        try:
            return await work()
        except LeftBranch:
            return True
        except ChainMoved:
            if self._has_moved_often(one):
                one.error = _INCONSISTENT
        except Exception as error:
            is_known = isinstance(error, DustrunError)
            one.failed(error.message if isinstance(error, DustrunError) else "It failed; the server's log says more.")
            if not is_known:
                _logger.error("a chain trigger failed", subscription=one.sub.id, exc_info=error)
            elif one.failures in (1, 10):
                _logger.warning("a chain trigger must wait", subscription=one.sub.id, error=one.error)
        return False

    def _mark_stale(self, one: WatchedSubscription) -> None:
        self._stale[one.sub.id] = one
        self._wake.set()

    async def _reread(self) -> None:
        for name, one in list(self._stale.items()):
            if name in self._busy and not self._busy[name].done():
                continue
            newer = await self._find(name)
            if newer is None or newer.watch.chain_id != self._chain_id:  # the source moves it to its new chain
                self._watched.pop(name, None)
            elif name in self._watched:
                newer.gaps, newer.well_s, newer.error = one.gaps, one.well_s, one.error
                self._watched[name] = newer
                self._parts.blocks.rearm()
            self._stale.pop(name, None)

    # --- one subscription ---

    async def _advance(self, one: WatchedSubscription) -> bool:
        """Makes sure that a subscription stands on a canonical block, and scans the next ones; whether there are
        more."""
        if one.is_failed:
            await self._heal(one)
            return False
        if one.at is None:
            await self._scanner.begin(one, (await self._start_of(one)).header)
            return one.at is not None
        if not await self._scanner.settle(one):
            await self._fail(one, _TOO_DEEP.format(number=one.at.number, hash=one.at.hash))
            return False
        return one.sub.id not in self._stale and await self._scan(one)

    async def _scan(self, one: WatchedSubscription) -> bool:
        newest = self._parts.headers.chain.newest
        assert one.at is not None
        if newest is None:
            return False
        if one.watch.confirmations == FINALIZED and self._finalized is None:
            raise Temporary("No endpoint of the chain says which block is finalized.")
        step = plan(
            one.at, target_of(one.watch, newest.number, self._finalized), self._most, one.watch.query is not None
        )
        if isinstance(step, Skip):
            last = (await self._block(step.last)).header
            reason = f"More than {self._most} blocks were missed, which is max_catch_up_blocks."
            await self._scanner.skip(one, step.first, Cursor(last.number, last.hash), reason)
            return True
        if not isinstance(step, Scan):
            one.got_on()
            return await self._replay(one)
        if step.by_range and not self._scanner.is_range_refused:
            one.range = step
            return True
        most = step.first + _PER_LOOK - 1
        await self._scanner.by_blocks(one, step.first, lambda: min(most, self._target(one)))
        return False

    def _target(self, one: WatchedSubscription) -> int:
        newest = self._parts.headers.chain.newest
        return -1 if newest is None else target_of(one.watch, newest.number, self._finalized)

    def _start_range(self) -> None:
        """Reads a range for all that want one."""
        if self._ranging is not None and not self._ranging.done():
            return
        due = [one for one in self.watched if one.range is not None]
        if due:
            self._ranging = asyncio.get_running_loop().create_task(self._scan_range(due))

    async def _scan_range(self, due: list[WatchedSubscription]) -> None:
        for group in self._scanner.by_place(due):
            await self._read_range(group)
        for one in due:
            one.range = None
        self._wake.set()

    async def _read_range(self, group: list[WatchedSubscription]) -> None:
        """A range is read for all at once; if that fails, for each alone."""
        try:
            taken = await self._scanner.read_range(group)
        except Exception as error:
            if len(group) > 1:
                for one in group:
                    await self._read_range([one])
            elif not isinstance(error, ChainMoved):
                group[0].failed(error.message if isinstance(error, DustrunError) else "Reading a range failed.")
            elif self._has_moved_often(group[0]):
                group[0].failed(_INCONSISTENT)
            return
        for one in group:
            is_here = self._watched.get(one.sub.id) is one and one.sub.id not in self._busy
            if is_here and id(one) in taken:
                self._start(one, partial(_and_more, taken[id(one)]))

    async def _replay(self, one: WatchedSubscription) -> bool:
        """Scans a piece of one gap that a person wants scanned; whether there was any."""
        if not one.gaps:
            return False
        gap, first, last = one.gaps[0]
        until = min(last, first + _PER_LOOK - 1)
        if not await self._scanner.replay(one, first, until):
            return False
        if until < last:
            one.gaps[0] = (gap, until + 1, last)
        else:
            one.gaps.pop(0)
            await self._parts.store.close_gap(gap)
        return True

    # --- where it begins ---

    async def _start_of(self, one: WatchedSubscription) -> SeenBlock:
        """The block after which a new subscription scans: by number, if one was asked for when it was published or
        resumed."""
        head = await self._parts.reader.head()
        stored, resumed = one.sub.cursor or {}, ResumedSubscription.of(one.sub.cursor)
        if resumed is not None and resumed.catches_up:
            return await self._block(max(0, min(resumed.first - 1, head.header.number)))
        if one.watch.from_block is not None and "resumed" not in stored:  # not after a resume
            return await self._block(max(0, min(one.watch.from_block - 1, head.header.number)))
        if stored.get("after") is not None:
            return await self._block(int(stored["after"]))
        armed_s = one.sub.row.armed_at // 1000
        if self._parts.reader.chain.network.is_local or head.time < armed_s:
            return head  # a development chain may have any clock
        low, high = max(0, head.header.number - self._most), head.header.number
        while low < high:  # the newest block that is older than the subscription
            middle = (low + high + 1) // 2
            if (await self._block(middle)).time < armed_s:
                low = middle
            else:
                high = middle - 1
        return await self._block(low)

    async def _block(self, number: int) -> SeenBlock:
        (block,) = await self._parts.reader.blocks([number])
        if block is None:
            raise ChainMoved
        return block

    # --- what stops it ---

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
            await self._end(one.sub.id)
            await self._fail(one, reason)

    async def _fail(self, one: WatchedSubscription, reason: str) -> None:
        if one.is_failed:
            return
        text = f"{reason} It goes on by itself as soon as its last block is on the chain again. To begin anew with "
        text += "the newest block, check the chain and its endpoint, then pause and resume the workflow."
        _logger.error("a chain trigger was stopped", subscription=one.sub.id, chain_id=self._chain_id, reason=reason)
        await self._parts.store.fail(one.sub, text, one.version)
        self._mark_stale(one)

    async def _heal(self, one: WatchedSubscription) -> None:
        """Goes on with a trigger that was stopped, if its last block is on the chain again."""
        if one.at is not None and await self._scanner.is_on_chain(one.at):
            await self._parts.store.heal(one.sub, one.version)
            self._mark_stale(one)
            return
        one.rest_until_s = clock.monotonic_s() + self._every_ms / 1000


async def _and_more(work: Callable[[], Awaitable[None]]) -> bool:
    await work()
    return True
