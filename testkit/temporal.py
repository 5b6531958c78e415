"""A real Temporal for the tests: the development server, from a Python package."""

from __future__ import annotations

import asyncio
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from temporalio.client import Client

from testkit.ports import free_port

BINARY = shutil.which("temporal", path=str(Path(sys.executable).parent)) or shutil.which("temporal") or "temporal"
_START_S = 30.0


class TemporalServer:
    """Temporal's development server on one port, through all its lives. It keeps nothing from one to the next, unless
    it has a `store`."""

    def __init__(self, folder: Path, *, store: bool = False, namespaces: tuple[str, ...] = ()) -> None:
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.log_path = folder / "temporal.log"
        self._store = folder / "temporal.db" if store else None
        self._namespaces = namespaces
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Its process."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Starts it, and waits until it listens."""
        command = [BINARY, "server", "start-dev", "--headless", "--ip", "127.0.0.1", "--port", str(self.port)]
        command += ["--log-level", "error"]
        for namespace in self._namespaces:
            command += ["--namespace", namespace]
        if self._store is not None:
            command += ["--db-filename", str(self._store)]
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        begun = time.monotonic()
        while not self._listens():
            if self._process.poll() is not None or time.monotonic() - begun > _START_S:
                raise RuntimeError(f"Temporal did not start: {self.log_path.read_text()[-2000:]}")
            time.sleep(0.05)

    async def client(self) -> Client:
        """A connection, once the server answers: it listens a moment before."""
        async with asyncio.timeout(_START_S):
            while True:
                try:
                    return await Client.connect(self.address)
                except RuntimeError:
                    await asyncio.sleep(0.2)

    def _listens(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        except OSError:
            return False
        return True

    def end(self, *, kill: bool = False) -> None:
        """Ends it; `kill`: at once."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGKILL if kill else signal.SIGTERM)
            try:
                self._process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def wipe(self) -> None:
        """Ends it, and loses all that it knew; `start` makes an empty one."""
        self.end(kill=True)
        if self._store is not None:
            for file in self._store.parent.glob(f"{self._store.name}*"):
                file.unlink()
