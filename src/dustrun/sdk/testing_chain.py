"""A scripted chain for tests without a node. Prefer a real development node, which finds more mistakes.

chain = FakeChain(network, calls={(TOKEN, "decimals()"): 6, (TOKEN, "balanceOf(address)"): 10**9})
ctx = FakeContext(chains={1: chain}, wallet=FakeWallet())
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Final

from dustrun.core.evm.abi_signatures import parse_function
from dustrun.core.evm.network import Network
from dustrun.core.money.intent import Receipt, Spend, Spent
from dustrun.core.values.amounts import Asset
from dustrun.errors import Permanent
from dustrun.sdk.chain import (
    Block,
    CallResult,
    Chain,
    ChainCall,
    ChainTransaction,
    Fees,
    Price,
    Prices,
    PriceSource,
    WalletView,
)

WALLET: Final = WalletView("wal_00000000000000000000000000", "test", "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266")
"""The default wallet address of a fake."""

Answer = int | bytes | str | Exception
"""Scripted result of a call: a word, bytes, an address (as a word), or an error to raise."""


class FakeChain:
    """Has the contracts of `calls`, keyed by (address, signature); all other functions of them revert."""

    def __init__(
        self,
        network: Network,
        *,
        calls: Mapping[tuple[str, str], Answer] | None = None,
        balances: Mapping[str, int] | None = None,
        transactions: Mapping[str, ChainTransaction] | None = None,
        fees: Fees | None = None,
        block: Block | None = None,
    ) -> None:
        self._network = network
        answers = (calls or {}).items()
        self._calls = {(to, parse_function(text).selector): answer for (to, text), answer in answers}
        self._balances = dict(balances or {})
        self._transactions = dict(transactions or {})
        self._fees = fees or Fees(30 * 10**9, 10**9, 15 * 10**9)
        self._block = block or Block(1, f"0x{'11' * 32}", 1_769_860_800, 7 * 10**9)

    @property
    def network(self) -> Network:
        """The test's network."""
        return self._network

    async def block(self) -> Block:
        """The test's block, else block 1."""
        return self._block

    async def call(self, call: ChainCall) -> bytes:
        """The scripted result of the called function; empty for a plain account."""
        answer = self._calls.get((call.to, call.data[:4]))
        if isinstance(answer, Exception):
            raise answer
        if answer is None and await self.code(call.to):
            raise Permanent("execution reverted")
        return _bytes_of(answer if answer is not None else b"")

    async def call_many(self, calls: Sequence[ChainCall]) -> list[CallResult]:
        """The scripted results, in order."""
        return [await self._try(call) for call in calls]

    async def _try(self, call: ChainCall) -> CallResult:
        try:
            return CallResult(True, await self.call(call))
        except Permanent:
            return CallResult(False, b"")

    async def balance(self, address: str) -> int:
        """The test's balance in base units, else 0."""
        return self._balances.get(address, 0)

    async def code(self, address: str) -> bytes:
        """A placeholder for the contracts in `calls`; empty for all other addresses."""
        return b"\xfe" if any(to == address for to, _ in self._calls) else b""

    async def fees(self) -> Fees:
        """The test's fees, else a default."""
        return self._fees

    async def find_transaction(self, hash: str) -> ChainTransaction | None:
        """The test's transaction; None if there is none."""
        return self._transactions.get(hash)


class FakePrices:
    """The same price, or the same error, for every asset."""

    def __init__(self, usd: Decimal | Exception = Decimal("2500")) -> None:
        self._usd = usd

    async def price(self, asset: Asset, source: PriceSource | None = None) -> Price:
        """The test's price; raises the test's error."""
        if isinstance(self._usd, Exception):
            raise self._usd
        return Price(self._usd, "static", 1_769_860_800_000, 0)


def _bytes_of(answer: int | bytes | str) -> bytes:
    if isinstance(answer, int):
        return answer.to_bytes(32, "big")
    return answer if isinstance(answer, bytes) else bytes.fromhex(answer[2:]).rjust(32, b"\0")


def succeed(spend: Spend) -> Spent:
    """Successful receipts without events for every intent, for tests that only check the intents."""
    receipts = tuple(
        Receipt(
            item=intent.item,
            is_success=True,
            block_number=place + 1,
            block_hash=f"0x{'11' * 32}",
            block_time=1_769_860_800,
            gas_used=21_000,
            gas_price_units=10**9,
            fee_units=21_000 * 10**9,
            logs=(),
            hash=f"0x{place + 1:064x}",
            contract_address=None if intent.to else "0x5FbDB2315678afecb367f032d93F642f64180aa3",
        )
        for place, intent in enumerate(spend.intents)
    )
    return Spent(receipts, {request.item: f"0x{'00' * 65}" for request in spend.signatures})


_kept: tuple[type[Chain], type[Prices]] = (FakeChain, FakePrices)
"""Lets the type checker verify that the fakes implement the protocols."""
