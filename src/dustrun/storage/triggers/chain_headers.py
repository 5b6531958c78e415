"""Rows of the headers that the watcher of a chain has seen."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy import bindparam as b

from dustrun.core.triggers.chain.headers import Header, HeaderRow
from dustrun.storage.db.statement import Statement, Tx
from dustrun.storage.db.trigger_tables import chain_headers as t
from dustrun.storage.db.trigger_tables import chain_progress as p
from dustrun.storage.db.trigger_tables import watched_chains

_NAMES = ("chain_id", "hash", "number", "parent", "is_canonical")
_LIST = Statement(
    sa.select(t.c.number, t.c.hash, t.c.parent, t.c.is_canonical)
    .where(t.c.chain_id == b("the_chain"))
    .order_by(t.c.number)
)
_FIND_NEWEST = Statement(
    sa.select(t.c.hash)
    .where(t.c.chain_id == b("the_chain"), t.c.is_canonical == 1)
    .order_by(t.c.number.desc())
    .limit(1)
)
_CUT = Statement(
    sa.update(t)
    .where(t.c.chain_id == b("the_chain"), t.c.number > b("above", type_=sa.BigInteger), t.c.is_canonical == 1)
    .values(is_canonical=0)
)
_DELETE = Statement(sa.delete(t).where(t.c.chain_id == b("chain_id"), t.c.hash == b("hash")))
_INSERT = Statement(sa.insert(t).values({name: b(name) for name in _NAMES}))
_PRUNE = Statement(sa.delete(t).where(t.c.chain_id == b("the_chain"), t.c.number < b("below", type_=sa.BigInteger)))
_FIND_GENESIS = Statement(sa.select(watched_chains.c.genesis).where(watched_chains.c.chain_id == b("the_chain")))
_SAVE_GENESIS = Statement(
    sa.insert(watched_chains).values(chain_id=b("chain_id", type_=sa.BigInteger), genesis=b("genesis"))
)
_DROP_GENESIS = Statement(sa.delete(watched_chains).where(watched_chains.c.chain_id == b("the_chain")))

_FIND_PROGRESS = Statement(sa.select(p.c.state, p.c.seen_at).where(p.c.chain_id == b("the_chain", type_=sa.BigInteger)))
_DROP_PROGRESS = Statement(sa.delete(p).where(p.c.chain_id == b("the_chain", type_=sa.BigInteger)))
_SAVE_PROGRESS = Statement(sa.insert(p).values(chain_id=b("chain_id"), state=b("state"), seen_at=b("seen_at")))


def list_all(tx: Tx, chain_id: int) -> list[HeaderRow]:
    """Every stored header of a chain, by height."""
    found = tx.all(_LIST, the_chain=chain_id)
    return [HeaderRow(Header(int(number), hash, parent), bool(flag)) for number, hash, parent, flag in found]


def find_newest(tx: Tx, chain_id: int) -> str | None:
    """The hash of the newest canonical header; None for no chain that was watched."""
    found = tx.one(_FIND_NEWEST, the_chain=chain_id)
    return None if found is None else str(found[0])


def cut(tx: Tx, chain_id: int, above: int) -> None:
    """Takes every header above a height off the canonical chain."""
    tx.do(_CUT, the_chain=chain_id, above=above)


def add(tx: Tx, chain_id: int, headers: Sequence[Header]) -> None:
    """Adds canonical headers; one that is known becomes canonical again."""
    rows = [
        {"chain_id": chain_id, "hash": one.hash, "number": one.number, "parent": one.parent, "is_canonical": 1}
        for one in headers
    ]
    tx.many(_DELETE, [{"chain_id": chain_id, "hash": one.hash} for one in headers])
    tx.many(_INSERT, rows)


def prune(tx: Tx, chain_id: int, below: int) -> None:
    """Deletes the headers below a height."""
    tx.do(_PRUNE, the_chain=chain_id, below=below)


def find_genesis(tx: Tx, chain_id: int) -> str | None:
    """The genesis hash that was seen first; None before."""
    found = tx.one(_FIND_GENESIS, the_chain=chain_id)
    return None if found is None else str(found[0])


def save_genesis(tx: Tx, chain_id: int, genesis: str) -> None:
    """Stores the genesis hash in place of any other."""
    tx.do(_DROP_GENESIS, the_chain=chain_id)
    tx.do(_SAVE_GENESIS, chain_id=chain_id, genesis=genesis)


def find_progress(tx: Tx, chain_id: int) -> tuple[str, int] | None:
    """How far the triggers of a chain are (JSON), and when that was seen; None before."""
    found = tx.one(_FIND_PROGRESS, the_chain=chain_id)
    return None if found is None else (str(found[0]), int(found[1]))


def save_progress(tx: Tx, chain_id: int, state: str, at: int) -> None:
    """Stores how far the triggers of a chain are."""
    tx.do(_DROP_PROGRESS, the_chain=chain_id)
    tx.do(_SAVE_PROGRESS, chain_id=chain_id, state=state, seen_at=at)
