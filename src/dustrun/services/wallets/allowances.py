"""Allowances that wallets have given others, known from their own transactions and signatures and read from the chain
now, with its worth."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Final

from dustrun import clock
from dustrun.core.evm.network import Network
from dustrun.core.money.allowances import Allowance, AllowanceState, of_entries, of_transaction
from dustrun.core.money.permits import PERMIT2
from dustrun.core.money.policy.scope import is_endless
from dustrun.core.money.receipts import read_log
from dustrun.core.values.addresses import checksum
from dustrun.core.values.amounts import Asset
from dustrun.core.values.exact_json import loads_own
from dustrun.errors import DustrunError, Temporary
from dustrun.records import dataclass
from dustrun.sdk.chain import Chain, ChainCall, read_allowances
from dustrun.services.access.principal import Principal
from dustrun.services.wallets.budget import AssetValue
from dustrun.services.wallets.contracts import names_of
from dustrun.services.wallets.funds import ServedChains, UnreadBalance
from dustrun.services.wallets.wallets import get_wallet
from dustrun.storage.db.database import Database
from dustrun.storage.db.statement import Tx
from dustrun.storage.money import ledger
from dustrun.storage.money.wallets import WalletRow

_CHAIN_WITHIN_S: Final = 20.0
_MOST_SIGNED: Final = 1_000
_BALANCE_OF: Final = bytes.fromhex("70a08231")  # balanceOf(address)


@dataclass(frozen=True, slots=True)
class CurrentAllowance:
    """An allowance that stands now. `balance_units` is what the wallet has of the token, None if unknown or of a
    collection; `value` its price, None if unpriced."""

    allowance: Allowance
    state: AllowanceState
    balance_units: int | None
    value: AssetValue | None
    spender_name: str | None = None

    @property
    def is_unlimited(self) -> bool:
        """Whether it has practically no bound."""
        return is_endless(self.state.units)

    @property
    def at_risk_units(self) -> int | None:
        """The amount that could be taken now."""
        return None if self.balance_units is None else min(self.state.units, self.balance_units)


@dataclass(frozen=True, slots=True)
class ChainAllowances:
    """The allowances on one chain, those worth most first; `failures` names contracts that did not answer."""

    network: Network
    allowances: tuple[CurrentAllowance, ...]
    failures: tuple[UnreadBalance, ...]


@dataclass(frozen=True, slots=True)
class WalletAllowances:
    """The allowances of a wallet, read between `at_ms` and now."""

    wallet: WalletRow
    at_ms: int
    chains: tuple[ChainAllowances, ...]


class Allowances:
    """Lists standing allowances."""

    def __init__(
        self, database: Database, chains: ServedChains, find_value: Callable[[Asset], Awaitable[AssetValue | None]]
    ) -> None:
        self._database = database
        self._chains = chains
        self._find_value = find_value

    async def list_all(
        self, principal: Principal, wallet_id: str, chain_ids: Sequence[int] | None = None
    ) -> WalletAllowances:
        """Allowances on the named chains, by default on every served one. Raises `Invalid` for a chain that is not
        served; one that does not answer is named in the result."""
        wallet = await self._database.read(lambda tx: get_wallet(tx, principal, wallet_id))
        if chain_ids is None:
            chain_ids = [chain_id for chain_id in sorted(self._chains.networks) if self._chains.is_served(chain_id)]
        chains, at_ms = [self._chains.get(chain_id) for chain_id in dict.fromkeys(chain_ids)], clock.now_ms()
        found = await asyncio.gather(*(self._of_chain(chain, wallet) for chain in chains))
        return WalletAllowances(wallet, at_ms, tuple(found))

    async def candidates(self, org_id: str, wallet_id: str, address: str, chain_id: int) -> list[Allowance]:
        """The allowances of a wallet on a chain, by what it has signed; whether they stand, the chain says."""

        def query(tx: Tx) -> list[Allowance]:
            found = list(of_entries(ledger.list_allowances(tx, wallet_id)))
            for intent, receipt in ledger.list_unwritten(tx, wallet_id, chain_id, address):
                shown, logs = loads_own(intent), loads_own(receipt)["logs"] if receipt is not None else ()
                found += of_transaction(
                    address, chain_id, shown["movements"], shown["to"], [read_log(log) for log in logs]
                )
            for request in ledger.list_signed(tx, org_id, wallet_id, _MOST_SIGNED):
                found += _of_signature(address, request)
            return sorted({one for one in found if one.chain_id == chain_id})

        return await self._database.read(query)

    async def _of_chain(self, chain: Chain, wallet: WalletRow) -> ChainAllowances:
        network = chain.network
        try:
            async with asyncio.timeout(_CHAIN_WITHIN_S):
                named = await self.candidates(wallet.org_id, wallet.id, wallet.address, network.chain_id)
                spenders = {one.spender for one in named}
                names = await self._database.read(lambda tx: names_of(tx, wallet.org_id, network, spenders))
                return await self._read(chain, wallet.address, named, names)
        except TimeoutError:
            message = f"{network.name} did not answer within {_CHAIN_WITHIN_S:.0f} s."
            return ChainAllowances(network, (), (UnreadBalance(None, int(Temporary.default_code), message),))
        except DustrunError as error:
            return ChainAllowances(network, (), (UnreadBalance(None, int(error.code), error.message),))

    async def _read(
        self, chain: Chain, owner: str, named: Sequence[Allowance], names: Mapping[str, str]
    ) -> ChainAllowances:
        found, silent = await read_allowances(chain, owner, named)
        tokens = sorted({one.token for one, _ in found if one.kind != "collection"})
        calls = [ChainCall(token, _BALANCE_OF + bytes(12) + bytes.fromhex(owner[2:])) for token in tokens]
        answers = await chain.call_many(calls) if calls else []
        balances = {
            token: int.from_bytes(answer.data[:32])
            for token, answer in zip(tokens, answers, strict=True)
            if answer.is_success and len(answer.data) >= 32
        }
        values = dict(zip(tokens, await asyncio.gather(*map(self._value, found_assets(chain, tokens))), strict=True))
        granted = [
            CurrentAllowance(one, state, balances.get(one.token), values.get(one.token), names.get(one.spender))
            for one, state in found
        ]
        failures = tuple(
            UnreadBalance(
                one.token, int(Temporary.default_code), f"{one.contract} does not say what {one.spender} may take."
            )
            for one in silent
        )
        return ChainAllowances(chain.network, tuple(sorted(granted, key=_worth, reverse=True)), failures)

    async def _value(self, asset: Asset) -> AssetValue | None:
        return await self._find_value(asset)


def found_assets(chain: Chain, tokens: Iterable[str]) -> list[Asset]:
    """Tokens of a chain as assets."""
    return [Asset(chain.network.chain_id, token) for token in tokens]


def _worth(one: CurrentAllowance) -> tuple[bool, int, bool]:
    """Priced ones by worth, then unlimited ones."""
    units = one.at_risk_units
    worth = one.value.worth.of(units) if one.value is not None and units is not None else 0
    return one.value is not None, worth, one.is_unlimited


def _of_signature(owner: str, request: str) -> list[Allowance]:
    shown = loads_own(request)
    chain_id, payload = shown["chainId"], shown["payload"]
    if chain_id is None or not shown["movements"]:
        return []
    domain = payload.get("domain", {}) if isinstance(payload, dict) else {}
    to = domain.get("verifyingContract")
    is_permit2 = isinstance(to, str) and to.lower() == PERMIT2.lower()
    movements = [{**one, "counterparty": checksum(one["counterparty"])} for one in shown["movements"]]
    return list(of_transaction(owner, chain_id, movements, PERMIT2 if is_permit2 else None, ()))
