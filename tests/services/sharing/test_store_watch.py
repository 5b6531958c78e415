"""A process notices that the store does not answer it, whether it is refused or hears nothing."""

from __future__ import annotations

import asyncio

import pytest

from dustrun.errors import StoreUnavailable
from dustrun.services.sharing.store_watch import StoreWatch


@pytest.mark.parametrize("is_refused", [True, False])
async def test_a_store_that_does_not_answer_is_cut_off_until_it_does(is_refused: bool) -> None:
    answers = asyncio.Event()
    answers.set()

    async def ask() -> None:
        if is_refused and not answers.is_set():
            raise StoreUnavailable("away", retry_after_s=1)
        await answers.wait()

    watch = StoreWatch(ask, cut_s=1.0)
    watch.start()
    async with asyncio.timeout(30):
        await watch.until_well()
        assert not watch.is_cut
        answers.clear()
        await watch.until_cut()
        assert watch.is_cut
        answers.set()
        await watch.until_well()
    assert not watch.is_cut
    await watch.stop()


async def test_a_slow_answer_is_an_answer() -> None:
    asked = 0

    async def ask() -> None:
        nonlocal asked
        asked += 1
        await asyncio.sleep(0.6)

    watch = StoreWatch(ask, cut_s=1.0)
    watch.start()
    async with asyncio.timeout(30):
        while asked < 3:
            await asyncio.sleep(0.05)
    assert not watch.is_cut
    await watch.stop()
