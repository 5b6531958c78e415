"""Every column that holds sealed secrets. A rotation seals them anew; a column that is not here would be lost to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa

from dustrun.storage.db import ledger_tables, tables


@dataclass(frozen=True, slots=True)
class SealedColumn:
    """One column: its table has `org_id` and `id`; `kind` is what it was sealed as."""

    kind: str
    table: sa.Table
    name: str

    @property
    def column(self) -> sa.Column[str]:
        """The column itself."""
        found: sa.Column[str] = self.table.c[self.name]
        return found


SEALED: Final = (
    SealedColumn("connector", tables.connectors, "sealed"),
    SealedColumn("connector-token", tables.connectors, "sealed_token"),
    SealedColumn("wallet", ledger_tables.wallets, "sealed"),
    SealedColumn("signature", ledger_tables.signatures, "sealed"),
)
