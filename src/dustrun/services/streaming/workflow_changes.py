"""Tells who reads the activity of workflows that were made or changed, such as the editors of other people."""

from __future__ import annotations

from typing import Final

from dustrun import clock
from dustrun.services.streaming.broadcaster import Broadcaster, Notice

CHANGED: Final = "workflow_changed"


class ChangedWorkflows:
    """The listener of `Workflows`. The workflow itself is what stays; a stream only says that there is more to read."""

    def __init__(self, hub: Broadcaster) -> None:
        self._hub = hub

    def tell(self, org_id: str, workflow_id: str) -> None:
        """The change of a workflow is on disk."""
        if self._hub.has_readers(org_id):
            self._hub.announce(org_id, Notice(CHANGED, clock.now_ms(), workflow_id, "{}"))
