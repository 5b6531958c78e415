"""Watches final transactions of one chain for some time: a reorg deeper than their confirmations takes them back.

A block stands for all before it, so one question is enough while the newest one is still there. What is gone is
followed again from its old bytes: nothing new is signed for it. The run that it is of may have ended, and stays as it
is.
"""

from __future__ import annotations

from collections.abc import Sequence

from dustrun import clock, log
from dustrun.chain.evm import LiveChain
from dustrun.core.money.intent import Receipt
from dustrun.services.outbox.deps import OutboxDeps
from dustrun.services.outbox.tracking import receipts as receipt_notes
from dustrun.services.outbox.tracking.broadcast import Tracked
from dustrun.storage.money import transactions as rows
from dustrun.storage.money.transactions import Settled

_logger = log.get(__name__)
_BLOCKS = 256
_SHORTEST_MS, LONGEST_MS = 600_000, 86_400_000


class SettledWatch:
    """The final transactions of one chain."""

    def __init__(self, deps: OutboxDeps, chain_id: int) -> None:
        self._deps = deps
        self._chain_id = chain_id
        self._looked_at_s = -1e9
        self._suspected: dict[str, str] = {}
        self.has_any = True
        """Whether there was anything to watch at the last look."""

    async def find_gone(self, chain: LiveChain, block_ms: int) -> list[Tracked]:
        """The transactions whose block is gone, at two looks. It looks once per block at most."""
        if clock.monotonic_s() - self._looked_at_s < block_ms / 1000:
            return []
        self._looked_at_s = clock.monotonic_s()
        since = clock.now_ms() - min(max(_SHORTEST_MS, _BLOCKS * block_ms), LONGEST_MS)
        settled = await self._deps.database.read(lambda tx: rows.list_settled(tx, self._chain_id, since))
        self.has_any = bool(settled)
        gone = await self._gone(chain, settled)
        if not gone:
            return []
        await chain.verify(afresh=True)  # a node that was swapped a moment ago has lost nothing
        return await self._deps.database.read(
            lambda tx: [Tracked(rows.get(tx, one.id), rows.list_attempts(tx, one.id)) for one in gone]
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

    async def note(self, one: Tracked, receipt: Receipt | None) -> None:
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
