"""One sandbox process: it inherits only two pipes, exchanges frames, and is killed on any deviation.

A frame is a four-byte big-endian length followed by that many bytes. Output of the process is not trusted: lengths are
limited, the wall-clock time is limited, and any malformed answer kills it.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import signal
import sys
from collections.abc import Awaitable, Sequence
from pathlib import Path
from typing import TypeVar

import orjson

from dustrun.errors import Temporary
from dustrun.sandbox.limits import SandboxLimits

START_S = 20.0
AGAIN_S = 3.0
MAX_HEAD_BYTES = 262_144
T = TypeVar("T")
_WORKER = Path(__file__).parent / "worker"


class Broken(Exception):
    """The process ended, or its answer is malformed."""


class TooSlow(Exception):
    """The wall-clock limit was exceeded."""


def command(limits: SandboxLimits) -> tuple[str, ...]:
    """The worker's command line: isolated mode, no installed packages except the engine's file. Raises `Temporary`."""
    spec = importlib.util.find_spec("_quickjs")
    if spec is None or spec.origin is None:
        raise Temporary("The sandbox has no JavaScript engine: the package `quickjs` is not installed.")
    bounds = (str(limits.address_space_bytes), str(limits.life_cpu_s))
    return (sys.executable, "-I", "-S", "-B", str(_WORKER), spec.origin, *bounds)


class Process:
    """One process, with what the pool records about it."""

    def __init__(self, child: asyncio.subprocess.Process) -> None:
        assert child.stdin is not None
        assert child.stdout is not None
        self._child = child
        self._stdin = child.stdin
        self._stdout = child.stdout
        self.tenant: str | None = None
        self.layers: dict[str, str] = {}
        self.calls = 0
        self.busy_s = 0.0

    @classmethod
    async def start(cls, argv: Sequence[str]) -> Process:
        """Starts a process with an empty environment, only its pipes as descriptors, and its own session; raises
        `OSError`."""
        child = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env={},
            cwd="/",
            close_fds=True,
            start_new_session=True,
            limit=1 << 20,
        )
        return cls(child)

    @property
    def pid(self) -> int:
        """The process id, which is also the process group id."""
        return self._child.pid

    @property
    def alive(self) -> bool:
        """Whether no end of the process was noticed."""
        return self._child.returncode is None

    async def ready(self) -> None:
        """Waits until it can take a job. Raises `Broken` with its message, or `TooSlow`."""
        within = AGAIN_S if self.calls else START_S
        said = await self._within(within, self._read_frame(MAX_HEAD_BYTES))
        try:
            found = orjson.loads(said)
        except orjson.JSONDecodeError:
            raise Broken("its answer is malformed") from None
        if not isinstance(found, dict) or "fatal" in found:
            raise Broken(str(found)[:300])
        self.layers = found.get("layers", self.layers)

    async def call(self, job: Sequence[bytes], wall_s: float, max_value_bytes: int) -> tuple[bytes, bytes]:
        """Sends a job and returns the answer's head and value. Raises `Broken` or `TooSlow`."""
        clock = asyncio.get_running_loop().time
        began = clock()
        try:
            return await self._within(wall_s, self._exchange(job, max_value_bytes))
        finally:
            self.calls += 1
            self.busy_s += clock() - began

    async def _exchange(self, job: Sequence[bytes], max_value_bytes: int) -> tuple[bytes, bytes]:
        try:
            self._stdin.write(b"".join(len(part).to_bytes(4, "big") + part for part in job))
            await self._stdin.drain()
        except (BrokenPipeError, ConnectionResetError):
            raise Broken("it ended") from None
        return await self._read_frame(MAX_HEAD_BYTES), await self._read_frame(max_value_bytes)

    async def _read_frame(self, most: int) -> bytes:
        try:
            length = int.from_bytes(await self._stdout.readexactly(4), "big")
            if length > most:
                raise Broken("its answer is malformed")
            return await self._stdout.readexactly(length)
        except (asyncio.IncompleteReadError, ConnectionResetError):
            raise Broken("it ended") from None

    async def _within(self, seconds: float, work: Awaitable[T]) -> T:
        try:
            async with asyncio.timeout(seconds):
                return await work
        except TimeoutError:
            raise TooSlow from None

    def kill(self) -> None:
        """Kills the process group."""
        if not self.alive:
            return
        with contextlib.suppress(ProcessLookupError):
            if hasattr(os, "killpg"):
                os.killpg(self.pid, signal.SIGKILL)
            else:
                self._child.kill()

    async def ended(self) -> int:
        """Waits for its end, and kills it if necessary; returns the exit status, negative for a signal."""
        self.kill()
        self._stdin.close()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            await self._stdin.wait_closed()
        return await self._child.wait()
