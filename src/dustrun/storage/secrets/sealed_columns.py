"""All columns with encrypted secrets. A key rotation re-encrypts them; a column missing here would become
unreadable.
"""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

from dustrun.records import dataclass
from dustrun.storage.db import ledger_tables, tables, trigger_tables


@dataclass(frozen=True, slots=True)
class SealedColumn:
    """One encrypted column of a table with `org_id` and `id`; `kind` is the record kind bound into its encryption."""

    kind: str
    table: sa.Table
    name: str

    @property
    def column(self) -> sa.Column[str]:
        """The SQLAlchemy column."""
        found: sa.Column[str] = self.table.c[self.name]
        return found


SEALED: Final = (
    SealedColumn("connector", tables.connectors, "sealed"),
    SealedColumn("connector-token", tables.connectors, "sealed_token"),
    SealedColumn("hook", tables.hooks, "sealed"),
    SealedColumn("wallet", ledger_tables.wallets, "sealed"),
    SealedColumn("webhook", trigger_tables.webhook_secrets, "sealed"),
    SealedColumn("signature", ledger_tables.signatures, "sealed"),
)
