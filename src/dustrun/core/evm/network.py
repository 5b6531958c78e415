"""A chain as a JSON file describes it: adding a chain is adding a file."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from dustrun.core.values.fields import Fields


class NativeAsset(Fields):
    """The coin that fees are paid in."""

    symbol: str = Field(description="Like ETH.")
    name: str = Field(description="Like Ether.")
    decimals: int = Field(18, ge=0, le=36, description="Digits after the point.")


class Token(Fields):
    """An ERC-20 that people know by its symbol."""

    address: str = Field(description="EIP-55 checksummed.")
    symbol: str = Field(description="Like USDC.")
    decimals: int = Field(ge=0, le=77, description="Digits after the point.")


class Feed(Fields):
    """A price feed in the manner of Chainlink's AggregatorV3Interface."""

    address: str = Field(description="The proxy of the feed.")
    token: str | None = Field(None, description="The token's address; null for the native coin.")
    heartbeat_s: int = Field(ge=1, description="Longest time between two answers, in seconds.")
    decimals: int = Field(8, ge=0, le=36, description="Digits after the point of an answer.")


class Dex(Fields):
    """The contracts of a Uniswap-like exchange; those it has not are null."""

    v2_factory: str | None = Field(None, description="Uniswap V2 factory.")
    v2_router: str | None = Field(None, description="Uniswap V2 Router02.")
    v3_factory: str | None = Field(None, description="Uniswap V3 factory.")
    v3_router: str | None = Field(None, description="Uniswap V3 SwapRouter or SwapRouter02.")
    v3_router_kind: Literal["swap-router", "swap-router-02"] = Field(
        "swap-router", description="Whether `exactInputSingle` takes a deadline (SwapRouter) or not (SwapRouter02)."
    )
    v3_quoter: str | None = Field(None, description="Uniswap V3 QuoterV2.")


class Network(Fields):
    """One EVM chain."""

    chain_id: int = Field(ge=1, description="As EIP-155 has it.")
    name: str = Field(description="Like Ethereum.")
    short_name: str = Field(pattern=r"^[a-z0-9-]+$", description="Like ethereum; unique.")
    is_testnet: bool = Field(False, description="Whether its coins are worth nothing.")
    genesis_hash: str | None = Field(None, description="Hash of block 0, checked before anything is signed.")
    native: NativeAsset = Field(description="The coin that fees are paid in.")
    endpoints: tuple[str, ...] = Field((), description="URLs of JSON-RPC endpoints, best first.")
    explorer: str | None = Field(None, description="Base URL of a block explorer.")
    fee_model: Literal["eip1559", "legacy"] = Field("eip1559", description="How fees are bid.")
    data_fee: Literal["op-stack", "arbitrum"] | None = Field(None, description="The L2's fee for data on L1.")
    block_time_ms: int = Field(ge=1, description="Usual time between two blocks, in milliseconds.")
    confirmations: int = Field(ge=1, description="Blocks, the first included, after which a receipt is final.")
    wrapped_native: str | None = Field(None, description="The WETH-like contract.")
    multicall3: str | None = Field(None, description="The Multicall3 contract.")
    tokens: tuple[Token, ...] = Field((), description="Known tokens.")
    feeds: tuple[Feed, ...] = Field((), description="Price feeds in US dollars.")
    sequencer_feed: str | None = Field(None, description="The L2's sequencer uptime feed.")
    dex: Dex = Field(Dex(), description="Where swaps go when the node names no contracts.")
    is_local: bool = Field(False, description="A development chain on this machine.")
