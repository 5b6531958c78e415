"""What the policy of a wallet has decided on since a time: transactions and signatures, with what they reserved."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import fields, replace

import sqlalchemy as sa
from sqlalchemy import bindparam as b

from dustrun.storage.db.ledger_tables import reservations, signatures, transactions
from dustrun.storage.db.statement import Statement, Tx
from dustrun.storage.money.reservations import ReservationRow
from dustrun.storage.money.signatures import SignatureRow
from dustrun.storage.money.transactions import TransactionRow

_OF = {"transaction": (transactions, TransactionRow), "signature": (signatures, SignatureRow)}
_DECIDED = {
    kind: Statement(
        sa.select(*(table.c[one.name] for one in fields(row)))
        .where(table.c.wallet_id == b("wallet"), table.c.planned_at >= b("since"), table.c.verdict.is_not(None))
        .order_by(table.c.planned_at.desc(), table.c.id.desc())
        .limit(b("most", type_=sa.Integer))
    )
    for kind, (table, row) in _OF.items()
}
_RESERVED = {
    kind: Statement(
        sa.select(*(reservations.c[one.name] for one in fields(ReservationRow)))
        .join(table, table.c.id == reservations.c.subject_id)
        .where(table.c.wallet_id == b("wallet"), table.c.planned_at >= b("since"))
        .order_by(reservations.c.id)
    )
    for kind, (table, _) in _OF.items()
}


def list_decided(tx: Tx, wallet_id: str, since: int, limit: int) -> list[TransactionRow | SignatureRow]:
    """Transactions and signatures that were planned since a time and have a verdict, newest first."""
    of = {"wallet": wallet_id, "since": since, "most": limit}
    found: list[TransactionRow | SignatureRow] = []
    for kind, (_, row) in _OF.items():
        names = [one.name for one in fields(row)]
        found += [row(**dict(zip(names, values, strict=True))) for values in tx.all(_DECIDED[kind], **of)]
    return sorted(found, key=lambda one: (one.planned_at, one.id), reverse=True)[:limit]


def reservations_of(tx: Tx, wallet_id: str, since: int) -> dict[str, list[ReservationRow]]:
    """What the transactions and signatures that were planned since a time have reserved, by their ids."""
    found: dict[str, list[ReservationRow]] = defaultdict(list)
    for statement in _RESERVED.values():
        for values in tx.all(statement, wallet=wallet_id, since=since):
            row = ReservationRow(*values)
            found[row.subject_id].append(replace(row, units=int(row.units)))
    return found
