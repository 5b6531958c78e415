"""Approvals: pending questions to people, and their decisions."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from dustrun import clock
from dustrun.core.values.exact_json import dumps_text, loads
from dustrun.errors import Code, Conflict, Forbidden, NotFound
from dustrun.log import mask_links
from dustrun.services.access import audit, idempotency
from dustrun.services.access.api_keys import need_good
from dustrun.services.access.hands import administers, is_one_hand
from dustrun.services.access.paging import Page, Paging, page_of
from dustrun.services.access.principal import Principal
from dustrun.services.runs.engine_port import Engine, RunFacts
from dustrun.services.runs.launching.decision import Decision, check_binding
from dustrun.services.runs.launching.launches import Launches
from dustrun.storage.access import keys as key_rows
from dustrun.storage.access import organizations
from dustrun.storage.db.database import Database
from dustrun.storage.db.statement import Tx
from dustrun.storage.db.writer import Writer
from dustrun.storage.runs import approvals as rows
from dustrun.storage.runs import runs as run_rows
from dustrun.storage.runs.approvals import APPROVED, PENDING, REJECTED, ApprovalRow
from dustrun.storage.runs.waits import is_answered

__all__ = [
    "APPROVED",
    "REJECTED",
    "Approvals",
    "check_other_hand",
    "decision_data",
    "id_of",
    "may_decide",
    "new_row",
    "votes_of",
]


_LONE = "An organisation of one person can allow it: PATCH /v1/organizations/{id} with singlePersonApproves true."


def id_of(org_id: str, run_pk: int, path: str, attempt: int) -> str:
    """The id of the question that an attempt of a node asks."""
    digest = hashlib.sha256(f"{org_id}\n{run_pk}\n{path}\n{attempt}".encode()).hexdigest()
    return f"apr_{digest[:26]}"


def new_row(
    facts: RunFacts,
    path: str,
    attempt: int,
    message: str,
    approvers: Sequence[str],
    at: int,
    until: int,
    barred_key: str | None,
) -> ApprovalRow:
    """A pending approval of an `approve` node, not to be decided with `barred_key` unless `approvers` names it."""
    return ApprovalRow(
        id=id_of(facts.org_id, facts.pk, path, attempt),
        org_id=facts.org_id,
        run_pk=facts.pk,
        run_id=facts.id,
        workflow_id=facts.workflow_id,
        workflow_name=facts.workflow_name,
        path=path,
        message=mask_links(message),
        approvers=dumps_text(list(approvers)),
        mode=facts.mode.value,
        status=PENDING,
        created_at=at,
        expires_at=until,
        barred_key=None if barred_key in approvers else barred_key,
    )


def decision_data(decision: str, comment: str | None, by: str, at: int) -> str:
    """A decision as the waiting node reads it."""
    return dumps_text({"data": {"decision": decision, "comment": comment}, "by": by, "at": at})


def may_decide(row: ApprovalRow, key_id: str) -> bool:
    """Whether the node's list of approvers lets a key decide."""
    approvers: list[Any] = loads(row.approvers)
    return not approvers or key_id in approvers


def votes_of(row: ApprovalRow) -> list[dict[str, Any]]:
    """The approvals of a question that needs several: `{by, at, comment}`, oldest first."""
    found: list[dict[str, Any]] = loads(row.votes or "[]")
    return found


def check_other_hand(tx: Tx, principal: Principal, row: ApprovalRow) -> bool:
    """Who starts a run must not approve what it asks, unless the `approve` node says so: not with the same key, nor
    with one of the same hand. A key that an `approve` node names decides. Whether it is their own run, which an
    organisation of one person allows (`singlePersonApproves`)."""
    starter, approvers = row.barred_key, loads(row.approvers)
    if starter is None or (row.binding is None and principal.key_id in approvers):
        return False
    is_same_key = principal.key_id == starter
    if not is_same_key and not is_one_hand(tx, principal.org_id, principal.key_id, starter):
        return False
    if is_single_person(tx, principal):
        return True
    mend = "; another one must" if row.binding is not None else ", unless the node has allowStarter; another one must"
    if is_same_key:
        raise Forbidden(f"The key that started the run cannot approve what the run asks{mend}. {_LONE}")
    raise Forbidden(
        "This key and the one that started the run are one hand: one made the other, or both come from a key that "
        f"is no administrator. It cannot approve what the run asks{mend}."
    )


def is_single_person(tx: Tx, principal: Principal) -> bool:
    """Whether the organisation has one person, who may approve what their own runs ask, and this key is theirs: it
    administers the organisation."""
    org, key = organizations.find(tx, principal.org_id), key_rows.find(tx, principal.org_id, principal.key_id)
    return org is not None and bool(org.single_person) and key is not None and administers(key)


def _check_votes(tx: Tx, principal: Principal, row: ApprovalRow) -> None:
    """Whoever approves must be another hand than those that have approved."""
    for one in votes_of(row):
        if is_one_hand(tx, principal.org_id, principal.key_id, one["by"]):
            raise Forbidden(f'This key and "{one["by"]}", which has approved it, are one hand; another must approve.')


def _get(tx: Tx, principal: Principal, approval_id: str) -> ApprovalRow:
    row = rows.find(tx, principal.org_id, approval_id)
    if row is None or not principal.may_use_workflow(row.workflow_id):
        raise NotFound(f'There is no approval "{approval_id}".', code=Code.APPROVAL_UNKNOWN)
    return row


class Approvals:
    """Lists and decides approvals."""

    def __init__(self, database: Database, writer: Writer, engine: Engine, launches: Launches) -> None:
        self._database = database
        self._writer = writer
        self._engine = engine
        self._launches = launches

    async def list_page(self, principal: Principal, statuses: Sequence[str], paging: Paging) -> Page[ApprovalRow]:
        """The organisation's approvals, newest first."""
        found = await self._database.read(
            lambda tx: rows.list_page(
                tx, principal.org_id, statuses, paging.peek, paging.offset, only=principal.workflow_ids
            )
        )
        return page_of(found, paging)

    async def get(self, principal: Principal, approval_id: str) -> ApprovalRow:
        """One approval."""
        return await self._database.read(lambda tx: _get(tx, principal, approval_id))

    async def decide(
        self, principal: Principal, approval_id: str, decision: str, comment: str | None, binding: str | None = None
    ) -> ApprovalRow:
        """Records a person's decision and wakes the run, or starts it. `binding`: what the person has looked at."""
        asked = await self.get(principal, approval_id)
        if asked.launch is not None:
            return await self._launches.decide(principal, asked, Decision(decision, comment, binding))

        def unit(tx: Tx) -> ApprovalRow:
            need_good(tx, principal)
            row = _get(tx, principal, approval_id)
            check_binding(row, binding, is_needed=False)
            if not may_decide(row, principal.key_id):
                raise Forbidden("The node names who may decide, and this key is not among them.")
            now = clock.now_ms()
            is_spend = row.binding is not None
            wallet_id = rows.find_wallet(tx, row) if is_spend else None
            if wallet_id is not None and not principal.may_use_wallet(wallet_id):
                raise Forbidden(f'The key is limited to some wallets (walletIds); it decides nothing of "{wallet_id}".')
            is_own = check_other_hand(tx, principal, row)
            is_open = row.status == PENDING and now < row.expires_at and run_rows.goes_on(tx, row.run_pk)
            if not is_spend:
                is_open = row.status == PENDING and not is_answered(tx, row.run_pk, row.path)
            about = {"runId": row.run_id, "path": row.path, **({"ownRun": True} if is_own else {})}
            if is_open and decision == APPROVED and row.quorum is not None:
                _check_votes(tx, principal, row)
                votes = [*votes_of(row), {"by": principal.key_id, "at": now, "comment": comment}]
                is_open = rows.vote(tx, row.id, row.votes, dumps_text(votes))
                if is_open and len(votes) < row.quorum:
                    audit.record(tx, principal, "approval.vote", row.id, votes=len(votes), quorum=row.quorum, **about)
                    return _get(tx, principal, approval_id)
            if not is_open or not rows.close(tx, row.id, decision, now, principal.key_id, comment):
                shown = rows.find(tx, principal.org_id, approval_id)
                assert shown is not None
                message = f'The approval is no longer open (it is "{shown.status}").'
                raise Conflict(message, code=Code.APPROVAL_DECIDED)
            data = decision_data(decision, comment, principal.key_id, now)
            run_rows.add_signal(tx, row.run_pk, "transaction" if is_spend else "resume", row.path, data, now)
            audit.record(tx, principal, f"approval.{decision}", row.id, **about)
            decided = rows.find(tx, principal.org_id, approval_id)
            assert decided is not None
            return decided

        return await idempotency.write(self._writer, unit, lambda row: self._engine.wake(row.run_pk))
