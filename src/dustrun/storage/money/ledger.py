"""The ledger for accounting: what final transactions moved, and which of them have no entries yet."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import fields
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy import bindparam as b

from dustrun.records import dataclass
from dustrun.storage.db.ledger_tables import ledger_due, signatures, transactions, wallets
from dustrun.storage.db.ledger_tables import ledger_entries as t
from dustrun.storage.db.statement import Statement, Tx

_MOST_NAMED = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryRow:
    """One movement as stored; see `core/money/accounting.py`. Times are milliseconds, `sources` is JSON."""

    transaction_id: str
    number: int
    org_id: str
    at: int
    wallet_id: str
    address: str
    chain_id: int
    block_number: int
    hash: str
    kind: str
    asset: str
    units: str
    counterparty: str | None
    contract: str | None
    basis: str
    outcome: str
    attempt: str
    attempts: int
    decimals: int | None
    price: str | None
    price_source: str | None
    price_at: int | None
    run_id: str | None
    workflow_id: str | None
    path: str | None
    mode: str
    key_id: str | None
    approved_by: str | None
    sources: str | None
    created_at: int
    approvers: str | None = None

    @property
    def place(self) -> LedgerPosition:
        """Its place in the order of the ledger."""
        return LedgerPosition(self.at, self.transaction_id, self.number)


class LedgerPosition(NamedTuple):
    """A place in the ledger, which is ordered by the time of the block, transaction and number."""

    at: int
    transaction_id: str
    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerFilters:
    """Which entries: `since` is included, `until` is not. `only_workflows` and `only_wallets`: what the caller can
    access."""

    since: int | None = None
    until: int | None = None
    wallet_id: str | None = None
    asset: str | None = None
    chain_id: int | None = None
    kind: str | None = None
    run_id: str | None = None
    workflow_id: str | None = None
    only_workflows: Collection[str] | None = None
    only_wallets: Collection[str] | None = None


@dataclass(frozen=True, slots=True)
class Due:
    """A final transaction without entries, and since when; 0: since before the ledger existed."""

    transaction_id: str
    since: int


_NAMES = [field.name for field in fields(EntryRow)]
_COLUMNS = [t.c[name] for name in _NAMES]
_INSERT = Statement(sa.insert(t).values({name: b(name, type_=t.c[name].type) for name in _NAMES}))
_DELETE = Statement(sa.delete(t).where(t.c.transaction_id == b("the_id")))
_ADD_DUE = Statement(
    sa.text(
        "INSERT INTO ledger_due (transaction_id, chain_id, since) VALUES (:the_id, :the_chain, :at)"
        " ON CONFLICT (transaction_id) DO NOTHING"
    )
)
_DELETE_DUE = Statement(sa.delete(ledger_due).where(ledger_due.c.transaction_id == b("the_id")))
_DUE = Statement(
    sa.select(ledger_due.c.transaction_id, ledger_due.c.since)
    .where(ledger_due.c.chain_id == b("the_chain"))
    .order_by(ledger_due.c.since, ledger_due.c.transaction_id)
    .limit(b("most", type_=sa.Integer))
)
_DUE_CHAINS = Statement(sa.select(ledger_due.c.chain_id).distinct())
_OF_BLOCK = Statement(
    sa.select(transactions.c.id)
    .where(transactions.c.chain_id == b("the_chain"), transactions.c.block_number == b("the_number"))
    .order_by(transactions.c.sender, transactions.c.nonce)
)


def add_due(tx: Tx, transaction_ids: Sequence[str], chain_id: int, at_ms: int) -> None:
    """Notes that final transactions need entries."""
    tx.many(_ADD_DUE, [{"the_id": id, "the_chain": chain_id, "at": at_ms} for id in transaction_ids])


def list_due(tx: Tx, chain_id: int, most: int) -> list[Due]:
    """Lists final transactions of a chain without entries, oldest first."""
    return [Due(str(row[0]), int(row[1])) for row in tx.all(_DUE, the_chain=chain_id, most=most)]


def list_due_chains(tx: Tx) -> list[int]:
    """Lists the chains of final transactions without entries."""
    return [int(row[0]) for row in tx.all(_DUE_CHAINS)]


def list_of_block(tx: Tx, chain_id: int, block_number: int) -> list[str]:
    """Lists the ids of all transactions of this store that are in a block, of every organisation."""
    return [str(row[0]) for row in tx.all(_OF_BLOCK, the_chain=chain_id, the_number=block_number)]


def find_wallets(tx: Tx, org_id: str, addresses: Collection[str]) -> dict[str, str]:
    """Finds which of some addresses are wallets of an organisation: ids by address, of those that sign first."""
    found: dict[str, str] = {}
    named = sorted(addresses)
    for start in range(0, len(named), _MOST_NAMED):
        query = sa.select(wallets.c.address, wallets.c.id).where(
            wallets.c.org_id == org_id, wallets.c.address.in_(named[start : start + _MOST_NAMED])
        )
        query = query.order_by(wallets.c.held_address.is_(None), wallets.c.archived_at.is_not(None), wallets.c.id)
        for address, id in tx.all(Statement(query)):
            found.setdefault(str(address), str(id))
    return found


def write(tx: Tx, transaction_id: str, entries: Sequence[EntryRow]) -> None:
    """Replaces the entries of a transaction, which is then no longer due."""
    remove(tx, transaction_id)
    tx.many(_INSERT, [{name: getattr(row, name) for name in _NAMES} for row in entries])


def remove(tx: Tx, transaction_id: str) -> None:
    """Removes the entries of a transaction, because a reorg has removed its block, and makes it no longer due."""
    tx.do(_DELETE, the_id=transaction_id)
    tx.do(_DELETE_DUE, the_id=transaction_id)


def list_after(tx: Tx, org_id: str, filters: LedgerFilters, after: LedgerPosition | None, limit: int) -> list[EntryRow]:
    """Lists entries after a place, oldest first."""
    query = _filtered(org_id, filters)
    if after is not None:
        at, transaction_id, number = after
        query = query.where(sa.tuple_(t.c.at, t.c.transaction_id, t.c.number) > sa.tuple_(at, transaction_id, number))
    return _list(tx, query.order_by(t.c.at, t.c.transaction_id, t.c.number).limit(limit))


def list_page(tx: Tx, org_id: str, filters: LedgerFilters, limit: int, offset: int) -> list[EntryRow]:
    """Lists entries, newest first."""
    query = _filtered(org_id, filters).order_by(t.c.at.desc(), t.c.transaction_id.desc(), t.c.number.desc())
    return _list(tx, query.limit(limit).offset(offset))


def list_moved(tx: Tx, org_id: str, filters: LedgerFilters, kinds: Collection[str], limit: int) -> list[EntryRow]:
    """Lists entries of some kinds of what was really paid, no rehearsals with dust, newest first."""
    query = _filtered(org_id, filters).where(t.c.kind.in_(kinds), t.c.mode == "live", t.c.outcome != "cancelled")
    return _list(tx, query.order_by(t.c.at.desc(), t.c.transaction_id.desc(), t.c.number.desc()).limit(limit))


def list_paid(
    tx: Tx, org_id: str, counterparty: str, asset: str | None, filters: LedgerFilters, limit: int
) -> list[EntryRow]:
    """Lists final payments to an address in one asset or in native coins, newest first: a token that anybody makes can
    say that it was sent to anybody."""
    is_coin = t.c.asset.endswith("/native")
    query = _filtered(org_id, filters).where(
        t.c.counterparty == counterparty,
        is_coin if asset is None else sa.or_(t.c.asset == asset, is_coin),
        # a literal, because SQLite uses a partial index only if it can see the condition's value
        t.c.kind == sa.literal_column("'send'"),
        t.c.mode == "live",
        t.c.outcome == "final",
    )
    return _list(tx, query.order_by(t.c.at.desc()).limit(limit))


def list_allowances(tx: Tx, wallet_id: str) -> list[tuple[int, str, str, str]]:
    """Lists what a wallet has ever allowed: chain, asset, spender and the contract that records it."""
    query = (
        sa.select(t.c.chain_id, t.c.asset, t.c.counterparty, t.c.contract)
        .distinct()
        .where(t.c.wallet_id == wallet_id, t.c.kind == "allowance")
        .order_by(t.c.chain_id, t.c.asset, t.c.counterparty)
    )
    return [(int(row[0]), str(row[1]), str(row[2]), str(row[3])) for row in tx.all(Statement(query))]


def list_unwritten(tx: Tx, wallet_id: str, chain_id: int, sender: str) -> list[tuple[str, str | None]]:
    """Intents and receipts, as JSON, of a wallet's transactions that are signed and have no entries yet."""
    of = transactions.c
    is_open = sa.or_(*(of.state == state for state in ("signed", "sent", "mined")))
    of_wallet = (of.chain_id == chain_id, of.sender == sender, of.wallet_id == wallet_id)
    due = sa.select(of.intent, of.receipt).select_from(ledger_due.join(transactions)).where(*of_wallet)
    query = sa.union_all(sa.select(of.intent, of.receipt).where(*of_wallet, is_open), due)
    return [(str(row[0]), row[1]) for row in tx.all(Statement(query))]


def list_signed(tx: Tx, org_id: str, wallet_id: str, limit: int) -> list[str]:
    """Requests, as JSON, of the newest signatures of a wallet: permits give allowances too."""
    query = sa.select(signatures.c.request).where(
        signatures.c.org_id == org_id, signatures.c.wallet_id == wallet_id, signatures.c.state == "signed"
    )
    return [str(row[0]) for row in tx.all(Statement(query.order_by(signatures.c.id.desc()).limit(limit)))]


def _list(tx: Tx, query: sa.Select[tuple[object, ...]]) -> list[EntryRow]:
    return [EntryRow(**dict(zip(_NAMES, row, strict=True))) for row in tx.all(Statement(query))]


def _filtered(org_id: str, filters: LedgerFilters) -> sa.Select[tuple[object, ...]]:
    query = sa.select(*_COLUMNS).where(t.c.org_id == org_id)
    for clause in _clauses(filters):
        query = query.where(clause)
    return query


def _clauses(filters: LedgerFilters) -> Iterator[sa.ColumnElement[bool]]:
    for name in ("wallet_id", "asset", "chain_id", "kind", "run_id", "workflow_id"):
        wanted = getattr(filters, name)
        if wanted is not None:
            yield t.c[name] == wanted
    if filters.since is not None:
        yield t.c.at >= filters.since
    if filters.until is not None:
        yield t.c.at < filters.until
    if filters.only_workflows is not None:
        yield t.c.workflow_id.in_(filters.only_workflows)
    if filters.only_wallets is not None:
        yield t.c.wallet_id.in_(filters.only_wallets)
