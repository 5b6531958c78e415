"""What needs a person is found without reading what does not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from dustrun.core.money.transaction_state import AWAITS_APPROVAL
from dustrun.storage.data import attention
from dustrun.storage.db import migrate
from dustrun.storage.db.database import Database
from dustrun.storage.db.ledger_tables import transactions, wallets
from dustrun.storage.db.store_facts import RESTORED_AT
from dustrun.storage.db.tables import approvals, metadata, organizations, runs, store_facts

_SMALL = ("SCAN hooks", "SCAN store_facts")
"""Tables with a few rows, which have no index for it."""


def test_only_the_rows_that_need_a_person_are_read(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'store.db'}")
    metadata.create_all(database.engine)
    steps = list[str]()
    with database.engine.connect() as connection:
        for statement in (attention._COUNTS, *attention._LISTS.values()):
            sql, take, fixed = statement.compile(database.dialect)
            found = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}", take({**fixed, "org_id": "o", "most": 9}))
            steps += [str(row[3]) for row in found]
    database.close()
    scans = {step for step in steps if step.startswith("SCAN") and step not in _SMALL}
    assert {step.partition(" USING INDEX ")[2] for step in scans} == {
        *("ix_transactions_displaced", "ix_transactions_held"),
        *("ix_subscriptions_failed", "ix_subscriptions_stalled"),
    }, steps
    assert not [step for step in steps if "ix_runs_open" in step]


def _row(table: sa.Table, **given: Any) -> sa.Insert:
    """A row with these values, and something in what else must be given."""
    needed = [column for column in table.columns if not column.nullable and column.name not in given]
    made = {column.name: 1 if isinstance(column.type, sa.Integer) else "1" for column in needed}
    return sa.insert(table).values(**{**made, **given})


@pytest.mark.parametrize(
    ("refusal", "decision", "counted"),
    [
        ("The original server may have paid it.", None, 1),
        ("The original server may have paid it.", "approved", 1),
        ("The original server may have paid it.", "pending", 1),
        ("The original server may have paid it.", "rejected", 0),
        ("The original server may have paid it.", "timed_out", 0),
        (AWAITS_APPROVAL, None, 0),
    ],
)
def test_a_payment_of_a_restored_store_is_held_only_while_somebody_can_release_it(
    tmp_path: Path, refusal: str, decision: str | None, counted: int
) -> None:
    database = Database(f"sqlite:///{tmp_path / 'store.db'}")
    migrate.upgrade(database)
    asked = "ap_1" if decision is not None else None
    with database.engine.begin() as connection:
        connection.execute(_row(store_facts, name=RESTORED_AT))
        connection.execute(_row(organizations, id="org_1"))
        connection.execute(_row(wallets, id="wal_1", org_id="org_1"))
        connection.execute(_row(runs, pk=1, id="run_1", org_id="org_1", status="waiting"))
        if decision is not None:
            connection.execute(_row(approvals, id=asked, org_id="org_1", run_pk=1, run_id="run_1", status=decision))
        held = {"run_pk": 1, "run_id": "run_1", "state": "planned", "refusal": refusal, "approval_id": asked}
        held |= {"wallet_id": "wal_1"}
        connection.execute(_row(transactions, id="tx_1", org_id="org_1", **held))
    assert database.read_now(attention.count)["payment-held"] == counted
    assert len(database.read_now(lambda tx: attention.list_of(tx, "org_1"))) == counted
    database.close()
