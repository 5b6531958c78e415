"""Each alert rule, in a real Prometheus: it fires for what it is about, and is resolved afterwards."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml

from dustrun.storage.db.store_facts import RESTORED_AT
from outbox import ANYTHING
from served import ROOT
from testkit.chain.anvil import ACCOUNTS, Anvil
from testkit.chain.contracts import World as Contracts
from testkit.fuzz_world import World
from testkit.ports import free_port
from testkit.server_process import ServerProcess

ALERTS = ROOT / "deploy" / "alerts.yaml"
_CONFIG = """
global: {{scrape_interval: 500ms, evaluation_interval: 500ms}}
rule_files: [{rules}]
scrape_configs: [{{job_name: dustrun, static_configs: [{{targets: ["127.0.0.1:{port}"]}}]}}]
"""
_WITHIN_S = 120.0
_POLICY = {**ANYTHING, "allowUnlimitedApprovals": True, "allowUnpricedAssets": True}


class Server:
    """A real server on a disk of its own, with a chain, and the troubles that it is put into."""

    def __init__(self, disk: Path, log_path: Path, chain: Anvil) -> None:
        self._disk = disk
        endpoints = json.dumps({str(chain.chain_id): [chain.url]})
        settings = {"metrics_public": "true", "outbound_allow": "127.0.0.1", "chain_endpoints": endpoints}
        self.process = ServerProcess(disk / "data", settings, log_path=log_path)
        self.start()
        self._chain = chain
        self.world = World(self.process.base, self.process.owner_key, "http://127.0.0.1:9", chain.rpc, chain.chain_id)

    def start(self) -> None:
        """Starts it, also again."""
        self.process.start()
        asyncio.run(self.process.wait_ready())

    def stop(self) -> None:
        """Ends it."""
        self.world.close()
        asyncio.run(self.process.stop())

    def leave_free(self, size: int) -> None:
        """Lets so many bytes be free on its disk."""
        usage = shutil.disk_usage(self._disk)
        subprocess.run(["mount", "-o", f"remount,size={usage.used + size}", self._disk], check=True, timeout=60)

    def approve_without_bound(self, token: str) -> str:
        """A wallet lets a contract take any amount of a token; the id of the run."""
        sender = self.world.sender()
        self.world.call("PUT", f"/v1/wallets/{sender['id']}/policy", {"policy": _POLICY})
        payload = {"chainId": self._chain.chain_id, "token": token, "spender": ACCOUNTS[3], "amount": "max"}
        node = {"type": "approve-erc20", "connector": {"type": "wallet", "id": sender["id"]}, "payload": payload}
        run_id = self.world.run(node)
        deadline = time.monotonic() + _WITHIN_S
        while (run := self.world.call("GET", f"/v1/runs/{run_id}"))["status"] != "success":
            assert run["status"] != "failure", run["error"]
            assert time.monotonic() < deadline, run["status"]
            self.mine()
            time.sleep(0.1)
        return run_id

    def mine(self) -> None:
        """So many blocks that what was in the last one is final."""
        self._chain.rpc("anvil_mine", hex(64))

    def try_to_write(self) -> None:
        """Whether or not it can be."""
        with suppress(RuntimeError):
            self.world.draft()

    @contextmanager
    def changed(self, *changes: tuple[str, str, str]) -> Iterator[None]:
        """Other values in rows of its store, for a while: table, which row, what it says."""
        kept = list[tuple[str, list[str], tuple[Any, ...]]]()
        with closing(sqlite3.connect(self.process.database_path, timeout=60)) as store:
            with store:
                for table, where, values in changes:
                    names = re.findall(r"(\w+) = ", values)
                    found = store.execute(f"SELECT {', '.join(names)}, rowid FROM {table} WHERE {where}").fetchall()
                    assert len(found) == 1, (table, where, found)
                    kept.append((table, names, found[0]))
                    store.execute(f"UPDATE {table} SET {values} WHERE {where}")
            yield
            with store:
                for table, names, before in kept:
                    set_back = ", ".join(f"{name} = ?" for name in names)
                    store.execute(f"UPDATE {table} SET {set_back} WHERE rowid = ?", before)

    @contextmanager
    def needing(self, approvals: list[str]) -> Iterator[None]:
        """Everything that needs a person, each kind once, in rows of things that are really there."""
        world = self.world
        first, second = (world.ticking() for _ in range(2))
        for workflow_id in (first, second):
            world.call("POST", f"/v1/workflows/{workflow_id}/publish", {})
        hook = world.hook()
        waiting = world.call("GET", f"/v1/runs/{world.waiting()}?summary=true")["id"]
        failing = [
            (world.connector(), json.dumps({"what": what, "message": ""}))
            for what in ("reconnect", "refused", "unreachable")
        ]
        with closing(sqlite3.connect(self.process.database_path, timeout=60)) as store, store:
            store.execute("INSERT INTO store_facts (name, value) VALUES (?, '1')", (RESTORED_AT,))
        run = f"(SELECT pk FROM runs WHERE id = '{waiting}')"
        with self.changed(
            ("transactions", f"run_id = '{approvals[0]}'", """state = 'displaced', error = '{"message": "It was."}'"""),
            ("transactions", f"run_id = '{approvals[1]}'", f"state = 'planned', refusal = 'Held.', run_pk = {run}"),
            ("subscriptions", f"workflow_id = '{first}'", "state = 'failed', state_reason = 'It broke.'"),
            ("subscriptions", f"workflow_id = '{second}'", "stalled_since = 1, last_error = 'It is away.'"),
            ("hooks", f"id = '{hook}'", "status = 'disabled', disabled_reason = '410', disabled_at = 1"),
            *(("connectors", f"id = '{one}'", f"failing_since = 1, failure = '{how}'") for one, how in failing),
        ):
            yield


def _prometheus(folder: Path) -> str:
    """The program: installed, or unpacked from Debian's package, which would start a service if it were installed."""
    if found := shutil.which("prometheus"):
        return found
    if shutil.which("apt-get") is None:
        pytest.skip("there is no Prometheus, and no apt-get to fetch one")
    done = subprocess.run(
        ["apt-get", "download", "prometheus"], cwd=folder, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        pytest.skip(f"there is no Prometheus, and apt-get has none: {done.stderr[-200:]}")
    (package,) = folder.glob("prometheus_*.deb")
    subprocess.run(["dpkg", "-x", package, folder], check=True, timeout=120)
    return str(folder / "usr" / "bin" / "prometheus")


def _nothing() -> None:
    """Waits only."""


def _soon(rules: str) -> str:
    """The same rules with seconds for minutes."""
    return re.sub(r"\[\d+m\]", "[8s]", re.sub(r"for: \d+m", "for: 1s", rules))


@contextmanager
def _watching(program: str, folder: Path, port: int) -> Iterator[Callable[[], set[str]]]:
    """A Prometheus that scrapes the port; gives the names of what fires now."""
    own = free_port()
    (folder / "rules.yaml").write_text(_soon(ALERTS.read_text()))
    (folder / "prometheus.yaml").write_text(_CONFIG.format(rules=folder / "rules.yaml", port=port))
    command = [program, f"--config.file={folder}/prometheus.yaml", f"--storage.tsdb.path={folder}/data"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([*command, f"--web.listen-address=127.0.0.1:{own}"], stdout=log, stderr=log)

    def asked(what: str) -> Any:
        return requests.get(f"http://127.0.0.1:{own}/api/v1/{what}", timeout=10).json()["data"]

    def firing() -> set[str]:
        assert process.poll() is None, (folder / "log").read_text()[-2000:]
        try:
            if not asked("query?query=up")["result"]:
                return {"not scraped yet"}
            found = asked("alerts")["alerts"]
        except (requests.ConnectionError, requests.exceptions.JSONDecodeError):  # it says 503 in words
            return {"not ready"}
        return {one["labels"]["alertname"] for one in found if one["state"] == "firing"}

    try:
        yield firing
    finally:
        process.terminate()
        process.wait(60)


def _until(firing: Callable[[], set[str]], wanted: set[str], meanwhile: Callable[[], None] = _nothing) -> None:
    deadline = time.monotonic() + _WITHIN_S
    while (found := firing()) != wanted:
        assert time.monotonic() < deadline, (sorted(found - wanted), sorted(wanted - found))
        meanwhile()
        time.sleep(0.2)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system that can be made larger and smaller."""
    folder = tmp_path / "disk"
    folder.mkdir()
    try:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4g", "tmpfs", folder], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("mounting a file system needs root")
    yield folder
    subprocess.run(["umount", folder], check=True, timeout=60)


@pytest.mark.long
def test_each_alert_fires_and_is_resolved(tmp_path: Path, disk: Path, anvil: Anvil, world: Contracts) -> None:
    (group,) = yaml.safe_load(ALERTS.read_text())["groups"]
    seen = set[str]()
    server = Server(disk, tmp_path / "server.log", anvil)
    (folder := tmp_path / "prometheus").mkdir()
    try:
        with _watching(_prometheus(folder), folder, server.process.port) as firing:

            def fires(*names: str, meanwhile: Callable[[], None] = _nothing) -> None:
                _until(firing, set(names), meanwhile)
                seen.update(names)

            def is_resolved() -> None:
                _until(firing, set())

            is_resolved()
            approvals = [server.approve_without_bound(world[token]) for token in ("usdc", "weth")]
            fires("DustrunSpendAlert", meanwhile=server.mine)
            is_resolved()
            with server.needing(approvals):
                fires(
                    *("DustrunPaymentDisplaced", "DustrunPaymentHeld", "DustrunTriggerFailed", "DustrunTriggerStalled"),
                    *("DustrunConnectorFailing", "DustrunHookDisabled"),
                )
            is_resolved()
            server.leave_free(500 << 20)
            fires("DustrunDiskLow")
            server.leave_free(50 << 20)
            fires("DustrunDiskLow", "DustrunDiskFull")
            server.leave_free(0)
            begin = server.try_to_write
            fires("DustrunDiskLow", "DustrunDiskFull", "DustrunWriterFailing", meanwhile=begin)
            server.leave_free(3 << 30)
            is_resolved()
            fires("DustrunOverloaded", meanwhile=lambda: _hold_up(server.process.server_pid))
            is_resolved()
            server.process.kill()
            fires("DustrunDown")
            server.start()
            is_resolved()
    finally:
        server.stop()
    assert seen == {rule["alert"] for rule in group["rules"]}


def _hold_up(pid: int) -> None:
    """Has a process do nothing for half a second."""
    os.kill(pid, signal.SIGSTOP)
    time.sleep(0.5)
    os.kill(pid, signal.SIGCONT)
    time.sleep(0.2)
