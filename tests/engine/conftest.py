"""A composed server with the scripted `trial` action, and shortcuts to run definitions on it."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from dustrun.storage.db.tables import runs
from testkit.composition import Composition, composed

OWN_ACTIONS = Path(__file__).parents[2] / "testkit" / "own_actions"
Definition = dict[str, Any]
_LOOKS_S = (*[0.01] * 5, 0.02, 0.03, *[0.05] * 3)
"""The pauses between looks: sixty who wait at once must not take the time of the runs that they wait for."""
_WITHIN_S = 120.0
"""Only bounds hanging: Temporal's development server takes two processors for a while to direct sixty runs."""


class Bench:
    """Runs definitions and waits for what becomes of them."""

    def __init__(self, composition: Composition) -> None:
        self.composition = composition
        self.api = composition.owner

    async def start(self, nodes: Definition, **body: Any) -> str:
        """Starts an inline run; its root leads to the nodes that nobody names."""
        named = {child for node in nodes.values() for child in (*node.get("children", ()), *node.get("loopBody", ()))}
        root = {"type": "manual", "children": [node_id for node_id in nodes if node_id not in named]}
        reply = await self.api.post("/v1/runs", {"definition": {"nodes": {"root": root, **nodes}}, **body})
        run_id: str = reply.data["runId"]
        return run_id

    async def until(
        self, run_id: str, holds: Callable[[dict[str, Any]], bool], timeout_s: float = _WITHIN_S
    ) -> dict[str, Any]:
        """The run once something holds of it."""
        async with asyncio.timeout(timeout_s):
            while True:
                seen = await self._newest_event(run_id)
                run: dict[str, Any] = (await self.api.get(f"/v1/runs/{run_id}")).data
                if holds(run):
                    return run
                await self._news(run_id, seen)

    async def _newest_event(self, run_id: str) -> Any:
        return await self.composition.rows(sa.select(runs.c.last_seq).where(runs.c.id == run_id))

    async def _news(self, run_id: str, seen: Any) -> None:
        """Returns once the run has another event, or a while has passed: asking for the whole run costs more."""
        for wait_s in _LOOKS_S:
            await asyncio.sleep(wait_s)
            if await self._newest_event(run_id) != seen:
                return

    async def ended(self, run_id: str) -> dict[str, Any]:
        """The run once it has ended."""
        return await self.until(run_id, lambda run: run["finishedAt"] is not None)

    async def run(self, nodes: Definition, **body: Any) -> dict[str, Any]:
        """Runs to the end."""
        return await self.ended(await self.start(nodes, **body))

    async def events(self, run_id: str) -> list[tuple[str, str | None]]:
        """(type, path) of every event of an ended run, from its stream; checks the numbering."""
        response = await self.api.http.get(f"/v1/runs/{run_id}/stream")
        found: list[tuple[str, str | None]] = []
        for frame in response.text.split("\n\n"):
            fields = dict(line.split(": ", 1) for line in frame.split("\n") if ": " in line and line[0] != ":")
            if "id" in fields:
                data = json.loads(fields["data"])
                assert int(fields["id"]) == data["seq"] == len(found) + 1
                found.append((fields["event"], data.get("path")))
        assert response.text.endswith("event: end\ndata: {}\n\n")
        return found


def trial(**payload: Any) -> Definition:
    """A node of the scripted action."""
    node = {name: payload.pop(name) for name in list(payload) if name in NODE_FIELDS}
    return {"type": "trial", "payload": payload, **node}


NODE_FIELDS = {"children", "retry", "onError", "onUncertain", "timeoutMs", "branch", "join", "pinned", "dust"}


def attempts() -> list[tuple[str, str]]:
    """The scripted action's own list."""
    module = sys.modules.get("dustrun_own_trial")
    found: list[tuple[str, str]] = module.SEEN if module is not None else []
    return found


def let_go(name: str) -> None:
    """The scripted action's held attempts of that name go on, now and later."""
    sys.modules["dustrun_own_trial"].LET_GO.add(name)


@pytest.fixture
async def bench(tmp_path: Path, store_url: str) -> AsyncIterator[Bench]:
    async with composed(tmp_path, database_url=store_url, actions_dir=OWN_ACTIONS) as composition:
        yield Bench(composition)
