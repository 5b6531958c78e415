"""What scripted models do in turns of the assistant."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from testkit.model_server import Asked, Reply

Json = dict[str, Any]


def results_in(asked: Asked) -> list[Json]:
    """What the tools have answered so far in the turn, oldest first."""
    messages = asked.messages
    begin = max((at for at, one in enumerate(messages) if one["role"] == "user"), default=0)
    return [json.loads(one["content"]) for one in messages[begin:] if one["role"] == "tool"]


def launching(
    workflow_id: str, version: int = 1, *, payload: Json | None = None, mode: str = "live"
) -> Callable[[Asked], Reply]:
    """A model that simulates a workflow, proposes to start what that has shown, and tells the decision."""
    sent = {"workflowId": workflow_id, "version": version, "payload": payload or {}}

    def script(asked: Asked) -> Reply:
        found = results_in(asked)
        if not found:
            return Reply("I try it.", calls=(("simulate", {**sent, "waitS": 50}),))
        if len(found) == 1:
            launch = {**sent, "mode": mode, "rehearsalRunId": found[0]["runId"]}
            return Reply("I ask you.", calls=(("launch", launch), ("list_runs", {"limit": 5})))
        return Reply(f"It was {found[1].get('decision', 'refused')}.")

    return script
