"""Reads OpenAPI documents in processes of their own, so that neither size nor content of one can hold up the server."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, Final

import orjson

from dustrun.errors import Invalid, Problem
from dustrun.records import dataclass

_WALL_S: Final = 300.0
_MOST_FRAME: Final = 1 << 20
_PIECE: Final = 1 << 16
_PER_BATCH: Final = 200
_COMMAND: Final = (sys.executable, "-I", str(Path(__file__).with_name("document_worker.py")))
"""By its file: as a module of this room it would load all that scripts need, seven times as long as itself."""


@dataclass(frozen=True, slots=True)
class ReadOperation:
    """An operation as the process gives it: `known` has its type, pin and what lists show; `content` is compressed."""

    known: Mapping[str, Any]
    content: bytes


@dataclass(slots=True)
class ReadDocument:
    """A document that is read: what is known of it, and its operations in batches, which can be gone through once."""

    known: Mapping[str, Any]
    batches: AsyncIterator[list[ReadOperation]]


class DocumentReader:
    """Reads one document at a time. `idle_s`: for how long the process waits for another, since a directory of them
    comes in without a pause."""

    def __init__(self, idle_s: float = 5.0) -> None:
        self._idle_s = idle_s
        self._turn = asyncio.Lock()
        self._idle: asyncio.subprocess.Process | None = None
        self._end_idle: asyncio.TimerHandle | None = None

    @contextlib.asynccontextmanager
    async def reading(self, content: bytes, options: Mapping[str, Any]) -> AsyncIterator[ReadDocument]:
        """Reads a document; raises `Invalid` if it is none, or takes too much. `options`: `name`, `effects` and
        `summaries` by type, and the fields of `ServerChoice`."""
        async with self._turn:
            reading = _Reading(await self._process())
            try:
                async with reading.go(content, options) as document:
                    yield document
            finally:
                if reading.is_through:
                    self._keep(reading.process)
                else:
                    await _end(reading.process)

    async def close(self) -> None:
        """Ends the process."""
        async with self._turn:
            if (process := self._take_idle()) is not None:
                await _end(process)

    async def _process(self) -> asyncio.subprocess.Process:
        process = self._take_idle()
        if process is not None and process.returncode is None:
            return process
        return await asyncio.create_subprocess_exec(
            *_COMMAND,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env={},
            close_fds=True,
            start_new_session=True,
            limit=_MOST_FRAME,
        )

    def _take_idle(self) -> asyncio.subprocess.Process | None:
        process, self._idle = self._idle, None
        if self._end_idle is not None:
            self._end_idle.cancel()
            self._end_idle = None
        return process

    def _keep(self, process: asyncio.subprocess.Process) -> None:
        self._idle = process
        self._end_idle = asyncio.get_running_loop().call_later(self._idle_s, _kill, process)


class _Reading:
    """One document and the process that reads it. `is_through`: the process has answered, and can have another."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.is_through = False

    @contextlib.asynccontextmanager
    async def go(self, content: bytes, options: Mapping[str, Any]) -> AsyncIterator[ReadDocument]:
        """Sends the document, and gives what is known of it."""
        sending = asyncio.ensure_future(_send(self.process, orjson.dumps(options), content))
        try:
            async with asyncio.timeout(_WALL_S):
                known = orjson.loads(await self._take())
                if "error" in known:
                    self.is_through = True
                    raise _refused(known["error"], known["field"])
                yield ReadDocument(known, self._batches(known["operations"]))
        except (asyncio.IncompleteReadError, TimeoutError):
            raise _refused("Reading the document takes too much time or memory.", "document") from None
        finally:
            sending.cancel()

    async def _batches(self, count: int) -> AsyncIterator[list[ReadOperation]]:
        for start in range(0, count, _PER_BATCH):
            batch = []
            for _ in range(min(_PER_BATCH, count - start)):
                known = orjson.loads(await self._take())
                batch.append(ReadOperation(known, await self._take()))
            self.is_through = start + len(batch) == count
            yield batch

    async def _take(self) -> bytes:
        assert self.process.stdout is not None
        length = int.from_bytes(await self.process.stdout.readexactly(4), "big")
        return await self.process.stdout.readexactly(length)


def _kill(process: asyncio.subprocess.Process) -> None:
    """Kills the process with the one that it has forked."""
    with contextlib.suppress(ProcessLookupError):
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()


async def _end(process: asyncio.subprocess.Process) -> None:
    _kill(process)
    await process.wait()


async def _send(child: asyncio.subprocess.Process, options: bytes, content: bytes) -> None:
    assert child.stdin is not None
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        child.stdin.write(len(options).to_bytes(4, "big") + options + len(content).to_bytes(4, "big"))
        for start in range(0, len(content), _PIECE):
            child.stdin.write(content[start : start + _PIECE])
            await child.stdin.drain()


def _refused(message: str, field: str) -> Invalid:
    return Invalid(message, details=[Problem(field, message)])
