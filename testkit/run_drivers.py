"""Starts inline runs with large inputs, without a client that works on the event loop."""

from __future__ import annotations

import asyncio
import itertools
import json
from typing import Any

import sqlalchemy as sa

from dustrun import ids
from dustrun.storage.db.tables import runs
from testkit.composition import Composition


class Runs:
    """Starts inline runs of one definition after another, without encoding or checking anything while they run."""

    def __init__(self, server: Composition) -> None:
        self._server = server
        self.statuses: set[str] = set()
        self._ways = itertools.cycle(("", "/effects", "/compare/{}"))

    def body(self, nodes: dict[str, Any], data: Any, **options: Any) -> bytes:
        """The body of a run call whose trigger leads to the first node."""
        root = {"type": "manual", "children": [next(iter(nodes))]}
        definition = {"nodes": {"root": root, **nodes}, "triggerNodeIds": ["root"]}
        body = {"definition": definition, "payload": {"data": data}, **options}
        return json.dumps(body, separators=(",", ":")).encode()

    async def run(self, body: bytes) -> None:
        """Runs it to its end, and reads it in one of three ways."""
        run_id = ids.new_id("run")
        sent = body[:-1] + f',"runId":"{run_id}"}}'.encode()
        http, headers = self._server.owner.http, {"Content-Type": "application/json"}
        answer = await http.post("/v1/runs", content=sent, headers=headers)
        assert answer.status_code == 200, answer.text[:500]
        status = sa.select(runs.c.status).where(runs.c.id == run_id)
        while (found := (await self._server.rows(status))[0][0]) in ("running", "waiting"):
            await asyncio.sleep(0.01)
        self.statuses.add(found)
        assert (await http.get(f"/v1/runs/{run_id}{next(self._ways).format(run_id)}")).status_code == 200
