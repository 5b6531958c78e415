"""The tokens that models of nodes have used, by organisation and hour: sums that are kept, for a day and an hour."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa
from sqlalchemy import bindparam as b

from dustrun.storage.db.statement import Statement, Tx
from dustrun.storage.db.tables import model_tokens as t

HOUR_MS: Final = 3_600_000
HOURS: Final = 24

_ADD = Statement(
    sa.text(
        "INSERT INTO model_tokens (org_id, hour, tokens) VALUES (:org_id, :hour, :tokens)"
        " ON CONFLICT (org_id, hour) DO UPDATE SET tokens = model_tokens.tokens + excluded.tokens"
    )
)
_FORGET = Statement(sa.delete(t).where(t.c.org_id == b("org_id"), t.c.hour < b("first", type_=sa.BigInteger)))
_USED = Statement(
    sa.select(sa.func.sum(t.c.tokens)).where(t.c.org_id == b("org_id"), t.c.hour >= b("first", type_=sa.BigInteger))
)


def add(tx: Tx, org_id: str, tokens: int, now: int) -> None:
    """Adds tokens that were used just now."""
    tx.do(_FORGET, org_id=org_id, first=now // HOUR_MS - HOURS)
    tx.do(_ADD, org_id=org_id, hour=now // HOUR_MS, tokens=tokens)


def count(tx: Tx, org_id: str, now: int) -> int:
    """The tokens of the last 24 hours, and of the part of an hour before."""
    row = tx.one(_USED, org_id=org_id, first=now // HOUR_MS - HOURS)
    return int(row[0] or 0) if row else 0
