"""Reads OpenAPI documents in a process of its own, so that neither size nor content of one can hold up the server."""

from __future__ import annotations

import asyncio
import contextlib
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
    """Reads one document at a time."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()

    @contextlib.asynccontextmanager
    async def reading(self, content: bytes, options: Mapping[str, Any]) -> AsyncIterator[ReadDocument]:
        """Reads a document; raises `Invalid` if it is none, or takes too much. `options`: `name`, `effects`, and the
        fields of `ServerChoice`."""
        async with self._turn, _reading(content, options) as document:
            yield document


@contextlib.asynccontextmanager
async def _reading(content: bytes, options: Mapping[str, Any]) -> AsyncIterator[ReadDocument]:
    child = await asyncio.create_subprocess_exec(
        *_COMMAND,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env={},
        close_fds=True,
        start_new_session=True,
        limit=_MOST_FRAME,
    )
    sending = asyncio.ensure_future(_send(child, orjson.dumps(options), content))
    try:
        async with asyncio.timeout(_WALL_S):
            known = orjson.loads(await _take(child))
            if "error" in known:
                raise _refused(known["error"], known["field"])
            yield ReadDocument(known, _batches(child, known["operations"]))
    except (asyncio.IncompleteReadError, TimeoutError):
        raise _refused("Reading the document takes too much time or memory.", "document") from None
    finally:
        sending.cancel()
        with contextlib.suppress(ProcessLookupError):
            child.kill()
        await child.wait()


async def _send(child: asyncio.subprocess.Process, options: bytes, content: bytes) -> None:
    assert child.stdin is not None
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        child.stdin.write(len(options).to_bytes(4, "big") + options + len(content).to_bytes(4, "big"))
        for start in range(0, len(content), _PIECE):
            child.stdin.write(content[start : start + _PIECE])
            await child.stdin.drain()


async def _batches(child: asyncio.subprocess.Process, count: int) -> AsyncIterator[list[ReadOperation]]:
    for start in range(0, count, _PER_BATCH):
        batch = []
        for _ in range(min(_PER_BATCH, count - start)):
            known = orjson.loads(await _take(child))
            batch.append(ReadOperation(known, await _take(child)))
        yield batch


async def _take(child: asyncio.subprocess.Process) -> bytes:
    assert child.stdout is not None
    length = int.from_bytes(await child.stdout.readexactly(4), "big")
    return await child.stdout.readexactly(length)


def _refused(message: str, field: str) -> Invalid:
    return Invalid(message, details=[Problem(field, message)])
