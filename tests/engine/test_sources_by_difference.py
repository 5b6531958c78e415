"""A small cut of the proof of sources: one drawn workflow, simulated with one source changed at a time."""

from __future__ import annotations

import asyncio
import random
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from bench.soak_sources import serve
from bench.source_pairs import Tally, Trial, compare
from bench.source_workflows import Stage
from rehearsals import Studio, open_studio
from testkit.chain.anvil import ACCOUNTS
from testkit.chain.contracts import ETHER, World

SEED = 5_003
COLUMNS = [{"name": "id", "type": "text"}, {"name": "n", "type": "integer"}]


class _Api:
    """The API as the proof calls it."""

    def __init__(self, studio: Studio) -> None:
        self._api = studio.api

    async def call(self, method: str, path: str, body: Any = None) -> Any:
        return (await self._api.send(method, path, body)).data


async def test_what_changes_a_spend_is_in_its_slice_and_in_its_report(tmp_path: Path, world: World) -> None:
    async with AsyncExitStack() as stack:
        node = stack.enter_context(world.node())
        studio = await stack.enter_async_context(open_studio(tmp_path, world, node, outbound_allow="127.0.0.1"))
        answers: list[dict[str, Any]] = [{}, {}, {}]
        hosts = tuple([await serve(stack, answer) for answer in answers])
        await studio.api.post("/v1/tables", {"name": "t", "primaryKey": "id", "columns": COLUMNS})
        recipients = tuple(f"0x{0xD0_0000 + at:040x}" for at in range(4))
        stage = Stage(recipients, hosts, "t", studio.outbox.wallet_id, ACCOUNTS[1])

        async def set_balance(address: str, step: int) -> None:
            await asyncio.to_thread(node.rpc, "anvil_setBalance", address, hex(1000 * ETHER + step))

        tally = Tally()
        await compare(Trial(_Api(studio), stage, answers, random.Random(SEED), set_balance), tally, most=4)
        assert tally.misses == []
        assert tally.counts["pairs"] >= 20
        assert tally.counts["a field differed"] >= 3
        assert tally.counts["a field differed, judged by the report"] >= 1
