"""`/v1/wallets/{id}/allowances`: what a wallet has allowed others to take, and taking it back."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from dustrun.core.evm.network import Network
from dustrun.core.money.tokens import find_known
from dustrun.core.values.amounts import MAX_UINT256, format_units
from dustrun.core.values.fields import Fields
from dustrun.errors import Code
from dustrun.operations.declaration.answers import Answer, Time, time
from dustrun.operations.declaration.operation import Named, Noun
from dustrun.operations.declaration.parts import Call
from dustrun.operations.wallets import WalletId, read_chains
from dustrun.services.actions import ActionCall
from dustrun.services.runs.engine_port import CreatedRun
from dustrun.services.wallets.allowances import ChainAllowances, CurrentAllowance, WalletAllowances

noun = Noun("Wallets")
Address = Annotated[str, StringConstraints(pattern=r"^0x[0-9a-fA-F]{40}$")]
_USD = 10**18


class AllowanceAnswer(Answer):
    """An allowance: what somebody may take from the wallet now."""

    kind: Literal["erc20", "collection", "permit2"]
    token: str
    symbol: str | None = Field(description="By the network's file; null for tokens that it does not name.")
    spender: str
    spender_name: str | None = Field(description="Name of a known contract.")
    contract: str = Field(description="The contract that records it: the token, or Permit2.")
    amount: str = Field(description="Base units; the maximum for a whole collection.")
    amount_formatted: str | None
    is_unlimited: bool
    balance: str | None = Field(description="What the wallet has of the token, in base units.")
    worth_usd: str | None = Field(description="Worth of what could be taken now: the allowance, at most the balance.")
    expires_at: Time | None


class AllowanceFailure(Answer):
    """An allowance that could not be read."""

    token: str | None
    code: int
    message: str


class ChainAllowancesAnswer(Answer):
    """The allowances on one chain, those worth most first."""

    chain_id: int
    name: str
    allowances: list[AllowanceAnswer]
    failures: list[AllowanceFailure]


class AllowancesAnswer(Answer):
    """The allowances that a wallet has given others."""

    wallet_id: str
    address: str
    at: Time
    chains: list[ChainAllowancesAnswer]
    is_complete: bool


class RevokeBody(Fields):
    """Which allowances to revoke; without `token` and `spender` all of the chain."""

    chain_id: int = Field(description="The chain.", ge=1, le=2**63 - 1, strict=True)
    token: Address | None = Field(None, description="Only of this token or collection.")
    spender: Address | None = Field(None, description="Only what this address may take.")
    unlimited_only: bool = Field(False, description="Whether allowances with a bound stay.")


class RevocationAnswer(Answer):
    """The run that revokes."""

    run_id: str


def _shape(found: WalletAllowances) -> dict[str, Any]:
    return {
        "walletId": found.wallet.id,
        "address": found.wallet.address,
        "at": time(found.at_ms),
        "chains": [_chain(chain) for chain in found.chains],
        "isComplete": not any(chain.failures for chain in found.chains),
    }


def _chain(found: ChainAllowances) -> dict[str, Any]:
    failures = [{"token": one.token, "code": one.code, "message": one.message} for one in found.failures]
    return {
        "chainId": found.network.chain_id,
        "name": found.network.name,
        "allowances": [_allowance(one, found.network) for one in found.allowances],
        "failures": failures,
    }


def _allowance(found: CurrentAllowance, network: Network) -> dict[str, Any]:
    one, units, risk = found.allowance, found.state.units, found.at_risk_units
    known = find_known(network, one.token)
    decimals = found.value.decimals if found.value is not None else None if known is None else known.decimals
    expires = found.state.expires_at_s
    worth = None if found.value is None or risk is None else found.value.worth.of(risk)
    return {
        "kind": one.kind,
        "token": one.token,
        "symbol": None if known is None else known.symbol,
        "spender": one.spender,
        "spenderName": found.spender_name,
        "contract": one.contract,
        "amount": str(units),
        "amountFormatted": None if decimals is None or units == MAX_UINT256 else format_units(units, decimals),
        "isUnlimited": found.is_unlimited,
        "balance": None if found.balance_units is None else str(found.balance_units),
        "worthUsd": None if worth is None else format_units(worth, 18),
        "expiresAt": None if expires is None or expires >= 2**40 else time(expires * 1000),
    }


@noun.get(
    "/v1/wallets/{id}/allowances",
    permission="wallet:read",
    answers=AllowancesAnswer,
    shape=_shape,
    refusals=[Code.WALLET_UNKNOWN, Code.CHAIN_UNKNOWN, Code.CHAIN_NOT_SERVED],
)
async def get_wallet_allowances(
    call: Call,
    id: WalletId,
    chain_ids: Annotated[
        str | None,
        Named("chainIds"),
        Field(description="Chain ids, comma-separated. Default: all configured chains."),
    ] = None,
) -> WalletAllowances:
    """Get what a wallet has allowed others to take, with its worth.

    Found by the wallet's transactions and signatures that this server made, and read from the chain now. Allowances
    that were given elsewhere are not in the list. Contracts that do not answer are in `failures`.
    """
    wanted = None if chain_ids is None else read_chains(chain_ids)
    return await call.parts.money.allowances.list_all(call.principal, id, wanted)


@noun.post(
    "/v1/wallets/{id}/allowances/revoke",
    permission="wallet:spend",
    answers=RevocationAnswer,
    shape=lambda created: {"runId": created.run_id},
    refusals=[Code.WALLET_UNKNOWN, Code.WALLET_CANNOT_SIGN, Code.ACTION_INPUT_INVALID],
    example={"chainId": 1, "unlimitedOnly": True},
)
async def revoke_wallet_allowances(call: Call, id: WalletId, body: RevokeBody) -> CreatedRun:
    """Revoke allowances: set them to zero.

    Starts a run of the action `revoke-allowances`, which goes through policy and outbox like every spend; every policy
    allows it.
    """
    await call.parts.money.wallets.get(call.principal, id)
    inputs = body.model_dump(by_alias=True, exclude_none=True)
    wanted = ActionCall(type="revoke-allowances", inputs=inputs, connector_id=id, connector_type="wallet")
    return await call.parts.action_calls.start(call.principal, wanted)
