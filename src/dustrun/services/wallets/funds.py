"""A wallet's balances on its chains, and how much of its policy's limits is used."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final, Protocol

from dustrun import clock
from dustrun.core.evm.network import Network
from dustrun.core.money.policy.counting import COUNT, GAS_USD, USD
from dustrun.core.money.policy.document import Limit, LimitScope, read_policy, usd_units
from dustrun.core.money.policy.scopes import measure_of
from dustrun.core.values.amounts import Asset
from dustrun.errors import Bug, DustrunError, Permanent, Temporary
from dustrun.records import dataclass
from dustrun.sdk.chain import CallResult, Chain, ChainCall
from dustrun.services.access.principal import Principal
from dustrun.services.wallets.wallets import get_wallet
from dustrun.storage.db.database import Database
from dustrun.storage.db.statement import Tx
from dustrun.storage.money import reservations
from dustrun.storage.money import wallets as rows

_CHAIN_WITHIN_S: Final = 20.0
_BALANCE_OF: Final = bytes.fromhex("70a08231")  # balanceOf(address)


class ServedChains(Protocol):
    """The chains of this server."""

    @property
    def networks(self) -> Mapping[int, Network]:
        """All known chains by id."""
        ...

    def is_served(self, chain_id: int) -> bool:
        """Whether an endpoint is configured."""
        ...

    def get(self, chain_id: int) -> Chain:
        """One chain; raises `Invalid`."""
        ...


@dataclass(frozen=True, slots=True)
class Balance:
    """The balance of one asset."""

    asset: Asset
    symbol: str
    decimals: int
    units: int


@dataclass(frozen=True, slots=True)
class UnreadBalance:
    """An asset that could not be read: a token by its address, or None for the whole chain."""

    token: str | None
    code: int
    message: str


@dataclass(frozen=True, slots=True)
class ChainBalances:
    """The balances on one chain; `failures` names what is missing."""

    network: Network
    balances: tuple[Balance, ...]
    failures: tuple[UnreadBalance, ...]


@dataclass(frozen=True, slots=True)
class Balances:
    """A wallet's balances, read between `at_ms` and now."""

    wallet_id: str
    address: str
    at_ms: int
    chains: tuple[ChainBalances, ...]

    @property
    def is_complete(self) -> bool:
        """Whether nothing is missing."""
        return not any(chain.failures for chain in self.chains)


@dataclass(frozen=True, slots=True)
class LimitUse:
    """One limit over a window: how much of it is used. US dollars in units of 1e-18."""

    measure: str
    window_ms: int
    spent_units: int
    max_units: int
    of: LimitScope | None = None


class WalletFunds:
    """Reads balances and spending."""

    def __init__(self, database: Database, chains: ServedChains) -> None:
        self._database = database
        self._chains = chains

    async def balances(self, principal: Principal, wallet_id: str, chain_ids: Sequence[int] | None) -> Balances:
        """Balances of the native coin and known tokens on the named chains, by default on every served one. Raises
        `Invalid` for a chain that is not served; a chain or token that does not answer is named in the result."""
        wallet = await self._database.read(lambda tx: get_wallet(tx, principal, wallet_id))
        if chain_ids is None:
            chain_ids = [chain_id for chain_id in sorted(self._chains.networks) if self._chains.is_served(chain_id)]
        chains = [self._chains.get(chain_id) for chain_id in dict.fromkeys(chain_ids)]
        at_ms = clock.now_ms()
        found = await asyncio.gather(*(_read(chain, wallet.address) for chain in chains))
        return Balances(wallet.id, wallet.address, at_ms, tuple(found))

    async def spending(self, principal: Principal, wallet_id: str) -> list[LimitUse]:
        """How much of each windowed limit of the policy in force is used."""

        def query(tx: Tx) -> list[LimitUse]:
            wallet, now = get_wallet(tx, principal, wallet_id), clock.now_ms()
            policy = rows.find_policy(tx, wallet.id, now)
            if policy is None:
                raise Bug(f'The wallet "{wallet.id}" has no policy.')
            return [
                _spent(tx, wallet.id, limit, limit.window_ms, now)
                for limit in read_policy(policy.document).limits
                if limit.window_ms is not None and limit.per is None
            ]

        return await self._database.read(query)


def _spent(tx: Tx, wallet_id: str, limit: Limit, window_ms: int, now: int) -> LimitUse:
    measure, most = _ceiling(limit)
    spent = reservations.spent_in_window(tx, wallet_id, measure_of(limit), window_ms, now)
    return LimitUse(measure, window_ms, spent, most, limit.of)


def _ceiling(limit: Limit) -> tuple[str, int]:
    """The kind that a limit counts, and its maximum."""
    if limit.asset is not None:
        return limit.asset, int(limit.max_units or 0)
    if limit.max_count is not None:
        return COUNT, limit.max_count
    return (USD if limit.max_usd is not None else GAS_USD), usd_units(limit.max_usd or limit.max_gas_usd or "0")


async def _read(chain: Chain, address: str) -> ChainBalances:
    """Never raises for a chain's failure; the result names it instead."""
    try:
        async with asyncio.timeout(_CHAIN_WITHIN_S):
            return await _read_whole(chain, address)
    except TimeoutError:
        error: DustrunError = Temporary(f"{chain.network.name} did not answer within {_CHAIN_WITHIN_S:.0f} s.")
    except DustrunError as failed:
        error = failed
    return ChainBalances(chain.network, (), (UnreadBalance(None, int(error.code), error.message),))


async def _read_whole(chain: Chain, address: str) -> ChainBalances:
    network = chain.network
    data = _BALANCE_OF + bytes.fromhex(address[2:]).rjust(32, b"\0")
    calls = [ChainCall(token.address, data) for token in network.tokens]
    native, answers = await asyncio.gather(chain.balance(address), _call_many(chain, calls))
    coin = network.native
    balances = [Balance(Asset(network.chain_id), coin.symbol, coin.decimals, native)]
    failures = []
    for token, answer in zip(network.tokens, answers, strict=True):
        if answer.is_success and len(answer.data) == 32:
            asset = Asset(network.chain_id, token.address)
            balances.append(Balance(asset, token.symbol, token.decimals, int.from_bytes(answer.data, "big")))
        else:
            message = f"{token.symbol} does not return its balance: the contract returned no number."
            failures.append(UnreadBalance(token.address, int(Permanent.default_code), message))
    return ChainBalances(network, tuple(balances), tuple(failures))


async def _call_many(chain: Chain, calls: list[ChainCall]) -> list[CallResult]:
    return await chain.call_many(calls) if calls else []
