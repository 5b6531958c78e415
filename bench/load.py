"""A lean load generator: keep-alive connections and streams over bare asyncio, so that it costs the server little."""

from __future__ import annotations

import asyncio
import compileall
import contextlib
import json
import os
import signal
import subprocess
import time
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import dustrun
from testkit import processes
from testkit.ports import free_port


def cpu_s_of(pid: int) -> float:
    """Processor time that a process has used so far, user and system, by the threads that live."""
    used = 0
    for thread in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
            used += int(thread.read_text().split()[0])
    return used / 1e9


class Process:
    """A real server process on a free loopback port."""

    def __init__(self, data_dir: Path, **environment: str) -> None:
        self.data_dir = data_dir
        self.port = free_port()
        actions = Path(__file__).parent / "actions"
        # as pip leaves an installed package: a start reads what is compiled
        compileall.compile_dir(Path(dustrun.__file__).parent, quiet=1)
        inherited = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        self.environment = {
            **inherited,
            "DUSTRUN_LOG_LEVEL": "warning",
            "DUSTRUN_RATE_LIMIT_PER_SECOND": "0",
            "DUSTRUN_ACTIONS_DIR": str(actions),
            "DUSTRUN_MASTER_KEY_FILE": str(data_dir / "master.key"),
            **environment,
        }
        self.started_s = 0.0
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, log: Path | None = None) -> None:
        """Starts it and waits until it is ready; `log` takes what it writes to standard error."""
        begun = time.perf_counter()
        command = [*processes.DUSTRUN, "serve", "--port", str(self.port), "--data-dir", str(self.data_dir)]
        with contextlib.ExitStack() as stack:
            stderr = None if log is None else stack.enter_context(log.open("wb"))
            self._process = processes.start(command, env=self.environment, stdout=subprocess.DEVNULL, stderr=stderr)
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}/readyz", timeout=1).read()
                break
            except OSError:
                if self._process.poll() is not None:
                    raise RuntimeError("the server ended while it started") from None
                time.sleep(0.01)
        self.started_s = time.perf_counter() - begun

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process is not None
        return self._process.pid

    @property
    def key(self) -> str:
        """The owner key."""
        return (self.data_dir / "owner.key").read_text().strip()

    def rss_mib(self) -> float:
        """Resident memory."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return round(int(line.split()[1]) / 1024, 1)
        raise RuntimeError("no VmRSS")

    def cpu_s(self) -> float:
        """Processor time used so far, user and system, by the threads that live."""
        return cpu_s_of(self.pid)

    def kill(self) -> None:
        """Ends it at once, as a crash would."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(20)
        self._process = None

    def stop(self) -> None:
        """Ends it."""
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait(20)
            self._process = None


@contextmanager
def server(data_dir: Path, **environment: str) -> Any:
    """A server for the length of a block."""
    process = Process(data_dir, **environment)
    process.start()
    try:
        yield process
    finally:
        process.stop()


class Connection:
    """One keep-alive connection."""

    def __init__(self, process: Process) -> None:
        self._port = process.port
        self._head = f"Host: localhost\r\nAuthorization: Bearer {process.key}\r\n"
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def open(self) -> None:
        """Connects."""
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port, limit=2**20)

    async def call(self, method: str, path: str, document: Any = None) -> tuple[int, Any]:
        """One request; (status, decoded body)."""
        status, body = await self.call_raw(method, path, document)
        return status, json.loads(body)

    async def call_raw(self, method: str, path: str, document: Any = None) -> tuple[int, bytes]:
        """One request; (status, body)."""
        if self._writer is None:
            await self.open()
        assert self._writer is not None
        assert self._reader is not None
        body = b"" if document is None else json.dumps(document).encode()
        kind = "Content-Type: application/json\r\n" if body else ""
        head = f"{method} {path} HTTP/1.1\r\n{self._head}{kind}Content-Length: {len(body)}\r\n\r\n"
        self._writer.write(head.encode() + body)
        answer = await self._reader.readuntil(b"\r\n\r\n")
        status = int(answer[9:12])
        length = int(answer.lower().split(b"content-length:", 1)[1].split(b"\r\n", 1)[0])
        return status, await self._reader.readexactly(length)

    def close(self) -> None:
        """Closes it."""
        if self._writer is not None:
            self._writer.close()


@asynccontextmanager
async def stream(process: Process, path: str) -> AsyncIterator[asyncio.StreamReader]:
    """An open event stream."""
    reader, writer = await asyncio.open_connection("127.0.0.1", process.port, limit=2**22)
    head = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {process.key}\r\n\r\n"
    writer.write(head.encode())
    await reader.readuntil(b"\r\n\r\n")
    try:
        yield reader
    finally:
        writer.close()


def chain(count: int, kind: str = "bench-write") -> dict[str, Any]:
    """A definition of `count` nodes one after the other."""
    payload: dict[str, Any] = {"value": 1} if kind == "bench-write" else {"message": "x"}
    nodes: dict[str, Any] = {"root": {"type": "manual", "children": ["n1"]}}
    for number in range(1, count + 1):
        following = [f"n{number + 1}"] if number < count else []
        nodes[f"n{number}"] = {"type": kind, "payload": payload, "children": following}
    return {"nodes": nodes}


async def create(connection: Connection, name: str, definition: dict[str, Any]) -> str:
    """Creates and publishes a workflow; returns its id."""
    document = {"name": name, "description": "", "definition": definition}
    status, answer = await connection.call("POST", "/v1/workflows", document)
    assert status == 200, answer
    workflow_id: str = answer["data"]["id"]
    status, answer = await connection.call("POST", f"/v1/workflows/{workflow_id}/publish", {})
    assert status == 200, answer
    return workflow_id


class Endings:
    """Follows one workflow's stream and tells who waits for which run."""

    def __init__(self) -> None:
        self._waiting: dict[bytes, asyncio.Future[None]] = {}

    def expect(self, run_id: str) -> asyncio.Future[None]:
        """A future for the end of a run; to be asked for before the run is started."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[run_id.encode()] = future
        return future

    async def follow(self, reader: asyncio.StreamReader) -> None:
        """Reads the stream for ever."""
        while True:
            line = await reader.readline()
            if not line:
                return
            if line.startswith(b"data:") and b'"run_finished"' in line:
                run_id = line.split(b'"runId":"', 1)[1].split(b'"', 1)[0]
                future = self._waiting.pop(run_id, None)
                if future is not None and not future.done():
                    future.set_result(None)
