"""Rows that say in which block the event of a chain is, and whether a reorg removed that block."""

from __future__ import annotations

from dataclasses import fields

import sqlalchemy as sa
from sqlalchemy import bindparam as b

from dustrun.records import dataclass
from dustrun.storage.db.statement import Statement, Tx
from dustrun.storage.db.trigger_tables import chain_events as t


@dataclass(frozen=True, slots=True)
class ChainEventRow:
    """Where an event is; `was` is JSON: its outcome before a reorg removed it. `subject` is its transaction, `seen` its
    position there if that is not the one in its key. `content` is JSON, of an event that was seen and not recorded yet:
    what it says."""

    subscription_pk: int
    key: str
    block_number: int
    block_hash: str
    is_live: int = 1
    retractions: int = 0
    was: str | None = None
    subject: str | None = None
    seen: str | None = None
    content: str | None = None


_NAMES = tuple(field.name for field in fields(ChainEventRow))
_COLUMNS = [t.c[name] for name in _NAMES]
_FIND = Statement(sa.select(*_COLUMNS).where(t.c.subscription_pk == b("the_pk"), t.c.key == b("the_key")))
_ABOVE = sa.select(*_COLUMNS).where(
    t.c.subscription_pk == b("the_pk"), t.c.block_number > b("above", type_=sa.BigInteger)
)
_LIST_ABOVE = Statement(_ABOVE.where(t.c.is_live == 1).order_by(t.c.block_number.desc(), t.c.key))
_LIST_REMOVED_ABOVE = Statement(_ABOVE.where(t.c.is_live == 0).order_by(t.c.block_number, t.c.key))
_IS_OF = (
    t.c.subscription_pk == b("the_pk"),
    # rows of older versions have no subject
    sa.or_(t.c.subject == b("the_subject"), sa.and_(t.c.subject.is_(None), t.c.key.like(b("the_keys")))),
)
_LIST_OF = Statement(sa.select(*_COLUMNS).where(*_IS_OF).order_by(t.c.key))
_HAS_ODD = Statement(
    sa.select(t.c.key)
    .where(*_IS_OF, sa.or_(t.c.is_live == 0, t.c.seen.is_not(None), t.c.block_hash != b("but")))
    .limit(1)
)
_DELETE = Statement(sa.delete(t).where(t.c.subscription_pk == b("the_pk"), t.c.key == b("the_key")))
_INSERT = Statement(sa.insert(t).values({name: b(name) for name in _NAMES}))
_FORGET = Statement(
    sa.delete(t).where(
        t.c.subscription_pk == b("the_pk"),
        t.c.block_number < b("below", type_=sa.BigInteger),
        t.c.is_live == 1,
        t.c.seen.is_(None),  # else its key alone does not say which event it is
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


def list_of(tx: Tx, subscription_pk: int, chain_id: int, subject: str) -> list[ChainEventRow]:
    """The events of a transaction, by key."""
    keys = f"{chain_id}:{subject}:%"
    found = tx.all(_LIST_OF, the_pk=subscription_pk, the_subject=subject, the_keys=keys)
    return [ChainEventRow(*one) for one in found]


def has_odd(tx: Tx, subscription_pk: int, chain_id: int, subject: str, but: str) -> bool:
    """Whether an event of a transaction was removed, has moved within it, or is in a block other than this one."""
    keys = f"{chain_id}:{subject}:%"
    return tx.one(_HAS_ODD, the_pk=subscription_pk, the_subject=subject, the_keys=keys, but=but) is not None


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
