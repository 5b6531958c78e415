"""Two servers on one store: the second is refused; it takes over when the first dies or has lost the store; and a first
that wakes up afterwards signs and sends nothing."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from web3 import Web3

from testkit.chain.anvil import Anvil
from testkit.outbox_world import OPEN, SENDER, Api, Witness, amount, recipient, server_of
from testkit.postgres import Cluster
from testkit.server_process import ServerProcess

_MANY = 12


@pytest.fixture
def node() -> Iterator[Anvil]:
    """A chain that makes a block five times a second."""
    with Anvil("--block-time", "0.2") as node:
        yield node


@pytest.fixture
def url(cluster: Cluster) -> Iterator[str]:
    """A store for two."""
    url = cluster.fresh()
    yield url
    cluster.drop(url)


def _server(folder: Path, node: Anvil, url: str) -> ServerProcess:
    folder.mkdir()
    given = {"database_url": url, "master_key_file": str(folder.parent / "master.key"), "log_level": "error"}
    return server_of(folder, node.url, 2, 200, **given)


async def _ready(server: ServerProcess) -> None:
    server.start()
    await server.wait_ready()


async def _take_over(first: ServerProcess, second: ServerProcess) -> Api:
    """The second server is up, and knows the owner's key."""
    await _ready(second)
    if not (second.data_dir / "owner.key").exists():
        shutil.copy(first.data_dir / "owner.key", second.data_dir / "owner.key")
    return Api(second)


async def _ended(api: Api, run_ids: list[str]) -> set[str]:
    """How the runs ended."""
    found = []
    for run_id in run_ids:
        async with asyncio.timeout(60):
            while (run := await api.run(run_id))["status"] in OPEN:
                await asyncio.sleep(0.05)
        found.append(run["status"])
    return set(found)


def _assert_paid_once(node: Anvil, count: int) -> None:
    witness = Witness(node)
    assert witness.balances(count) == {number: amount(number) for number in range(count)}
    assert witness.nonce() == count


async def test_a_second_server_is_refused_and_says_why(tmp_path: Path, node: Anvil, url: str) -> None:
    first, second = (_server(tmp_path / name, node, url) for name in ("a", "b"))
    try:
        await _ready(first)
        second.start()
        assert await second.wait_end() != 0
        assert "Another server is already running on this store" in second.log_tail()
        assert first.is_alive
    finally:
        await first.stop()
        await second.stop()


async def test_one_file_of_sqlite_has_one_server_whatever_its_data_folder(tmp_path: Path, node: Anvil) -> None:
    """The lock is the store's, however its path is spelt."""
    (tmp_path / "store").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "store")
    first = _server(tmp_path / "a", node, f"sqlite:///{tmp_path / 'store' / 'shared.db'}")
    second = _server(tmp_path / "b", node, f"sqlite:///{tmp_path / 'link' / 'shared.db'}")
    try:
        await _ready(first)
        second.start()
        assert await second.wait_end() != 0
        assert "Another server is already running on this store" in second.log_tail()
    finally:
        await first.stop()
        await second.stop()


async def test_the_second_pays_what_the_first_had_begun_when_it_was_killed(
    tmp_path: Path, node: Anvil, url: str
) -> None:
    first, second = (_server(tmp_path / name, node, url) for name in ("a", "b"))
    try:
        await _ready(first)
        api = Api(first)
        workflow = await api.prepare()
        run_ids = await asyncio.gather(*(api.start(workflow, number) for number in range(_MANY)))
        first.kill()
        await api.close()
        api = await _take_over(first, second)
        assert await _ended(api, run_ids) == {"success"}
        await api.close()
        _assert_paid_once(node, _MANY)
    finally:
        await first.stop()
        await second.stop()


async def test_a_first_that_wakes_after_the_second_took_over_signs_nothing_and_ends(
    tmp_path: Path, node: Anvil, url: str, cluster: Cluster
) -> None:
    """As long as its session lives, the second is refused. Once the database has lost it, the second takes over;
    what the first had in mind it neither signs nor sends, and it ends, since what it knows is old."""
    first, second = (_server(tmp_path / name, node, url) for name in ("a", "b"))
    pid = None
    try:
        await _ready(first)
        api = Api(first)
        workflow = await api.prepare()
        run_ids = list(await asyncio.gather(*(api.start(workflow, number) for number in range(_MANY))))
        pid = first.server_pid
        os.kill(pid, signal.SIGSTOP)
        await api.close()
        second.start()
        assert await second.wait_end() != 0
        cluster.kill_connections(url)
        api = await _take_over(first, second)
        assert await _ended(api, run_ids) == {"success"}
        run_ids += [await api.start(workflow, number) for number in range(_MANY, _MANY + 3)]
        os.kill(pid, signal.SIGCONT)
        assert await first.wait_end() != 0
        assert "Another server took over this store" in first.log_tail()
        assert await _ended(api, run_ids) == {"success"}
        await api.close()
        _assert_paid_once(node, _MANY + 3)
        web3 = Web3(Web3.HTTPProvider(node.url))
        pool = web3.provider.make_request("txpool_content", [])["result"]  # type: ignore[arg-type]
        assert SENDER not in json.dumps(pool)
        assert web3.eth.get_balance(recipient(0)) == amount(0)
    finally:
        if pid is not None and first.is_alive:
            os.kill(pid, signal.SIGCONT)
        await first.stop()
        await second.stop()
