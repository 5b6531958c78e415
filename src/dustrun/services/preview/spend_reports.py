"""What the report of effects shows of a node's transactions: what each moved and changed, assets with symbol and value,
and what warnings are made of. Found once, when the node is done, and stored with it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from dustrun import log
from dustrun.chain import measure as measures
from dustrun.chain.evm import LiveChain
from dustrun.chain.measure import Measure, Mined
from dustrun.chain.simulate.events import decode_events
from dustrun.core.evm.token_text import read_text
from dustrun.core.money.intent import Intent, Receipt
from dustrun.core.values.addresses import checksum
from dustrun.core.values.amounts import Asset
from dustrun.errors import DustrunError
from dustrun.sdk.chain import ChainCall
from dustrun.services.outbox.spend_status import SpendStatus
from dustrun.services.prices import PriceBook
from dustrun.settings import Settings
from dustrun.storage.db.database import Database
from dustrun.storage.money import reservations

Json = dict[str, Any]
CodeOf = Callable[[int, str], Awaitable[bytes]]
Recipients = dict[str, dict[str, int | None]]
"""Since when, in milliseconds, each wallet has known its recipients; null for never."""
_SYMBOL: Final = bytes.fromhex("95d89b41")  # symbol()
_MAX_KEPT: Final = 10_000
_logger = log.get(__name__)


class SpendReports:
    """Finds the facts of sent and simulated transactions for the report of effects."""

    def __init__(
        self, database: Database, chain_of: Callable[[int], LiveChain], prices: PriceBook, settings: Settings
    ) -> None:
        self._database = database
        self._chain_of = chain_of
        self._prices = prices
        self._symbols: dict[str, str | None] = {}
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

        async def code_of(chain_id: int, address: str) -> bytes:
            return await self._chain_of(chain_id).code(address)

        return await self._described(shown, status.signature_requests, code_of, {})

    async def simulated(
        self,
        transactions: Sequence[Mapping[str, Any]],
        signatures: Sequence[Mapping[str, Any]],
        code_of: CodeOf,
        recipients: Recipients,
    ) -> Json:
        """Facts of simulated intents. `code_of` reads the simulated chain; `recipients`, what the simulation knows of
        recipients, is extended."""
        return await self._described(
            [dict(transaction) for transaction in transactions], signatures, code_of, recipients
        )

    async def _measure(self, chain_id: int, mined: Sequence[tuple[str, Mined]]) -> list[Measure]:
        try:
            return await measures.measure(self._chain_of(chain_id), mined[0][0], [one for _, one in mined])
        except DustrunError as error:  # the chain is served no longer
            return [Measure(failed=error.message) for _ in mined]

    async def _described(
        self, shown: list[Json], signatures: Sequence[Mapping[str, Any]], code_of: CodeOf, recipients: Recipients
    ) -> Json:
        assets, _, _ = await asyncio.gather(
            self._assets([*shown, *signatures]),
            self._note_code(shown, code_of),
            self._note_recipients(shown, recipients),
        )
        facts: Json = {"transactions": shown, "assets": assets, "limits": self._limits}
        return facts | ({"signatures": [dict(one) for one in signatures]} if signatures else {})

    async def _note_code(self, shown: Iterable[Json], code_of: CodeOf) -> None:
        """Marks calls to addresses without a contract: they succeed and do nothing."""
        calls: dict[tuple[int, str], list[Json]] = {}
        for one in shown:
            if one.get("method") and one["to"] is not None:
                calls.setdefault((one["chainId"], one["to"]), []).append(one)
        codes = await asyncio.gather(*(_code(code_of, *place) for place in calls))
        for code, marked in zip(codes, calls.values(), strict=True):
            for one in marked:
                if code is not None and not code:
                    one["noCode"] = True

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

    async def _assets(self, transactions: Iterable[Mapping[str, Any]]) -> dict[str, Json]:
        """`{key: {symbol, decimals, usd, source, ageMs}}` of every asset that the transactions name; unknown values are
        null."""
        keys = sorted(_keys_of(transactions))
        assets = [Asset.parse(key) for key in keys if Asset.is_key(key)]
        found = await asyncio.gather(*(self._asset(asset) for asset in assets))
        described = {asset.key: shown for asset, shown in zip(assets, found, strict=True)}
        for key in keys:
            if not Asset.is_key(key):
                described[key] = await self._piece(key)
        return described

    async def _asset(self, asset: Asset) -> Json:
        shown: Json = {"symbol": None, "decimals": None, "usd": None, "source": None}
        try:
            shown["symbol"] = await self._symbol(asset)
            shown["decimals"] = await self._prices.decimals(asset)
            price = await self._prices.price(asset)
            shown |= {"usd": f"{price.usd:f}", "source": price.source, "ageMs": price.age_ms}
        except DustrunError as error:
            _logger.debug("an asset is not described", asset=asset.key, why=error.message)
        return shown

    async def _piece(self, key: str) -> Json:
        """A single token of an ERC-721 or ERC-1155 contract: without decimals and price."""
        chain, _, rest = key.partition("/")
        collection = Asset(int(chain.removeprefix("eip155:")), rest.partition(":")[2].partition("/")[0])
        shown: Json = {"symbol": None, "decimals": 0, "usd": None, "source": None}
        try:
            shown["symbol"] = await self._symbol(collection)
        except DustrunError as error:
            _logger.debug("an asset is not described", asset=key, why=error.message)
        return shown

    async def _symbol(self, asset: Asset) -> str | None:
        chain = self._chain_of(asset.chain_id)
        if asset.token is None:
            return chain.network.native.symbol
        if asset.key not in self._symbols:
            (result,) = await chain.call_many([ChainCall(asset.token, _SYMBOL)])
            if len(self._symbols) >= _MAX_KEPT:
                self._symbols.clear()
            self._symbols[asset.key] = read_text(result.data) if result.is_success else None
        return self._symbols[asset.key]


def _mined(intent: Intent, receipt: Receipt) -> Mined:
    return Mined(replace(intent, to=None if intent.to is None else checksum(intent.to)), receipt)


def _measured(found: Measure, mined: Mined) -> Json:
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


async def _code(code_of: CodeOf, chain_id: int, address: str) -> bytes | None:
    try:
        return await code_of(chain_id, address)
    except DustrunError:
        return None  # then nothing is said of it


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
