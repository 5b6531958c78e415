"""The log and what it is written to."""

from __future__ import annotations

import asyncio
import contextlib
import enum
import io
import json
import logging
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO, cast
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dustrun import clock, log
from dustrun.errors import StoreUnavailable, Temporary
from dustrun.trigger_host.polls import AT_ONCE
from testkit.composition import Composition, composed
from testkit.news import serving

KEY = "sk_" + "a" * 40
LINK = "dlk_" + "0" * 64


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
def logged(level: str = "info", *, as_json: bool = True, stream: io.StringIO | None = None) -> Iterator[io.StringIO]:
    """What is logged meanwhile."""
    stream = stream or io.StringIO()
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
            async with asyncio.timeout(60):
                while (await server.owner.get(f"/v1/runs/{run_id}")).data["finishedAt"] is None:
                    await asyncio.sleep(0.01)
            org_id = (await server.owner.get("/v1/organizations")).data["items"][0]["id"]
            await server.owner.get(f"/v1/runs/{KEY}?token=s3cret-1&sig=s3cret-2&x={LINK}")
            await server.owner.post(f"/v1/webhooks/{KEY[3:]}", {})
    lines = _lines(stream)
    paths = [line["path"] for line in lines if line["event"] == "request"][-2:]
    assert paths == ["/v1/runs/sk_***?token=***&sig=***&x=dlk_***", "/v1/webhooks/***"]
    request = next(line for line in lines if line.get("path") == "/v1/runs" and line["method"] == "POST")
    assert (request["request_id"], request["run_id"]) == (reply.body["requestId"], run_id)
    assert request["org_id"] == org_id
    node = next(line for line in lines if line["event"] == "action failed unexpectedly")
    assert (node["run_id"], node["org_id"], node["path"]) == (run_id, org_id, "end")
    assert server.owner_key not in stream.getvalue()


async def _publish(server: Composition, kind: str, payload: dict[str, Any]) -> str:
    root = {"type": kind, "payload": payload, "children": ["say"]}
    say = {"type": "log", "payload": {"message": "fired"}}
    made = await server.owner.create_workflow({"nodes": {"root": root, "say": say}})
    published = await server.owner.post(f"/v1/workflows/{made['id']}/publish")
    assert published.status == 200, published.body
    return str(made["id"])


async def test_a_look_that_fails_does_not_name_the_run_of_a_look_before(tmp_path: Path) -> None:
    """As many looks start a run as there are who look, so that whoever fails then has started one."""
    settings = {"outbound_allow": ["127.0.0.1"], "min_trigger_interval_ms": 100}
    with logged() as stream:
        async with serving() as news, composed(tmp_path, **settings) as server, asyncio.timeout(60):
            news.content = ["item-0"]
            config = {"url": news.url, "pollMs": 100, "items": "body", "itemKey": "item", "fireOnFirst": True}
            workflow_id = await _publish(server, "http-poll", config)
            for number in range(1, AT_ONCE + 8):
                while (await server.owner.get(f"/v1/workflows/{workflow_id}/runs/count")).data["total"] < number:
                    await asyncio.sleep(0.01)
                news.content = [f"item-{number}"]
            news.status = 500
            while "a trigger could not look" not in stream.getvalue():
                await asyncio.sleep(0.02)
    line = next(line for line in _lines(stream) if line["event"] == "a trigger could not look")
    assert "run_id" not in line, line


async def test_a_delivery_and_a_repeated_event_name_the_run_that_they_started(tmp_path: Path) -> None:
    with logged() as stream:
        async with composed(tmp_path) as server:
            workflow_id = await _publish(server, "webhook", {})
            address = await server.owner.post(f"/v1/workflows/{workflow_id}/webhooks/root/rotate", {})
            delivered = await server.owner.post(urlsplit(address.data["url"]).path, {})
            event_id = delivered.body["data"]["eventId"]
            again = await server.owner.post(f"/v1/trigger-events/{event_id}/replay")
    requests = {line["request_id"]: line for line in _lines(stream) if line["event"] == "request"}
    for reply in (delivered, again):
        assert requests[reply.body["requestId"]]["run_id"] == reply.body["data"]["runIds"][0]


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


def test_a_trouble_is_told_when_it_begins_once_a_minute_and_when_it_is_over() -> None:
    now_s = 0.0
    with logged() as stream, clock.virtual(lambda: now_s, 0):
        trouble = log.Trouble(log.get("store"), log.ERROR, "it is away")
        trouble.end("reads")
        for tenth in range(1500):
            now_s = tenth / 10
            trouble.meet(OSError("gone"), "reads" if tenth % 2 else "writes")
            trouble.end("reads")  # what is well in between changes nothing
        now_s = 200.0
        trouble.end("reads")
        trouble.end("reads")
        assert len(_lines(stream)) == 3
        trouble.end("writes")
        trouble.meet(OSError("again"), "writes")
    told = [
        (one["level"], one["event"], one.get("error"), one.get("since_s"), one.get("failures"))
        for one in _lines(stream)
    ]
    assert told == [
        ("error", "it is away", "gone", None, None),
        ("error", "it is away", "gone", 60, 601),
        ("error", "it is away", "gone", 120, 1201),
        ("info", "it is away: over", None, 200, 1500),
        ("error", "it is away", "again", None, None),
    ]


def test_what_fails_for_a_trouble_that_is_told_is_a_detail() -> None:
    with logged() as stream:
        log.get("a").failed("not looked at", StoreUnavailable("away"))
        log.get("a").error("not followed", exc_info=StoreUnavailable("away"))
        log.get("a").failed("not looked at", Temporary("busy"), lease="x")
        log.get("a").failed("not looked at", ValueError("a defect"))
    told = [(one["level"], one.get("error"), "exception" in one) for one in _lines(stream)]
    assert told == [("warning", "busy", False), ("error", None, True)]


class Watched(io.StringIO):
    """Counts its writes, and notes the threads that make them."""

    def __init__(self) -> None:
        super().__init__()
        self.threads: list[int] = []

    def write(self, text: str) -> int:
        self.threads.append(threading.get_ident())
        return super().write(text)


def _wait_for(stream: io.StringIO, lines: int) -> None:
    end_at = time.monotonic() + 10
    while stream.getvalue().count("\n") < lines and time.monotonic() < end_at:
        time.sleep(0.001)


def test_info_lines_are_written_together_by_a_thread_and_warnings_at_once() -> None:
    logger, stream = log.get("test"), Watched()
    with logged(stream=stream):
        for number in range(1000):
            logger.info("many", number=number)
        logger.warning("now", number=1000)
        at_once = [line["number"] for line in _lines(stream)]
        assert stream.threads[-1] == threading.get_ident()
        assert len(stream.threads) < 100
        stream.threads.clear()
        logger.info("later", number=1001)
        _wait_for(stream, 1002)
        assert len(stream.threads) == 1
        assert stream.threads[0] != threading.get_ident()
    assert at_once == list(range(1001))
    assert [line["number"] for line in _lines(stream)] == list(range(1002))


def test_lines_of_many_threads_are_all_written_once() -> None:
    def write(thread: int) -> None:
        for number in range(300):
            log.get("test").log(log.WARNING if number % 50 == 0 else log.INFO, "line", place=[thread, number])

    with logged() as stream:
        threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    places = [line["place"] for line in _lines(stream)]
    for number in range(4):
        assert [place for place in places if place[0] == number] == [[number, count] for count in range(300)]


def test_last_lines_of_a_process_that_ends_are_written() -> None:
    code = """if True:
        import sys
        from dustrun import log
        log.set_up(as_json=True)
        log.get("test").info("first")
        log.get("test").info("last")
        sys.exit(3)
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert [json.loads(line)["event"] for line in done.stderr.splitlines()] == ["first", "last"]
    assert done.returncode == 3


@dataclass
class Held:
    """Holds a secret in a field."""

    key: str


class Named(enum.Enum):
    """Has a secret as a value."""

    KEY = KEY


class Text(str):
    """A text of another type."""


def test_values_that_an_encoder_might_write_by_itself_are_masked() -> None:
    with logged() as stream:
        log.get("test").info("odd", held=Held(KEY), named=Named.KEY, text=Text(KEY), raw=KEY.encode())
    (line,) = _lines(stream)
    assert {name: line[name] for name in ("held", "named", "text", "raw")} == {
        "held": "Held(key='sk_***')",
        "named": "<Named.KEY: 'sk_***'>",
        "text": "sk_***",
        "raw": "b'sk_***'",
    }


def test_lines_are_ascii_and_take_any_text_and_number() -> None:
    values = {"text": "\u2028\x9b31m é", "lone": "\ud800", "large": 2**80, "float": 1.5, "none": None, "is": True}
    with logged() as stream:
        log.get("test").info("odd", **values)
    assert stream.getvalue().isascii()
    (line,) = _lines(stream)
    assert {name: line[name] for name in values} == values


_FRAGMENTS = st.sampled_from(
    [
        KEY,
        LINK,
        "st_" + "B" * 20,
        "whsec_" + "9" * 30,
        "sk_",
        "a" * 20,
        "token=",
        "SIG=",
        "0x" + "a" * 40,
        "&",
        " ",
        "\n",
        "_",
        "?",
        "x",
        '"',
        "é",
        "=",
        "secret=s3cret",
    ]
)
_TEXTS = st.lists(_FRAGMENTS, max_size=4).map("".join)
_NAMES = st.sampled_from(["path", "key_id", "token", "api_key", "tokenIn", "password", "request_id"])


@given(st.dictionaries(_NAMES, _TEXTS | st.integers() | st.none(), max_size=4))
def test_a_line_is_masked_like_each_of_its_values(values: dict[str, Any]) -> None:
    with logged() as stream:
        log.get("test").info("request", **values)
    (line,) = _lines(stream)
    assert {name: line[name] for name in values} == log.mask_value(values)


def test_hidden_texts_are_hidden_in_simple_lines() -> None:
    with logged() as stream, log.hiding(lambda text: text.replace("s3cret", "•••")):
        log.get("test").info("request", path="/v1/s3cret")
    assert _lines(stream)[0]["path"] == "/v1/•••"


@pytest.mark.parametrize(
    "name", ["Authorization", "TOKEN", "my-secret", "passwords", "api_key", "PrivateKey", "mnemonic"]
)
def test_a_text_that_may_hold_a_secret_is_searched(name: str) -> None:
    assert log.may_hold_secret(json.dumps({name: 1}))


def test_a_text_without_any_part_of_a_secret_is_not_searched() -> None:
    rows = [{"id": number, "text": "x" * 40} for number in range(3)]
    assert not log.may_hold_secret(json.dumps(rows))
    assert log.mask_value(rows) == rows


def test_a_name_with_letters_that_equal_others_is_searched() -> None:
    hidden = {"pa\u017f\u017fword": "x"}
    assert log.mask_value(hidden) == {"pa\u017f\u017fword": "***"}
    assert log.may_hold_secret(json.dumps(hidden, ensure_ascii=False))
