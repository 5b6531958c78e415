"""The log and what it is written to."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO, cast

import pytest
import structlog

from composition import composed
from dustrun import log


class Full(io.StringIO):
    """A file on a disk that takes no more."""

    def write(self, _text: str) -> int:
        raise OSError(28, "No space left on device")


def test_log_that_cannot_be_written_fails_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", cast(TextIO, Full()))
    before = structlog.get_config()
    log.set_up(as_json=True)
    try:
        structlog.get_logger().error("the disk is full")
    finally:
        structlog.configure(**before)


@contextlib.contextmanager
def logged(level: str = "info") -> Iterator[io.StringIO]:
    """What is logged as JSON meanwhile."""
    stream = io.StringIO()
    before = structlog.get_config()
    with contextlib.redirect_stderr(stream):
        log.set_up(as_json=True, level=level)
        structlog.configure(cache_logger_on_first_use=False)
    try:
        yield stream
    finally:
        structlog.configure(**before)


def _lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


async def test_a_line_says_what_it_is_about_in_its_task_and_those_that_it_begins() -> None:
    secret = "sk_" + "a" * 40

    async def inner() -> None:
        log.bind(node="pay")
        structlog.get_logger().info("inner", note=f"with {secret}")

    async def outer() -> None:
        log.bind(request_id="req_1", org_id="org_1")
        await asyncio.create_task(inner())
        structlog.get_logger().info("outer")

    with logged() as stream:
        await asyncio.create_task(outer())
        structlog.get_logger().info("beside")
    inside, around, beside = _lines(stream)
    assert (inside["request_id"], inside["org_id"], inside["node"]) == ("req_1", "org_1", "pay")
    assert inside["note"] == "with sk_***"
    assert (around["request_id"], "node" in around) == ("req_1", False)
    assert "request_id" not in beside


async def test_requests_and_runs_name_themselves(tmp_path: Path) -> None:
    failing = {"type": "trial", "payload": {"name": "logged", "effect": "read", "outcomes": ["bug"]}}
    definition = {"nodes": {"root": {"type": "manual", "children": ["end"]}, "end": failing}}
    with logged() as stream:
        async with composed(tmp_path, actions_dir=Path(__file__).parent / "own_actions") as server:
            reply = await server.owner.post("/v1/runs", {"definition": definition})
            run_id = reply.data["runId"]
            async with asyncio.timeout(10):
                while (await server.owner.get(f"/v1/runs/{run_id}")).data["finishedAt"] is None:
                    await asyncio.sleep(0.01)
            org_id = (await server.owner.get("/v1/organizations")).data["items"][0]["id"]
    lines = _lines(stream)
    request = next(line for line in lines if line.get("path") == "/v1/runs" and line["method"] == "POST")
    assert (request["request_id"], request["run_id"]) == (reply.body["requestId"], run_id)
    assert request["org_id"] == org_id
    node = next(line for line in lines if line["event"] == "action failed unexpectedly")
    assert (node["run_id"], node["org_id"], node["path"]) == (run_id, org_id, "end")
    assert server.owner_key not in stream.getvalue()
