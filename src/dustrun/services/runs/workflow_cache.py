"""Snapshots of workflows in memory for starting runs; the transaction that creates a run verifies its snapshot."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from dustrun.errors import Code, NotFound, Temporary
from dustrun.services.runs import start_request
from dustrun.services.runs.start_request import SnapshotOutdated, WorkflowSnapshot
from dustrun.storage.db.database import Database
from dustrun.storage.workflows import workflows as workflow_rows

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
            snapshot = None if row is None else start_request.snapshot_of(row)
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

    async def settle(self, snapshot: WorkflowSnapshot) -> None:
        """Raises `SnapshotOutdated` when an archived workflow is no longer so, and `Invalid` when it is."""
        if snapshot.status == "archived":
            await self._database.read(lambda tx: start_request.verify(tx, snapshot))
        start_request.check_snapshot(snapshot)
