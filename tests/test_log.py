"""The log and what it is written to."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO, cast

import pytest

from dustrun import log
from testkit.composition import composed


class Full(io.StringIO):
    """A file on a disk that takes no more."""

    def write(self, _text: str) -> int:
        raise OSError(28, "No space left on device")


def test_a_token_that_names_an_asset_is_shown() -> None:
    usdc = "0xA0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48"
    shown = {"token": usdc, "tokenIn": "native", "tokenOut": "USDC", "tokens": [usdc, "DAI"], "tokenId": 7,
             "buy_token": "{{ $trigger.token }}", "rows": [{"token": None}]}  # fmt: skip
    assert log.mask_value(shown) == shown
    hidden = {"token": "abc", "access_token": usdc, "botToken": usdc, "tokens": [usdc, "s3cret-of-mine"],
              "token_url_secret": "X1", "tokenIn": {"value": "x"}, "sessionToken": "USDC"}  # fmt: skip
    assert log.mask_value(hidden) == dict.fromkeys(hidden, "***")
    assert log.mask_text(f"GET /price?token={usdc}&vs=1") == f"GET /price?token={usdc}&vs=1"
    assert log.mask_text("GET /price?token=0xabc&vs=1") == "GET /price?token=***&vs=1"


def test_log_that_cannot_be_written_fails_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", cast(TextIO, Full()))
    log.set_up(as_json=True)
    try:
        log.get("test").error("the disk is full")
    finally:
        monkeypatch.undo()
        log.set_up(as_json=True, level="error")


@contextlib.contextmanager
def logged(level: str = "info", *, as_json: bool = True) -> Iterator[io.StringIO]:
    """What is logged meanwhile."""
    stream = io.StringIO()
    with contextlib.redirect_stderr(stream):
        log.set_up(as_json=as_json, level=level)
    try:
        yield stream
    finally:
        log.set_up(as_json=True, level="error")


def _lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


async def test_a_line_says_what_it_is_about_in_its_task_and_those_that_it_begins() -> None:
    secret = "sk_" + "a" * 40

    async def inner() -> None:
        log.bind(node="pay")
        log.get("test").info("inner", note=f"with {secret}")

    async def outer() -> None:
        log.bind(request_id="req_1", org_id="org_1")
        await asyncio.create_task(inner())
        log.get("test").info("outer")

    with logged() as stream:
        await asyncio.create_task(outer())
        log.get("test").info("beside")
    inside, around, beside = _lines(stream)
    assert (inside["request_id"], inside["org_id"], inside["node"]) == ("req_1", "org_1", "pay")
    assert inside["note"] == "with sk_***"
    assert (around["request_id"], "node" in around) == ("req_1", False)
    assert "request_id" not in beside


async def test_requests_and_runs_name_themselves(tmp_path: Path) -> None:
    failing = {"type": "trial", "payload": {"name": "logged", "effect": "read", "outcomes": ["bug"]}}
    definition = {"nodes": {"root": {"type": "manual", "children": ["end"]}, "end": failing}}
    with logged() as stream:
        async with composed(tmp_path, actions_dir=Path(__file__).parents[1] / "testkit" / "own_actions") as server:
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


class Opaque:
    """Says a secret when it is shown."""

    def __repr__(self) -> str:
        return "Opaque(sk_" + "a" * 40 + ")"


def test_what_is_no_json_is_shown_without_its_secrets_and_low_levels_are_left_out() -> None:
    with logged("warning") as stream:
        log.get("test").info("left out")
        log.get("test").warning("odd", value=Opaque(), api_key="x", parts={"by": [Opaque()]})
    (line,) = _lines(stream)
    assert line.pop("timestamp").endswith("Z")
    masked = "Opaque(sk_***)"
    assert line == {
        "module": "test",
        "value": masked,
        "api_key": "***",
        "parts": {"by": [masked]},
        "event": "odd",
        "level": "warning",
    }


def test_what_libraries_log_is_a_line_of_ours_without_secrets() -> None:
    library = logging.getLogger("some.library")
    with logged() as stream:
        library.info("left out")
        library.warning("refused: %s", "https://example.com/?token=abc")
        try:
            raise ValueError("sk_" + "a" * 40)
        except ValueError:
            library.exception("it broke")
    warned, broke = _lines(stream)
    assert (warned["level"], warned["module"]) == ("warning", "some.library")
    assert warned["event"] == "refused: https://example.com/?token=***"
    assert (broke["level"], broke["event"]) == ("error", "it broke")
    assert broke["exception"].endswith("ValueError: sk_***")


def test_readable_lines_end_with_the_exception() -> None:
    with logged(as_json=False) as stream:
        try:
            raise ValueError("sk_" + "a" * 40)
        except ValueError as error:
            log.get("test").error("it broke", path="a", exc_info=error)
    first, *rest = stream.getvalue().splitlines()
    assert first.endswith("Z [error  ] it broke                       module=test path=a")
    assert (rest[0], rest[-1]) == ("Traceback (most recent call last):", "ValueError: sk_***")
