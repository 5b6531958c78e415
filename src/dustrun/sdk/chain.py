"""The read-only view of a chain for actions. Live and simulated chains implement the same protocol."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Literal, Protocol

from dustrun.core.evm.network import Network
from dustrun.core.money.allowances import Allowance, AllowanceState
from dustrun.core.money.intent import Log
from dustrun.core.values.amounts import Asset
from dustrun.records import dataclass


@dataclass(frozen=True, slots=True)
class Block:
    """A block header; `time` in seconds since the epoch, `base_fee_units` None without EIP-1559."""

    number: int
    hash: str
    time: int
    base_fee_units: int | None


@dataclass(frozen=True, slots=True)
class Fees:
    """Fees to bid per unit of gas, in base units: `max_fee` and `tip`, or the same price twice on a legacy chain
    (`is_legacy`). `expected_units` is the price expected now.
    """

    max_fee_units: int
    tip_units: int
    expected_units: int
    is_legacy: bool = False


@dataclass(frozen=True, slots=True)
class ChainCall:
    """A contract call without a transaction. With a `sender` it is simulated as that wallet's next transaction;
    `is_view`: it only reads, and no transaction follows.
    """

    to: str
    data: bytes
    sender: str | None = None
    value_units: int = 0
    is_view: bool = False


@dataclass(frozen=True, slots=True)
class CallResult:
    """The result of a call: `data` is the return data, or the revert data with `is_success` False."""

    is_success: bool
    data: bytes


@dataclass(frozen=True, slots=True)
class ChainTransaction:
    """A transaction known to the chain; `block_number` None while it is pending."""

    hash: str
    sender: str
    to: str | None
    nonce: int
    value_units: int
    data: bytes
    block_number: int | None
    is_success: bool | None
    gas_used: int | None
    fee_units: int | None
    logs: tuple[Log, ...]
    confirmations: int


class Chain(Protocol):
    """One chain. Every method raises `Temporary` when no endpoint answers."""

    @property
    def network(self) -> Network:
        """The definition of the network."""
        ...

    async def block(self) -> Block:
        """The newest block; in a simulation the newest simulated one."""
        ...

    async def call(self, call: ChainCall) -> bytes:
        """The return data of a call; raises `Permanent` with the decoded reason when it reverts."""
        ...

    async def call_many(self, calls: Sequence[ChainCall]) -> list[CallResult]:
        """Many calls at the same block, in as few requests as possible; a revert fails only its own call."""
        ...

    async def balance(self, address: str) -> int:
        """Native balance in base units."""
        ...

    async def code(self, address: str) -> bytes:
        """The contract's code; empty for a plain account."""
        ...

    async def fees(self) -> Fees:
        """Current fees to bid."""
        ...

    async def find_transaction(self, hash: str) -> ChainTransaction | None:
        """A transaction by its hash; None when the chain does not know it."""
        ...


@dataclass(frozen=True, slots=True)
class WalletView:
    """The wallet's address and name, without access to its key."""

    id: str
    name: str
    address: str


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars per whole token, exact; `age_ms` since the source was last updated, `detail` names pool or feed."""

    usd: Decimal
    source: str
    at_ms: int
    age_ms: int
    detail: Any = None


PriceSource = Literal["static", "feed", "dex", "http"]
"""Where a price comes from: the settings, a price feed on the chain, pools of an exchange, or an HTTP source."""


class Prices(Protocol):
    """Token prices in US dollars."""

    async def price(self, asset: Asset, source: PriceSource | None = None) -> Price:
        """The best price, or the one of a `source`; raises `Invalid` (code text `UNPRICED`) when no source knows the
        asset, and `Temporary` when one that may know it cannot be asked."""
        ...


async def read_allowances(
    chain: Chain, owner: str, named: Sequence[Allowance]
) -> tuple[list[tuple[Allowance, AllowanceState]], list[Allowance]]:
    """Those that stand on the chain now, and those whose contract does not answer."""
    if not named:
        return [], []
    answers = await chain.call_many([ChainCall(one.contract, one.read_call(owner)) for one in named])
    now_s = (await chain.block()).time
    found, silent = [], []
    for one, answer in zip(named, answers, strict=True):
        state = one.read(answer.data, now_s) if answer.is_success else None
        if state is None:
            silent.append(one)
        elif state.units:
            found.append((one, state))
    return found, silent
