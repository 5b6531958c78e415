"""The day of a key is one budget, however many of its turns go on beside each other."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from pathlib import Path

import pytest

from api.test_conversation_turns import conversation, turn
from testkit.composition import composed
from testkit.model_server import Asked, Reply, serving_model

DAY = Decimal("0.20")


@pytest.mark.both_stores
async def test_turns_beside_each_other_never_exceed_the_day(tmp_path: Path, store_url: str) -> None:
    """All are asked at once, and each writes as much as it may."""

    def dear(asked: Asked) -> Reply:
        return Reply("x", tokens=(4_000, asked.body["max_tokens"]), delay_s=0.3)

    async with (
        serving_model(script=dear) as model,
        composed(tmp_path, database_url=store_url, outbound_allow=("127.0.0.1",), assistant_day_usd=str(DAY)) as server,
    ):
        await server.owner.post("/v1/connectors", model.connector())
        chats = [await conversation(server.owner) for _ in range(12)]
        found = await asyncio.gather(*(turn(server.owner, chat) for chat in chats))
        spent = [Decimal(one["usage"]["costUsd"]) for one in found]
        assert 0 < sum(spent) <= DAY, spent
        refused = [one for one in found if one["status"] == "failed"]
        assert {one["failure"] for one in refused} <= {"BUDGET"}
        assert 0 < len(model.asked) == 12 - len(refused) < 12
