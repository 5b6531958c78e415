"""A turn of the assistant whose server is killed is told as interrupted by another server, which takes the next one."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from testkit import processes
from testkit.machines import Machines, machines_on
from testkit.model_server import Reply, serving_model
from testkit.postgres import Cluster


async def test_a_killed_servers_turn_ends_on_another_one(tmp_path: Path, cluster: Cluster) -> None:
    processes.share_more("dustrun.sdk.llm.protocol")
    async with (
        serving_model(Reply("Never heard.", delay_s=600), Reply("Hello.")) as models,
        machines_on(tmp_path, cluster) as machines,
    ):
        machines.add("one")
        machines.add("two")
        await machines.start()
        await machines.post("one", "/v1/connectors", models.connector())
        chat = (await machines.post("one", "/v1/conversations", {"title": "Plan"}))["id"]
        asked = asyncio.create_task(machines.post("one", f"/v1/conversations/{chat}/turns", {"text": "Hi"}))
        async with asyncio.timeout(60):
            while not models.asked:
                await asyncio.sleep(0.02)
        machines.servers["one"].kill()
        await asyncio.gather(asked, return_exceptions=True)
        first = await _settled(machines, chat, 1)
        assert (first["status"], first["failure"], first["content"]) == ("failed", "INTERRUPTED", "")
        await machines.post("two", f"/v1/conversations/{chat}/turns", {"text": "Again?"})
        second = await _settled(machines, chat, 2)
        assert (second["status"], second["content"]) == ("complete", "Hello.")
        assert len(models.asked) == 2


async def _settled(machines: Machines, chat: str, count: int) -> Any:
    """The newest answer, once there are so many and none is under way."""
    async with asyncio.timeout(60):
        while True:
            found: Any = await machines.get("two", f"/v1/conversations/{chat}/messages")
            answers = [one for one in found["items"] if one["role"] == "assistant"]
            if len(answers) == count and all(one["status"] != "streaming" for one in answers):
                return answers[-1]
            await asyncio.sleep(0.1)
