"""Rows of the outbox: spend intents of nodes, transactions, and their signed attempts."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import fields
from functools import lru_cache
from typing import Final

import sqlalchemy as sa
from sqlalchemy import bindparam as b

from dustrun.records import dataclass
from dustrun.storage.db import facts
from dustrun.storage.db.ledger_tables import spends, transaction_attempts, transactions
from dustrun.storage.db.statement import Row, Statement, Tx, count_of, is_one_of, numbered


@dataclass(frozen=True, slots=True, kw_only=True)
class TransactionRow:
    """One transaction as stored; JSON columns and amounts are text, times milliseconds."""

    id: str
    org_id: str
    key: str
    purpose: str
    run_pk: int | None
    run_id: str | None
    root_run_id: str | None
    workflow_id: str | None
    path: str | None
    item: str
    generation: int
    mode: str
    wallet_id: str
    key_id: str | None
    chain_id: int
    sender: str
    intent: str
    state: str
    confirmations: int
    planned_at: int
    updated_at: int
    nonce: int | None = None
    gas_limit: int | None = None
    max_price: str | None = None
    outlay: str | None = None
    hash: str | None = None
    block_number: int | None = None
    block_hash: str | None = None
    receipt: str | None = None
    error: str | None = None
    verdict: str | None = None
    approval_id: str | None = None
    refusal: str | None = None
    signed_at: int | None = None
    mined_at: int | None = None
    finished_at: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptRow:
    """One set of signed bytes for a transaction's nonce."""

    hash: str
    transaction_id: str
    number: int
    kind: str
    raw: str
    gas_limit: int
    max_fee: str
    tip: str
    is_legacy: int
    created_at: int
    sent_at: int | None = None
    tried_at: int | None = None
    reply: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SpendRow:
    """All spend intents of a node as one unit; lists and notes are JSON."""

    org_id: str
    root_run_id: str
    path: str
    generation: int
    run_pk: int
    transactions: str
    signatures: str
    notes: str
    created_at: int


@dataclass(frozen=True, slots=True)
class Settled:
    """A transaction with a final receipt, and the block that it is in."""

    id: str
    block_number: int
    block_hash: str


_NAMES = [field.name for field in fields(TransactionRow)]
_COLUMNS = [transactions.c[name] for name in _NAMES]
_FIXED = frozenset(
    {"id", "org_id", "key", "purpose", "item", "generation", "root_run_id", "path", "mode", "planned_at"}
)
_CHANGED = [name for name in _NAMES if name not in _FIXED]
_ATTEMPT_NAMES = [field.name for field in fields(AttemptRow)]
_ATTEMPT_COLUMNS = [transaction_attempts.c[name] for name in _ATTEMPT_NAMES]
_SPEND_NAMES = [field.name for field in fields(SpendRow)]
_SPEND_COLUMNS = [spends.c[name] for name in _SPEND_NAMES]


def _is_in(*states: str) -> sa.ColumnElement[bool]:
    return sa.or_(*(transactions.c.state == state for state in states))


_INSERT = Statement(sa.insert(transactions))
_SAVE = Statement(
    sa.update(transactions)
    .where(transactions.c.id == b("the_id"))
    .values({name: b(f"to_{name}", type_=transactions.c[name].type) for name in _CHANGED})
)
_FIND = Statement(sa.select(*_COLUMNS).where(transactions.c.id == b("the_id")))
_OF_NODE = Statement(
    sa.select(*_COLUMNS)
    .where(
        transactions.c.org_id == b("org_id"),
        transactions.c.root_run_id == b("root"),
        transactions.c.path == b("the_path"),
    )
    .order_by(transactions.c.generation, transactions.c.id)
)
_OF_RUN = Statement(
    sa.select(*_COLUMNS)
    .where(transactions.c.org_id == b("org_id"), transactions.c.run_pk == b("the_run_pk"))
    .order_by(transactions.c.id)
)
_OPEN_OF_CHAIN = Statement(
    sa.select(*_COLUMNS)
    .where(transactions.c.chain_id == b("the_chain"), _is_in("signed", "sent", "mined"))
    .order_by(transactions.c.sender, transactions.c.nonce)
)
_DISPLACED = Statement(
    sa.select(*_COLUMNS)
    .where(transactions.c.chain_id == b("the_chain"), transactions.c.state == "displaced")
    .order_by(transactions.c.id)
)
_SETTLED = Statement(
    sa.select(transactions.c.id, transactions.c.block_number, transactions.c.block_hash).where(
        transactions.c.chain_id == b("the_chain"),
        transactions.c.finished_at >= b("since", type_=sa.BigInteger),
        _is_in("final", "reverted", "cancelled"),
        transactions.c.block_hash.is_not(None),
    )
)
_PLANNED = Statement(
    sa.select(*_COLUMNS)
    .where(
        transactions.c.org_id == b("org_id"),
        transactions.c.chain_id == b("the_chain"),
        transactions.c.sender == b("the_sender"),
        transactions.c.state == "planned",
    )
    .order_by(transactions.c.id)
)
_OPEN_CHAINS = Statement(
    sa.union(
        sa.select(transactions.c.chain_id).where(_is_in("signed", "sent", "mined")),
        sa.select(transactions.c.chain_id).where(transactions.c.state == "displaced"),
    )
)
_OPEN_IN_RETRIES = Statement(
    sa.select(transactions.c.id)
    .where(
        transactions.c.org_id == b("org_id"),
        transactions.c.root_run_id == b("root"),
        _is_in("signed", "sent", "mined", "displaced"),
    )
    .order_by(transactions.c.id)
    .limit(1)
)
_HIGHEST = Statement(
    sa.select(sa.func.max(transactions.c.nonce)).where(
        transactions.c.chain_id == b("the_chain"), transactions.c.sender == b("the_sender")
    )
)
_OF_NONCE = Statement(
    sa.select(*_COLUMNS).where(
        transactions.c.chain_id == b("the_chain"),
        transactions.c.sender == b("the_sender"),
        transactions.c.nonce == b("the_nonce"),
    )
)
_ABOVE_NONCE = Statement(
    sa.select(*_COLUMNS)
    .where(
        transactions.c.chain_id == b("the_chain"),
        transactions.c.sender == b("the_sender"),
        transactions.c.nonce > b("the_nonce"),
    )
    .order_by(transactions.c.nonce)
)
_PROMISED = Statement(
    sa.select(transactions.c.outlay).where(
        transactions.c.chain_id == b("the_chain"),
        transactions.c.sender == b("the_sender"),
        _is_in("signed", "sent", "mined"),  # all three are needed for SQLite to use the partial index
        transactions.c.state != "mined",
    )
)
_INSERT_ATTEMPT = Statement(sa.insert(transaction_attempts))
_ATTEMPTS = Statement(
    sa.select(*_ATTEMPT_COLUMNS)
    .where(transaction_attempts.c.transaction_id == b("the_id"))
    .order_by(transaction_attempts.c.number)
)
_OPEN_ATTEMPTS = Statement(
    sa.select(*_ATTEMPT_COLUMNS)
    .select_from(transaction_attempts.join(transactions))
    .where(transactions.c.chain_id == b("the_chain"), _is_in("signed", "sent", "mined"))
    .order_by(transaction_attempts.c.transaction_id, transaction_attempts.c.number)
)
_NOTE_REPLY = Statement(
    sa.update(transaction_attempts)
    .where(transaction_attempts.c.hash == b("the_hash"))
    .values(
        sent_at=sa.func.coalesce(transaction_attempts.c.sent_at, b("to_sent_at", type_=sa.BigInteger)),
        tried_at=b("to_tried_at", type_=sa.BigInteger),
        reply=b("to_reply"),
    )
)
_BY_HASH = Statement(
    sa.select(*_COLUMNS)
    .select_from(transactions.join(transaction_attempts))
    .where(transactions.c.org_id == b("org_id"), transaction_attempts.c.hash == b("the_hash"))
)
_INSERT_SPEND = Statement(sa.insert(spends))
_SAVE_NOTES = Statement(
    sa.update(spends)
    .where(
        spends.c.org_id == b("of_org"),
        spends.c.root_run_id == b("root"),
        spends.c.path == b("the_path"),
        spends.c.generation == b("the_generation"),
    )
    .values(notes=b("to_notes"))
)
_NEWEST_SPEND = Statement(
    sa.select(*_SPEND_COLUMNS)
    .where(spends.c.org_id == b("org_id"), spends.c.root_run_id == b("root"), spends.c.path == b("the_path"))
    .order_by(spends.c.generation.desc())
    .limit(1)
)


def _row(values: Row) -> TransactionRow:
    return TransactionRow(**dict(zip(_NAMES, values, strict=True)))


def _attempt(values: Row) -> AttemptRow:
    return AttemptRow(**dict(zip(_ATTEMPT_NAMES, values, strict=True)))


def insert(tx: Tx, row: TransactionRow) -> None:
    """Inserts a transaction."""
    tx.do(_INSERT, **{name: getattr(row, name) for name in _NAMES})
    _tell(tx, row)


def save(tx: Tx, row: TransactionRow) -> None:
    """Updates all mutable columns of a transaction that was read in the same unit."""
    tx.do(_SAVE, the_id=row.id, **{f"to_{name}": getattr(row, name) for name in _CHANGED})
    _tell(tx, row)


def _tell(tx: Tx, row: TransactionRow) -> None:
    """Writes that it has ended; the same end twice is one fact to those who read."""
    if row.purpose == "intent" and row.state in facts.ENDED:
        facts.add(tx, row.org_id, "transaction", row.id, row.state, row.updated_at, place=row.block_hash or "")


def get(tx: Tx, transaction_id: str) -> TransactionRow:
    """Reads a transaction that must exist."""
    row = tx.one(_FIND, the_id=transaction_id)
    assert row is not None
    return _row(row)


def find(tx: Tx, org_id: str, transaction_id: str) -> TransactionRow | None:
    """Finds a transaction of the organisation."""
    row = tx.one(_FIND, the_id=transaction_id)
    found = _row(row) if row is not None else None
    return found if found is not None and found.org_id == org_id else None


def find_by_hash(tx: Tx, org_id: str, hash: str) -> TransactionRow | None:
    """Finds the organisation's transaction that has an attempt with this hash."""
    row = tx.one(_BY_HASH, org_id=org_id, the_hash=hash)
    return _row(row) if row is not None else None


def ask_for(tx: Tx, transaction_id: str) -> Callable[[], TransactionRow]:
    """Asks for a transaction that must exist; the function returns it after a wait."""
    asked = tx.soon(_FIND, the_id=transaction_id)
    return lambda: _row(asked.value)


def ask_of_node(tx: Tx, org_id: str, root_run_id: str, path: str) -> Callable[[], list[TransactionRow]]:
    """Asks for `list_of_node`; the function returns it after a wait."""
    asked = tx.soon_all(_OF_NODE, org_id=org_id, root=root_run_id, the_path=path)
    return lambda: [_row(row) for row in asked.value]


def list_of_node(tx: Tx, org_id: str, root_run_id: str, path: str) -> list[TransactionRow]:
    """Lists a node's transactions across a retry chain, oldest generation first."""
    found = ask_of_node(tx, org_id, root_run_id, path)
    tx.wait()
    return found()


def ask_of_run(tx: Tx, org_id: str, run_pk: int) -> Callable[[], list[TransactionRow]]:
    """Asks for a run's transactions; the function lists them after a wait."""
    asked = tx.soon_all(_OF_RUN, org_id=org_id, the_run_pk=run_pk)
    return lambda: [_row(row) for row in asked.value]


def list_followed(tx: Tx, chain_id: int) -> list[TransactionRow]:
    """Lists pending transactions by sender and nonce."""
    return [_row(row) for row in tx.all(_OPEN_OF_CHAIN, the_chain=chain_id)]


def list_followed_attempts(tx: Tx, chain_id: int) -> dict[str, list[AttemptRow]]:
    """Lists the attempts of pending transactions, by transaction, oldest first."""
    found: dict[str, list[AttemptRow]] = {}
    for row in tx.all(_OPEN_ATTEMPTS, the_chain=chain_id):
        attempt = _attempt(row)
        found.setdefault(attempt.transaction_id, []).append(attempt)
    return found


def list_planned(tx: Tx, org_id: str, chain_id: int, sender: str) -> list[TransactionRow]:
    """Lists a sender's planned transactions, of which nothing is signed."""
    return [_row(row) for row in tx.all(_PLANNED, org_id=org_id, the_chain=chain_id, the_sender=sender)]


def list_settled(tx: Tx, chain_id: int, since: int) -> list[Settled]:
    """Lists a chain's transactions that have had a final receipt since some time, and the block of each."""
    return [Settled(str(row[0]), int(row[1]), str(row[2])) for row in tx.all(_SETTLED, the_chain=chain_id, since=since)]


def list_displaced(tx: Tx, chain_id: int) -> list[tuple[TransactionRow, list[AttemptRow]]]:
    """Lists a chain's displaced transactions, which need a person, with their attempts."""
    found = [_row(row) for row in tx.all(_DISPLACED, the_chain=chain_id)]
    return [(row, list_attempts(tx, row.id)) for row in found]


def list_followed_chains(tx: Tx) -> list[int]:
    """Lists chains that have pending or displaced transactions."""
    return [int(row[0]) for row in tx.all(_OPEN_CHAINS)]


def find_unsettled(tx: Tx, org_id: str, root_run_id: str) -> str | None:
    """Finds a signed transaction of a retry chain whose outcome is unknown; None if there is none."""
    row = tx.one(_OPEN_IN_RETRIES, org_id=org_id, root=root_run_id)
    return str(row[0]) if row is not None else None


def ask_next_nonce(tx: Tx, chain_id: int, sender: str) -> Callable[[int], int]:
    """Asks for the highest nonce ever signed; the function returns the next one, at least `floor`, after a wait."""
    asked = tx.soon(_HIGHEST, the_chain=chain_id, the_sender=sender)

    def found(floor: int) -> int:
        highest = asked.value[0]
        return max(floor, 0 if highest is None else int(highest) + 1)

    return found


def highest_nonce(tx: Tx, chain_id: int, sender: str) -> int | None:
    """The highest nonce ever signed for this sender and chain."""
    row = tx.one(_HIGHEST, the_chain=chain_id, the_sender=sender)
    return None if row is None or row[0] is None else int(row[0])


def find_of_nonce(tx: Tx, chain_id: int, sender: str, nonce: int) -> TransactionRow | None:
    """Finds the transaction with a nonce."""
    row = tx.one(_OF_NONCE, the_chain=chain_id, the_sender=sender, the_nonce=nonce)
    return _row(row) if row is not None else None


def list_above_nonce(tx: Tx, chain_id: int, sender: str, nonce: int) -> list[TransactionRow]:
    """Lists a sender's signed transactions with higher nonces."""
    return [_row(row) for row in tx.all(_ABOVE_NONCE, the_chain=chain_id, the_sender=sender, the_nonce=nonce)]


def promised_units(tx: Tx, chain_id: int, sender: str) -> int:
    """The maximum native balance that a sender's signed, unmined transactions may use, in base units."""
    return sum(int(row[0]) for row in tx.all(_PROMISED, the_chain=chain_id, the_sender=sender) if row[0] is not None)


def insert_attempt(tx: Tx, row: AttemptRow) -> None:
    """Inserts an attempt with its signed bytes."""
    tx.do(_INSERT_ATTEMPT, **{name: getattr(row, name) for name in _ATTEMPT_NAMES})


def ask_attempts(tx: Tx, transaction_id: str) -> Callable[[], list[AttemptRow]]:
    """Asks for `list_attempts`; the function returns it after a wait."""
    asked = tx.soon_all(_ATTEMPTS, the_id=transaction_id)
    return lambda: [_attempt(row) for row in asked.value]


def list_attempts(tx: Tx, transaction_id: str) -> list[AttemptRow]:
    """Lists a transaction's attempts, oldest first."""
    return [_attempt(row) for row in tx.all(_ATTEMPTS, the_id=transaction_id)]


def note_reply(tx: Tx, hash: str, *, sent_at: int | None, tried_at: int, reply: str) -> None:
    """Records an endpoint's reply to an attempt; `sent_at` None means that it was not accepted."""
    tx.do(_NOTE_REPLY, the_hash=hash, to_sent_at=sent_at, to_tried_at=tried_at, to_reply=reply)


def insert_spend(tx: Tx, row: SpendRow) -> None:
    """Inserts a node's spend intents."""
    tx.do(_INSERT_SPEND, **{name: getattr(row, name) for name in _SPEND_NAMES})


def save_notes(tx: Tx, row: SpendRow) -> None:
    """Stores the notes of a node's spend intents."""
    tx.do(
        _SAVE_NOTES,
        of_org=row.org_id,
        root=row.root_run_id,
        the_path=row.path,
        the_generation=row.generation,
        to_notes=row.notes,
    )


def ask_newest_spend(tx: Tx, org_id: str, root_run_id: str, path: str) -> Callable[[], SpendRow | None]:
    """Asks for a node's newest spend intents; the function returns them after a wait, None without any."""
    asked = tx.soon(_NEWEST_SPEND, org_id=org_id, root=root_run_id, the_path=path)

    def found() -> SpendRow | None:
        row = asked.value
        return SpendRow(**dict(zip(_SPEND_NAMES, row, strict=True))) if row is not None else None

    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class TransactionFilters:
    """Filters of a transaction list. `only_workflows` and `only_wallets`: what the caller can access."""

    states: Sequence[str] = ()
    chain_id: int | None = None
    wallet_id: str | None = None
    workflow_id: str | None = None
    run_id: str | None = None
    hash: str | None = None
    only_workflows: Collection[str] | None = None
    only_wallets: Collection[str] | None = None


_PLAIN: Final = ("chain_id", "wallet_id", "workflow_id", "run_id", "hash")


def list_page(tx: Tx, org_id: str, filters: TransactionFilters, limit: int, offset: int) -> list[TransactionRow]:
    """Lists transactions, newest first."""
    wanted = {name: getattr(filters, name) for name in _PLAIN if getattr(filters, name) is not None}
    states, workflows, wallets = filters.states or None, filters.only_workflows, filters.only_wallets
    statement = _page(frozenset(wanted), count_of(states), count_of(workflows), count_of(wallets))
    values = {"org_id": org_id, "most": limit, "skip": offset, **{f"of_{name}": one for name, one in wanted.items()}}
    values |= numbered("state", states) | numbered("workflow", workflows) | numbered("wallet", wallets)
    return [_row(row) for row in tx.all(statement, **values)]


@lru_cache(maxsize=256)
def _page(plain: frozenset[str], states: int | None, workflows: int | None, wallets: int | None) -> Statement:
    """The statement of a page; a caller asks again and again with the same filters."""
    of_hash = sa.select(transaction_attempts.c.transaction_id).where(transaction_attempts.c.hash == b("of_hash"))
    conditions = [
        *(transactions.c[name] == b(f"of_{name}") for name in _PLAIN if name in plain and name != "hash"),
        *([transactions.c.id.in_(of_hash)] if "hash" in plain else []),
        *is_one_of(transactions.c.state, "state", states),
        *is_one_of(transactions.c.workflow_id, "workflow", workflows),
        *is_one_of(transactions.c.wallet_id, "wallet", wallets),
    ]
    newest = sa.select(*_COLUMNS).where(transactions.c.org_id == b("org_id"), *conditions)
    newest = newest.order_by(transactions.c.id.desc())
    return Statement(newest.limit(b("most", type_=sa.Integer)).offset(b("skip", type_=sa.Integer)))
