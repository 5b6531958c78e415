"""Tracks the signed transactions of one chain to their end. Its first look after a start is the recovery.

Any attempt of a nonce may be the one that is mined, so it asks for the receipts of all of them, but only for nonces
that the chain says are used. It decides by block hash, so endpoints at different heights delay a decision and never
falsify it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import field
from typing import Protocol, TypeVar

from dustrun import clock, log
from dustrun.chain.evm import LiveChain
from dustrun.core.money.intent import Receipt
from dustrun.core.money.transaction_state import TxState
from dustrun.core.values.exact_json import loads_own
from dustrun.errors import DustrunError, Temporary, Uncertain
from dustrun.listeners import Listeners
from dustrun.records import dataclass
from dustrun.sdk.chain import Block
from dustrun.services.outbox import events
from dustrun.services.outbox.deps import OutboxDeps
from dustrun.services.outbox.events import CommittedSteps
from dustrun.services.outbox.spend_status import intent_of
from dustrun.services.outbox.tracking import receipts as receipt_notes
from dustrun.services.outbox.tracking.accounting import Books, Deep, note_final
from dustrun.services.outbox.tracking.broadcast import Rebroadcaster, TrackedTransaction
from dustrun.services.outbox.tracking.receipts import MinedTransaction
from dustrun.storage.db.statement import Tx
from dustrun.storage.money import ledger
from dustrun.storage.money import transactions as rows
from dustrun.storage.money.transactions import Settled, TransactionRow

# Writes what a look at a chain has found about many transactions: of those of one run or wallet in one unit.


_MOST = 50
"""Transactions that a unit changes within a few milliseconds."""


class TransactionFinding(Protocol):
    """The findings about a transaction."""

    @property
    def row(self) -> TransactionRow:
        """The transaction as it was read."""
        ...


F = TypeVar("F", bound=TransactionFinding)
Unit = Callable[[Tx, Sequence[F]], Sequence[CommittedSteps | None]]


async def write_in_batches(deps: OutboxDeps, found: Sequence[F], unit: Unit[F]) -> None:
    """Writes in units of many; each in its own if that fails, so that one fails alone."""
    for start in range(0, len(found), _MOST):
        part = found[start : start + _MOST]
        try:
            await _write(deps, part, unit)
        except (Temporary, Uncertain):
            raise
        except Exception:
            if len(part) == 1:
                raise
            await asyncio.gather(*(_write(deps, [one], unit) for one in part))


async def _write(deps: OutboxDeps, part: Sequence[F], unit: Unit[F]) -> None:
    of_rows = [one.row for one in part]
    is_light = events.is_light(of_rows)
    is_live = all(row.mode != "dust" for row in of_rows)  # a dust test reserves for itself too
    await deps.writer.write(
        lambda tx: unit(tx, part),
        lambda committed: deps.publisher.tell(*committed),
        repeatable=is_light,
        is_separate=is_light and is_live,
        touches={key for row in of_rows for key in (*events.touches(row), events.wallet_of(row.wallet_id))},
    )


# Watches final transactions of one chain for some time: a reorg deeper than their confirmations takes them back.
#
# A block stands for all before it, so one question is enough while the newest one is still there. What is gone is
# followed again from its old bytes: nothing new is signed for it. The run that it is of may have ended, and stays as it
# is.


_BLOCKS = 256
_SHORTEST_LOOK_BACK_MS, LONGEST_MS = 600_000, 86_400_000


class SettledWatch:
    """The final transactions of one chain."""

    def __init__(self, deps: OutboxDeps, chain_id: int) -> None:
        self._deps = deps
        self._chain_id = chain_id
        self._looked_at_s = -1e9
        self._suspected: dict[str, str] = {}
        self.has_any = True
        """Whether there was anything to watch at the last look."""

    async def find_gone(self, chain: LiveChain, block_ms: int) -> list[TrackedTransaction]:
        """The transactions whose block is gone, at two looks. It looks once per block at most."""
        if clock.monotonic_s() - self._looked_at_s < block_ms / 1000:
            return []
        self._looked_at_s = clock.monotonic_s()
        since = clock.now_ms() - min(max(_SHORTEST_LOOK_BACK_MS, _BLOCKS * block_ms), LONGEST_MS)
        settled = await self._deps.database.read(lambda tx: rows.list_settled(tx, self._chain_id, since))
        self.has_any = bool(settled)
        gone = await self._gone(chain, settled)
        if not gone:
            return []
        await chain.verify(afresh=True)  # a node that was swapped a moment ago has lost nothing
        return await self._deps.database.read(
            lambda tx: [TrackedTransaction(rows.get(tx, one.id), rows.list_attempts(tx, one.id)) for one in gone]
        )

    async def _gone(self, chain: LiveChain, settled: Sequence[Settled]) -> list[Settled]:
        """Those whose height has another block, now and at the look before; one that is not there says nothing."""
        found: list[Settled] = []
        known: dict[int, str | None] = {}
        for one in sorted(settled, key=lambda one: -one.block_number):
            if one.block_number not in known:
                block = await chain.find_block(one.block_number)
                known[one.block_number] = block.hash if block is not None else None
            there = known[one.block_number]
            if there == one.block_hash:
                break  # and so are all before it
            if there is not None:
                found.append(one)
        before, self._suspected = self._suspected, {one.id: one.block_hash for one in found}
        return [one for one in found if before.get(one.id) == one.block_hash]

    async def note(self, one: TrackedTransaction, receipt: Receipt | None) -> None:
        """Records that a block is gone; `receipt`: of the block that the transaction is in now."""
        row = one.row
        assert row.block_hash is not None
        block_hash = row.block_hash
        _logger.error(
            "a reorg removed a final transaction",
            transaction_id=row.id,
            hash=row.hash,
            block_number=row.block_number,
            is_mined_again=receipt is not None,
        )
        await self._deps.writer.write(
            lambda tx: receipt_notes.note_taken_back(tx, row.id, block_hash, receipt), self._deps.publisher.tell
        )


_logger = log.get(__name__)
_SHORTEST_MS, _LONGEST_MS = 100, 3_000
_LONGEST_BACKOFF_MS = 30_000
_MOST_RECEIPTS = 500
_DISPLACED_EVERY_S = 60.0
_SUSPECTED_S = 10.0
_LAGS_MS, _LAGS_BLOCKS = 30_000, 5
"""How long a second endpoint may lag before that is told."""
_OTHERS_LOOK_S = 0.5
_SHARED_MS = 2_000
"""In a shared store: when to look for what another process signed, or whether that still lives."""


@dataclass(slots=True)
class Suspicion:
    """A nonce that seems used by another transaction, the heads at which it seemed so, and since when."""

    heads: set[str] = field(default_factory=set)
    since_s: float = field(default_factory=lambda: clock.monotonic_s())


class Tracker:
    """The loop that tracks one chain."""

    def __init__(self, deps: OutboxDeps, chain_id: int) -> None:
        self._deps = deps
        self._chain_id = chain_id
        self._wake = asyncio.Event()
        self._looking = asyncio.Lock()
        self._suspicions: dict[str, Suspicion] = defaultdict(Suspicion)
        self._settled = SettledWatch(deps, chain_id)
        self.books = Books(deps, chain_id)
        self._rebroadcaster = Rebroadcaster(deps, self._block_ms, self._every_ms)
        self._displaced_at_s = -1e9
        self._has_displaced = False
        self._head: str | None = None
        self._seen: set[str] = set()
        self._is_first = True

    def poke(self) -> None:
        """Looks now: something was signed or asked for."""
        self._wake.set()

    async def work_on(self) -> None:
        """Tracks, and keeps the ledger of what has ended; never returns."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.work())
            tasks.create_task(self.books.work())

    async def work(self) -> None:
        """Looks while something is open, then waits for `poke`; never returns."""
        failures = 0
        while True:
            self._wake.clear()
            try:
                wait_ms = self._every_ms if await self.look() else self._idle_ms
                failures = 0
            except Exception as error:
                self._log(error, failures)
                wait_ms = min(self._every_ms * 2 ** min(failures, 10), _LONGEST_BACKOFF_MS)
                failures += 1
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(None if wait_ms is None else wait_ms / 1000):
                    await self._wake.wait()

    def _log(self, error: Exception, failures: int) -> None:
        if not isinstance(error, DustrunError):
            _logger.error("tracking a chain failed", chain_id=self._chain_id, exc_info=error)
        elif failures in (0, 10):
            _logger.warning("a chain could not be tracked", chain_id=self._chain_id, error=error.message)

    @property
    def _block_ms(self) -> int:
        """The usual time between two blocks, also of a chain that is no longer served."""
        network = self._deps.chains.networks.get(self._chain_id)
        return network.block_time_ms if network is not None else _LONGEST_MS

    @property
    def _every_ms(self) -> int:
        return max(_SHORTEST_MS, min(self._block_ms // 4, _LONGEST_MS))

    @property
    def _idle_ms(self) -> int | None:
        """When to look again while nothing is tracked."""
        waits = [self._block_ms] if self._settled.has_any else []
        waits += [_SHARED_MS] if self._deps.leases is not None else []
        return min([*waits, int(_DISPLACED_EVERY_S * 1000)]) if waits or self._has_displaced else None

    async def look(self) -> bool:
        """Looks once at everything open; False if nothing is, or if another process looks."""
        async with self._looking:
            if not await self._is_ours():
                return False
            chain = self._deps.chains.get(self._chain_id)
            await chain.verify()  # another chain's receipts and nonces would decide wrongly
            await self._look_at_displaced(chain)
            await self._look_at_settled(chain)
            followed = await self._load()
            if followed:
                head = await chain.block()
                used = {sender: await chain.nonce(sender, "latest") for sender in _senders(followed)}
                if await self._look_for_receipts(chain, followed, used):
                    # what another sender signed meanwhile is looked at next time, with its nonce
                    followed = [one for one in await self._load() if one.row.sender in used]
                await self._look_at_mined(chain, head, followed)
                left = [one for one in followed if one.row.state != TxState.MINED]
                left = await self._look_for_displaced(chain, head, left, used)
                await self._rebroadcaster.push(chain, left, used, all_at_once=self._is_first)
            self._is_first = False
            return bool(followed)

    async def _is_ours(self) -> bool:
        """Whether this process tracks the chain: in a shared store only one does. That two do for a moment is harmless,
        since what each writes depends on what it finds in the same transaction."""
        leases = self._deps.leases
        return leases is None or await leases.take(f"chain:{self._chain_id}") is not None

    async def _load(self) -> list[TrackedTransaction]:
        found = await self._deps.database.read(
            lambda tx: (rows.list_followed(tx, self._chain_id), rows.list_followed_attempts(tx, self._chain_id))
        )
        return [TrackedTransaction(row, found[1][row.id]) for row in found[0]]

    # --- what the chain says ---

    async def _look_at_mined(self, chain: LiveChain, head: Block, followed: Sequence[TrackedTransaction]) -> None:
        """Checks mined transactions once per head: final with enough confirmations; if a reorg removed the block, looks
        for another receipt."""
        if head.hash != self._head:
            self._head, self._seen = head.hash, set()
        mined = [one for one in followed if one.row.state == TxState.MINED and one.row.id not in self._seen]
        numbers = sorted({one.row.block_number for one in mined if one.row.block_number is not None})
        blocks = dict(zip(numbers, await asyncio.gather(*map(chain.find_block, numbers)), strict=True))
        lost, deep = [], []
        for one in mined:
            block = blocks[one.row.block_number or 0]
            if block is None or block.hash != one.row.block_hash:
                lost.append(one)
            elif head.number - block.number + 1 >= one.row.confirmations:
                deep.append(one)
        self._deps.on_step("finishing")
        deep, held = await self._seconded(chain, deep)
        ended = await asyncio.gather(*(self._explain(chain, one.row) for one in deep))
        if ended:
            self._settled.has_any = True
            await write_in_batches(self._deps, ended, note_final)
            self.books.poke()
        await self._look_again(chain, lost)
        self._seen |= {one.row.id for one in mined if one not in lost and one not in held}

    async def _seconded(
        self, chain: LiveChain, deep: list[TrackedTransaction]
    ) -> tuple[list[TrackedTransaction], list[TrackedTransaction]]:
        """Those whose receipts the second endpoint confirms, and those that are held because it does not."""
        second = self._deps.chains.second(self._chain_id)
        if second is None or not deep:
            return deep, []
        try:
            receipts: Sequence[Receipt | None] = await second.receipts([str(one.row.hash) for one in deep])
        except DustrunError as error:
            if self._deps.settings.second_opinion_missing == "go-on":
                _logger.warning("no second opinion on receipts", chain_id=self._chain_id, error=error.message)
                return deep, []
            why = f"The second endpoint cannot confirm its receipt: {error.message}"
            return [], [await self._hold(one, why) for one in deep]
        agreed: list[TrackedTransaction] = []
        held: list[TrackedTransaction] = []
        for one, receipt in zip(deep, receipts, strict=True):
            doubt = _disagreement(one.row, receipt)
            if doubt is None:
                agreed.append(one)
            elif receipt is None and await self._may_lag(second, one.row):
                held.append(one)
            else:
                held.append(await self._hold(one, doubt))
                await self._read_again(chain, one, receipt)
        return agreed, held

    async def _may_lag(self, second: LiveChain, row: TransactionRow) -> bool:
        """Whether the second endpoint only has not come to the transaction's block yet, which says nothing for some
        blocks."""
        if clock.now_ms() - (row.mined_at or 0) > max(_LAGS_MS, _LAGS_BLOCKS * self._block_ms):
            return False
        return (await second.block()).number <= (row.block_number or 0)

    async def _read_again(self, chain: LiveChain, one: TrackedTransaction, second: Receipt | None) -> None:
        """Takes the first endpoint's receipt anew if it now says of the same block what the second one does."""
        first = await chain.receipt(str(one.row.hash))
        if first is None or second is None or first.block_hash != second.block_hash:
            return
        stored = loads_own(one.row.receipt or "null")
        if first.is_success == second.is_success != bool(stored["isSuccess"]):
            await self._deps.writer.write(
                lambda tx: receipt_notes.note_corrected(tx, one.row.id, first), self._deps.publisher.tell
            )

    async def _hold(self, one: TrackedTransaction, why: str) -> TrackedTransaction:
        await self._deps.writer.write(
            lambda tx: receipt_notes.note_held(tx, one.row.id, why), self._deps.publisher.tell
        )
        return one

    async def _explain(self, chain: LiveChain, row: TransactionRow) -> Deep:
        assert row.receipt is not None
        if loads_own(row.receipt)["isSuccess"] or row.hash is None:
            return Deep(row)
        return Deep(row, await chain.explain(row.hash, intent_of(row).errors))

    async def _look_again(self, chain: LiveChain, lost: Sequence[TrackedTransaction]) -> None:
        if not lost:
            return
        receipts = await self._receipts(chain, lost)
        await chain.verify(afresh=True)  # a node that was swapped a moment ago has lost nothing
        writes = []
        for one in lost:
            receipt = receipts.get(one.row.id)
            if receipt is None:
                _logger.warning("a receipt was reorged away", transaction_id=one.row.id, hash=one.row.hash)
            writes.append(self._write_lost(one, receipt))
        await asyncio.gather(*writes)

    async def _write_lost(self, one: TrackedTransaction, receipt: Receipt | None) -> None:
        row = one.row
        assert row.block_hash is not None
        if receipt is not None:
            await write_in_batches(self._deps, [MinedTransaction(row, receipt)], receipt_notes.note_mined)
            return
        block_hash = row.block_hash
        await self._deps.writer.write(
            lambda tx: receipt_notes.note_reorged(tx, row.id, block_hash), self._deps.publisher.tell
        )

    async def _look_for_receipts(
        self, chain: LiveChain, followed: Sequence[TrackedTransaction], used: Mapping[str, int]
    ) -> bool:
        """Finds which attempt used the nonce. Returns whether any receipt was found."""
        asked = [one for one in followed if one.row.state != TxState.MINED and one.nonce < used[one.row.sender]]
        receipts = await self._receipts(chain, asked)
        self._deps.on_step("mining")
        await self._write_mined(asked, receipts)
        self._deps.on_step("mined")
        return bool(receipts)

    async def _receipts(self, chain: LiveChain, asked: Sequence[TrackedTransaction]) -> dict[str, Receipt]:
        """The receipt of whichever attempt has one, by transaction id."""
        by_hash = {attempt.hash: one.row.id for one in asked for attempt in one.attempts}
        hashes = list(by_hash)
        found: dict[str, Receipt] = {}
        for start in range(0, len(hashes), _MOST_RECEIPTS):
            part = hashes[start : start + _MOST_RECEIPTS]
            for hash, receipt in zip(part, await chain.receipts(part), strict=True):
                if receipt is not None:
                    found[by_hash[hash]] = receipt
        return found

    async def _look_for_displaced(
        self, chain: LiveChain, head: Block, left: Sequence[TrackedTransaction], used: Mapping[str, int]
    ) -> list[TrackedTransaction]:
        """Marks transactions whose nonce is used deep enough although no attempt has a receipt. It must seem so at two
        heads and for some seconds, as an endpoint may lag: two that are at different heads show both at once. Returns
        the others."""
        rest = []
        for one in left:
            if one.nonce >= used[one.row.sender]:
                self._suspicions.pop(one.row.id, None)
                rest.append(one)
                continue
            deep = max(0, head.number - one.row.confirmations + 1)
            if await chain.nonce_at(one.row.sender, deep) > one.nonce:
                suspicion = self._suspicions[one.row.id]
                suspicion.heads.add(head.hash)
                lasts_s = clock.monotonic_s() - suspicion.since_s
                if len(suspicion.heads) > 1 and lasts_s >= max(_SUSPECTED_S, 2 * self._block_ms / 1000):
                    await chain.verify(afresh=True)
                    if not await self._is_withheld(one):
                        await self._displace(one)
        return rest

    async def _is_withheld(self, one: TrackedTransaction) -> bool:
        """Whether the second endpoint has a receipt of one of its attempts: nothing is displaced then, nor if that
        cannot be known. It waits."""
        second = self._deps.chains.second(self._chain_id)
        if second is None:
            return False
        try:
            found = next(filter(None, await second.receipts([attempt.hash for attempt in one.attempts])), None)
        except DustrunError as error:
            if self._deps.settings.second_opinion_missing == "go-on":
                return False
            why = f"No attempt has a receipt, and the second endpoint cannot be asked: {error.message}"
            await self._deps.writer.write(
                lambda tx: receipt_notes.note_delay(tx, one.row.id, why), self._deps.publisher.tell
            )
            return True
        if found is None:
            return False
        why = (
            f"The second endpoint has a receipt of it (block {found.block_number}), which the first one does not have. "
            "It waits until both have it; cancel nothing."
        )
        await self._deps.writer.write(
            lambda tx: receipt_notes.note_withheld(tx, one.row.id, why), self._deps.publisher.tell
        )
        return True

    async def _displace(self, one: TrackedTransaction) -> None:
        row = one.row
        self._suspicions.pop(row.id, None)
        self._has_displaced = True
        _logger.error(
            "a nonce was used by another transaction", transaction_id=row.id, sender=row.sender, nonce=row.nonce
        )
        await self._deps.writer.write(lambda tx: receipt_notes.note_displaced(tx, row.id), self._deps.publisher.tell)

    async def _look_at_settled(self, chain: LiveChain) -> None:
        """Takes up final transactions whose block a deep reorg has removed."""
        gone = await self._settled.find_gone(chain, self._block_ms)
        if gone:
            receipts = await self._receipts(chain, gone)
            for one in gone:
                await self._settled.note(one, receipts.get(one.row.id))

    async def _look_at_displaced(self, chain: LiveChain) -> None:
        """Takes up displaced transactions that have a receipt after all."""
        if clock.monotonic_s() - self._displaced_at_s < _DISPLACED_EVERY_S and not self._is_first:
            return
        self._displaced_at_s = clock.monotonic_s()
        self._has_displaced = False
        found = await self._deps.database.read(lambda tx: rows.list_displaced(tx, self._chain_id))
        displaced = [TrackedTransaction(row, attempts) for row, attempts in found]
        self._has_displaced = bool(displaced)
        await self._write_mined(displaced, await self._receipts(chain, displaced))

    async def _write_mined(self, asked: Sequence[TrackedTransaction], receipts: Mapping[str, Receipt]) -> None:
        mined = [MinedTransaction(one.row, receipts[one.row.id]) for one in asked if one.row.id in receipts]
        await write_in_batches(self._deps, mined, receipt_notes.note_mined)


def _disagreement(row: TransactionRow, receipt: Receipt | None) -> str | None:
    """Why the second endpoint's receipt does not confirm the stored one."""
    if receipt is None:
        return "The second endpoint has no receipt of it."
    if receipt.block_hash != row.block_hash:
        return f"The second endpoint has it in another block ({receipt.block_number}, {receipt.block_hash})."
    assert row.receipt is not None
    if receipt.is_success != bool(loads_own(row.receipt)["isSuccess"]):
        return f"The second endpoint says that it {'succeeded' if receipt.is_success else 'reverted'}."
    return None


def _senders(followed: Iterable[TrackedTransaction]) -> list[str]:
    return sorted({one.row.sender for one in followed})


class Trackers:
    """The trackers of all chains with open transactions, each in its own task."""

    def __init__(self, deps: OutboxDeps) -> None:
        self._deps = deps
        self._trackers: dict[int, Tracker] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._is_stopped = False
        self.on_poked: Listeners[[int]] = Listeners()
        """In a shared store: called with the chain of which something was signed or asked for here."""

    async def start(self) -> None:
        """Takes up everything that an earlier process signed, or that was final lately."""
        since, served = clock.now_ms() - LONGEST_MS, list(self._deps.chains.networks)
        followed = await self._deps.database.read(rows.list_followed_chains)
        settled = await self._deps.database.read(
            lambda tx: [chain_id for chain_id in served if rows.list_settled(tx, chain_id, since)]
        )
        due = await self._deps.database.read(ledger.list_due_chains)
        for chain_id in sorted({*followed, *settled, *set(due).intersection(served)}):
            self.hear_poke(chain_id)

    def of(self, chain_id: int) -> Tracker:
        """The tracker of a chain."""
        if chain_id not in self._trackers:
            self._trackers[chain_id] = Tracker(self._deps, chain_id)
        return self._trackers[chain_id]

    async def look_now(self, chain_id: int) -> None:
        """Looks once, or lets the process that tracks the chain look, for a moment."""
        if not await self.of(chain_id).look() and self._deps.leases is not None:
            self.poke(chain_id)
            await asyncio.sleep(_OTHERS_LOOK_S)

    def poke(self, chain_id: int) -> None:
        """Looks at a chain now."""
        self.on_poked(chain_id)
        self.hear_poke(chain_id)

    def hear_poke(self, chain_id: int) -> None:
        """Something of a chain was signed or asked for, here or in another process."""
        if self._is_stopped:
            return
        tracker = self.of(chain_id)
        if chain_id not in self._tasks:
            self._tasks[chain_id] = asyncio.get_running_loop().create_task(tracker.work_on())
        tracker.poke()

    async def stop(self) -> None:
        """Ends every loop; the next start takes up what is open."""
        self._is_stopped = True
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
