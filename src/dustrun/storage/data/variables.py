"""Rows of variables: values kept between runs, values within one run, and the history of writes."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import sqlalchemy as sa
from sqlalchemy import bindparam as b

from dustrun.records import dataclass
from dustrun.storage.db.statement import Statement, Tx
from dustrun.storage.db.tables import run_variables, variable_writes, variables

WORKFLOW, RUN = "workflow", "run"


@dataclass(frozen=True, slots=True)
class VariableRow:
    """A variable of a workflow as stored; JSON columns are text."""

    workflow_id: str
    name: str
    definition: str | None
    value: str | None
    version: int
    updated_at: int
    last_run_id: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteRow:
    """One write, by a node of a run or by hand."""

    id: int = 0
    workflow_id: str
    name: str
    op: str
    scope: str
    old_value: str | None
    new_value: str | None
    run_pk: int | None = None
    run_id: str | None = None
    path: str | None = None
    key_id: str | None = None
    simulated: int = 0
    written_at: int
    write_key: str | None = None


@dataclass(frozen=True, slots=True)
class RunVariable:
    """A variable value that exists only within a run."""

    scope: str
    name: str
    value: str
    assumed: bool


_COLUMNS = [variables.c[field.name] for field in fields(VariableRow)]
_LIST = Statement(sa.select(*_COLUMNS).where(variables.c.workflow_id == b("workflow_id")).order_by(variables.c.name))
_FIND = Statement(
    sa.select(*_COLUMNS).where(variables.c.workflow_id == b("workflow_id"), variables.c.name == b("name"))
)
_NEW = [field.name for field in fields(VariableRow)]
_PUT = Statement(
    sa.text(
        f"INSERT INTO variables ({', '.join(_NEW)}) VALUES ({', '.join(':' + name for name in _NEW)})"  # noqa: S608 - names of ours
        " ON CONFLICT (workflow_id, name) DO UPDATE SET definition = :definition, value = :value, version = :version,"
        " updated_at = :updated_at, last_run_id = :last_run_id"
    )
)
_DELETE = Statement(
    sa.delete(variables).where(variables.c.workflow_id == b("workflow_id"), variables.c.name == b("name"))
)
_LIST_HELD = Statement(
    sa.select(run_variables.c.scope, run_variables.c.name, run_variables.c.value, run_variables.c.assumed).where(
        run_variables.c.owner_pk == b("owner_pk"),
        run_variables.c.scope == b("scope"),
        run_variables.c.workflow_id == b("workflow_id"),
    )
)
_FIND_HELD = Statement(
    sa.select(run_variables.c.scope, run_variables.c.name, run_variables.c.value, run_variables.c.assumed).where(
        run_variables.c.owner_pk == b("owner_pk"),
        run_variables.c.scope == b("scope"),
        run_variables.c.workflow_id == b("workflow_id"),
        run_variables.c.name == b("name"),
    )
)
_HOLD = Statement(
    sa.text(
        "INSERT INTO run_variables (owner_pk, scope, workflow_id, name, value, assumed)"
        " VALUES (:owner_pk, :scope, :workflow_id, :name, :value, :assumed)"
        " ON CONFLICT (owner_pk, scope, workflow_id, name) DO UPDATE SET value = :value, assumed = :assumed"
    )
)
_PASS_ON = Statement(
    sa.text(
        "INSERT INTO run_variables (owner_pk, scope, workflow_id, name, value, assumed)"
        " SELECT :to_pk, scope, workflow_id, name, value, assumed FROM run_variables"
        " WHERE owner_pk = :from_pk AND scope = :scope"
    ).bindparams(b("to_pk", type_=sa.BigInteger), b("from_pk", type_=sa.BigInteger), b("scope", type_=sa.Text))
)
_WRITE_COLUMNS = [variable_writes.c[field.name] for field in fields(WriteRow)]
_NEW_WRITE = [field.name for field in fields(WriteRow) if field.name != "id"]
_ADD_WRITE = Statement(sa.insert(variable_writes).values({name: b(name) for name in _NEW_WRITE}))
_FIND_WRITE = Statement(sa.select(*_WRITE_COLUMNS).where(variable_writes.c.write_key == b("write_key_")))
_MOST, _SKIP = b("most", type_=sa.Integer), b("skip", type_=sa.Integer)
_HISTORY = Statement(
    sa.select(*_WRITE_COLUMNS)
    .where(
        variable_writes.c.workflow_id == b("of_workflow"),
        variable_writes.c.name == b("of_name"),
        variable_writes.c.simulated == sa.literal_column("0"),
    )
    .order_by(variable_writes.c.id.desc())
    .limit(_MOST)
    .offset(_SKIP)
)
_OF_RUN = Statement(
    sa.select(*_WRITE_COLUMNS)
    .where(variable_writes.c.run_pk == b("of_run"))
    .order_by(variable_writes.c.id)
    .limit(_MOST)
    .offset(_SKIP)
)


def list_variables(tx: Tx, workflow_id: str) -> list[VariableRow]:
    """Lists the declared or written variables of a workflow by name."""
    return [VariableRow(*row) for row in tx.all(_LIST, workflow_id=workflow_id)]


def find(tx: Tx, workflow_id: str, name: str) -> VariableRow | None:
    """Finds a variable of a workflow."""
    row = tx.one(_FIND, workflow_id=workflow_id, name=name)
    return VariableRow(*row) if row else None


def put(tx: Tx, row: VariableRow) -> None:
    """Inserts or replaces a variable."""
    tx.do(_PUT, **{field.name: getattr(row, field.name) for field in fields(row)})


def delete(tx: Tx, workflow_id: str, name: str) -> bool:
    """Deletes a variable; False if it did not exist."""
    return tx.run(_DELETE, workflow_id=workflow_id, name=name) == 1


def list_held(tx: Tx, owner_pk: int, scope: str, workflow_id: str) -> list[RunVariable]:
    """Lists the values within a run: its run variables, or a simulation's overlay."""
    return [RunVariable(*row) for row in tx.all(_LIST_HELD, owner_pk=owner_pk, scope=scope, workflow_id=workflow_id)]


def find_held(tx: Tx, owner_pk: int, scope: str, workflow_id: str, name: str) -> RunVariable | None:
    """Finds one value within a run."""
    row = tx.one(_FIND_HELD, owner_pk=owner_pk, scope=scope, workflow_id=workflow_id, name=name)
    return RunVariable(*row) if row else None


def hold(tx: Tx, owner_pk: int, workflow_id: str, held: RunVariable) -> None:
    """Stores a value within a run."""
    tx.do(
        _HOLD,
        owner_pk=owner_pk,
        scope=held.scope,
        workflow_id=workflow_id,
        name=held.name,
        value=held.value,
        assumed=int(held.assumed),
    )


def pass_on(tx: Tx, from_pk: int, to_pk: int) -> None:
    """Gives a run's own values to the run that retries it."""
    tx.do(_PASS_ON, from_pk=from_pk, to_pk=to_pk, scope=RUN)


def add_write(tx: Tx, write: WriteRow) -> None:
    """Adds a write to the history."""
    tx.do(_ADD_WRITE, **{name: getattr(write, name) for name in _NEW_WRITE})


def find_write(tx: Tx, write_key: str) -> WriteRow | None:
    """Finds the write that a node has already made."""
    row = tx.one(_FIND_WRITE, write_key_=write_key)
    return _write(row) if row else None


def _write(row: Any) -> WriteRow:
    return WriteRow(**dict(zip((field.name for field in fields(WriteRow)), row, strict=True)))


def list_history(tx: Tx, workflow_id: str, name: str, limit: int, offset: int) -> list[WriteRow]:
    """Lists the writes of a variable that took effect, newest first."""
    found = tx.all(_HISTORY, of_workflow=workflow_id, of_name=name, most=limit, skip=offset)
    return [_write(row) for row in found]


def list_of_run(tx: Tx, run_pk: int, limit: int, offset: int) -> list[WriteRow]:
    """Lists the writes of a run, oldest first, including simulated ones."""
    return [_write(row) for row in tx.all(_OF_RUN, of_run=run_pk, most=limit, skip=offset)]
