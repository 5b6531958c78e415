"""The processes that read OpenAPI documents."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from dustrun.errors import Invalid
from dustrun.sandbox.documents import DocumentReader

_OPTIONS: dict[str, Any] = {
    "name": "pets",
    "base": None,
    "effects": {},
    "summaries": {},
    "server": None,
    "variables": None,
}


def _document(count: int) -> bytes:
    paths = {f"/pets/{number}": {"get": {"operationId": f"pet{number}"}} for number in range(count)}
    return json.dumps({"openapi": "3.0.0", "servers": [{"url": "https://pets.example"}], "paths": paths}).encode()


async def _count(reader: DocumentReader, content: bytes) -> int:
    async with reader.reading(content, _OPTIONS) as document:
        return sum([len(batch) async for batch in document.batches])


def _pid(reader: DocumentReader) -> int:
    assert reader._idle is not None
    return reader._idle.pid


def _is_there(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


async def test_one_process_is_started_for_many_documents_and_ended_at_the_end() -> None:
    reader = DocumentReader()
    assert await _count(reader, _document(3)) == 3
    first = _pid(reader)
    with pytest.raises(Invalid, match="neither JSON nor YAML"):
        await _count(reader, b"[")
    assert await _count(reader, _document(450)) == 450
    assert _pid(reader) == first
    await reader.close()
    assert not _is_there(first)


async def test_the_process_ends_when_no_document_comes() -> None:
    reader = DocumentReader(idle_s=0.01)
    assert await _count(reader, _document(1)) == 1
    process = reader._idle
    assert process is not None
    await asyncio.wait_for(process.wait(), 10)
    assert await _count(reader, _document(2)) == 2
    await reader.close()


async def test_a_document_that_is_left_in_the_middle_ends_its_process() -> None:
    reader = DocumentReader()
    assert await _count(reader, _document(1)) == 1
    first = _pid(reader)
    async with reader.reading(_document(20_000), _OPTIONS) as document:
        assert len(await anext(document.batches)) == 200
    assert not _is_there(first)
    assert await _count(reader, _document(4)) == 4
    await reader.close()


async def test_a_document_whose_process_dies_is_refused_and_the_next_is_read() -> None:
    reader = DocumentReader()
    assert await _count(reader, _document(1)) == 1
    first = _pid(reader)
    reading = asyncio.ensure_future(_count(reader, _document(40_000)))
    children = Path(f"/proc/{first}/task/{first}/children")
    while not (found := children.read_text().split()):
        await asyncio.sleep(0.001)
    os.kill(int(found[0]), signal.SIGKILL)
    with pytest.raises(Invalid, match="takes too much time or memory"):
        await reading
    assert not _is_there(first)
    assert await _count(reader, _document(5)) == 5
    await reader.close()
