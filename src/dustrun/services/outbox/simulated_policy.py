"""Policy's word on what is simulated: against the ledger and what the same simulation has spent, reserving nothing."""

from __future__ import annotations

from collections.abc import Sequence

from dustrun import clock
from dustrun.core.money.policy import Counted, Request, Verdict
from dustrun.services.outbox.policy_check import policy_of
from dustrun.services.wallets.budget import Budget, Earlier
from dustrun.storage.db.database import Database


class SimulatedPolicy:
    """Judges simulated spends."""

    def __init__(self, database: Database, spending: Budget) -> None:
        self._database = database
        self._spending = spending

    async def judge(
        self, wallet_id: str, request: Request, now_ms: int, earlier: Sequence[Earlier]
    ) -> tuple[Verdict, Counted]:
        """The verdict, and what it counts against the next one of this simulation."""
        values = await self._spending.values_of([request])
        now = max(now_ms, clock.now_ms())
        return await self._database.read(
            lambda tx: self._spending.judge_simulated(
                tx,
                wallet_id=wallet_id,
                policy=policy_of(tx, wallet_id, now),
                request=request,
                values=values,
                now_ms=now,
                earlier=tuple(earlier),
            )
        )
