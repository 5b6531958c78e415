"""All that is asked of chain, prices and policy before a nonce is taken: what fails here leaves no gap."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dustrun import clock
from dustrun.chain.evm import LiveChain
from dustrun.core.intent import Intent
from dustrun.core.ledger import gas_limit_of
from dustrun.core.policy import Request
from dustrun.errors import Code, DustrunError, Invalid, Permanent
from dustrun.sdk.chain import Fees
from dustrun.services.spending import Values
from dustrun.services.transactions.order import Failure
from dustrun.services.transactions.parts import Parts
from dustrun.services.transactions.stands import intent_of
from dustrun.storage import transactions as rows
from dustrun.storage.transactions import TransactionRow

INSUFFICIENT_FUNDS, REVERTED = "INSUFFICIENT_FUNDS", "REVERTED"
PRICE_TOO_HIGH, GAS_LIMIT = "PRICE_TOO_HIGH", "GAS_LIMIT"


@dataclass(frozen=True, slots=True)
class Ready:
    """A wish that may be signed: its gas limit, its bid, the most that a replacement may bid, what its assets are
    worth."""

    row: TransactionRow
    intent: Intent
    gas_limit: int
    bid: Fees
    max_price_units: int
    data_fee_units: int
    values: Values

    @property
    def request(self) -> Request:
        """What policy judges."""
        return Request.of_intent(
            self.intent,
            gas_limit=self.gas_limit,
            max_fee_units=self.bid.max_fee_units,
            data_fee_units=self.data_fee_units,
        )

    @property
    def most_units(self) -> int:
        """The most that the wallet's balance goes down by, in base units of the native coin."""
        return self.intent.value_units + self.request.gas_units

    @property
    def fee_ceiling_units(self) -> int:
        """The most that any of its attempts may pay for gas."""
        return self.gas_limit * self.max_price_units


async def prepare(parts: Parts, row: TransactionRow, chain: LiveChain) -> Ready | Failure:
    """What is to be signed for a planned wish, or why it will not be; raises `Temporary` when nobody answers."""
    intent = intent_of(row)
    await chain.verify()
    try:
        estimate = await chain.estimate_gas(
            row.sender, intent.to, intent.value_units, intent.data, errors=intent.errors
        )
    except (Invalid, Permanent) as error:
        return _failure_of(error, intent)
    gas_limit = intent.gas_limit or row.gas_limit or gas_limit_of(estimate, is_plain=not intent.data)
    if gas_limit < estimate:
        message = f"{intent.about}: it needs {estimate} gas, and may use {gas_limit}."
        return Failure(GAS_LIMIT, message)
    bid = await chain.fees()
    most = _most_per_unit(parts, row, bid)
    if bid.max_fee_units > most:
        bid = Fees(most, min(bid.tip_units, most), bid.expected_units, bid.is_legacy)
    if bid.expected_units > most:
        message = (
            f"Gas costs {bid.expected_units} base units now, and the node bids at most {most}: "
            "wait until it is cheaper, or let it bid more."
        )
        return Failure(PRICE_TOO_HIGH, message, retryable=True)
    ready = Ready(row, intent, gas_limit, bid, most, await chain.data_fee(intent.to, intent.data), {})
    short = await _shortfall(parts, ready, chain)
    if short is not None:
        return short
    values = await parts.spending.values_of([ready.request])
    return Ready(row, intent, gas_limit, bid, most, ready.data_fee_units, values)


def _most_per_unit(parts: Parts, row: TransactionRow, bid: Fees) -> int:
    """The ceiling of all bids: what the node or an approval says, else some times the first one."""
    return (
        int(row.max_price) if row.max_price is not None else bid.max_fee_units * parts.settings.transaction_max_fee_rise
    )


def _failure_of(error: DustrunError, intent: Intent) -> Failure:
    details = tuple(error.public_details())
    if error.code is Code.FUNDS_INSUFFICIENT:
        return Failure(INSUFFICIENT_FUNDS, error.message, retryable=True, details=details)
    return Failure(REVERTED, f"{intent.about}: {error.message}", retryable=True, details=details)


async def _shortfall(parts: Parts, ready: Ready, chain: LiveChain) -> Failure | None:
    """Whether the wallet has too little for it, besides what it has signed for already."""
    row = ready.row
    promised = await parts.database.read(lambda tx: rows.promised_units(tx, row.chain_id, row.sender))
    balance = await chain.balance(row.sender)
    if balance >= ready.most_units + promised:
        return None
    symbol = chain.network.native.symbol
    held = f", besides {promised} for what it has signed already" if promised else ""
    message = (
        f"The wallet {row.sender} has {balance} base units of {symbol} and needs {ready.most_units} for the value and "
        f"the most that the gas may cost{held}."
    )
    return Failure(INSUFFICIENT_FUNDS, message, retryable=True, details=(_needs(balance, ready, promised),))


def _needs(balance: int, ready: Ready, promised: int) -> dict[str, Any]:
    return {
        "field": "value",
        "message": "more than the wallet has",
        "balance": str(balance),
        "needed": str(ready.most_units),
        "promised": str(promised),
        "atMs": clock.now_ms(),
    }
