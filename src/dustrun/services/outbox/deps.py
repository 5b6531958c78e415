"""Dependencies that all modules of the outbox share."""

from __future__ import annotations

from collections.abc import Callable

from dustrun.chain.chains import Chains
from dustrun.records import dataclass
from dustrun.services.outbox.events import EventPublisher
from dustrun.services.sharing.election import Leases
from dustrun.services.wallets.budget import Budget, Valuer
from dustrun.services.wallets.signers import Signers
from dustrun.settings import Settings
from dustrun.storage.db.database import Database
from dustrun.storage.db.writer import Writer
from dustrun.storage.secrets.vault import Vault

Steps = Callable[[str], None]


def no_step(_: str) -> None:
    """Ignores a step; used unless a test listens."""


@dataclass(frozen=True, slots=True)
class OutboxDeps:
    """The services behind the outbox. `on_step` receives the name of each step between two effects that a crash could
    separate; only crash tests listen."""

    settings: Settings
    database: Database
    writer: Writer
    vault: Vault
    chains: Chains
    signers: Signers
    budget: Budget
    publisher: EventPublisher
    leases: Leases | None = None
    """In a shared store: who signs for a wallet, and who tracks a chain."""
    second_prices: Valuer | None = None
    """Prices as the second endpoints see them."""
    on_step: Steps = no_step
