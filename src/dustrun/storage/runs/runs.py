"""Rows of runs: creating them, taking them over, reading them."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy import bindparam as b

from dustrun.records import dataclass
from dustrun.storage.db.ledger_tables import wallets
from dustrun.storage.db.statement import Insertion, Row, Statement, Tx
from dustrun.storage.db.tables import message_runs, messages, run_is_open, run_signals, runs, workflows
from dustrun.storage.runs.large_values import MARK, StoredValues

_OPEN = ("running", "waiting")
_IS_OPEN = sa.or_(runs.c.status == "running", runs.c.status == "waiting")


@dataclass(frozen=True, slots=True)
class RunRow:
    """One run as stored; JSON columns are text, times milliseconds."""

    pk: int
    id: str
    org_id: str
    workflow_id: str | None
    workflow_name: str
    version: int | None
    definition: str | None
    mode: str
    status: str
    trigger_node_id: str
    trigger_source: str
    triggered_by: str
    payload: str
    prop_values: str
    chat_message_id: str | None
    source_run_id: str | None
    root_run_id: str
    concurrency_key: str | None
    fence: int
    last_seq: int
    started_at: int
    finished_at: int | None
    wake_at: int | None
    cancel_requested_at: int | None
    passed: int | None
    nodes_executed: int
    error: str | None
    summary: str | None = None
    parent_pk: int | None = None
    parent_run_id: str | None = None
    parent_path: str | None = None
    callers: str | None = None
    trace: str | None = None
    closure: str | None = None
    as_of: str | None = None
    rehearsal_run_id: str | None = None
    claimed_by: str | None = None


_COLUMNS = [runs.c[field.name] for field in fields(RunRow)]
_NEW = [field.name for field in fields(RunRow) if field.name not in ("pk", "wake_at")]

_NEW_ROW = (
    f"INSERT INTO runs ({', '.join(_NEW)}) VALUES ({', '.join(':' + name for name in _NEW)})"  # noqa: S608 - names of ours
    " ON CONFLICT (org_id, id) DO NOTHING"
)
_INSERT = Insertion(sa.text(_NEW_ROW), sa.text(f"{_NEW_ROW} RETURNING pk"))
_FIND = Statement(sa.select(*_COLUMNS).where(runs.c.org_id == b("org_id"), runs.c.id == b("id_")))
_GET = Statement(sa.select(*_COLUMNS).where(runs.c.pk == b("the_pk")))
_KEY_OF = Statement(
    sa.select(runs.c.pk, runs.c.status, runs.c.last_seq, runs.c.workflow_id).where(
        runs.c.org_id == b("org_id"), runs.c.id == b("id_")
    )
)
_TAKE_UP = Statement(
    sa.update(runs).where(runs.c.pk == b("the_pk"), run_is_open).values(fence=runs.c.fence + 1).returning(runs.c.fence)
)
_HOLDS = Statement(sa.select(runs.c.pk).where(runs.c.pk == b("the_pk"), runs.c.fence == b("the_fence"), _IS_OPEN))
_GOES_ON = Statement(
    sa.select(runs.c.pk).where(runs.c.pk == b("the_pk"), _IS_OPEN, runs.c.cancel_requested_at.is_(None))
)
_LIST_OPEN = Statement(
    sa.select(
        runs.c.pk,
        runs.c.id,
        runs.c.org_id,
        runs.c.workflow_id,
        runs.c.concurrency_key,
        runs.c.status,
        runs.c.wake_at,
        runs.c.cancel_requested_at,
        workflows.c.concurrency,
        sa.exists().where(run_signals.c.run_pk == runs.c.pk),
    )
    .select_from(runs.outerjoin(workflows, workflows.c.id == runs.c.workflow_id))
    .where(_IS_OPEN)
    .order_by(runs.c.pk)
)
_LIST_OPEN_OF = Statement(
    sa.select(runs.c.pk)
    .where(_IS_OPEN, runs.c.workflow_id == b("workflow_id"), runs.c.concurrency_key == b("key"))
    .order_by(runs.c.pk)
)
_REQUEST_CANCEL = Statement(
    sa.update(runs)
    .where(runs.c.pk == b("the_pk"), run_is_open)
    .values(cancel_requested_at=sa.func.coalesce(runs.c.cancel_requested_at, b("now", type_=sa.BigInteger)))
)
_ADD_SIGNAL = Statement(
    sa.insert(run_signals).values(
        run_pk=b("run_pk"), kind=b("kind"), path=b("path"), data=b("data"), at=b("at", type_=sa.BigInteger)
    )
)
_LIST_SIGNALS = Statement(
    sa.select(run_signals.c.id, run_signals.c.kind, run_signals.c.path, run_signals.c.data)
    .where(run_signals.c.run_pk == b("run_pk"))
    .order_by(run_signals.c.id)
)
_OWNER = Statement(sa.select(workflows.c.owner).where(workflows.c.id == b("workflow_id")))
_MESSAGE_EXISTS = Statement(sa.select(messages.c.id).where(messages.c.org_id == b("org_id"), messages.c.id == b("id_")))
_LINK_MESSAGE = Statement(sa.insert(message_runs).values(message_id=b("message_id"), run_pk=b("run_pk")))
_OPEN_CHAIN = Statement(
    sa.select(sa.func.count()).where(runs.c.org_id == b("org_id"), runs.c.root_run_id == b("root"), _IS_OPEN)
)
_LIST_PASSED = Statement(
    sa.select(*_COLUMNS)
    .where(
        runs.c.workflow_id == b("workflow_id"),
        runs.c.version == b("version"),
        runs.c.mode == b("mode"),
        runs.c.passed == 1,
    )
    .order_by(runs.c.pk.desc())
    .limit(200)
)
_FIND_LAUNCHED = Statement(
    sa.select(*_COLUMNS)
    .where(
        runs.c.org_id == b("org_id"),
        runs.c.rehearsal_run_id == b("id_"),
        runs.c.rehearsal_run_id.is_not(None),  # so that SQLite uses the partial index
        runs.c.source_run_id.is_(None),
    )
    .limit(1)
)
_FIND_CALLED = Statement(
    sa.select(*_COLUMNS)
    .where(runs.c.parent_pk == b("the_pk"), runs.c.parent_path == b("the_path"))
    .order_by(runs.c.pk.desc())
    .limit(1)
)
_NEWEST_PK = Statement(sa.select(sa.func.coalesce(sa.func.max(runs.c.pk), 0)))
_DEFAULT_WALLET = Statement(sa.select(wallets.c.id).where(wallets.c.org_id == b("org_id"), wallets.c.is_default == 1))


@dataclass(frozen=True, slots=True)
class OpenRun:
    """The facts that recovery needs about an unfinished run; `concurrency` is its workflow's setting as JSON."""

    pk: int
    id: str
    org_id: str
    workflow_id: str | None
    concurrency_key: str | None
    status: str
    wake_at: int | None
    cancel_requested_at: int | None
    concurrency: str | None
    has_signals: bool


@dataclass(frozen=True, slots=True)
class Signal:
    """An answer for a waiting node that the node has not consumed yet."""

    id: int
    kind: str
    path: str
    data: str


def insert(tx: Tx, values: dict[str, Any]) -> int | None:
    """Inserts a run; returns None if its id is already used in the organisation."""
    return tx.insert(_INSERT, **values)


def newest_pk(tx: Tx) -> int:
    """The row id of the newest run; 0 if there is none."""
    row = tx.one(_NEWEST_PK)
    assert row is not None
    return int(row[0])


def run_of(tx: Tx, row: Row) -> RunRow:
    """Converts a row with the columns of `RunRow`."""
    run = RunRow(*row)
    if MARK in run.payload:
        return replace(run, payload=StoredValues(tx, run.pk).whole(run.payload))
    return run


def find(tx: Tx, org_id: str, run_id: str) -> RunRow | None:
    """Finds a run by its public id."""
    row = tx.one(_FIND, org_id=org_id, id_=run_id)
    return run_of(tx, row) if row else None


def find_as_stored(tx: Tx, org_id: str, run_id: str) -> RunRow | None:
    """The same, with a payload for `StoredValues`."""
    row = tx.one(_FIND, org_id=org_id, id_=run_id)
    return RunRow(*row) if row else None


def find_launched(tx: Tx, org_id: str, rehearsal_run_id: str) -> RunRow | None:
    """Finds the run that was started as a rehearsal showed it."""
    row = tx.one(_FIND_LAUNCHED, org_id=org_id, id_=rehearsal_run_id)
    return run_of(tx, row) if row else None


def find_key(tx: Tx, org_id: str, run_id: str) -> tuple[int, str, int, str | None] | None:
    """(row id, status, newest sequence number, workflow) of a run."""
    row = tx.one(_KEY_OF, org_id=org_id, id_=run_id)
    return (row[0], row[1], row[2], row[3]) if row else None


def get(tx: Tx, run_pk: int) -> RunRow:
    """Reads a run that must exist."""
    row = find_by_pk(tx, run_pk)
    assert row is not None
    return row


def find_by_pk(tx: Tx, run_pk: int) -> RunRow | None:
    """Finds a run that may have been deleted."""
    row = tx.one(_GET, the_pk=run_pk)
    return run_of(tx, row) if row else None


def take_up(tx: Tx, run_pk: int) -> int | None:
    """Takes over an open run and returns its new fence; holders of an older fence can no longer write. None if it has
    ended.
    """
    row = tx.one(_TAKE_UP, the_pk=run_pk)
    return int(row[0]) if row else None


def holds(tx: Tx, run_pk: int, fence: int) -> bool:
    """Whether a fence is still current and the run has not ended."""
    return tx.one(_HOLDS, the_pk=run_pk, the_fence=fence) is not None


def goes_on(tx: Tx, run_pk: int) -> bool:
    """Whether a run is open and not being cancelled; only then may it start anything."""
    return tx.one(_GOES_ON, the_pk=run_pk) is not None


def list_open(tx: Tx) -> list[OpenRun]:
    """Lists every run that has not ended, oldest first."""
    return [OpenRun(*row) for row in tx.all(_LIST_OPEN)]


def list_open_of(tx: Tx, workflow_id: str, concurrency_key: str) -> list[int]:
    """Row ids of a workflow's unfinished runs under a concurrency key, oldest first."""
    return [int(row[0]) for row in tx.all(_LIST_OPEN_OF, workflow_id=workflow_id, key=concurrency_key)]


def request_cancel(tx: Tx, run_pk: int, now: int) -> bool:
    """Records a request to cancel; False if the run has ended."""
    return tx.run(_REQUEST_CANCEL, the_pk=run_pk, now=now) == 1


def add_signal(tx: Tx, run_pk: int, kind: str, path: str, data: str, now: int) -> None:
    """Inserts an answer for a waiting node."""
    tx.do(_ADD_SIGNAL, run_pk=run_pk, kind=kind, path=path, data=data, at=now)


def list_signals(tx: Tx, run_pk: int) -> list[Signal]:
    """Lists the answers that no node has consumed yet."""
    return [Signal(*row) for row in tx.all(_LIST_SIGNALS, run_pk=run_pk)]


def find_owner(tx: Tx, workflow_id: str | None) -> str | None:
    """The key that created a workflow; None for an inline run's."""
    row = tx.one(_OWNER, workflow_id=workflow_id) if workflow_id is not None else None
    return row[0] if row is not None else None


def has_message(tx: Tx, org_id: str, message_id: str) -> bool:
    """Whether the organisation has this chat message."""
    return tx.one(_MESSAGE_EXISTS, org_id=org_id, id_=message_id) is not None


def link_message(tx: Tx, message_id: str, run_pk: int) -> None:
    """Links a run to the message that started it."""
    tx.do(_LINK_MESSAGE, message_id=message_id, run_pk=run_pk)


def list_passed(tx: Tx, workflow_id: str, version: int, mode: str) -> list[RunRow]:
    """Lists the newest passed rehearsals of a version, at most 200."""
    return [run_of(tx, row) for row in tx.all(_LIST_PASSED, workflow_id=workflow_id, version=version, mode=mode)]


def find_called(tx: Tx, run_pk: int, path: str) -> RunRow | None:
    """Finds the newest run that a node of a run called."""
    row = tx.one(_FIND_CALLED, the_pk=run_pk, the_path=path)
    return run_of(tx, row) if row is not None else None


def find_default_wallet(tx: Tx, org_id: str) -> str | None:
    """The id of the default wallet, used by nodes that name none."""
    row = tx.one(_DEFAULT_WALLET, org_id=org_id)
    return row[0] if row else None


def chain_is_open(tx: Tx, org_id: str, root_run_id: str) -> bool:
    """Whether any run of a retry chain is still open."""
    row = tx.one(_OPEN_CHAIN, org_id=org_id, root=root_run_id)
    return bool(row and row[0])
