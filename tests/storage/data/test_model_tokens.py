"""Tokens of models by hour: those of the last day count, older ones are gone."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest
import sqlalchemy as sa

from dustrun.storage.data import model_tokens
from dustrun.storage.data.model_tokens import HOUR_MS
from dustrun.storage.db.statement import Tx
from dustrun.storage.db.tables import model_tokens as rows
from testkit.composition import composed


def _add(one: tuple[str, int, int], tx: Tx) -> None:
    model_tokens.add(tx, *one)


@pytest.mark.both_stores
async def test_tokens_of_the_last_day_are_added_up_and_older_ones_forgotten(tmp_path: Path, store_url: str) -> None:
    async with composed(tmp_path, database_url=store_url) as server:
        own = (await server.owner.get("/v1/organizations")).data["items"][0]["id"]
        other = (await (await server.other_owner()).get("/v1/organizations")).data["items"][0]["id"]
        now = 1_000_000 * HOUR_MS + 5
        for one in (
            (own, 1, now - 26 * HOUR_MS),
            (own, 2, now - 23 * HOUR_MS),
            (other, 1000, now),
            (own, 4, now),
            (own, 8, now + 1),
        ):
            await server.parts.writer.write(functools.partial(_add, one))
        assert await server.parts.database.read(lambda tx: model_tokens.count(tx, own, now)) == 14
        assert await server.parts.database.read(lambda tx: model_tokens.count(tx, own, now + 24 * HOUR_MS)) == 12
        kept = await server.rows(sa.select(rows.c.tokens).where(rows.c.org_id == own).order_by(rows.c.hour))
        assert [row[0] for row in kept] == [2, 12]
