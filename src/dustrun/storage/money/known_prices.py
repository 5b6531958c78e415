"""Rows of the last credible price of each asset, by which a leap is noticed."""

from __future__ import annotations

from decimal import Decimal

import sqlalchemy as sa
from sqlalchemy import bindparam as b

from dustrun.storage.db.ledger_tables import known_prices as t
from dustrun.storage.db.statement import Statement, Tx

_FIND = Statement(sa.select(t.c.usd).where(t.c.asset == b("of_asset")))
_SAVE = Statement(
    sa.text(
        "INSERT INTO known_prices (asset, usd, at) VALUES (:asset, :usd, :at)"
        " ON CONFLICT (asset) DO UPDATE SET usd = excluded.usd, at = excluded.at"
    )
)


def find(tx: Tx, asset: str) -> Decimal | None:
    """The price in US dollars that was kept last."""
    row = tx.one(_FIND, of_asset=asset)
    return None if row is None else Decimal(row[0])


def save(tx: Tx, asset: str, usd: Decimal, at_ms: int) -> None:
    """Keeps a price."""
    tx.do(_SAVE, asset=asset, usd=f"{usd:f}", at=at_ms)
