"""Rows that say in which block the event of a chain is, and whether a reorg removed that block."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa
from sqlalchemy import bindparam as b

from dustrun.records import dataclass
from dustrun.storage.db.statement import Statement, Tx
from dustrun.storage.db.trigger_tables import chain_events as t


@dataclass(frozen=True, slots=True)
class ChainEventRow:
    """Where an event is; `was` is JSON: its outcome before a reorg removed it."""

    subscription_pk: int
    key: str
    block_number: int
    block_hash: str
    is_live: int = 1
    retractions: int = 0
    was: str | None = None


_COLUMNS = (t.c.subscription_pk, t.c.key, t.c.block_number, t.c.block_hash, t.c.is_live, t.c.retractions, t.c.was)
_NAMES = tuple(column.name for column in _COLUMNS)
_FIND = Statement(sa.select(*_COLUMNS).where(t.c.subscription_pk == b("the_pk"), t.c.key == b("the_key")))
_ABOVE = sa.select(*_COLUMNS).where(
    t.c.subscription_pk == b("the_pk"), t.c.block_number > b("above", type_=sa.BigInteger)
)
_LIST_ABOVE = Statement(_ABOVE.where(t.c.is_live == 1).order_by(t.c.block_number.desc(), t.c.key))
_LIST_REMOVED_ABOVE = Statement(_ABOVE.where(t.c.is_live == 0).order_by(t.c.block_number, t.c.key))
_NEVER: Final = -(2**62)
_FIND_HIGHEST_REMOVED = Statement(
    sa.select(sa.func.max(t.c.block_number)).where(t.c.subscription_pk == b("the_pk"), t.c.is_live == 0)
)
_LIST_REMOVED_OF = Statement(
    sa.select(t.c.key)
    .where(t.c.subscription_pk == b("the_pk"), t.c.is_live == 0, t.c.key.like(b("of_transaction")))
    .order_by(t.c.key)
)
_DELETE = Statement(sa.delete(t).where(t.c.subscription_pk == b("the_pk"), t.c.key == b("the_key")))
_INSERT = Statement(sa.insert(t).values({name: b(name) for name in _NAMES}))
_FORGET = Statement(
    sa.delete(t).where(
        t.c.subscription_pk == b("the_pk"), t.c.block_number < b("below", type_=sa.BigInteger), t.c.is_live == 1
    )
)
_FORGET_CHAIN = Statement(sa.delete(t).where(t.c.key.like(b("of_chain")), t.c.is_live == 1))


def find(tx: Tx, subscription_pk: int, key: str) -> ChainEventRow | None:
    """Where an event is; None if it is not known, or too old to be removed."""
    found = tx.one(_FIND, the_pk=subscription_pk, the_key=key)
    return None if found is None else ChainEventRow(*found)


def list_above(tx: Tx, subscription_pk: int, above: int) -> list[ChainEventRow]:
    """The events in blocks above a height that no reorg has removed, newest first."""
    return [ChainEventRow(*found) for found in tx.all(_LIST_ABOVE, the_pk=subscription_pk, above=above)]


def list_removed_above(tx: Tx, subscription_pk: int, above: int) -> list[ChainEventRow]:
    """The events that reorgs removed from blocks above a height, oldest first."""
    return [ChainEventRow(*found) for found in tx.all(_LIST_REMOVED_ABOVE, the_pk=subscription_pk, above=above)]


def find_highest_removed(tx: Tx, subscription_pk: int) -> int:
    """The highest block of an event that a reorg removed; far below any block for none."""
    found = tx.one(_FIND_HIGHEST_REMOVED, the_pk=subscription_pk)
    return _NEVER if found is None or found[0] is None else int(found[0])


def list_removed_of(tx: Tx, subscription_pk: int, transaction: str) -> list[str]:
    """The keys of a transaction's events that a reorg removed; chain and hash begin them."""
    found = tx.all(_LIST_REMOVED_OF, the_pk=subscription_pk, of_transaction=f"{transaction}:%")
    return [str(key) for (key,) in found]


def save(tx: Tx, row: ChainEventRow) -> None:
    """Stores where an event is now."""
    tx.do(_DELETE, the_pk=row.subscription_pk, the_key=row.key)
    tx.do(_INSERT, **{name: getattr(row, name) for name in _NAMES})


def forget_below(tx: Tx, subscription_pk: int, below: int) -> None:
    """Deletes what is too deep to be removed; what was removed stays, since it may come back."""
    tx.do(_FORGET, the_pk=subscription_pk, below=below)


def forget_chain(tx: Tx, chain_id: int) -> None:
    """Deletes where the events of a chain are; its id begins their keys."""
    tx.do(_FORGET_CHAIN, of_chain=f"{chain_id}:%")
