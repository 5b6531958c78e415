"""Answers of the public to a form: it is seen, answered once per submission, and shows what the workflow says.

Nothing inner is told: neither ids nor errors of the run, nor a result other than that of its `respond` node.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import field
from typing import Any, Final

from dustrun import clock, ids, log
from dustrun.core.run.journal import Execution
from dustrun.core.run.state import Mode, RunStatus
from dustrun.core.triggers.limits import EXHAUSTED, Admit, decide
from dustrun.errors import Code, Conflict, DustrunError, Forbidden, Invalid, NotFound, Refused, Temporary
from dustrun.records import dataclass
from dustrun.services.access.api_keys import principal_of
from dustrun.services.runs import may_start
from dustrun.services.runs.create import NotStarted
from dustrun.services.runs.engine_port import CreatedRun
from dustrun.services.runs.runs import Runs
from dustrun.services.runs.start import Starts
from dustrun.services.runs.start_request import RunRequest
from dustrun.services.triggers import pausing
from dustrun.services.triggers.arming import Arming
from dustrun.services.triggers.forms.links import input_schema_in
from dustrun.services.triggers.forms.state import CLOSED, PUBLIC_WORDS, Form, FormState, form_of, limits_of, need_open
from dustrun.services.workflows.compiled import CompiledWorkflow, CompiledWorkflows
from dustrun.services.workflows.versions import document_of
from dustrun.storage.db.database import Database
from dustrun.storage.db.statement import Tx
from dustrun.storage.runs import journal as journal_rows
from dustrun.storage.runs import runs as run_rows
from dustrun.storage.triggers import form_links as rows
from dustrun.storage.triggers.form_links import FormLinkRow
from dustrun.storage.workflows import workflows

# Takes one run of a link to a form, in the transaction that creates it: so its limit is exact.


class FormMoved(Exception):
    """Another version was published since the form was read."""


@dataclass(slots=True)
class LinkUse:
    """Takes one run of a link, in the transaction that creates it."""

    form: Form
    run_id: str
    version: int
    created: CreatedRun | None = None
    _now: int = 0
    _admit: Admit = field(default_factory=Admit)
    _locked: Form | None = None

    def before(self, tx: Tx) -> LinkUse | None:
        """Locks workflow and link, in that order, and decides; itself without a run, if the run exists already."""
        link = self.form.link
        self._now = clock.now_ms()
        workflow = workflows.find_to_change(tx, link.org_id, link.workflow_id)
        row = rows.find_to_change(tx, link.id)
        if run_rows.find(tx, link.org_id, self.run_id) is not None:
            return self
        if workflow is None or row is None:
            raise Conflict(CLOSED, code=Code.FORM_CLOSED)
        self._locked = form_of(tx, row, workflow)
        need_open(self._locked, self._now)
        if workflow.live_version != self.version:
            raise FormMoved
        verdict = decide(limits_of(row, workflow), self._now)
        assert isinstance(verdict, Admit), "an open form has room"
        self._admit = verdict
        return None

    def after(self, tx: Tx, created: CreatedRun) -> LinkUse:
        """Counts the run, at the link and, if it is live, at the workflow."""
        assert self._locked is not None
        link, workflow = self._locked.link, self._locked.workflow
        rows.count_run(tx, link, self._now)
        if link.mode == Mode.LIVE:
            workflows.update(tx, workflow.id, remain_runs=self._admit.remain_runs, last_triggered_at=self._now)
            if self._admit.takes_last:
                pausing.pause(tx, workflow.id, EXHAUSTED, principal_of(self._locked.key))
        self.created = created
        return self

    @property
    def pauses(self) -> bool:
        """Whether the workflow has no runs left after this one."""
        return self.created is not None and self._admit.takes_last


_logger = log.get(__name__)
_TRIES: Final = 5
_REFUSALS = (Invalid, Forbidden, NotFound, Conflict, Refused)


@dataclass(frozen=True, slots=True)
class FormView:
    """A form as the public sees it; `schema` None: it takes no answers, and `message` says why."""

    title: str
    description: str | None
    mode: str
    schema: Mapping[str, Any] | None
    message: str | None


@dataclass(frozen=True, slots=True)
class SubmissionOutcome:
    """How far a submission has come: `running`, `done` or `failed`; `answer`: what the workflow responds."""

    submission_id: str
    status: str
    answer: Mapping[str, Any] | None = None


class FormAnswers:
    """Use cases of those who have a link."""

    def __init__(
        self, database: Database, starts: Starts, runs: Runs, programs: CompiledWorkflows, arming: Arming
    ) -> None:
        self._database = database
        self._starts = starts
        self._runs = runs
        self._programs = programs
        self._arming = arming

    async def find(self, secret: str) -> Form | None:
        """The form of a link; None if it is unknown or revoked."""
        link_hash = ids.secret_hash(secret)

        def query(tx: Tx) -> Form | None:
            link = rows.find_by_hash(tx, link_hash)
            return _form_now(tx, link) if link is not None and link.revoked_at is None else None

        return await self._database.read(query)

    async def view(self, form: Form) -> FormView:
        """The form as it is shown."""
        link, state = form.link, form.state_at(clock.now_ms())
        compiled = await self._compiled(form) if state is FormState.OPEN else None
        schema = input_schema_in(document_of(compiled.definition)) if compiled is not None else None
        message = None if schema is not None else PUBLIC_WORDS.get(state, CLOSED)
        return FormView(link.title, link.description, link.mode, schema, message)

    async def submit(self, form: Form, values: dict[str, Any], submission_id: str | None) -> SubmissionOutcome:
        """Starts the run of a submission; the same id again changes nothing. Raises `Invalid` if the values do not
        match the schema, and `Conflict` (`FORM_CLOSED`)."""
        submission_id = submission_id or ids.new_secret("ans")
        run_id = run_id_of(form.link, submission_id)
        for _ in range(_TRIES):
            if await self._is_known(form.link, run_id):
                break
            try:
                await self._start(form, values, run_id)
            except FormMoved:
                form = await self._again(form)
                continue
            break
        else:
            raise Temporary("The workflow changes too fast; nothing was started.", retry_after_s=1)
        return await self.read(form, submission_id)

    async def _start(self, form: Form, values: dict[str, Any], run_id: str) -> None:
        need_open(form, clock.now_ms())
        compiled, version = await self._compiled(form), form.workflow.live_version
        if compiled is None or version is None or input_schema_in(document_of(compiled.definition)) is None:
            raise Conflict(CLOSED, code=Code.FORM_CLOSED)
        request = _request(form.link, compiled, values, run_id, version)
        await self._check(compiled, request)
        taking, principal = LinkUse(form, run_id, version), principal_of(form.key)
        try:
            principal.need("workflow:simulate" if request.simulate else "workflow:execute")
            await self._starts.start(principal, form.workflow.id, request, taking)
        except NotStarted:
            return  # the same submission has just come
        except _REFUSALS as error:
            raise _public(form.link, error) from None
        if taking.pauses:
            self._arming.committed(form.workflow.id)

    async def _check(self, compiled: CompiledWorkflow, request: RunRequest) -> None:
        """Raises `Invalid` with the fields as the form names them."""
        try:
            await may_start.accept(self._runs.catalog, compiled, request.trigger_node_id or "", request.payload)
        except Invalid as error:
            details = [{**one, "field": _as_value(str(one["field"]))} for one in error.public_details()]
            raise Invalid("The form is not filled in as it asks.", code=error.code, details=details) from None

    async def read(self, form: Form, submission_id: str) -> SubmissionOutcome:
        """How far a submission has come; raises `NotFound`."""
        org_id, run_id = form.link.org_id, run_id_of(form.link, submission_id)
        if not await self._is_known(form.link, run_id):
            raise NotFound("This form has no such submission.", code=Code.FORM_UNKNOWN)
        reached = await self._runs.waits.wait(org_id, run_id, 0, for_answer=True)
        if reached is None:
            return SubmissionOutcome(submission_id, "running")
        path = reached.answered_at

        def query(tx: Tx) -> tuple[str, Execution | None]:
            run = run_rows.find(tx, org_id, run_id)
            assert run is not None, "it was there a moment ago"
            return run.status, journal_rows.find_execution(tx, run.pk, path) if path is not None else None

        status, answer = await self._database.read(query)
        if answer is not None:
            said = answer.result or {}
            return SubmissionOutcome(submission_id, "done", {name: said.get(name) for name in ("status", "body")})
        return SubmissionOutcome(submission_id, "done" if status == RunStatus.SUCCESS else "failed")

    async def _is_known(self, link: FormLinkRow, run_id: str) -> bool:
        return await self._database.read(lambda tx: run_rows.find_key(tx, link.org_id, run_id)) is not None

    async def _again(self, form: Form) -> Form:
        def query(tx: Tx) -> Form:
            link = rows.find(tx, form.link.workflow_id, form.link.id)
            found = _form_now(tx, link) if link is not None else None
            if found is None:
                raise Conflict(CLOSED, code=Code.FORM_CLOSED)
            return found

        return await self._database.read(query)

    async def _compiled(self, form: Form) -> CompiledWorkflow | None:
        version = form.workflow.live_version
        return None if version is None else await self._programs.find(form.workflow.id, version)


def run_id_of(link: FormLinkRow, submission_id: str) -> str:
    """The run of a submission: the same for the same, so that it starts once."""
    digest = hashlib.sha256(f"{link.id}\n{submission_id}".encode()).hexdigest()
    return f"run_form_{digest[:32]}"


def _as_value(field: str) -> str:
    return "values" + field.removeprefix("payload") if field.startswith("payload") else field


def _form_now(tx: Tx, link: FormLinkRow) -> Form | None:
    workflow = workflows.find(tx, link.org_id, link.workflow_id)
    return None if workflow is None else form_of(tx, link, workflow)


def _request(
    link: FormLinkRow, compiled: CompiledWorkflow, values: dict[str, Any], run_id: str, version: int
) -> RunRequest:
    nodes = compiled.definition.nodes
    trigger = next(name for name in compiled.definition.trigger_node_ids if nodes[name].type == "manual")
    return RunRequest(
        payload=values,
        version=version,
        run_id=run_id,
        simulate=link.mode == Mode.SIMULATE,
        dust_test=link.mode == Mode.DUST,
        trigger_node_id=trigger,
        source="form",
    )


def _public(link: FormLinkRow, error: DustrunError) -> DustrunError:
    """A refusal as the public hears it; the log has the reason, which may name what is inside."""
    if error.code == Code.FORM_CLOSED:
        return error
    _logger.warning("form refused", form_id=link.id, workflow_id=link.workflow_id, reason=error.message)
    return Conflict(CLOSED, code=Code.FORM_CLOSED)
