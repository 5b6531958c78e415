"""Trouble that is no crash: a disk that takes no more, a store that someone else has locked, a server that stops.

Each time: nothing half done, an answer that says so, and all is well when the trouble ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import sqlite3
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from testkit.crash_workflows import read, say, write
from testkit.server_process import ServerProcess
from testkit.sink import SinkProcess

HELD = {"root": {"type": "manual", "payload": {}, "children": ["w"]}, "w": write("held", "w", "say"), "say": say("x")}
DELAYED = {"type": "delay", "payload": {"delayMs": 300}, "children": ["w"]}
NODES = {"root": {"type": "manual", "payload": {}, "children": ["w"]}, "w": write("slow", "w", "say"), "say": say("x")}
LATER = {**NODES, "root": {"type": "manual", "payload": {}, "children": ["nap"]}, "nap": DELAYED}
_NAP_MS = 3_000
QUICK = {"root": {"type": "manual", "payload": {}, "children": ["say"]}, "say": say("x")}


class Trouble:
    """A server, the sink, and a caller with the owner's key."""

    def __init__(self, server: ServerProcess, sink: SinkProcess | None) -> None:
        self.server = server
        self._sink = sink
        headers = {"Authorization": f"Bearer {server.owner_key}"}
        self.session = aiohttp.ClientSession(server.base, headers=headers)
        self._workflows: dict[str, str] = {}

    @property
    def sink(self) -> SinkProcess:
        assert self._sink is not None
        return self._sink

    async def call(self, method: str, path: str, body: Any = None) -> tuple[int, Any, dict[str, str]]:
        async with self.session.request(method, path, json=body) as answer:
            return answer.status, await answer.json(), {name.lower(): value for name, value in answer.headers.items()}

    async def workflow(self, name: str, nodes: dict[str, Any]) -> str:
        body = {"name": name, "description": "", "definition": {"nodes": nodes, "triggerNodeIds": ["root"]}}
        status, found, _ = await self.call("POST", "/v1/workflows", body)
        assert status == 200, found
        return str(found["data"]["id"])

    def body(self, run_id: str) -> dict[str, Any]:
        base = "" if self._sink is None else self._sink.base
        return {"runId": run_id, "payload": {"sink": base, "tag": run_id}}

    async def start(self, workflow_id: str, run_id: str) -> tuple[int, Any, dict[str, str]]:
        return await self.call("POST", f"/v1/workflows/{workflow_id}/run", self.body(run_id))

    async def status(self, run_id: str) -> str | None:
        status, found, _ = await self.call("GET", f"/v1/runs/{run_id}?summary=true")
        return str(found["data"]["status"]) if status == 200 else None

    async def ends(self, run_id: str, within_s: float = 60.0) -> str | None:
        for _ in range(int(within_s / 0.05)):
            status = await self.status(run_id)
            if status not in ("running", "waiting"):
                return status
            await asyncio.sleep(0.05)
        return await self.status(run_id)

    async def starts_again(self, workflow_id: str, run_id: str) -> str | None:
        """Sends a run call until it is accepted, and waits for the run's end."""
        for _ in range(600):
            status, found, _ = await self.start(workflow_id, run_id)
            if status == 200:
                return await self.ends(run_id)
            assert found["code"] == 503001
            await asyncio.sleep(0.1)
        return None


@pytest.fixture
async def trouble(tmp_path: Path) -> AsyncIterator[Trouble]:
    sink = SinkProcess(1)
    server = ServerProcess(tmp_path / "data", {"outbound_allow": "127.0.0.1", "shutdown_grace_s": "20"})
    try:
        server.start()
        await server.wait_ready()
        made = Trouble(server, sink)
        yield made
        await made.session.close()
    finally:
        await server.stop()
        sink.stop()


def assert_unavailable(answer: tuple[int, Any, dict[str, str]]) -> None:
    status, found, headers = answer
    assert (status, found["code"]) == (503, 503001), found
    assert int(headers["retry-after"]) >= 1


def assert_whole(path: Path) -> None:
    """Every run in the file ended once, with its events numbered without gaps."""
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    for pk, run_id, status, last_seq in connection.execute("SELECT pk, id, status, last_seq FROM runs").fetchall():
        events = connection.execute("SELECT seq, type FROM events WHERE run_pk = ? ORDER BY seq", (pk,)).fetchall()
        assert [seq for seq, _ in events] == list(range(1, last_seq + 1)), run_id
        assert status == "success", run_id
        assert [kind for _, kind in events].count("run_finished") == 1, run_id
    connection.close()


async def test_full_disk_refuses_and_recovers(trouble: Trouble) -> None:
    quick, slow, later = [await trouble.workflow("t", nodes) for nodes in (QUICK, HELD, LATER)]
    assert await trouble.starts_again(quick, "run_before") == "success"
    assert [(await trouble.start(slow, "run_amid"))[0], (await trouble.start(later, "run_asleep"))[0]] == [200, 200]

    trouble.server.limit_files(1024)
    await trouble.sink.let_go()
    assert_unavailable(await trouble.start(quick, "run_refused"))
    assert_unavailable(await trouble.call("POST", "/v1/conversations", {"title": "refused"}))
    await asyncio.sleep(1.0)
    assert await trouble.status("run_refused") is None
    assert await trouble.status("run_before") == "success"
    assert await trouble.status("run_amid") == "running"
    assert (await trouble.call("GET", "/v1/conversations"))[1]["data"]["items"] == []

    trouble.server.limit_files(None)
    assert await trouble.starts_again(quick, "run_refused") == "success"
    assert await trouble.ends("run_amid") == "success"
    assert await trouble.ends("run_asleep") == "success"
    assert [await trouble.sink.count(path) for path in ("/held/run_amid/w", "/slow/run_asleep/w")] == [1, 1]
    trouble.server.kill()
    assert_whole(trouble.server.database_path)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MiB, where one may be mounted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    try:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("mounting a file system needs root")
    yield folder
    subprocess.run(["umount", folder], check=True)


async def test_disk_that_is_really_full_refuses_and_recovers(small_disk: Path, tmp_path: Path) -> None:
    server = ServerProcess(small_disk / "data", log_path=tmp_path / "server.log")
    server.start()
    try:
        await server.wait_ready()
        async with contextlib.AsyncExitStack() as closing:
            trouble = Trouble(server, None)
            closing.push_async_callback(trouble.session.close)
            quick = await trouble.workflow("t", QUICK)
            accepted, refused = [], None
            ballast = small_disk / "ballast"
            ballast.write_bytes(b"x" * (shutil.disk_usage(small_disk).free - 131_072))
            for number in range(1000):
                answer = await trouble.start(quick, f"run_{number}")
                if answer[0] != 200:
                    refused = f"run_{number}"
                    assert_unavailable(answer)
                    break
                accepted.append(f"run_{number}")
            assert refused is not None
            assert await trouble.status(refused) is None
            assert await trouble.status("run_0") in ("running", "success")
            ballast.unlink()
            assert await trouble.starts_again(quick, refused) == "success"
            assert {await trouble.ends(run_id) for run_id in accepted} == {"success"}
        server.kill()
        assert_whole(server.database_path)
    finally:
        await server.stop()


async def test_full_disk_and_a_kill_lose_nothing_that_was_answered(trouble: Trouble) -> None:
    """The runs are to go on while the disk is full, not before: what was sent without a record would be uncertain."""
    still_later = {**LATER, "nap": {**DELAYED, "payload": {"delayMs": _NAP_MS}}}
    quick, later = [await trouble.workflow("t", nodes) for nodes in (QUICK, still_later)]
    accepted = [f"run_{number}" for number in range(20)]
    answers = await asyncio.gather(*(trouble.start(later, run_id) for run_id in accepted))
    assert [status for status, _, _ in answers] == [200] * 20
    trouble.server.limit_files(1024)
    assert_unavailable(await trouble.start(quick, "run_refused"))
    await asyncio.sleep(_NAP_MS / 1000 + 0.5)
    trouble.server.kill()
    trouble.server.start()
    await trouble.server.wait_ready()
    assert [await trouble.ends(run_id) for run_id in accepted] == ["success"] * 20
    assert await trouble.status("run_refused") is None
    assert [await trouble.sink.count(f"/slow/{run_id}/w") for run_id in accepted] == [1] * 20


async def test_locked_store_refuses_and_recovers(trouble: Trouble) -> None:
    quick, later = [await trouble.workflow("t", nodes) for nodes in (QUICK, LATER)]
    assert (await trouble.start(later, "run_asleep"))[0] == 200
    other = sqlite3.connect(trouble.server.database_path, isolation_level=None, timeout=60)
    other.execute("BEGIN EXCLUSIVE")
    assert_unavailable(await trouble.start(quick, "run_refused"))
    assert await trouble.status("run_refused") is None
    held = asyncio.create_task(trouble.start(quick, "run_held"))
    await asyncio.sleep(0.5)
    other.execute("ROLLBACK")
    other.close()
    assert (await held)[0] == 200
    assert await trouble.starts_again(quick, "run_refused") == "success"
    assert [await trouble.ends(run_id) for run_id in ("run_held", "run_asleep")] == ["success"] * 2
    assert await trouble.sink.count("/slow/run_asleep/w") == 1
    trouble.server.kill()
    assert_whole(trouble.server.database_path)


class Slow:
    """A request whose last byte is held back."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, rest: bytes) -> None:
        self._reader = reader
        self._writer = writer
        self._rest = rest

    @classmethod
    async def begin(cls, server: ServerProcess, head: str, body: bytes = b"") -> Slow:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        lines = [head, "Host: t", f"Authorization: Bearer {server.owner_key}"]
        if body:
            lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
        whole = "\r\n".join([*lines, "", ""]).encode() + body
        writer.write(whole[:-1])
        await writer.drain()
        await asyncio.sleep(0.1)
        return cls(reader, writer, whole[-1:])

    async def end(self) -> tuple[int | None, dict[str, str], bytes]:
        """Sends the last byte; the answer, with status None when the connection was dropped without one."""
        try:
            self._writer.write(self._rest)
            answer = await asyncio.wait_for(self._reader.read(), 60)
        except ConnectionError:
            answer = b""
        self._writer.close()
        head, _, body = answer.partition(b"\r\n\r\n")
        lines = head.decode().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines[1:] if ": " in line)
        return (int(lines[0].split()[1]) if lines[0] else None), headers, body


async def test_stopping_server_refuses_run_calls_and_drops_streams(trouble: Trouble) -> None:
    server = trouble.server
    quick, later = [await trouble.workflow("t", nodes) for nodes in (QUICK, LATER)]
    accepted = [f"run_{number}" for number in range(20)]
    answers = await asyncio.gather(*(trouble.start(later, run_id) for run_id in accepted))
    assert [status for status, _, _ in answers] == [200] * 20
    path = f"/v1/workflows/{quick}/run"
    late = await Slow.begin(server, f"POST {path} HTTP/1.1", json.dumps(trouble.body("run_late")).encode())
    late_stream = await Slow.begin(server, "GET /v1/runs/run_0/stream HTTP/1.1")
    async with trouble.session.get("/v1/runs/run_none/stream") as waiting:
        await waiting.content.readline()
        server.ask_to_stop()
        rest = await asyncio.wait_for(waiting.content.read(), 60)
        assert b"event:" not in rest
    status, headers, body = await late.end()
    assert (status, json.loads(body)["code"]) == (503, 503001)
    assert int(headers["retry-after"]) >= 1
    status, _, body = await late_stream.end()
    assert status in (None, 200)
    assert b"event: end" not in body
    assert await server.wait_end() == 0

    server.start()
    await server.wait_ready()
    assert await trouble.status("run_late") is None
    assert [await trouble.ends(run_id) for run_id in accepted] == ["success"] * 20
    assert [await trouble.sink.count(f"/slow/{run_id}/w") for run_id in accepted] == [1] * 20
    await server.stop()
    assert_whole(server.database_path)


@pytest.mark.long
async def test_stopping_server_lets_running_nodes_end(trouble: Trouble) -> None:
    workflow_id = await trouble.workflow("t", NODES)
    accepted = [f"run_{number}" for number in range(10)]
    for run_id in accepted:
        assert (await trouble.start(workflow_id, run_id))[0] == 200
    trouble.server.ask_to_stop()
    assert await trouble.server.wait_end() == 0
    trouble.server.start()
    await trouble.server.wait_ready()
    assert [await trouble.ends(run_id) for run_id in accepted] == ["success"] * 10
    assert [await trouble.sink.count(f"/slow/{run_id}/w") for run_id in accepted] == [1] * 10


async def test_stopping_under_load_keeps_every_run_that_was_answered(trouble: Trouble) -> None:
    nodes = {**QUICK, "root": {"type": "manual", "payload": {}, "children": ["r"]}, "r": read("ok", "r", "say")}
    workflow_id = await trouble.workflow("t", nodes)
    accepted: list[str] = []

    async def user(name: int) -> None:
        for number in range(10_000):
            run_id = f"run_{name}_{number}"
            try:
                status, found, _ = await trouble.start(workflow_id, run_id)
            except aiohttp.ClientError:
                return
            if status != 200:
                assert found["code"] == 503001
                return
            accepted.append(run_id)

    users = [asyncio.create_task(user(name)) for name in range(20)]
    await asyncio.sleep(1.0)
    async with asyncio.timeout(60):
        while len(accepted) <= len(users):
            await asyncio.sleep(0.01)
    trouble.server.ask_to_stop()
    await asyncio.gather(*users)
    assert await trouble.server.wait_end() == 0
    assert len(accepted) > len(users)
    trouble.server.start()
    await trouble.server.wait_ready()
    assert {await trouble.ends(run_id) for run_id in accepted} == {"success"}
    await trouble.server.stop()
    assert_whole(trouble.server.database_path)
