"""What an intent would cost now, and whether the chain accepts it and the sender can pay; the same for live and
simulated chains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from dustrun import clock
from dustrun.core.evm.network import Network
from dustrun.core.money.intent import Intent
from dustrun.core.money.policy import Request
from dustrun.core.money.transaction_state import gas_limit_of
from dustrun.errors import Code, DustrunError, Invalid, Permanent
from dustrun.records import dataclass
from dustrun.sdk.chain import Fees
from dustrun.services.outbox.spend_status import Failure

INSUFFICIENT_FUNDS, REVERTED = "INSUFFICIENT_FUNDS", "REVERTED"
PRICE_TOO_HIGH, GAS_LIMIT = "PRICE_TOO_HIGH", "GAS_LIMIT"


class SpendChain(Protocol):
    """What is read of a chain before a spend."""

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
        """What an L2 charges besides the gas, in base units."""
        ...

    async def balance(self, address: str) -> int:
        """Native balance in base units."""
        ...


@dataclass(frozen=True, slots=True)
class FeeRequest:
    """What a sender wants to send, its own gas limit and price ceiling if set, and the base units committed to
    transactions that it signed before."""

    sender: str
    intent: Intent
    gas_limit: int | None = None
    max_price_units: int | None = None
    promised_units: int = 0


@dataclass(frozen=True, slots=True)
class Priced:
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
    def request(self) -> Request:
        """The spend as the policy judges it."""
        return Request.of_intent(
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


async def price(chain: SpendChain, request: FeeRequest, max_rise: int) -> Priced | Failure:
    """Estimates the cost, or says why the chain would not accept it. Raises `Temporary` if no endpoint answers, and
    whatever ends a simulation. `max_rise`: a replacement may bid this many times the first bid unless the intent sets a
    ceiling."""
    intent = request.intent
    gas_limit = await _gas_limit(chain, request)
    if isinstance(gas_limit, Failure):
        return gas_limit
    bid = await chain.fees()
    most = request.max_price_units if request.max_price_units is not None else bid.max_fee_units * max_rise
    if bid.expected_units > most:
        message = (
            f"Gas costs {bid.expected_units} base units now, and the node's maximum is {most}: "
            "wait until gas is cheaper, or raise the maximum."
        )
        return Failure(PRICE_TOO_HIGH, message, retryable=True)
    if bid.max_fee_units > most:
        bid = Fees(most, min(bid.tip_units, most), bid.expected_units, bid.is_legacy)
    data_fee, usual = await chain.data_fee(intent.to, intent.data), chain.network.usual_fee_units(bid.expected_units)
    priced = Priced(request.sender, intent, gas_limit, bid, most, data_fee, usual)
    return await _shortfall(chain, request, priced) or priced


async def _gas_limit(chain: SpendChain, request: FeeRequest) -> int | Failure:
    """The gas limit that is set, if the transaction succeeds with it; otherwise one from the estimate.

    A contract's behaviour may depend on the gas it gets, so it is tried with the limit that is set. Only if that fails
    is it estimated without one, which tells too low a limit from a revert.
    """
    intent, limit = request.intent, request.intent.gas_limit or request.gas_limit
    room = None if limit is None else await chain.block_gas_limit()
    if limit is not None and room is not None and limit > room:
        return Failure(GAS_LIMIT, f"{intent.about}: its gas limit is {limit}, but a block has room for {room} only.")
    estimate = await _estimate(chain, request, limit)
    if limit is None:
        return estimate if isinstance(estimate, Failure) else gas_limit_of(estimate, is_plain=not intent.data)
    if isinstance(estimate, Failure):
        estimate = await _estimate(chain, request, None)
    elif estimate <= limit:
        return limit
    if isinstance(estimate, Failure):
        return estimate
    needs = f"{estimate} gas" if estimate > limit else "more gas"
    return Failure(GAS_LIMIT, f"{intent.about}: it needs {needs}, but its limit is {limit}.")


async def _estimate(chain: SpendChain, request: FeeRequest, limit: int | None) -> int | Failure:
    """Gas used under that limit, or why the transaction would fail."""
    intent = request.intent
    try:
        return await chain.estimate_gas(
            request.sender, intent.to, intent.value_units, intent.data, errors=intent.errors, gas_limit=limit
        )
    except (Invalid, Permanent) as error:
        if error.code.name.startswith("SIM_"):
            raise  # the simulation has ended, which says nothing of the transaction
        return _failure_of(error, intent)


def _failure_of(error: DustrunError, intent: Intent) -> Failure:
    details = tuple(error.public_details())
    if error.code is Code.FUNDS_INSUFFICIENT:
        return Failure(INSUFFICIENT_FUNDS, error.message, retryable=True, details=details)
    return Failure(REVERTED, f"{intent.about}: {error.message}", retryable=True, details=details)


async def _shortfall(chain: SpendChain, request: FeeRequest, priced: Priced) -> Failure | None:
    """A failure if the sender's balance does not cover it besides what it has signed before."""
    balance, promised = await chain.balance(request.sender), request.promised_units
    if balance >= priced.most_units + promised:
        return None
    held = f", besides {promised} for transactions that it has signed already" if promised else ""
    message = (
        f"The wallet {request.sender} has {balance} base units of {chain.network.native.symbol} and needs "
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
    return Failure(INSUFFICIENT_FUNDS, message, retryable=True, details=(needs,))
