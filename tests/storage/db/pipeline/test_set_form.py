"""Statements for many rows, derived from those for one."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from sqlalchemy import bindparam as b

from dustrun.storage.db.pipeline.wave import SetForm, derive
from dustrun.storage.db.statement import Statement
from dustrun.storage.db.tables import runs, store_facts, table_rows
from dustrun.storage.runs import journal
from dustrun.storage.runs import runs as run_rows

_DIALECT = sa.make_url("postgresql+psycopg://").get_dialect()()


def _derive(statement: Statement) -> SetForm | None:
    sql, _, fixed = statement.compile(_DIALECT)
    return derive(sql, fixed)


def _sql(form: SetForm | None) -> tuple[str, tuple[object, ...]]:
    assert form is not None
    call = form.text.call(form.parameters([dict.fromkeys(form.types)]))
    return call.sql.decode(), tuple(call.values)


def test_an_insert_selects_its_rows_in_order() -> None:
    form = _derive(Statement(sa.insert(store_facts).returning(store_facts.c.name)))
    assert _sql(form) == (
        'INSERT INTO store_facts (name, value) SELECT v."name", v."value"'
        ' FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS v("name", "value", nth) ORDER BY v.nth'
        " RETURNING store_facts.name",
        ("{NULL}", "{NULL}"),
    )


def test_an_update_joins_its_rows_and_says_which_it_changed() -> None:
    change = (
        sa.update(runs).where(runs.c.pk == b("of"), runs.c.status == "running").values(fence=runs.c.fence + b("more"))
    )
    form = _derive(Statement(change.returning(runs.c.fence)))
    assert _sql(form) == (
        'UPDATE runs SET fence=(runs.fence + v."more")'
        ' FROM unnest($1::integer[], $2::bigint[]) WITH ORDINALITY AS v("more", "of", nth)'
        ' WHERE runs.pk = v."of" AND runs.status = $3::VARCHAR RETURNING v.nth, runs.fence',
        ("{NULL}", "{NULL}", "running"),
    )
    assert form is not None
    assert (form.key, form.lead, form.is_planned_anew) == (("of",), 1, True)


@pytest.mark.parametrize(
    "statement",
    [
        run_rows._INSERT,
        journal._ADVANCE,
        journal._END,
        journal._ADD_EVENT,
        journal._ADD_ACTIVITY,
        journal._ADD_EXECUTION,
        journal._CHANGE_EXECUTION,
        journal._COUNT_END,
    ],
)
def test_what_every_run_executes_has_a_form_for_many_rows(statement: Statement) -> None:
    assert _derive(statement) is not None


@pytest.mark.parametrize(
    "statement",
    [
        Statement(sa.select(runs.c.pk).where(runs.c.pk == b("of"))),
        Statement(sa.delete(runs).where(runs.c.pk == b("of"))),
        Statement(sa.insert(table_rows)),  # bytes
        Statement(sa.text("INSERT INTO store_facts (name) SELECT :name")),
        Statement(
            sa.text("INSERT INTO store_facts (name, value) VALUES (:a, :b) ON CONFLICT (name) DO UPDATE SET value = :b")
        ),
    ],
)
def test_other_statements_have_none(statement: Statement) -> None:
    assert _derive(statement) is None
