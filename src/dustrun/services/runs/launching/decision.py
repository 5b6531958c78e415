"""Decision on a launched run, in the transaction that starts it: the question is closed there, or there is no run."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator, Mapping
from dataclasses import field
from typing import Any, Final

from dustrun import clock
from dustrun.core.run.state import Mode
from dustrun.core.values.exact_json import dumps, loads
from dustrun.errors import Code, Conflict, Forbidden, Invalid, NotFound, Problem
from dustrun.records import dataclass
from dustrun.services.access import audit
from dustrun.services.access.api_keys import need_good
from dustrun.services.access.hands import is_one_hand, need_person
from dustrun.services.access.principal import Principal
from dustrun.services.runs.engine_port import CreatedRun
from dustrun.services.workflows.closure import Closure, Lookup, version_called
from dustrun.services.workflows.spend_gate import SpendGate
from dustrun.storage.db.statement import Tx
from dustrun.storage.runs import approvals as rows
from dustrun.storage.runs import rehearsals
from dustrun.storage.runs import runs as run_rows
from dustrun.storage.runs.approvals import APPROVED, PENDING, ApprovalRow
from dustrun.storage.runs.runs import RunRow

# Whether a rehearsal shows what a launch would do, and the hash that a decision is bound to. Pure.


OLDEST_MS: Final = 3_600_000
_DIGITS_OF_RUN = 40
_SIMULATE_AGAIN = "Simulate this version with this payload again, look at its report, then launch with that run."


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchRequest:
    """A run to start, and the simulation that showed it. `version` and payload are those that it ran with."""

    workflow_id: str
    version: int
    mode: Mode
    rehearsal_run_id: str
    payload: dict[str, Any] = field(default_factory=dict)
    prop_values: dict[str, Any] = field(default_factory=dict)
    chat_message_id: str | None = None


def check(asked: LaunchRequest, payload: Mapping[str, Any], rehearsal: RunRow, now: int) -> None:
    """Raises `Conflict` unless the run is a fresh passed simulation of just what is asked; `payload` is the asked one
    as the trigger accepts it."""
    found = list(_differences(asked, payload, rehearsal, now))
    if found:
        raise mismatch(rehearsal.id, found)


def mismatch(run_id: str, found: list[Problem]) -> Conflict:
    """The refusal of a launch whose rehearsal does not show what it would do."""
    return Conflict(
        f'"{run_id}" is no matching rehearsal: {found[0].message}. {_SIMULATE_AGAIN}',
        code=Code.REHEARSAL_MISMATCH,
        details=found,
    )


def _differences(asked: LaunchRequest, payload: Mapping[str, Any], run: RunRow, now: int) -> Iterator[Problem]:
    if run.workflow_id != asked.workflow_id:
        yield Problem("workflowId", "the run is of another workflow")
    elif run.version != asked.version:
        yield Problem("version", f"the run is of version {run.version}")
    if run.mode != Mode.SIMULATE.value:
        yield Problem("rehearsalRunId", f'the run\'s mode is "{run.mode}", not "{Mode.SIMULATE}"')
    elif run.as_of is not None or run.parent_run_id is not None or run.source_run_id is not None:
        yield Problem("rehearsalRunId", "a back-test, a called run and a retry are no rehearsal of a launch")
    elif not run.passed:
        yield Problem("rehearsalRunId", "the run has not passed" if run.finished_at else "the run has not ended")
    if not _is_same(loads(run.payload), payload):
        yield Problem("payload", "the run had another payload")
    if not _is_same(loads(run.prop_values), asked.prop_values):
        yield Problem("propValues", "the run had other values")
    if now - run.started_at > OLDEST_MS:
        yield Problem("rehearsalRunId", f"the run is older than {OLDEST_MS // 60_000} minutes")


def _is_same(one: Any, other: Any) -> bool:
    """Equal as exact JSON: `1`, `1.0` and `true` differ."""
    return dumps(one, canonical=True) == dumps(other, canonical=True)


def digest_of(report: Mapping[str, Any]) -> str:
    """The SHA-256 of a report, without names, which may change."""
    kept = {name: value for name, value in report.items() if name != "names"}
    return hashlib.sha256(dumps(kept, canonical=True)).hexdigest()


def binding_of(asked: LaunchRequest, payload: Mapping[str, Any], report: Mapping[str, Any]) -> str:
    """The SHA-256 of what a decision starts."""
    document = {
        "workflowId": asked.workflow_id,
        "version": asked.version,
        "mode": asked.mode.value,
        "payload": payload,
        "propValues": asked.prop_values,
        "rehearsalRunId": asked.rehearsal_run_id,
        "report": digest_of(report),
    }
    return hashlib.sha256(dumps(document, canonical=True)).hexdigest()


def run_id_of(binding: str) -> str:
    """The id of the run that a binding starts: the same one, however often it is started."""
    return f"run_{binding[:_DIGITS_OF_RUN]}"


def approval_id_of(org_id: str, rehearsal_pk: int) -> str:
    """The id of the question about a rehearsal; each serves one launch."""
    digest = hashlib.sha256(f"{org_id}\nlaunch\n{rehearsal_pk}".encode()).hexdigest()
    return f"apr_{digest[:26]}"


@dataclass(frozen=True, slots=True)
class Decision:
    """A person's decision; `binding` says what they have looked at."""

    outcome: str
    comment: str | None = None
    binding: str | None = None


@dataclass(frozen=True, slots=True)
class BegunLaunch:
    """A launch without a question: its run."""

    created: CreatedRun | None


@dataclass(frozen=True, slots=True)
class DecidedLaunch:
    """An approved launch: its run, and the closed question."""

    created: CreatedRun | None
    row: ApprovalRow


class RehearsedReach:
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
            raise mismatch(rehearsal.id, [Problem("workflowId", "the workflow is archived now")])
        moved = [one for one in rehearsals.list_called(tx, rehearsal.pk) if not _runs_now(lookup, closure, one)]
        if moved or (rehearsal.closure is not None and rehearsal.closure != closure.digest):
            named = [f' ("{one.workflow_id}")' for one in moved if principal.may_use_workflow(one.workflow_id)]
            message = f"a workflow that it calls has changed since{''.join(named[:1])}"
            raise mismatch(rehearsal.id, [Problem("version", message)])
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
        asked = rows.find(tx, org_id, approval_id_of(org_id, self.rehearsal.pk))
        if asked is not None or run_rows.find_launched(tx, org_id, self.rehearsal.id) is not None:
            raise mismatch(self.rehearsal.id, [Problem("rehearsalRunId", "it was used for a launch already")])

    def after(self, tx: Tx, created: CreatedRun) -> BegunLaunch:
        """Nothing more."""
        return BegunLaunch(created)


@dataclass(slots=True)
class LaunchDecision:
    """Closes the question in the transaction that creates the run."""

    principal: Principal
    row: ApprovalRow
    decision: Decision
    reach: RehearsedReach
    decided: ApprovalRow | None = None

    def before(self, tx: Tx) -> None:
        """Approves; raises unless this key may, the question is open, and nothing has changed since it was asked."""
        self._check_binding()
        self._check_other_hand(tx)
        rehearsal = run_rows.get(tx, self.row.run_pk)
        launch: dict[str, Any] = loads(self.row.launch or "{}")
        if self.reach.check(tx, self.principal, rehearsal, Mode(self.row.mode)) != launch["closure"]:
            raise mismatch(rehearsal.id, [Problem("version", "a workflow that it calls has changed since")])
        self.decided = self.close(tx)

    def after(self, tx: Tx, created: CreatedRun) -> DecidedLaunch:
        """The run and the question."""
        assert self.decided is not None
        return DecidedLaunch(created, self.decided)

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
        """Who proposed a launch does not approve it: not with the same key, nor with one of the same hand; nor does a
        service account."""
        need_person(tx, self.principal, "approve a launch")
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
