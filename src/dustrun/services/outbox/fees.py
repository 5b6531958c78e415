"""The cost of an intent now, and whether the chain accepts it and the sender can pay; the same for live and
simulated chains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from dustrun import clock
from dustrun.core.evm.network import Network
from dustrun.core.money.intent import Intent
from dustrun.core.money.policy import PolicyRequest
from dustrun.core.money.transaction_state import PLAIN_GAS, gas_limit_of
from dustrun.errors import Code, DustrunError, Invalid, Permanent
from dustrun.records import dataclass
from dustrun.sdk.chain import Fees
from dustrun.services.outbox.spend_status import IntentFailure

INSUFFICIENT_FUNDS, REVERTED = "INSUFFICIENT_FUNDS", "REVERTED"
PRICE_TOO_HIGH, GAS_LIMIT = "PRICE_TOO_HIGH", "GAS_LIMIT"


class SpendChain(Protocol):
    """The state of a chain that is read before a spend."""

    @property
    def network(self) -> Network:
        """The chain's description."""
        ...

    async def estimate_gas(
        self,
        sender: str,
        to: str | None,
        value_units: int,
        data: bytes,
        errors: Sequence[Mapping[str, Any]] = (),
        gas_limit: int | None = None,
    ) -> int:
        """Gas that the transaction would use now, given at most `gas_limit` if set. Raises `Permanent` with the decoded
        reason if it would revert, `Invalid` if the sender lacks the value."""
        ...

    async def fees(self) -> Fees:
        """The bid for gas now."""
        ...

    async def block_gas_limit(self) -> int | None:
        """The gas that a block has room for; None if the endpoint does not say."""
        ...

    async def data_fee(self, to: str | None, data: bytes) -> int:
        """The fee that an L2 charges besides the gas, in base units."""
        ...

    async def balance(self, address: str) -> int:
        """Native balance in base units."""
        ...


@dataclass(frozen=True, slots=True)
class FeeRequest:
    """The intent of a sender, its own gas limit and price ceiling if set, and the base units committed to
    transactions before it: signed ones, and those of its node. `balance_units`: the balance that these are taken from,
    if it is known. `gas_used`: what a simulation of the node used, after those before it. `is_next`: nothing of its
    node comes before it, so the chain can estimate it now."""

    sender: str
    intent: Intent
    gas_limit: int | None = None
    max_price_units: int | None = None
    promised_units: int = 0
    balance_units: int | None = None
    gas_used: int | None = None
    is_next: bool = True


@dataclass(frozen=True, slots=True)
class PricedIntent:
    """An intent that the chain would accept: its gas limit, its bid, and the most that a replacement may bid for a unit
    of gas."""

    sender: str
    intent: Intent
    gas_limit: int
    bid: Fees
    max_price_units: int
    data_fee_units: int
    usual_fee_units: int = 0

    @property
    def request(self) -> PolicyRequest:
        """The spend as the policy judges it."""
        return PolicyRequest.of_intent(
            self.intent,
            self.sender,
            gas_limit=self.gas_limit,
            max_fee_units=self.bid.max_fee_units,
            data_fee_units=self.data_fee_units,
            usual_fee_units=self.usual_fee_units,
        )

    @property
    def most_units(self) -> int:
        """The most by which the sender's balance goes down, in base units of the native coin."""
        return self.intent.value_units + self.request.gas_units


async def price(chain: SpendChain, request: FeeRequest, max_rise: int) -> PricedIntent | IntentFailure:
    """Estimates the cost, or says why the chain would not accept it, or why the sender cannot pay it. See `cost_of`."""
    priced = await cost_of(chain, request, max_rise)
    if isinstance(priced, IntentFailure):
        return priced
    balance = await chain.balance(request.sender) if request.balance_units is None else request.balance_units
    return shortfall(priced, balance, request.promised_units, chain.network.native.symbol) or priced


async def cost_of(chain: SpendChain, request: FeeRequest, max_rise: int) -> PricedIntent | IntentFailure:
    """Estimates the cost, or says why the chain would not accept it. Raises `Temporary` if no endpoint answers, and
    whatever ends a simulation. `max_rise`: a replacement may bid this many times the first bid unless the intent sets a
    ceiling."""
    intent = request.intent
    gas_limit = await _gas_limit(chain, request)
    if isinstance(gas_limit, IntentFailure):
        return gas_limit
    bid = await chain.fees()
    most = request.max_price_units if request.max_price_units is not None else bid.max_fee_units * max_rise
    if bid.expected_units > most:
        message = (
            f"Gas costs {bid.expected_units} base units now, and the node's maximum is {most}: "
            "wait until gas is cheaper, or raise the maximum."
        )
        return IntentFailure(PRICE_TOO_HIGH, message, retryable=True)
    if bid.max_fee_units > most:
        bid = Fees(most, min(bid.tip_units, most), bid.expected_units, bid.is_legacy)
    data_fee, usual = await chain.data_fee(intent.to, intent.data), chain.network.usual_fee_units
    return PricedIntent(request.sender, intent, gas_limit, bid, most, data_fee, usual)


async def _gas_limit(chain: SpendChain, request: FeeRequest) -> int | IntentFailure:
    """The gas limit that is set, if the transaction succeeds with it; otherwise one from the estimate.

    A contract's behaviour may depend on the gas it gets, so it is tried with the limit that is set. Only if that fails
    is it estimated without one, which tells too low a limit from a revert.
    """
    intent, limit = request.intent, request.intent.gas_limit or request.gas_limit
    room = None if limit is None else await chain.block_gas_limit()
    if limit is not None and room is not None and limit > room:
        return IntentFailure(
            GAS_LIMIT, f"{intent.about}: its gas limit is {limit}, but a block has room for {room} only."
        )
    if limit is None:
        return await _estimated_limit(chain, request)
    if not request.is_next and request.gas_used is not None:
        return limit  # it was simulated with this limit
    estimate = await _estimate(chain, request, limit)
    if isinstance(estimate, IntentFailure):
        estimate = await _estimate(chain, request, None)
    elif estimate <= limit:
        return limit
    if isinstance(estimate, IntentFailure):
        return estimate
    needs = f"{estimate} gas" if estimate > limit else "more gas"
    return IntentFailure(GAS_LIMIT, f"{intent.about}: it needs {needs}, but its limit is {limit}.")


async def _estimated_limit(chain: SpendChain, request: FeeRequest) -> int | IntentFailure:
    """The gas limit of what a simulation used, so that every mode has the same one. The chain's own estimate replaces
    it where that is not enough: gas may be refunded, held back from inner calls, or pay for data."""
    is_plain, found = not request.intent.data, 0
    if request.gas_used is not None and not (is_plain and request.gas_used == PLAIN_GAS):
        found = gas_limit_of(request.gas_used, is_plain=is_plain)
        if not request.is_next and chain.network.data_fee != "arbitrum":
            return found
    estimate = await _estimate(chain, request, None)
    if isinstance(estimate, IntentFailure) or estimate <= found:
        return estimate if isinstance(estimate, IntentFailure) else found
    return gas_limit_of(estimate, is_plain=is_plain)


async def _estimate(chain: SpendChain, request: FeeRequest, limit: int | None) -> int | IntentFailure:
    """Gas used under that limit, or why the transaction would fail."""
    intent = request.intent
    try:
        return await chain.estimate_gas(
            request.sender, intent.to, intent.value_units, intent.data, errors=intent.errors, gas_limit=limit
        )
    except (Invalid, Permanent) as error:
        if error.code.name.startswith("SIM_"):
            raise  # the simulation has ended, which says nothing of the transaction
        return failure_of(error, intent)


def failure_of(error: DustrunError, intent: Intent) -> IntentFailure:
    """Why the chain would not accept an intent, as the node's failure."""
    details = tuple(error.public_details())
    if error.code is Code.FUNDS_INSUFFICIENT:
        return IntentFailure(INSUFFICIENT_FUNDS, error.message, retryable=True, details=details)
    return IntentFailure(REVERTED, f"{intent.about}: {error.message}", retryable=True, details=details)


def shortfall(priced: PricedIntent, balance: int, promised: int, symbol: str) -> IntentFailure | None:
    """A failure if the sender's balance does not cover it besides what is promised to transactions before it."""
    if balance >= priced.most_units + promised:
        return None
    held = f", besides {promised} for transactions before it" if promised else ""
    message = (
        f"The wallet {priced.sender} has {balance} base units of {symbol} and needs "
        f"{priced.most_units} for the value and the maximum gas cost{held}."
    )
    needs = {
        "field": "value",
        "message": "more than the wallet has",
        "balance": str(balance),
        "needed": str(priced.most_units),
        "promised": str(promised),
        "atMs": clock.now_ms(),
    }
    return IntentFailure(INSUFFICIENT_FUNDS, message, retryable=True, details=(needs,))
