"""Starts, kills and stops the real server: `python -m dustrun serve` in a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import aiohttp

from testkit import processes, store_template
from testkit.ports import free_port, is_open

_POLL_S = 0.01


class ServerProcess:
    """One server on one data folder and one port, through all its lives.

    `before` is put before the command, for a tracer; the environment holds no `DUSTRUN_*` but those of `settings`.
    """

    def __init__(
        self,
        data_dir: Path,
        settings: Mapping[str, str] | None = None,
        *,
        port: int | None = None,
        before: Sequence[str] = (),
        log_path: Path | None = None,
    ) -> None:
        self.data_dir = data_dir
        self.port = port or free_port()
        self.base = f"http://127.0.0.1:{self.port}"
        self.log_path = log_path or data_dir.parent / f"{data_dir.name}.log"
        self.lives = 0
        self.settings = dict(settings or {})
        self._before = tuple(before)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def database_path(self) -> Path:
        """The SQLite file."""
        return self.data_dir / "dustrun.db"

    @property
    def owner_key(self) -> str:
        """The key of the first start."""
        return (self.data_dir / "owner.key").read_text().strip()

    @property
    def pid(self) -> int:
        """The process, or the tracer around it."""
        assert self._process is not None
        return self._process.pid

    @property
    def server_pid(self) -> int:
        """The server's own process, also under a tracer."""
        if not self._before:
            return self.pid
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        return int(children[0]) if children else self.pid

    @property
    def is_alive(self) -> bool:
        """Whether the process runs."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Starts the process; it answers somewhat later."""
        assert not self.is_alive
        self.data_dir.mkdir(parents=True, exist_ok=True)
        if processes.shares_imports():
            store_template.fill_folder(self.data_dir, self.settings.get("database_url"))
        command = [
            *self._before,
            *processes.DUSTRUN,
            "serve",
            "--host",
            "127.0.0.1",
            "--port",
            str(self.port),
        ]
        command += ["--data-dir", str(self.data_dir), "--log-level", self.settings.get("log_level", "warning")]
        with self.log_path.open("ab") as log:
            self._process = processes.start(command, env=self._environment(), stdout=log, stderr=log, cwd=self.data_dir)
        self.lives += 1

    def _environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("DUSTRUN_")}
        settings = {"master_key_file": str(self.data_dir / "master.key"), **self.settings}
        return kept | {f"DUSTRUN_{name.upper()}": value for name, value in settings.items()}

    async def wait_ready(self, timeout_s: float = 120.0) -> float:
        """Waits for `/readyz`; the seconds that it took. Raises when the process ends or the time is up."""
        begun = time.monotonic()
        timeout = aiohttp.ClientTimeout(total=10)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            while time.monotonic() - begun < timeout_s:
                if not self.is_alive:
                    raise RuntimeError(f"the server ended: {self.log_tail()}")
                if is_open(self.port) and await self._is_ready(session):
                    return time.monotonic() - begun
                await asyncio.sleep(_POLL_S)
        raise RuntimeError(f"the server was not ready within {timeout_s} s: {self.log_tail()}")

    async def _is_ready(self, session: aiohttp.ClientSession) -> bool:
        with contextlib.suppress(aiohttp.ClientError, TimeoutError, OSError):
            async with session.get(f"{self.base}/readyz") as answer:
                return answer.status == 200
        return False

    def limit_files(self, size: int | None) -> None:
        """Lets no file of the running server grow beyond `size` bytes, as a full disk would; None ends that."""
        _, most = resource.prlimit(self.server_pid, resource.RLIMIT_FSIZE)
        resource.prlimit(self.server_pid, resource.RLIMIT_FSIZE, (most if size is None else size, most))

    def kill(self) -> None:
        """SIGKILL, and waits until the process is gone."""
        assert self._process is not None
        os.kill(self.server_pid, signal.SIGKILL)
        self._process.wait()

    def freeze(self) -> None:
        """SIGSTOP: it does nothing until it is thawed."""
        os.kill(self.server_pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT; nothing changes for a process that was not frozen."""
        os.kill(self.server_pid, signal.SIGCONT)

    def ask_to_stop(self) -> None:
        """SIGTERM."""
        os.kill(self.server_pid, signal.SIGTERM)

    async def wait_end(self, timeout_s: float = 60.0) -> int:
        """Waits for the end of a process that was asked to stop; its exit status."""
        assert self._process is not None
        return await asyncio.to_thread(self._process.wait, timeout_s)

    async def stop(self) -> None:
        """Ends the process: SIGTERM, and SIGKILL when it does not heed."""
        if not self.is_alive:
            return
        self.ask_to_stop()
        try:
            await self.wait_end()
        except subprocess.TimeoutExpired:
            self.kill()

    def log_tail(self, lines: int = 30) -> str:
        """The newest lines of what the server wrote."""
        if not self.log_path.exists():
            return ""
        return "\n".join(self.log_path.read_text(errors="replace").splitlines()[-lines:])
