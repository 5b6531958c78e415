"""The ledger for accounting: pages for people, and an export of any length in bounded memory."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from dataclasses import replace
from decimal import Context, Decimal
from typing import Any, Final, Literal

from dustrun import clock
from dustrun.core.evm.network import Network
from dustrun.core.money.tokens import find_known
from dustrun.core.values.amounts import Asset, format_units
from dustrun.core.values.exact_json import dumps_text, loads_own
from dustrun.records import dataclass
from dustrun.services.access.paging import Page, Paging, page_of
from dustrun.services.access.principal import Principal
from dustrun.storage.db.database import Database
from dustrun.storage.db.statement import Tx
from dustrun.storage.money import ledger as rows
from dustrun.storage.money.ledger import EntryRow, LedgerFilters, LedgerPosition

Format = Literal["json", "csv", "jsonl"]
Json = dict[str, Any]
_AT_ONCE: Final = 250
_MOST_ADDED: Final = 5_000
"""Entries that are added up for a figure: some 30 ms of a reader's time."""
MOST_PAID: Final = 1_000
"""Payments to one address that are counted."""
_WIDE: Final = Context(prec=400)
_NUMBER: Final = re.compile(r"-?[0-9]+(\.[0-9]+)?")
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n")
COLUMNS: Final = (
    "time",
    "kind",
    "walletId",
    "address",
    "chainId",
    "asset",
    "symbol",
    "amount",
    "amountFormatted",
    "decimals",
    "priceUsd",
    "priceSource",
    "priceAt",
    "valueUsd",
    "counterparty",
    "contract",
    "outcome",
    "basis",
    "hash",
    "blockNumber",
    "attempt",
    "attempts",
    "transactionId",
    "runId",
    "workflowId",
    "path",
    "mode",
    "startedBy",
    "approvedBy",
    "sources",
    "id",
    "approvers",
)
"""The columns of the CSV; new ones are added at the end."""


@dataclass(frozen=True, slots=True)
class LedgerOutflow:
    """Payments to others and network fees, in US dollars. `unpriced`: payments whose worth is not
    known. `is_partial`: there were more entries than are added up."""

    usd: str
    fees_usd: str
    payments: int
    unpriced: int
    is_partial: bool


@dataclass(frozen=True, slots=True)
class PaidBefore:
    """Final payments to one address; `last`: the newest, as the ledger shows it."""

    count: int
    last: Json | None


class WalletLedger:
    """Reads the ledger."""

    def __init__(self, database: Database, networks: Mapping[int, Network]) -> None:
        self._database = database
        self._networks = networks

    async def list_page(self, principal: Principal, filters: LedgerFilters, paging: Paging) -> Page[Json]:
        """Entries that the key can reach, newest first."""
        reached = _reached(principal, filters)
        found = await self._database.read(
            lambda tx: rows.list_page(tx, principal.org_id, reached, paging.peek, paging.offset)
        )
        return page_of([show(row, self._networks) for row in found], paging)

    async def moved_since(self, principal: Principal, since: int) -> LedgerOutflow:
        """What live runs paid since a time, as far as it is final. Between the organisation's own wallets nothing is
        paid, only the fee."""
        reached = _reached(principal, LedgerFilters(since=since))

        def query(tx: Tx) -> LedgerOutflow:
            found = rows.list_moved(tx, principal.org_id, reached, ("send", "fee"), _MOST_ADDED + 1)
            own = rows.find_wallets(tx, principal.org_id, {row.counterparty for row in found if row.counterparty})
            return _added(found[:_MOST_ADDED], own, is_partial=len(found) > _MOST_ADDED)

        return await self._database.read(query)

    async def paid_before(self, principal: Principal, address: str, asset: str | None) -> PaidBefore:
        """Payments to an address, of at most `MOST_PAID`."""
        reached, of = _reached(principal, LedgerFilters()), principal.org_id
        found = await self._database.read(lambda tx: rows.list_paid(tx, of, address, asset, reached, MOST_PAID))
        return PaidBefore(len(found), show(found[0], self._networks) if found else None)

    async def export(self, principal: Principal, filters: LedgerFilters, format: Format) -> AsyncIterator[bytes]:
        """The whole selection in pieces, oldest first. What becomes final meanwhile may be in it or not."""
        encode = _ENCODERS[format]
        if format == "csv":
            yield _csv([COLUMNS])
        reached, after = _reached(principal, filters), None
        while found := await self._database.read(_next(principal.org_id, reached, after)):
            yield encode([show(row, self._networks) for row in found])
            after = found[-1].place
            if len(found) < _AT_ONCE:
                return


def _added(found: Sequence[EntryRow], own: Collection[str], *, is_partial: bool) -> LedgerOutflow:
    paid, fees, payments, unpriced = Decimal(0), Decimal(0), 0, 0
    for row in found:
        if row.kind == "send" and row.counterparty in own:
            continue
        payments += row.kind == "send"
        if row.decimals is None or row.price is None:
            unpriced += row.kind == "send"
            continue
        worth = _WIDE.multiply(_WIDE.scaleb(Decimal(-int(row.units)), -row.decimals), Decimal(row.price))
        if row.kind == "send":
            paid = _WIDE.add(paid, worth)
        else:
            fees = _WIDE.add(fees, worth)
    return LedgerOutflow(plain(paid), plain(fees), payments, unpriced, is_partial)


def plain(worth: Decimal) -> str:
    """An exact number without trailing zeros."""
    text = f"{worth:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _next(org_id: str, filters: LedgerFilters, after: LedgerPosition | None) -> Callable[[Any], list[EntryRow]]:
    return lambda tx: rows.list_after(tx, org_id, filters, after, _AT_ONCE)


def _reached(principal: Principal, filters: LedgerFilters) -> LedgerFilters:
    return replace(filters, only_workflows=principal.workflow_ids, only_wallets=principal.wallet_ids)


def show(row: EntryRow, networks: Mapping[int, Network]) -> Json:
    """An entry as JSON; amounts and prices are strings."""
    units = int(row.units)
    formatted = None if row.decimals is None else format_units(units, row.decimals)
    moved = row.kind != "allowance"
    return {
        "id": f"{row.transaction_id}:{row.number}",
        "time": clock.to_rfc3339(row.at),
        "kind": row.kind,
        "walletId": row.wallet_id,
        "address": row.address,
        "chainId": row.chain_id,
        "asset": row.asset,
        "symbol": symbol_of(row.asset, networks),
        "amount": row.units,
        "amountFormatted": formatted,
        "decimals": row.decimals,
        "priceUsd": row.price,
        "priceSource": row.price_source,
        "priceAt": None if row.price_at is None else clock.to_rfc3339(row.price_at),
        "valueUsd": _value(formatted, row.price) if moved else None,
        "counterparty": row.counterparty,
        "contract": row.contract,
        "outcome": row.outcome,
        "basis": row.basis,
        "hash": row.hash,
        "blockNumber": row.block_number,
        "attempt": row.attempt,
        "attempts": row.attempts,
        "transactionId": row.transaction_id,
        "runId": row.run_id,
        "workflowId": row.workflow_id,
        "path": row.path,
        "mode": row.mode,
        "startedBy": row.key_id,
        "approvedBy": row.approved_by,
        "sources": None if row.sources is None else loads_own(row.sources),
        "approvers": _approvers(row),
    }


def _approvers(row: EntryRow) -> list[str] | None:
    if row.approvers is not None:
        return [str(one) for one in loads_own(row.approvers)]
    return None if row.approved_by is None else [row.approved_by]


def symbol_of(asset: str, networks: Mapping[int, Network]) -> str | None:
    """The symbol by the network file; None otherwise, since a token may call itself as it likes."""
    if not Asset.is_key(asset):
        return None
    parsed = Asset.parse(asset)
    network = networks.get(parsed.chain_id)
    if network is None:
        return None
    if parsed.token is None:
        return network.native.symbol
    known = find_known(network, parsed.token)
    return None if known is None else known.symbol


def _value(formatted: str | None, price: str | None) -> str | None:
    """The exact product."""
    if formatted is None or price is None:
        return None
    return plain(_WIDE.multiply(Decimal(formatted), Decimal(price)))


def _jsonl(entries: Sequence[Json]) -> bytes:
    return "".join(f"{dumps_text(entry)}\n" for entry in entries).encode()


def _csv_entries(entries: Sequence[Json]) -> bytes:
    return _csv([[_cell(entry[name]) for name in COLUMNS] for entry in entries])


def _csv(lines: Sequence[Sequence[str]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerows(lines)
    return text.getvalue().encode()


def _cell(value: Any) -> str:
    """A cell that no spreadsheet takes for a formula; numbers stay numbers."""
    if value is None:
        return ""
    text = value if isinstance(value, str) else dumps_text(value)
    return f"'{text}" if text.startswith(_FORMULA) and _NUMBER.fullmatch(text) is None else text


_ENCODERS: Final[Mapping[str, Callable[[Sequence[Json]], bytes]]] = {"csv": _csv_entries, "jsonl": _jsonl}
