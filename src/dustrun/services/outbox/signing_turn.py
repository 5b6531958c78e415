"""In a shared store only one process at a time signs for a sender on a chain.

What it signed is committed only while it still has its turn, which the unit that commits checks. So a process that
was frozen between signing and committing throws its bytes away, which nobody has seen.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from dustrun.records import dataclass
from dustrun.services.sharing.election import Leases, alone
from dustrun.storage.db.statement import Tx
from dustrun.storage.sharing import leases as rows


@dataclass(frozen=True, slots=True)
class SigningTurn:
    """The right to sign for one sender, under a fence; without leases everybody has it."""

    name: str
    holder: str | None = None
    fence: int = 0

    def check(self, tx: Tx) -> None:
        """Raises `LeaseLost` in the unit that would commit what was signed, if another process signs now."""
        if self.holder is not None:
            rows.check(tx, self.name, self.holder, self.fence)


@contextlib.asynccontextmanager
async def signing_turn(leases: Leases | None, chain_id: int, sender: str) -> AsyncIterator[SigningTurn]:
    """Waits for the turn, and gives it back. Raises `Temporary` if another process keeps it for long."""
    name = f"signing:{chain_id}:{sender}"
    async with alone(leases, name) as fence:
        yield SigningTurn(name, None if leases is None else leases.holder, fence)
