"""What is decided in the transaction that starts a launched run: the question is closed there, or there is no run."""

from __future__ import annotations

import hmac
from typing import Any

from dustrun import clock
from dustrun.core.run.state import Mode
from dustrun.core.values.exact_json import loads
from dustrun.errors import Code, Conflict, Forbidden, Invalid, NotFound, Problem
from dustrun.records import dataclass
from dustrun.services.access import audit
from dustrun.services.access.api_keys import need_good
from dustrun.services.access.hands import is_one_hand
from dustrun.services.access.principal import Principal
from dustrun.services.runs.engine_port import Created
from dustrun.services.runs.launching import matching
from dustrun.services.workflows.closure import Closure, Lookup, version_called
from dustrun.services.workflows.spend_gate import SpendGate
from dustrun.storage.db.statement import Tx
from dustrun.storage.runs import approvals as rows
from dustrun.storage.runs import rehearsals
from dustrun.storage.runs import runs as run_rows
from dustrun.storage.runs.approvals import APPROVED, PENDING, ApprovalRow
from dustrun.storage.runs.runs import RunRow


@dataclass(frozen=True, slots=True)
class Decision:
    """A person's decision; `binding` says what they have looked at."""

    outcome: str
    comment: str | None = None
    binding: str | None = None


@dataclass(frozen=True, slots=True)
class Begun:
    """A launch without a question: its run."""

    created: Created | None


@dataclass(frozen=True, slots=True)
class Decided:
    """An approved launch: its run, and the closed question."""

    created: Created | None
    row: ApprovalRow


class Reach:
    """Whether what a version reaches is still what its rehearsal ran."""

    def __init__(self, gate: SpendGate) -> None:
        self._gate = gate
        self.slicing = gate.slicing

    def check(self, tx: Tx, principal: Principal, rehearsal: RunRow, mode: Mode) -> str:
        """The digest of all that the version can run now. Raises `Conflict` when a called workflow has changed since
        the rehearsal, or when the version may not run in that mode."""
        assert rehearsal.workflow_id is not None
        assert rehearsal.version is not None
        lookup = Lookup(tx, rehearsal.org_id, principal)
        workflow = lookup.find(rehearsal.workflow_id)
        closure = self._gate.closures.resolve(lookup, workflow, rehearsal.version) if workflow is not None else None
        if workflow is None or closure is None:
            raise NotFound(f"The workflow has no version {rehearsal.version}.", code=Code.VERSION_UNKNOWN)
        if workflow.status == "archived":
            raise matching.mismatch(rehearsal.id, [Problem("workflowId", "the workflow is archived now")])
        moved = [one for one in rehearsals.list_called(tx, rehearsal.pk) if not _runs_now(lookup, closure, one)]
        if moved or (rehearsal.closure is not None and rehearsal.closure != closure.digest):
            named = [f' ("{one.workflow_id}")' for one in moved if principal.may_use_workflow(one.workflow_id)]
            message = f"a workflow that it calls has changed since{''.join(named[:1])}"
            raise matching.mismatch(rehearsal.id, [Problem("version", message)])
        self._gate.admit(lookup, mode, workflow, rehearsal.version)
        return closure.digest


def _runs_now(lookup: Lookup, closure: Closure, ran: rehearsals.PassedRun) -> bool:
    """Whether the same call would run the same version now."""
    if any(member.key == (ran.workflow_id, ran.version) for member in closure.members):
        return True
    row = lookup.find(ran.workflow_id) if closure.calls_any and ran.workflow_id is not None else None
    return row is not None and version_called(row) == ran.version


@dataclass(slots=True)
class Direct:
    """Starts a run without a question, if the rehearsal serves no other launch."""

    rehearsal: RunRow

    def before(self, tx: Tx) -> None:
        """Raises `Conflict` if it does."""
        org_id = self.rehearsal.org_id
        asked = rows.find(tx, org_id, matching.approval_id_of(org_id, self.rehearsal.pk))
        if asked is not None or run_rows.find_launched(tx, org_id, self.rehearsal.id) is not None:
            raise matching.mismatch(self.rehearsal.id, [Problem("rehearsalRunId", "it was used for a launch already")])

    def after(self, tx: Tx, created: Created) -> Begun:
        """Nothing more."""
        return Begun(created)


@dataclass(slots=True)
class Deciding:
    """Closes the question in the transaction that creates the run."""

    principal: Principal
    row: ApprovalRow
    decision: Decision
    reach: Reach
    decided: ApprovalRow | None = None

    def before(self, tx: Tx) -> None:
        """Approves; raises unless this key may, the question is open, and nothing has changed since it was asked."""
        self._check_binding()
        self._check_other_hand(tx)
        rehearsal = run_rows.get(tx, self.row.run_pk)
        launch: dict[str, Any] = loads(self.row.launch or "{}")
        if self.reach.check(tx, self.principal, rehearsal, Mode(self.row.mode)) != launch["closure"]:
            raise matching.mismatch(rehearsal.id, [Problem("version", "a workflow that it calls has changed since")])
        self.decided = self.close(tx)

    def after(self, tx: Tx, created: Created) -> Decided:
        """The run and the question."""
        assert self.decided is not None
        return Decided(created, self.decided)

    def close(self, tx: Tx) -> ApprovalRow:
        """Closes the question; raises `Conflict` if it is not open."""
        need_good(tx, self.principal)
        row, now = self.row, clock.now_ms()
        known = rows.find(tx, row.org_id, row.id)
        status = known.status if known is not None else "cancelled"
        outcome, comment, key_id = self.decision.outcome, self.decision.comment, self.principal.key_id
        if status != PENDING or not rows.close(tx, row.id, outcome, now, key_id, comment):
            raise Conflict(f'The approval is no longer open (it is "{status}").', code=Code.APPROVAL_DECIDED)
        launch: dict[str, Any] = loads(row.launch or "{}")
        run_id = launch["runId"] if outcome == APPROVED else None
        audit.record(tx, self.principal, f"approval.{outcome}", row.id, runId=run_id, rehearsalRunId=row.run_id)
        found = rows.find(tx, row.org_id, row.id)
        assert found is not None
        return found

    def _check_binding(self) -> None:
        check_binding(self.row, self.decision.binding, is_needed=True)

    def _check_other_hand(self, tx: Tx) -> None:
        """Who proposed a launch does not approve it: not with the same key, nor with one of the same hand."""
        barred = self.row.barred_key
        if barred is not None and is_one_hand(tx, self.row.org_id, self.principal.key_id, barred):
            raise Forbidden(
                "The key that proposed the launch cannot approve it, nor can one that it made, or that comes from the "
                "same key; another one must."
            )


def check_binding(row: ApprovalRow, given: str | None, *, is_needed: bool) -> None:
    """Raises unless the decision is about what the question is about."""
    if given is None and not is_needed:
        return
    if given is None:
        message = "An approval of a launch names what was looked at: send the approval's `binding`."
        raise Invalid(message, details=[Problem("binding", "is missing; GET /v1/approvals/{id} shows it")])
    if row.binding is None or not hmac.compare_digest(given.encode(), row.binding.encode()):
        raise Conflict(
            "The binding is not that of this approval. Look at the approval again, and decide about what it shows.",
            code=Code.BINDING_MISMATCH,
            details=[Problem("binding", "is not the approval's")],
        )
