"""A network definition, loaded from a JSON file; to add a chain, add a file."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Literal

from pydantic import Field

from dustrun.core.values.fields import Fields


class NativeAsset(Fields):
    """The coin that pays for gas."""

    symbol: str = Field(description="Like ETH.")
    name: str = Field(description="Like Ether.")
    decimals: int = Field(18, ge=0, le=36, description="Number of decimals.")


class Token(Fields):
    """A well-known ERC-20 token, by symbol."""

    address: str = Field(description="EIP-55 checksummed.")
    symbol: str = Field(description="Like USDC.")
    decimals: int = Field(ge=0, le=77, description="Number of decimals.")


class Feed(Fields):
    """A price feed with Chainlink's AggregatorV3Interface."""

    address: str = Field(description="Address of the feed's proxy.")
    token: str | None = Field(None, description="The token's address; null for the native coin.")
    heartbeat_s: int = Field(ge=1, description="Heartbeat: the longest time between two answers, in seconds.")
    decimals: int = Field(8, ge=0, le=36, description="Decimals of an answer.")


class Dex(Fields):
    """Contracts of a Uniswap-compatible exchange; null where there is none."""

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

    chain_id: int = Field(ge=1, description="EIP-155 chain id.")
    name: str = Field(description="Like Ethereum.")
    short_name: str = Field(pattern=r"^[a-z0-9-]+$", description="Unique name, like ethereum.")
    is_testnet: bool = Field(False, description="Whether its coins are worthless.")
    genesis_hash: str | None = Field(None, description="Hash of block 0, checked before anything is signed.")
    native: NativeAsset = Field(description="The coin that pays for gas.")
    usual_fee: str | None = Field(
        None,
        pattern=r"^[0-9]{1,12}(\.[0-9]{1,36})?$",
        description="Usual network fee of a transaction, in whole coins; null: the fee that a person approved.",
    )
    endpoints: tuple[str, ...] = Field((), description="JSON-RPC endpoint URLs, best first.")
    explorer: str | None = Field(None, description="Base URL of a block explorer.")
    fee_model: Literal["eip1559", "legacy"] = Field("eip1559", description="Fee market: how fees are bid.")
    data_fee: Literal["op-stack", "arbitrum"] | None = Field(None, description="How the L2 charges for data on L1.")
    block_time_ms: int = Field(ge=1, description="Typical block time, in milliseconds.")
    confirmations: int = Field(
        ge=1, description=("Confirmations after which a receipt is final, counting its own block.")
    )
    wrapped_native: str | None = Field(None, description="The wrapped native token (WETH-like).")
    multicall3: str | None = Field(None, description="The Multicall3 contract.")
    tokens: tuple[Token, ...] = Field((), description="Known tokens.")
    feeds: tuple[Feed, ...] = Field((), description="Price feeds in US dollars.")
    sequencer_feed: str | None = Field(None, description="The L2's sequencer uptime feed.")
    dex: Dex = Field(Dex(), description="Default swap contracts, for nodes that name none.")
    lacks_receipts: bool = Field(
        False, description="Whether some transactions have no receipt, and logs that are in no bloom."
    )
    is_local: bool = Field(False, description="Whether this is a local development chain.")

    def addresses(self) -> Iterator[tuple[str, str]]:
        """Every contract that it names, with the field that does."""
        for name in ("wrapped_native", "multicall3", "sequencer_feed"):
            if getattr(self, name) is not None:
                yield name, getattr(self, name)
        for token in self.tokens:
            yield f"tokens.{token.symbol}.address", token.address
        for place, feed in enumerate(self.feeds):
            yield f"feeds.{place}.address", feed.address
            if feed.token is not None:
                yield f"feeds.{place}.token", feed.token
        for name, value in self.dex:
            if name != "v3_router_kind" and value is not None:
                yield f"dex.{name}", value

    @property
    def usual_fee_units(self) -> int:
        """The usual fee in base units; 0 if the file states none: what an endpoint says is no measure of its own
        word."""
        if self.usual_fee is None:
            return 0
        return int(Decimal(self.usual_fee).scaleb(self.native.decimals))
