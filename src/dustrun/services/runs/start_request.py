"""The steps of starting a run: what a request must satisfy, which version and trigger, the first rows."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import field
from typing import Any, Protocol, TypeVar

from dustrun import clock
from dustrun.core.run.as_of import AsOf
from dustrun.core.run.journal import Execution
from dustrun.core.run.state import Mode, NodeStatus
from dustrun.core.stream_events import RUN_STARTED
from dustrun.core.text.masking import Redaction
from dustrun.core.values.exact_json import dumps_text, loads
from dustrun.core.workflow.program import Program
from dustrun.errors import Code, NotFound, Refused, Temporary
from dustrun.records import dataclass
from dustrun.services.runs.engine_port import Caller, ChildCall, CreatedRun, RunFacts
from dustrun.storage.db.database import Database
from dustrun.storage.db.statement import Tx
from dustrun.storage.runs.journal import Batch
from dustrun.storage.workflows import workflows as workflow_rows
from dustrun.storage.workflows.workflows import WorkflowRow

_CALLS_SCALE = "No node of its own spends; each run that it calls scales what it spends and logs its plan."
_SCALES = "Each amount that is spent is made dust; the plan is a log event before the first signature (data.dustPlan)."


class SnapshotOutdated(Exception):
    """The workflow has changed since its snapshot was read."""


of_message: ContextVar[str | None] = ContextVar("of_message", default=None)
"""The message of the assistant whose tools start runs here; they belong to it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRequest:
    """The caller's options for a run; the API reference of the run call explains each field."""

    payload: dict[str, Any] = field(default_factory=dict)
    version: int | None = None
    run_id: str | None = None
    simulate: bool = False
    dust_test: bool = False
    chat_message_id: str | None = None
    trigger_node_id: str | None = None
    prop_values: dict[str, Any] = field(default_factory=dict)
    source: str = "api"
    trace: dict[str, str] | None = None
    as_of: AsOf | None = None
    headers: dict[str, str] = field(default_factory=dict)
    query: dict[str, str] = field(default_factory=dict)
    rehearsal_run_id: str | None = None


class StartOutcome(Protocol):
    """The run that an admission made; `created` None: there is none."""

    @property
    def created(self) -> CreatedRun | None:
        """The run that is on disk."""
        ...


class StartCondition(Protocol):
    """Decides about a run in the transaction that creates it."""

    def before(self, tx: Tx) -> StartOutcome | None:
        """Decides; None: the run is to be created. Otherwise all that is to be written instead is."""
        ...

    def after(self, tx: Tx, created: CreatedRun) -> StartOutcome:
        """Writes what follows from the run."""
        ...


@dataclass(frozen=True, slots=True)
class Concurrency:
    """A workflow's own limit of unfinished runs, per value of `key` when it has one."""

    max: int
    key: str | None
    on_limit: str


@dataclass(frozen=True, slots=True)
class WorkflowSnapshot:
    """The fields of a workflow that starting a run needs."""

    id: str
    org_id: str
    name: str
    status: str
    latest_version: int
    draft_version: int | None
    live_version: int | None
    concurrency: Concurrency | None
    require_rehearsal: str
    acceptances: int
    autosave: str | None
    state: tuple[Any, ...]
    """The columns that all of this comes from, to be compared with those of the row."""


@dataclass(slots=True)
class PreparedRun:
    """A run that is ready to be created. `must_be_closed`: the root of a retry chain that must have no open run;
    `closure`: the digest of all that it can run, if that can spend."""

    facts: RunFacts
    program: Program
    batch: Batch
    payload: dict[str, Any]
    request: RunRequest
    triggered_by: str
    snapshot: WorkflowSnapshot | None = None
    definition: str | None = None
    source_run_id: str | None = None
    must_be_closed: str | None = None
    closure: str | None = None
    admission: StartCondition | None = None

    @property
    def is_separate(self) -> bool:
        """Whether its creation depends on no row that another run's creation may write at the same time."""
        is_alone = self.must_be_closed is None and self.request.chat_message_id is None and self.admission is None
        return is_alone and not self.keeps_draft

    @property
    def keeps_draft(self) -> bool:
        """Whether it is the first run of a draft that the next autosave would have replaced."""
        snapshot = self.snapshot
        return snapshot is not None and snapshot.autosave is not None and self.facts.version == snapshot.draft_version


def snapshot_of(row: WorkflowRow) -> WorkflowSnapshot:
    """The snapshot of a workflow's row."""
    limit = loads(row.concurrency) if row.concurrency else None
    concurrency = Concurrency(limit["max"], limit.get("key"), limit.get("onLimit", "queue")) if limit else None
    return WorkflowSnapshot(
        row.id,
        row.org_id,
        row.name,
        row.status,
        row.latest_version,
        row.draft_version,
        row.live_version,
        concurrency,
        row.require_rehearsal,
        row.acceptances,
        row.autosave,
        workflow_rows.state_of(row),
    )


def verify(tx: Tx, snapshot: WorkflowSnapshot) -> None:
    """Raises `SnapshotOutdated` unless the workflow is still as `snapshot` says."""
    if workflow_rows.find_state(tx, snapshot.org_id, snapshot.id) != snapshot.state:
        raise SnapshotOutdated


def check_current(row: WorkflowRow | None, snapshot: WorkflowSnapshot) -> None:
    """Raises `SnapshotOutdated` unless the workflow's row is still as `snapshot` says."""
    if row is None or workflow_rows.state_of(row) != snapshot.state:
        raise SnapshotOutdated


def version_of(snapshot: WorkflowSnapshot, request: RunRequest) -> int:
    """The version to run: the requested one, else the draft, else the live one."""
    return request.version or snapshot.draft_version or snapshot.live_version or snapshot.latest_version


def trigger_result(
    payload: Mapping[str, Any], source: str, at: int, request: RunRequest | None = None
) -> dict[str, Any]:
    """`root.result`: the payload's own keys, and `body`, `headers`, `query`, `source`, `triggeredAt`."""
    headers, query = (request.headers, request.query) if request is not None else ({}, {})
    fixed = {"body": payload, "headers": headers, "query": query, "source": source}
    return {**payload, **fixed, "triggeredAt": clock.to_rfc3339(at)}


MAX_CALLS = 10


def _dust_note(program: Program) -> str:
    if program.wallets:
        return _SCALES
    calls = any(node.node.type == "call-workflow" for node in program.nodes.values())
    return _CALLS_SCALE if calls else "No node spends, so nothing is scaled."


def check_calls(callers: Sequence[str], workflow_id: str) -> None:
    """Raises `Refused` when a call by the last of `callers` would be too deep or close a circle."""
    if workflow_id in callers:
        circle = " → ".join([*callers[callers.index(workflow_id) :], workflow_id])
        raise Refused(f"The workflows would call each other in a circle: {circle}.")
    if len(callers) > MAX_CALLS:
        raise Refused(f"Workflows call each other at most {MAX_CALLS} levels deep; this call would be one more.")


def caller_for(parent: RunFacts, call: ChildCall, snapshot: WorkflowSnapshot) -> Caller:
    """The caller of a called run; raises `Refused` when calls are too deep or form a circle."""
    above = parent.caller.workflow_ids if parent.caller is not None else ()
    chain = (*above, parent.workflow_id or "")
    check_calls(chain, snapshot.id)
    return Caller(parent.pk, parent.id, call.path, parent.top_pk, chain, call.waits)


def first_batch(
    facts: RunFacts,
    program: Program,
    payload: dict[str, Any],
    *,
    clock_at: int | None = None,
    request: RunRequest | None = None,
    assumed: bool = False,
) -> Batch:
    """The rows that every run begins with: `run_started` and the trigger's execution. `clock_at`: the
    simulated clock of the calling run; `request` has the headers and query of an inbound request; `assumed`: the
    payload depends on an assumed value of the calling run."""
    now = facts.started_at if facts.as_of is None else facts.as_of.at_ms
    trigger = facts.trigger_node_id
    batch = Batch(redaction=Redaction(facts.secrets))
    batch.added[(trigger, 1)] = Execution(
        path=trigger,
        node_id=trigger,
        attempt=1,
        status=NodeStatus.SUCCESS,
        result=trigger_result(payload, facts.trigger_source, now, request),
        facts={"clock": clock_at} if clock_at is not None else None,
        started_at=now,
        finished_at=now,
        assumed=assumed,
    )
    batch.events.append((RUN_STARTED, facts.started_at, dumps_text(_started(facts, program))))
    return batch


def _started(facts: RunFacts, program: Program) -> dict[str, Any]:
    started: dict[str, Any] = {
        "workflowId": facts.workflow_id,
        "workflowName": facts.workflow_name,
        "version": facts.version,
        "mode": str(facts.mode),
        "triggerNodeId": facts.trigger_node_id,
        "triggerSource": facts.trigger_source,
        "nodeCount": len(program.nodes),
    }
    if facts.caller is not None:
        started["parentRunId"], started["parentPath"] = facts.caller.run_id, facts.caller.path
    if facts.mode is Mode.DUST:
        started["dust"] = {"note": _dust_note(program)}
    return started


# Snapshots of workflows in memory for starting runs; the transaction that creates a run verifies its snapshot.


_TRIES = 5
T = TypeVar("T")


class WorkflowCache:
    """Snapshots of the workflows that runs were started from."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._kept: dict[str, WorkflowSnapshot] = {}

    async def find(self, org_id: str, workflow_id: str) -> WorkflowSnapshot:
        """The cached snapshot of a workflow. Raises `NotFound` unless the organisation has the workflow."""
        snapshot = self._kept.get(workflow_id)
        if snapshot is None:
            row = await self._database.read(lambda tx: workflow_rows.find(tx, org_id, workflow_id))
            snapshot = None if row is None else snapshot_of(row)
            if snapshot is not None:
                self._kept[workflow_id] = snapshot
        if snapshot is None or snapshot.org_id != org_id:
            raise NotFound(f'There is no workflow "{workflow_id}".', code=Code.WORKFLOW_UNKNOWN)
        return snapshot

    async def start_at(self, org_id: str, workflow_id: str, start: Callable[[WorkflowSnapshot], Awaitable[T]]) -> T:
        """The result of `start` with the workflow's snapshot; repeated with a fresh one when the workflow has
        changed."""
        for _ in range(_TRIES):
            snapshot = await self.find(org_id, workflow_id)
            try:
                return await start(snapshot)
            except SnapshotOutdated:
                self._kept.pop(workflow_id, None)
        raise Temporary("The workflow changes too fast; nothing was started.", retry_after_s=1)
