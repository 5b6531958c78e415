"""Tells of launches that wait for a person: hooks, and who reads the activity."""

from __future__ import annotations

from typing import Any, Final

from dustrun import clock
from dustrun.core.hooks.event_types import LAUNCH_PROPOSED
from dustrun.core.values.exact_json import dumps_text
from dustrun.services.streaming.broadcaster import Broadcaster, Notice
from dustrun.storage.db.statement import Tx
from dustrun.storage.hooks import notices
from dustrun.storage.runs.approvals import ApprovalRow

_STREAMED: Final = "launch_proposed"


def _told(row: ApprovalRow) -> dict[str, Any]:
    return {"approvalId": row.id, "message": row.message, "until": clock.to_rfc3339(row.expires_at)}


def note(tx: Tx, row: ApprovalRow) -> None:
    """Tells hooks, in the transaction that stores the question. `run_id` is the simulation's."""
    notices.add(
        tx,
        org_id=row.org_id,
        type_=LAUNCH_PROPOSED,
        at=row.created_at,
        data=_told(row),
        workflow_id=row.workflow_id,
        run_id=row.run_id,
        mode=row.mode,
    )


class ProposedLaunches:
    """Tells the readers of the activity. The approval is what stays; a stream only shows it."""

    def __init__(self, hub: Broadcaster) -> None:
        self._hub = hub

    def tell(self, row: ApprovalRow) -> None:
        """A launch was proposed."""
        data = {**_told(row), "runId": row.run_id, "mode": row.mode}
        self._hub.announce(row.org_id, Notice(_STREAMED, row.created_at, row.workflow_id, dumps_text(data)))
