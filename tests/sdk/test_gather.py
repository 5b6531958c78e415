"""Reads that are asked side by side."""

from __future__ import annotations

import asyncio

import pytest

from dustrun.sdk.threads import side_by_side


async def after(turns: int, value: str) -> str:
    for _ in range(turns):
        await asyncio.sleep(0)
    return value


async def failing(turns: int, why: str) -> str:
    raise ValueError(await after(turns, why))


async def test_answers_stand_in_the_order_of_the_questions() -> None:
    assert await side_by_side(after(3, "a"), after(1, "b"), after(2, "c")) == ("a", "b", "c")


async def test_of_two_failures_the_first_in_order_is_told_and_nothing_goes_on_behind_it() -> None:
    ended: list[str] = []

    async def last() -> None:
        ended.append(await after(5, "last"))

    with pytest.raises(ValueError, match="first"):
        await side_by_side(failing(3, "first"), failing(1, "second"), last())
    assert ended == ["last"]


async def test_a_cancelled_asker_cancels_its_questions() -> None:
    never = asyncio.Event()
    asked = asyncio.ensure_future(never.wait()), asyncio.ensure_future(never.wait())
    asking = asyncio.ensure_future(side_by_side(*asked))
    await asyncio.sleep(0)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert all(question.cancelled() for question in asked)
