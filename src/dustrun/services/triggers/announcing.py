"""Tells who reads the activity of events that started no run."""

from __future__ import annotations

from dustrun import clock
from dustrun.core.stream_events import TRIGGER_SKIPPED
from dustrun.core.values.exact_json import dumps_text
from dustrun.services.streaming.broadcaster import Broadcaster, Notice
from dustrun.services.triggers.recording import Fired
from dustrun.storage.triggers.subscriptions import SubscriptionRow


class SkippedEvents:
    """The listener of the intake. The event log is what keeps them; a stream only shows them."""

    def __init__(self, hub: Broadcaster) -> None:
        self._hub = hub

    def tell(self, row: SubscriptionRow, fired: Fired) -> None:
        """An event of a subscription was recorded and started no run."""
        if not self._hub.has_readers(row.org_id):
            return
        data = {
            "eventId": fired.event_id,
            "triggerNodeId": row.node_id,
            "triggerType": row.type,
            "reason": fired.reason,
            "message": fired.message,
        }
        self._hub.announce(row.org_id, Notice(TRIGGER_SKIPPED, clock.now_ms(), row.workflow_id, dumps_text(data)))
