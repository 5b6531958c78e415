"""The port between services and engine: small, so that one process or many machines fit behind it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import field
from typing import Any, Protocol

from dustrun.core.run.as_of import AsOf
from dustrun.core.run.journal import Execution
from dustrun.core.run.state import Mode
from dustrun.core.workflow.definition import Definition
from dustrun.core.workflow.program import Program
from dustrun.records import dataclass
from dustrun.storage.runs.journal import Batch, Event
from dustrun.storage.runs.runs import RunRow


@dataclass(frozen=True, slots=True)
class Caller:
    """The node that called a run. `top_pk`: the run at the root of all calls; `workflow_ids`: the workflows from there
    down to the calling one; `waits`: the caller waits for the end."""

    pk: int
    run_id: str
    path: str
    top_pk: int
    workflow_ids: tuple[str, ...]
    waits: bool


@dataclass(slots=True)
class RunFacts:
    """The facts of a run that an engine needs to advance it, decoded from its row."""

    pk: int
    id: str
    org_id: str
    workflow_id: str | None
    workflow_name: str
    version: int | None
    mode: Mode
    trigger_node_id: str
    trigger_source: str
    prop_values: dict[str, Any]
    root_run_id: str
    concurrency_key: str | None
    started_at: int
    triggered_by: str
    fence: int = 0
    claimed_by: str | None = None
    cancel_requested_at: int | None = None
    caller: Caller | None = None
    trace: dict[str, str] | None = None
    """W3C traceparents, where traces are on: `parent` of the caller, `link` of the run that this one retries."""

    as_of: AsOf | None = None
    """Of a simulation: the past moment that it is about; None: the present."""

    secrets: dict[str, str] = field(default_factory=dict, repr=False)
    """The signatures that the run knows, by their marks."""

    @property
    def top_pk(self) -> int:
        """The run at the root of all calls: what is simulated under it shares one overlay."""
        return self.caller.top_pk if self.caller is not None else self.pk


@dataclass(frozen=True, slots=True)
class ChildCall:
    """A call of another workflow by a node. `at` is the caller's clock; `is_assumed`: what it passes depends on an
    assumed value."""

    path: str
    attempt: int
    workflow_id: str
    version: int | None
    payload: dict[str, Any]
    prop_values: dict[str, Any]
    waits: bool
    is_assumed: bool
    at: int


@dataclass(frozen=True, slots=True)
class Child:
    """A run that was called and is on disk."""

    pk: int
    run_id: str
    workflow_id: str


@dataclass(frozen=True, slots=True)
class WrittenRun:
    """A run as it was stored. `owner`: the key that created its workflow."""

    row: RunRow
    definition: Definition
    executions: list[Execution]
    owner: str | None


@dataclass(frozen=True, slots=True)
class CreatedRun:
    """A run that is on disk. `cancelled` is the row id of an older run of its workflow that was asked to make room;
    `written`, of a retry, is the run itself."""

    run_id: str
    pk: int
    events: list[Event]
    cancelled: int | None = None
    written: WrittenRun | None = None


@dataclass(frozen=True, slots=True)
class NewRun:
    """A run about to be created. `max_open` is its workflow's limit of unfinished runs.

    `write(batch, created)` creates the run together with the first executions and events in `batch`, in one
    transaction, and calls `created` in commit order before it returns."""

    facts: RunFacts
    program: Program
    batch: Batch
    max_open: int | None
    write: Callable[[Batch, Callable[[CreatedRun], None]], Awaitable[CreatedRun]]


class Engine(Protocol):
    """Decides which process advances which run, and when. The tables are the truth; an engine keeps only copies."""

    def has_room(self) -> bool:
        """Whether new runs are accepted; False while the server is stopping or too many runs are queued."""
        ...

    async def submit(self, run: NewRun) -> CreatedRun:
        """Creates a run and advances it. Raises `Temporary` when nothing was written, `Uncertain` when the outcome of
        the commit is unknown, and whatever `run.write` raises."""
        ...

    def wake(self, run_pk: int) -> None:
        """A signal for a waiting run is on disk."""
        ...

    def cancel(self, run_pk: int) -> None:
        """A request to cancel the run is on disk."""
        ...


class WakeRelay:
    """Passes wake-ups of runs from the outbox to the engine, which is composed after the outbox that it spends
    through."""

    def __init__(self) -> None:
        self.engine: Engine | None = None

    def wake(self, run_pk: int) -> None:
        """A step of the run's transaction is on disk."""
        assert self.engine is not None
        self.engine.wake(run_pk)
