"""Rows of the last credible price of each asset, by which a leap is noticed."""

from __future__ import annotations

from decimal import Decimal

import sqlalchemy as sa
from sqlalchemy import bindparam as b

from dustrun.storage.db.ledger_tables import known_prices as t
from dustrun.storage.db.statement import Statement, Tx

_FIND = Statement(sa.select(t.c.usd, t.c.is_lone).where(t.c.asset == b("of_asset")))
_SAVE = Statement(
    sa.text(
        "INSERT INTO known_prices (asset, usd, at, is_lone) VALUES (:asset, :usd, :at, :is_lone)"
        " ON CONFLICT (asset) DO UPDATE SET usd = excluded.usd, at = excluded.at,"
        " is_lone = CASE WHEN known_prices.is_lone = 1 THEN excluded.is_lone END"
    )
)


def find(tx: Tx, asset: str) -> tuple[Decimal, bool] | None:
    """The price in US dollars that was kept last, and whether one source alone has named it, and nothing confirmed
    it."""
    row = tx.one(_FIND, of_asset=asset)
    return None if row is None else (Decimal(row[0]), bool(row[1]))


def save(tx: Tx, asset: str, usd: Decimal, at_ms: int, *, is_lone: bool) -> None:
    """Keeps a price; what was confirmed once stays so."""
    tx.do(_SAVE, asset=asset, usd=f"{usd:f}", at=at_ms, is_lone=1 if is_lone else None)
