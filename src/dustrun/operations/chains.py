"""`/v1/chains`: the configured chains, and the health of their endpoints."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from dustrun.core.evm.network import Dex, Feed, NativeAsset, Network, Token
from dustrun.errors import Code
from dustrun.operations.declaration.answers import MADE, Answer, From, Time
from dustrun.operations.declaration.operation import PUBLIC, Named, Noun
from dustrun.operations.declaration.parts import Call
from dustrun.services import chains as service
from dustrun.services.chains import ChainStatus, ChainView

noun = Noun("Chains")

ChainId = Annotated[int, Named("chainId"), Field(ge=1, le=2**53 - 1, description="EIP-155 chain id.", examples=[1])]


class ChainAnswer(Answer):
    """One EVM chain."""

    chain_id: int
    name: str
    short_name: str
    is_testnet: bool = Field(description="Whether it is a test network, whose coins are worthless.")
    is_local: bool = Field(description="Whether it is a development chain on the server's machine.")
    is_served: bool = Field(description="Whether an endpoint is configured.")
    native: NativeAsset
    usual_fee: str | None = Field(description="Usual network fee of a transaction, in whole coins.")
    explorer: str | None = Field(description="Base URL of a block explorer.")
    fee_model: str = Field(description="`eip1559` or `legacy`.")
    data_fee: str | None = Field(description="How an L2 charges for L1 data: `op-stack` or `arbitrum`.")
    block_time_ms: int = Field(description="Usual time between two blocks.")
    confirmations: int = Field(description="Confirmations after which a receipt is final, counting its own block.")
    wrapped_native: str | None
    multicall3: str | None
    tokens: list[Token]
    feeds: list[Feed]
    sequencer_feed: str | None
    dex: Dex


class AbilitiesAnswer(Answer):
    """Optional methods that an endpoint supports."""

    simulate_v1: bool
    simulate_creation: bool
    trace_transfers: bool
    trace_call: bool
    call_overrides: bool
    block_receipts: bool


class EndpointAnswer(Answer):
    """One endpoint; only the host of its URL, which may contain a secret."""

    host: str
    is_usable: bool
    problem: str | None
    height: int | None = Field(description="Its newest block at the last comparison of endpoints.")
    chain_id: int | None = Field(description="The chain id that it reports; null if it was not reached.")
    abilities: AbilitiesAnswer | None


class HeadAnswer(Answer):
    """The newest block."""

    number: int
    hash: str
    time: Annotated[Time, From(lambda one: one.time * 1000)]


class FeesAnswer(Answer):
    """The current bid per gas of a transaction, in base units."""

    max_fee: Annotated[str, From(lambda one: str(one.max_fee_units))]
    tip: Annotated[str, From(lambda one: str(one.tip_units))]
    expected: Annotated[str, From(lambda one: str(one.expected_units))]


class ChainStatusAnswer(Answer):
    """Current health of a chain."""

    chain_id: Annotated[int, From("network.chain_id")]
    name: Annotated[str, From("network.name")]
    problem: str | None = Field(description="Why nothing can be signed on it; null if healthy.")
    block: HeadAnswer | None
    fees: FeesAnswer | None
    simulation_strategies: Annotated[list[str], From("strategies")] = Field(
        description="Available simulation strategies, best first."
    )
    endpoints: Annotated[list[EndpointAnswer], From(_endpoints), MADE]


def _shape(view: ChainView) -> dict[str, Any]:
    network: Network = view.network
    shown = network.model_dump(by_alias=True, mode="json", exclude={"endpoints", "genesis_hash", "lacks_receipts"})
    return {**shown, "isServed": view.is_served}


def _shapes(views: list[ChainView]) -> list[dict[str, Any]]:
    return [_shape(view) for view in views]


def _endpoints(status: ChainStatus) -> list[dict[str, Any]]:
    return [
        {**one.facts, "chainId": one.chain_id, "abilities": None if one.abilities is None else one.abilities.public()}
        for one in status.endpoints
    ]


@noun.get("/v1/chains", permission=PUBLIC, answers=list[ChainAnswer], shape=_shapes)
async def list_chains(call: Call) -> list[ChainView]:
    """List the configured chains."""
    return service.list_chains(call.parts.money.chains)


@noun.get("/v1/chains/{chainId}", permission=PUBLIC, answers=ChainAnswer, shape=_shape, refusals=[Code.CHAIN_UNKNOWN])
async def get_chain(call: Call, chain_id: ChainId) -> ChainView:
    """Get one chain."""
    return service.get_chain(call.parts.money.chains, chain_id)


@noun.get(
    "/v1/chains/{chainId}/status",
    permission="wallet:read",
    answers=ChainStatusAnswer,
    refusals=[Code.CHAIN_UNKNOWN, Code.CHAIN_NOT_SERVED],
)
async def get_chain_status(call: Call, chain_id: ChainId) -> ChainStatus:
    """Check a chain's endpoints.

    Asks each endpoint for its chain id, its newest block, and the methods that simulations use.
    """
    has_binary = call.parts.settings.fork_binary is not None
    return await service.get_status(call.parts.money.chains, chain_id, has_binary)
