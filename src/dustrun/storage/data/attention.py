"""How many things of each kind need a person, in the whole store."""

from __future__ import annotations

from collections import Counter
from typing import Final

import sqlalchemy as sa

from dustrun.core.values.exact_json import loads_own
from dustrun.storage.db.ledger_tables import transactions
from dustrun.storage.db.statement import Statement, Tx
from dustrun.storage.db.store_facts import RESTORED_AT
from dustrun.storage.db.tables import connectors, hooks, runs, store_facts
from dustrun.storage.db.trigger_tables import subscriptions

KINDS: Final = (
    *("trigger-failed", "trigger-stalled", "hook-disabled", "payment-held", "payment-displaced"),
    *("connector-refused", "connector-reconnect", "connector-unreachable"),
)
DISABLED_BY_HAND: Final = "Disabled by hand."
"""Why a hook is disabled that needs nobody."""


def _count(kind: str, table: sa.FromClause, *conditions: sa.ColumnElement[bool]) -> sa.Select[str, int]:
    return sa.select(sa.literal(kind), sa.func.count()).select_from(table).where(*conditions)


def _is(column: sa.ColumnElement[str], word: str) -> sa.ColumnElement[bool]:
    """A condition with a literal, because SQLite uses a partial index only if it can see the condition's value."""
    return column == sa.literal_column(f"'{word}'")


def _statement() -> Statement:
    is_restored = sa.exists().where(store_facts.c.name == RESTORED_AT)  # nothing is held in any other store
    is_open = sa.or_(_is(runs.c.status, "running"), _is(runs.c.status, "waiting"))
    spent = runs.join(transactions, transactions.c.run_pk == runs.c.pk)
    return Statement(
        sa.union_all(
            _count("trigger-failed", subscriptions, _is(subscriptions.c.state, "failed")),
            _count(
                "trigger-stalled",
                subscriptions,
                _is(subscriptions.c.state, "armed"),
                subscriptions.c.stalled_since.is_not(None),
            ),
            _count("hook-disabled", hooks, hooks.c.status == "disabled", hooks.c.disabled_reason != DISABLED_BY_HAND),
            _count(
                "payment-held",
                spent,
                is_restored,
                is_open,
                transactions.c.state == "planned",
                transactions.c.refusal.is_not(None),
            ),
            _count("payment-displaced", transactions, _is(transactions.c.state, "displaced")),
        )
    )


_COUNTS = _statement()
_FAILING = Statement(sa.select(connectors.c.failure).where(connectors.c.failing_since.is_not(None)))


def count(tx: Tx) -> dict[str, int]:
    """The number of each kind; 0 for none."""
    found = Counter({str(kind): int(number) for kind, number in tx.all(_COUNTS)})
    found.update(f"connector-{loads_own(how)['what']}" for (how,) in tx.all(_FAILING))
    return {kind: found[kind] for kind in KINDS}
