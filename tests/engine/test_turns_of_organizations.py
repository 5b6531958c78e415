"""Whose run begins next while many wait: organisations take turns, in one process and where several share a store."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from engine.conftest import OWN_ACTIONS, attempts, let_go, trial
from testkit.composition import Client, Composition, composed
from testkit.postgres import Cluster
from testkit.sharing import ended, until

Open = Callable[..., AbstractAsyncContextManager[Composition]]
_MOST = 2
_MANY = 120
_numbers = itertools.count()


@asynccontextmanager
async def _alone(folder: Path, store_url: str, **limits: int) -> AsyncIterator[Composition]:
    async with composed(folder, database_url=store_url, actions_dir=OWN_ACTIONS, **limits) as server:
        yield server


@asynccontextmanager
async def _apart(folder: Path, url: str, **limits: int) -> AsyncIterator[Composition]:
    """The server that answers; another one, with the limits, advances."""
    shares: dict[str, Any] = {"database_url": url, "shared": True, "actions_dir": OWN_ACTIONS}
    async with composed(folder, **shares, roles="api") as server, composed(folder, **shares, roles="engine", **limits):
        yield server


@pytest.fixture(params=["alone", "apart"])
async def open_server(request: pytest.FixtureRequest, tmp_path: Path, cluster: Cluster) -> AsyncIterator[Open]:
    """Opens a server with limits, of the one process or of the one that advances."""
    if request.param == "alone":
        yield lambda **limits: _alone(tmp_path, f"sqlite:///{tmp_path / 'dustrun.db'}", **limits)
        return
    url = cluster.fresh()
    yield lambda **limits: _apart(tmp_path, url, **limits)
    cluster.drop(url)


_LATER_APART = pytest.mark.parametrize(
    "open_server", ["alone", pytest.param("apart", marks=pytest.mark.long)], indirect=True
)


def _names(*names: str) -> list[str]:
    """Names of attempts that no other test has."""
    number = next(_numbers)
    return [f"{name}{number}" for name in names]


async def _start(client: Client, count: int, **payload: Any) -> list[str]:
    nodes = {"root": {"type": "manual", "children": ["a"]}, "a": trial(**payload)}
    name = payload["name"]
    body = {"definition": {"nodes": nodes}}
    replies = [await client.post("/v1/runs", {"runId": f"run_{name}-{number}", **body}) for number in range(count)]
    return [reply.data["runId"] for reply in replies]


def _begun(*names: str) -> list[str]:
    return [name for name, _ in attempts() if name in names]


async def _has_begun(name: str, count: int) -> None:
    async def is_so() -> bool:
        return len(_begun(name)) >= count

    await until(is_so)


@_LATER_APART
async def test_a_run_begins_with_the_next_free_place_however_many_of_another_organization_wait(
    open_server: Open,
) -> None:
    many, one = _names("many", "one")
    async with open_server(max_running_runs=_MOST) as server:
        other = await server.other_owner()
        await _start(server.owner, _MANY, name=many, held=True)
        await _has_begun(many, _MOST)
        (run_id,) = await _start(other, 1, name=one)
        let_go(many)
        assert (await ended(other, run_id))["status"] == "success"
        await _has_begun(many, _MANY)
    # those that ran then, and those that had their turn while the run was being created
    assert _begun(many, one).index(one) <= 3 * _MOST


@_LATER_APART
async def test_a_run_begins_at_once_while_another_organization_has_as_many_as_it_may(open_server: Open) -> None:
    many, one = _names("many", "one")
    async with open_server(max_running_runs=2 * _MOST, max_running_runs_per_org=_MOST) as server:
        other = await server.other_owner()
        await _start(server.owner, _MANY, name=many, held=True)
        await _has_begun(many, _MOST)
        (run_id,) = await _start(other, 1, name=one)
        assert (await ended(other, run_id))["status"] == "success"
        assert len(_begun(many)) == _MOST
        let_go(many)
        await _has_begun(many, _MANY)


async def test_each_of_several_organizations_has_its_turn(open_server: Open) -> None:
    first, second, third = names = _names("first", "second", "third")
    async with open_server(max_running_runs=1) as server:
        for client, name in ((server.owner, first), (await server.other_owner(), second)):
            await _start(client, 10, name=name, held=True)
        await _has_begun(first, 1)
        await _start(await server.other_owner(), 10, name=third)
        for name in (second, first):
            let_go(name)
        await asyncio.gather(*(_has_begun(name, 10) for name in names))
    begun = _begun(*names)[1:]
    assert all(set(begun[place : place + 3]) == set(names) for place in range(0, 24, 3)), begun
