"""Pauses of workflows that the server decides: no runs left, a revoked key, too many failures."""

from __future__ import annotations

from dustrun import clock
from dustrun.core.hooks import PAUSED
from dustrun.services.access import audit
from dustrun.services.access.principal import Principal
from dustrun.storage.db.statement import Tx
from dustrun.storage.hooks import reading
from dustrun.storage.triggers import subscriptions
from dustrun.storage.workflows import workflows

KEY_REVOKED = "key_revoked"
CONSECUTIVE_FAILURES = "consecutive_failures"


def pause(tx: Tx, workflow_id: str, reason: str, by: Principal) -> None:
    """Pauses an active workflow and its subscriptions, in the name of the key that published it."""
    now = clock.now_ms()
    workflows.update(tx, workflow_id, status="paused", paused_reason=reason, updated_at=now)
    subscriptions.pause_all(tx, workflow_id, reason, now)
    data = {"reason": reason}
    reading.add(tx, org_id=by.org_id, type_=PAUSED, at=now, data=data, workflow_id=workflow_id)
    audit.record(tx, by, "workflow.pause", workflow_id, pausedReason=reason)
