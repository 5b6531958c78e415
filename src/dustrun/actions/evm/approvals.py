"""ERC-20 approvals: only when needed, and with a reset to zero first where a token requires it."""

from __future__ import annotations

from dustrun.actions.evm import erc20
from dustrun.actions.evm.coins import Coin
from dustrun.core.evm.abi import AbiFault
from dustrun.core.money.intent import Intent, Movement
from dustrun.core.values.amounts import MAX_UINT256
from dustrun.records import dataclass
from dustrun.sdk.action import refuse
from dustrun.sdk.chain import CallResult, Chain, ChainCall

APPROVE = "approve"
RESET = "approve-reset"


@dataclass(frozen=True, slots=True)
class Approval:
    """A spender and amount; `of_swap` when the same node's swap then spends it, of which it needs `needed`."""

    coin: Coin
    owner: str
    spender: str
    amount_units: int
    of_swap: bool = False
    needed: int | None = None

    def call(self, amount_units: int) -> ChainCall:
        """The `approve` call for an amount."""
        assert self.coin.token is not None
        return approve_call(self.coin.token, self.owner, self.spender, amount_units)

    def intent(self, item: str, amount_units: int, after: tuple[str, ...] = ()) -> Intent:
        """The intent to approve an amount."""
        call = self.call(amount_units)
        amount = f"any amount of {self.coin.symbol}" if amount_units == MAX_UINT256 else self.coin.tell(amount_units)
        return Intent(
            item=item,
            chain_id=self.coin.chain_id,
            to=call.to,
            value_units=0,
            data=call.data,
            movements=(Movement("approve", self.coin.asset, amount_units, self.spender, self.of_swap, self.needed),),
            about=f"Let {self.spender} spend {amount}",
            method=erc20.APPROVE.signature,
            after=after,
            errors=erc20.ERRORS,
        )


def approve_call(token: str, owner: str, spender: str, amount_units: int) -> ChainCall:
    """The `approve` call, simulated for the owner."""
    return ChainCall(token, erc20.APPROVE.encode(spender, amount_units), owner)


async def read_allowance(chain: Chain, token: str, owner: str, spender: str) -> int:
    """The amount of an owner's tokens that a spender may spend."""
    data = await chain.call(ChainCall(token, erc20.ALLOWANCE.encode(owner, spender)))
    try:
        return int(erc20.ALLOWANCE.decode_result(data)[0])
    except AbiFault as fault:
        raise refuse(f"{token} does not return allowances like an ERC-20: {fault.message}", "token") from None


async def plan_approval(
    chain: Chain, approval: Approval, allowance: int, field: str = "token", tried: CallResult | None = None
) -> tuple[Intent, ...]:
    """The intents that set the allowance to exactly the amount. `tried`: the result of simulating the call, if known.

    A token that changes an allowance only from or to zero (such as USDT) gets a reset first. Raises `Permanent` with
    the token's reason when it reverts, `Invalid` when it returns false.
    """
    wanted = approval.call(approval.amount_units)
    if _says_done(tried) if tried is not None else await _is_done(chain, wanted):
        return (approval.intent(APPROVE, approval.amount_units),)
    if allowance and approval.amount_units and await _is_done(chain, approval.call(0)):
        return (approval.intent(RESET, 0), approval.intent(APPROVE, approval.amount_units, (RESET,)))
    await chain.call(wanted)
    raise refuse(f"{approval.coin.symbol} returns false for the approval", field)


async def _is_done(chain: Chain, call: ChainCall) -> bool:
    (result,) = await chain.call_many([call])
    return _says_done(result)


def _says_done(result: CallResult) -> bool:
    return result.is_success and erc20.is_accepted(result.data)
