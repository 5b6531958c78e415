"""What the services need of an engine: small on purpose, so that one process and many machines fit behind it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

from dustrun.core.run.state import Mode
from dustrun.core.workflow.program import Program
from dustrun.storage.runs.journal import Batch


@dataclass(frozen=True, slots=True)
class Caller:
    """Who called a run: the node of another one. `top_pk` is the run at the root of all calls, `workflow_ids` the
    workflows from there down to the calling one; `waits`: the caller wants to be told of the end."""

    pk: int
    run_id: str
    path: str
    top_pk: int
    workflow_ids: tuple[str, ...]
    waits: bool


@dataclass(slots=True)
class RunFacts:
    """What an engine must know of a run to advance it; JSON is decoded."""

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
    cancel_requested_at: int | None = None
    caller: Caller | None = None
    trace: dict[str, str] | None = None
    """W3C traceparents, where traces are on: `parent` of the caller, `link` of the run that this one retries."""

    secrets: dict[str, str] = field(default_factory=dict, repr=False)
    """The signatures that the run knows, by their marks."""

    @property
    def top_pk(self) -> int:
        """The run at the root of all calls: what is simulated under it shares one overlay."""
        return self.caller.top_pk if self.caller is not None else self.pk


@dataclass(frozen=True, slots=True)
class ChildCall:
    """A call of another workflow by a node. `at` is the caller's clock."""

    path: str
    attempt: int
    workflow_id: str
    version: int | None
    payload: dict[str, Any]
    prop_values: dict[str, Any]
    waits: bool
    at: int


@dataclass(frozen=True, slots=True)
class Child:
    """A run that was called and is on disk."""

    pk: int
    run_id: str
    workflow_id: str


class Opening(Protocol):
    """A run about to be created: its first batch rides in the transaction that creates the run."""

    @property
    def batch(self) -> Batch:
        """The first events and executions."""
        ...

    @property
    def facts(self) -> RunFacts:
        """The run to be."""
        ...


class Engine(Protocol):
    """Decides which process advances which run when. The journal in the tables is the truth."""

    def open(self, facts: RunFacts, program: Program, batch: Batch, *, max_open: int | None) -> Opening:
        """Plans the first steps of a new run onto `batch`, without doing anything outside. `max_open` is the
        workflow's own limit of runs at once."""
        ...

    def opened(self, opening: Any, run_pk: int) -> None:
        """The run is on disk: go."""
        ...

    def doubted(self, opening: Any) -> None:
        """Nobody knows whether the run is on disk: look, and go if it is."""
        ...

    def open_runs(self, workflow_id: str, concurrency_key: str | None) -> list[int]:
        """Row ids of a workflow's unfinished runs under a concurrency key, oldest first."""
        ...

    def wake(self, run_pk: int) -> None:
        """Something happened that a waiting run may go on with."""
        ...

    def cancel(self, run_pk: int) -> None:
        """Someone asked to cancel the run; the request is on disk."""
        ...
