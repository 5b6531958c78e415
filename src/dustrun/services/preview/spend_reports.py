"""Reports of a node's transactions: what each moved and changed, assets with symbol and value,
and what warnings are made of. Found once, when the node is done, and stored with it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, Protocol

from dustrun import log
from dustrun.chain import measure as measures
from dustrun.chain.evm import LiveChain
from dustrun.chain.measure import Measure, MinedIntent
from dustrun.chain.simulate.events import decode_events
from dustrun.core.money.intent import Intent, Receipt
from dustrun.core.money.tokens import read_text
from dustrun.core.values.addresses import checksum
from dustrun.core.values.amounts import Asset
from dustrun.errors import DustrunError
from dustrun.records import dataclass
from dustrun.sdk.chain import CallResult, ChainCall
from dustrun.services.outbox.spend_status import SpendStatus
from dustrun.services.prices import PriceBook
from dustrun.settings import Settings
from dustrun.storage.db.database import Database
from dustrun.storage.money import reservations

Json = dict[str, Any]
Recipients = dict[str, dict[str, int | None]]
"""Since when, in milliseconds, each wallet has known its recipients; null for never."""
_SYMBOL: Final = bytes.fromhex("95d89b41")  # symbol()
_MAX_KEPT: Final = 10_000
_logger = log.get(__name__)


class _Readable(Protocol):
    """A chain, or the chain of a simulation."""

    async def code(self, address: str) -> bytes:
        """A contract's code."""
        ...

    async def call_many(self, calls: Sequence[ChainCall]) -> list[CallResult]:
        """Many calls."""
        ...


@dataclass(frozen=True, slots=True)
class ReportPlace:
    """Where transactions are carried out: live, or in a simulation. `recipients` is extended by reports."""

    chain_of: Callable[[int], Awaitable[_Readable]]
    prices: PriceBook
    recipients: Recipients


class SpendReports:
    """Finds the facts of sent and simulated transactions for the report of effects."""

    def __init__(
        self, database: Database, chain_of: Callable[[int], LiveChain], prices: PriceBook, settings: Settings
    ) -> None:
        self._database = database
        self._chain_of = chain_of
        self._prices = prices
        self._symbols: dict[str, str] = {}
        self._limits = {
            "valueUsd": settings.warn_value_usd,
            "slippagePercent": settings.warn_slippage_percent,
            "priceAgeS": settings.warn_price_age_s,
        }

    async def sent(self, status: SpendStatus) -> Json:
        """Facts of finished intents: balances read around their blocks, decoded events. What an endpoint cannot tell is
        shown as unknown, because a report must not fail."""
        shown, receipts = [dict(transaction) for transaction in status.transactions], status.receipts
        intents = {intent.item: intent for intent in status.spend.intents}
        happened = [one for one in shown if one["status"] == "final" and one["item"] in receipts]
        mined = {one["item"]: _mined(intents[one["item"]], receipts[one["item"]]) for one in happened}
        for chain_id in sorted({one["chainId"] for one in happened}):
            of_chain = [one for one in happened if one["chainId"] == chain_id]
            found = await self._measure(chain_id, [(one["from"], mined[one["item"]]) for one in of_chain])
            for one, measured in zip(of_chain, found, strict=True):
                one |= _measured(measured, mined[one["item"]])

        async def chain_of(chain_id: int) -> _Readable:
            return self._chain_of(chain_id)

        return await self._described(shown, status.signature_requests, ReportPlace(chain_of, self._prices, {}))

    async def simulated(
        self,
        transactions: Sequence[Mapping[str, Any]],
        signatures: Sequence[Mapping[str, Any]],
        place: ReportPlace,
    ) -> Json:
        """Facts of simulated intents."""
        return await self._described([dict(transaction) for transaction in transactions], signatures, place)

    async def _measure(self, chain_id: int, mined: Sequence[tuple[str, MinedIntent]]) -> list[Measure]:
        try:
            return await measures.measure(self._chain_of(chain_id), mined[0][0], [one for _, one in mined])
        except DustrunError as error:  # the chain is served no longer
            return [Measure(failed=error.message) for _ in mined]

    async def _described(self, shown: list[Json], signatures: Sequence[Mapping[str, Any]], place: ReportPlace) -> Json:
        assets, _, _ = await asyncio.gather(
            self._assets([*shown, *signatures], place),
            _note_code(shown, place),
            self._note_recipients(shown, place.recipients),
        )
        facts: Json = {"transactions": shown, "assets": assets, "limits": self._limits}
        return facts | ({"signatures": [dict(one) for one in signatures]} if signatures else {})

    async def _note_recipients(self, shown: Iterable[Json], recipients: Recipients) -> None:
        """Marks recipients that the wallet had never paid and its policy did not name."""
        for one in shown:
            since, wallet_id = one.pop("plannedAt", None), one.get("walletId")
            paid = sorted({m["counterparty"] for m in one.get("movements", ()) if _is_payment(one, m)})
            if not paid or wallet_id is None:
                continue
            known = recipients.setdefault(str(wallet_id), {})
            if unread := [who for who in paid if who not in known]:
                known |= await self._known(str(wallet_id), unread)
            new = [who for who in paid if (at := known[who]) is None or (since is not None and at >= since)]
            if new:
                one["newRecipients"] = new

    async def _known(self, wallet_id: str, paid: Sequence[str]) -> dict[str, int | None]:
        by_key = {who.lower(): who for who in paid}
        found = await self._database.look_up(lambda tx: reservations.first_seen(tx, wallet_id, by_key))
        return {who: found.get(key) for key, who in by_key.items()}

    async def _assets(self, transactions: Iterable[Mapping[str, Any]], place: ReportPlace) -> dict[str, Json]:
        """`{key: {symbol, decimals, usd, source, ageMs}}` of every asset that the transactions name; unknown values are
        null."""
        keys = sorted(_keys_of(transactions))
        assets = [Asset.parse(key) for key in keys if Asset.is_key(key)]
        found = await asyncio.gather(*(self._asset(asset, place) for asset in assets))
        described = {asset.key: shown for asset, shown in zip(assets, found, strict=True)}
        for key in keys:
            if not Asset.is_key(key):
                described[key] = await self._piece(key, place)
        return described

    async def _asset(self, asset: Asset, place: ReportPlace) -> Json:
        shown: Json = {"symbol": None, "decimals": None, "usd": None, "source": None}
        try:
            shown["symbol"] = await self._symbol(asset, place)
            shown["decimals"] = await place.prices.decimals(asset)
            price = (await place.prices.value(asset, surveys=False)).price
            shown |= {"usd": f"{price.usd:f}", "source": price.source, "ageMs": price.age_ms}
        except DustrunError as error:
            _logger.debug("an asset is not described", asset=asset.key, why=error.message)
        return shown

    async def _piece(self, key: str, place: ReportPlace) -> Json:
        """A single token of an ERC-721 or ERC-1155 contract: without decimals and price."""
        chain, _, rest = key.partition("/")
        collection = Asset(int(chain.removeprefix("eip155:")), rest.partition(":")[2].partition("/")[0])
        shown: Json = {"symbol": None, "decimals": 0, "usd": None, "source": None}
        try:
            shown["symbol"] = await self._symbol(collection, place)
        except DustrunError as error:
            _logger.debug("an asset is not described", asset=key, why=error.message)
        return shown

    async def _symbol(self, asset: Asset, place: ReportPlace) -> str | None:
        """Only what the live chain says is kept: a simulation may create other tokens than there will be."""
        chain = self._chain_of(asset.chain_id)
        if asset.token is None:
            return chain.network.native.symbol
        found = self._symbols.get(asset.key) or await _read_symbol(chain, asset.token)
        if found is None:
            return await _read_symbol(await place.chain_of(asset.chain_id), asset.token)
        if len(self._symbols) >= _MAX_KEPT:
            self._symbols.clear()
        self._symbols[asset.key] = found
        return found


def _mined(intent: Intent, receipt: Receipt) -> MinedIntent:
    return MinedIntent(replace(intent, to=None if intent.to is None else checksum(intent.to)), receipt)


def _measured(found: Measure, mined: MinedIntent) -> Json:
    """A transaction's facts about its block. Numbers are those of the whole block, gas included; the report derives the
    transaction's own."""
    receipt, events = mined.receipt, decode_events(mined.receipt.logs, mined.intent.events)
    shown: Json = {"events": [dict(event) for event in events], "measured": found.failed is None}
    if receipt.contract_address is not None:
        shown["contractAddress"] = receipt.contract_address
    if found.failed is not None:
        return shown | {"notMeasured": found.failed}
    return shown | {
        "approvals": [dict(approval) for approval in found.approvals],
        "block": {
            "changes": [{"address": who, "asset": asset, "delta": str(units)} for who, asset, units in found.changes],
            "unchanged": [f"{who} {asset}" for who, asset in found.unchanged],
            "others": [{"address": who, "asset": asset, "hash": hash} for who, asset, hash in found.others],
        },
        **({"unreadBalances": found.left_out} if found.left_out else {}),
    }


def _is_payment(transaction: Mapping[str, Any], movement: Mapping[str, Any]) -> bool:
    """Whether it goes to somebody other than the called contract."""
    to = str(transaction.get("to") or "").lower()
    into_call = transaction.get("method") is not None and movement["counterparty"].lower() == to
    return movement["kind"] == "send" and not into_call


async def _note_code(shown: Iterable[Json], place: ReportPlace) -> None:
    """Marks calls to addresses without a contract: they succeed and do nothing."""
    calls: dict[tuple[int, str], list[Json]] = {}
    for one in shown:
        if one.get("method") and one["to"] is not None:
            calls.setdefault((one["chainId"], one["to"]), []).append(one)
    codes = await asyncio.gather(*(_code(place, *called) for called in calls))
    for code, marked in zip(codes, calls.values(), strict=True):
        for one in marked:
            if code is not None and not code:
                one["noCode"] = True


async def _code(place: ReportPlace, chain_id: int, address: str) -> bytes | None:
    try:
        return await (await place.chain_of(chain_id)).code(address)
    except DustrunError:
        return None  # then nothing is said of it


async def _read_symbol(chain: _Readable, token: str) -> str | None:
    (result,) = await chain.call_many([ChainCall(token, _SYMBOL)])
    return (read_text(result.data) or None) if result.is_success else None


def _keys_of(transactions: Iterable[Mapping[str, Any]]) -> set[str]:
    """The assets that transactions move, change or approve, and the coins that pay for their gas."""
    keys: set[str] = set()
    for transaction in transactions:
        if isinstance(transaction["chainId"], int):
            keys.add(f"eip155:{transaction['chainId']}/native")
        for part in ("movements", "balanceChanges", "approvals"):
            keys.update(entry["asset"] for entry in transaction.get(part, ()))
        keys.update(entry["asset"] for entry in transaction.get("block", {}).get("changes", ()))
    return keys
