"""A server with a receiver of hooks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from testkit.composition import Composition, composed
from testkit.receiver import Receiver, receiving

FAST = "0.05,0.05,0.05,0.05"


class World:
    """The owner's view: hooks to the receiver, and workflows."""

    def __init__(self, server: Composition, receiver: Receiver) -> None:
        self.server = server
        self.api = server.owner
        self.receiver = receiver
        self.flows = 0

    async def hook(self, *types: str, **fields: Any) -> dict[str, Any]:
        """Creates a hook to the receiver, which then knows its secret."""
        body = {"name": "test", "url": self.receiver.url, "subscribedEventTypes": list(types) or ["run.*"], **fields}
        made: dict[str, Any] = (await self.api.post("/v1/hooks", body)).data
        self.receiver.secrets.append(made["secret"])
        return made

    async def flow(self, **nodes: Any) -> str:
        """The id of a new workflow that goes from node to node."""
        names = [*nodes, None]
        chained = {
            name: {**node, "children": [then] if then else []}
            for (name, node), then in zip(nodes.items(), names[1:], strict=True)
        }
        defined = {"nodes": {"root": {"type": "manual", "children": [names[0]]}, **chained}}
        self.flows += 1
        return str((await self.api.create_workflow(defined, name=f"flow {self.flows}"))["id"])

    async def run(self, workflow: str, **body: Any) -> str:
        """Starts a run."""
        return str((await self.api.post(f"/v1/workflows/{workflow}/run", body)).data["runId"])

    async def ended(self, delivery: str) -> dict[str, Any]:
        """A delivery, once it has arrived or was given up: the receiver knows that before the log does."""
        async with asyncio.timeout(60):
            while (found := (await self.api.get(f"/v1/hook-deliveries/{delivery}")).data)["finishedAt"] is None:
                await asyncio.sleep(0.01)
        return dict(found)

    async def deliveries(self, query: str = "") -> list[dict[str, Any]]:
        """The log, oldest first."""
        page = (await self.api.get(f"/v1/hook-deliveries?limit=100{query}")).data
        return list(reversed(page["items"]))


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as receiver:
        yield receiver


@pytest.fixture
async def world(tmp_path: Path, store_url: str, receiver: Receiver) -> AsyncIterator[World]:
    settings = {"outbound_allow": "127.0.0.1", "hook_retry_s": FAST, "hook_timeout_s": 1.0}
    async with composed(tmp_path, database_url=store_url, **settings) as server:
        yield World(server, receiver)
