"""All that is asked of chain, prices and policy before a nonce is taken: what fails here leaves no gap."""

from __future__ import annotations

from dataclasses import dataclass

from dustrun.chain.evm import LiveChain
from dustrun.core.money.intent import Intent
from dustrun.core.money.policy import Request
from dustrun.sdk.chain import Fees
from dustrun.services.outbox.deps import OutboxDeps
from dustrun.services.outbox.fees import INSUFFICIENT_FUNDS, FeeRequest, Priced, price
from dustrun.services.outbox.spend_request import Failure
from dustrun.services.outbox.spend_status import intent_of
from dustrun.services.wallets.budget import Values
from dustrun.storage.money import transactions as rows
from dustrun.storage.money.transactions import TransactionRow

__all__ = ["INSUFFICIENT_FUNDS", "Ready", "prepare"]


@dataclass(frozen=True, slots=True)
class Ready:
    """A wish that may be signed: what it costs, what its assets are worth, and up to which nonce the wallet's approvals
    were in the allowance that was read for it (`allowances`)."""

    row: TransactionRow
    priced: Priced
    values: Values
    approvals_up_to: int = -1

    @property
    def intent(self) -> Intent:
        """The wish."""
        return self.priced.intent

    @property
    def gas_limit(self) -> int:
        """The most gas that it may use."""
        return self.priced.gas_limit

    @property
    def bid(self) -> Fees:
        """What it bids for gas."""
        return self.priced.bid

    @property
    def max_price_units(self) -> int:
        """The most that a replacement may bid for one unit of gas."""
        return self.priced.max_price_units

    @property
    def request(self) -> Request:
        """What policy judges."""
        return self.priced.request

    @property
    def most_units(self) -> int:
        """The most that the wallet's balance goes down by, in base units of the native coin."""
        return self.priced.most_units

    @property
    def fee_ceiling_units(self) -> int:
        """The most that any of its attempts may pay for gas."""
        return self.gas_limit * self.max_price_units


async def prepare(parts: OutboxDeps, row: TransactionRow, chain: LiveChain) -> Ready | Failure:
    """What is to be signed for a planned wish, or why it will not be; raises `Temporary` when nobody answers."""
    await chain.verify()
    promised = await parts.database.read(lambda tx: rows.promised_units(tx, row.chain_id, row.sender))
    wish = FeeRequest(
        row.sender,
        intent_of(row),
        gas_limit=row.gas_limit,
        max_price_units=int(row.max_price) if row.max_price is not None else None,
        promised_units=promised,
    )
    priced = await price(chain, wish, parts.settings.transaction_max_fee_rise)
    if isinstance(priced, Failure):
        return priced
    return Ready(row, priced, await parts.spending.values_of([priced.request]))
