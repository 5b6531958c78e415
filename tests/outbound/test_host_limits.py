"""The limit of requests to one host at once."""

from __future__ import annotations

import asyncio

import pytest

from dustrun.outbound.client import HostLimits


async def test_turns_limit_each_host_by_itself() -> None:
    turns = HostLimits(2)
    inside: dict[str, int] = {}
    most: dict[str, int] = {}

    async def visit(host: str) -> None:
        async with turns.of(host):
            inside[host] = inside.get(host, 0) + 1
            most[host] = max(most.get(host, 0), inside[host])
            await asyncio.sleep(0)
            inside[host] -= 1

    await asyncio.gather(*(visit(host) for host in ("a", "b") for _ in range(10)))
    assert (most, turns._queues) == ({"a": 2, "b": 2}, {})


async def test_turns_come_back_from_who_fails_and_who_gives_up_waiting() -> None:
    turns = HostLimits(1)
    with pytest.raises(ZeroDivisionError):
        async with turns.of("a"):
            raise ZeroDivisionError
    async with turns.of("a"):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01), turns.of("a"):
                raise AssertionError("two turns at once")
    async with asyncio.timeout(1), turns.of("a"):
        pass
