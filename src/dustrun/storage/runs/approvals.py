"""Rows of approvals: requests for a person's decision."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import fields, replace
from functools import lru_cache

import sqlalchemy as sa
from sqlalchemy import bindparam as b

from dustrun import clock
from dustrun.records import dataclass
from dustrun.storage.db import facts
from dustrun.storage.db.ledger_tables import signatures, transactions
from dustrun.storage.db.statement import Statement, Tx, count_of, is_one_of, numbered
from dustrun.storage.db.tables import approvals, runs
from dustrun.storage.db.tables import facts as fact_table

PENDING, APPROVED, REJECTED, TIMED_OUT = "pending", "approved", "rejected", "timed_out"


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalRow:
    """One approval and its outcome; `approvers` is a JSON list.

    For a spend and a launch, `binding` is the hash of what is approved. `barred_key` is the key that may not decide.
    `launch`: of a launch, JSON; its `run_pk` and `run_id` are those of the rehearsal. `quorum`: how many hands must
    approve it; `votes`: JSON of those that have, `[{by, at, comment, lapsed}]`; `lapsed`, if
    there: its key had ended as another one voted. `parts`: JSON of the bindings of transactions that are approved
    together."""

    id: str
    org_id: str
    run_pk: int
    run_id: str
    workflow_id: str | None
    workflow_name: str
    path: str
    message: str
    approvers: str
    mode: str
    status: str
    created_at: int
    expires_at: int
    decided_at: int | None = None
    decided_by: str | None = None
    comment: str | None = None
    binding: str | None = None
    barred_key: str | None = None
    launch: str | None = None
    quorum: int | None = None
    votes: str | None = None
    parts: str | None = None


_NAMES = [field.name for field in fields(ApprovalRow)]
_COLUMNS = [approvals.c[name] for name in _NAMES]
_OPEN = Statement(
    sa.text(
        f"INSERT INTO approvals ({', '.join(_NAMES)}) VALUES ({', '.join(':' + name for name in _NAMES)})"  # noqa: S608 - names of ours
        " ON CONFLICT (id) DO NOTHING"
    )
)
_CLOSE = Statement(
    sa.update(approvals)
    .where(approvals.c.id == b("the_id"), approvals.c.status == PENDING)
    .values(
        status=b("to_status"),
        decided_at=b("to_decided_at", type_=sa.BigInteger),
        decided_by=b("to_decided_by"),
        comment=b("to_comment"),
    )
)
_TELL_CLOSED = Statement(
    sa.insert(fact_table).from_select(
        ["org_id", "kind", "subject_id", "what", "place", "at"],
        sa.select(
            approvals.c.org_id,
            sa.literal_column("'approval'"),
            approvals.c.id,
            approvals.c.status,
            sa.literal_column("''"),
            approvals.c.decided_at,
        ).where(approvals.c.id == b("the_id")),
    )
)
_VOTE = Statement(
    sa.update(approvals)
    .where(
        approvals.c.id == b("the_id"),
        approvals.c.status == PENDING,
        sa.func.coalesce(approvals.c.votes, "") == b("before"),
    )
    .values(votes=b("new_votes"))
)
_RAISE = Statement(
    sa.update(approvals)
    .where(approvals.c.id == b("the_id"), approvals.c.status == PENDING)
    .values(quorum=b("new_quorum"))
)
_APPROVED_AT = Statement(
    sa.select(*_COLUMNS)
    .where(
        approvals.c.run_pk == b("run_pk"),
        approvals.c.path == b("at_path"),
        approvals.c.status == APPROVED,
        approvals.c.binding.is_(None),
    )
    .order_by(approvals.c.decided_at.desc())
    .limit(1)
)
_SPENDS_AT = Statement(
    sa.select(*_COLUMNS).where(
        approvals.c.org_id == b("org_id"),
        approvals.c.run_pk == b("run_pk"),
        approvals.c.path == b("at_path"),
        approvals.c.binding.is_not(None),
    )
)
_FIND = Statement(sa.select(*_COLUMNS).where(approvals.c.org_id == b("org_id"), approvals.c.id == b("the_id")))

_SUBJECTS = [
    Statement(
        sa.select(table.c.wallet_id, table.c.id, table.c.item, table.c.chain_id)
        .where(table.c.run_pk == b("run_pk"), table.c.approval_id == b("the_id"))
        .order_by(table.c.id)
        .limit(1)
    )
    for table in (transactions, signatures)
]
_AT_ONCE = 20
_VERDICTS = [
    Statement(
        sa.select(table.c.approval_id, table.c.verdict).where(
            table.c.id.in_(
                sa.select(sa.func.min(table.c.id))
                .where(
                    table.c.run_pk.in_([b(f"run_{at}", type_=sa.BigInteger) for at in range(_AT_ONCE)]),
                    table.c.approval_id.in_([b(f"id_{at}") for at in range(_AT_ONCE)]),
                    table.c.verdict.is_not(None),
                )
                .group_by(table.c.approval_id)
            )
        )
    )
    for table in (transactions, signatures)
]


def _row(values: Sequence[object]) -> ApprovalRow:
    row = ApprovalRow(**dict(zip(_NAMES, values, strict=True)))  # type: ignore[arg-type]
    is_over = row.launch is not None and row.status == PENDING and row.expires_at <= clock.now_ms()
    return replace(row, status=TIMED_OUT) if is_over else row  # no run waits for a launch, so nothing closes it


def add(tx: Tx, row: ApprovalRow) -> None:
    """Inserts an approval; idempotent."""
    if tx.run(_OPEN, **{name: getattr(row, name) for name in _NAMES}):
        facts.add(tx, row.org_id, "approval", row.id, "asked", row.created_at)


def close(tx: Tx, approval_id: str, status: str, at: int, by: str | None = None, comment: str | None = None) -> bool:
    """Closes a pending approval with its outcome; False if it was not pending."""
    outcome = {"to_status": status, "to_decided_at": at, "to_decided_by": by, "to_comment": comment}
    if tx.run(_CLOSE, the_id=approval_id, **outcome) != 1:
        return False
    tx.do(_TELL_CLOSED, the_id=approval_id)
    return True


def vote(tx: Tx, approval_id: str, before: str | None, votes: str) -> bool:
    """Stores the approvals of a pending question; False if it was closed, or approved by another key meanwhile."""
    return tx.run(_VOTE, the_id=approval_id, before=before or "", new_votes=votes) == 1


def raise_quorum(tx: Tx, approval_id: str, quorum: int) -> None:
    """Changes how many hands must approve a pending question."""
    tx.do(_RAISE, the_id=approval_id, new_quorum=quorum)


def find(tx: Tx, org_id: str, approval_id: str) -> ApprovalRow | None:
    """Finds an approval of the organisation."""
    row = tx.one(_FIND, org_id=org_id, the_id=approval_id)
    return _row(row) if row else None


def find_approved(tx: Tx, run_pk: int, path: str) -> ApprovalRow | None:
    """Finds what was approved at an `approve` node of a run, the newest."""
    row = tx.one(_APPROVED_AT, run_pk=run_pk, at_path=path)
    return _row(row) if row else None


def list_spends_at(tx: Tx, org_id: str, run_pk: int, path: str) -> list[ApprovalRow]:
    """Lists the questions about spends that were asked at a path of a run."""
    return [_row(row) for row in tx.all(_SPENDS_AT, org_id=org_id, run_pk=run_pk, at_path=path)]


@dataclass(frozen=True, slots=True)
class ApprovalSubject:
    """The subject of a spend's approval, of several the first. `name`: of its id in events."""

    name: str
    wallet_id: str
    id: str
    item: str
    chain_id: int | None


def find_subject(tx: Tx, row: ApprovalRow) -> ApprovalSubject | None:
    """Finds what a spend's approval is about."""
    for name, statement in zip(("transactionId", "signatureId"), _SUBJECTS, strict=True):
        found = tx.one(statement, run_pk=row.run_pk, the_id=row.id)
        if found is not None:
            return ApprovalSubject(name, *found)
    return None


def list_page(
    tx: Tx,
    org_id: str,
    statuses: Sequence[str],
    limit: int,
    offset: int,
    *,
    run_id: str | None = None,
    only: Collection[str] | None = None,
) -> list[ApprovalRow]:
    """Lists approvals, newest first, of one run or of all; `only` limits them to some workflows."""
    statement = _page(tuple(sorted(set(statuses))), count_of(only), run_id is not None)
    values = {"org_id": org_id, "most": limit, "skip": offset, **numbered("workflow", only)}
    if statuses:
        values["now"] = clock.now_ms()
    if run_id is not None:
        values["of_run"] = run_id
    return [_row(row) for row in tx.all(statement, **values)]


@lru_cache(maxsize=256)
def _page(statuses: tuple[str, ...], workflows: int | None, is_of_run: bool) -> Statement:
    """The statement of a page; a caller asks again and again with the same filters."""
    reached = is_one_of(approvals.c.workflow_id, "workflow", workflows)
    query = sa.select(*_COLUMNS).where(approvals.c.org_id == b("org_id"), *reached)
    if is_of_run:
        pk = sa.select(runs.c.pk).where(runs.c.org_id == b("org_id"), runs.c.id == b("of_run"))
        query = query.where(approvals.c.run_pk == pk.scalar_subquery())
    if statuses:
        has_ended = approvals.c.expires_at <= b("now", type_=sa.BigInteger)
        is_over = sa.and_(approvals.c.launch.is_not(None), approvals.c.status == PENDING, has_ended)
        status = sa.case((is_over, TIMED_OUT), else_=approvals.c.status)
        stored = {PENDING, *statuses} if TIMED_OUT in statuses else statuses  # so that the index serves
        query = query.where(approvals.c.status.in_(_literals(stored)), status.in_(_literals(statuses)))
    newest = query.order_by(approvals.c.created_at.desc(), approvals.c.id.desc())
    return Statement(newest.limit(b("most", type_=sa.Integer)).offset(b("skip", type_=sa.Integer)))


def _literals(texts: Collection[str]) -> list[sa.ColumnElement[str]]:
    return [sa.literal(one) for one in sorted(texts)]  # a plain list is expanded at each call


def list_verdicts(tx: Tx, asked: Sequence[ApprovalRow]) -> dict[str, str]:
    """By id of the questions about spends, the verdict of the first transaction or signature that each is about."""
    found = {}
    for start in range(0, len(asked), _AT_ONCE):
        some = asked[start : start + _AT_ONCE]
        some = [*some, *[some[0]] * (_AT_ONCE - len(some))]
        ids = {f"id_{at}": one.id for at, one in enumerate(some)}
        runs = {f"run_{at}": one.run_pk for at, one in enumerate(some)}
        for statement in _VERDICTS:
            found.update({str(row[0]): str(row[1]) for row in tx.all(statement, **ids, **runs)})
    return found
