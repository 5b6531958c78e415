"""The action against real servers."""

from __future__ import annotations

import base64
import subprocess
import sys
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from aiohttp import web
from pydantic import ValidationError

from actions.http.running import KEY, calling
from dustrun import catalog
from dustrun.actions.http.http_request import http_request
from dustrun.core.values.exact_json import loads
from dustrun.errors import DustrunError, Invalid, Permanent, Temporary, Uncertain
from dustrun.sdk import Effect
from outbound.loopback import Seen, json_answer, read_head, reset, serving, serving_raw


def _input(**payload: Any) -> Any:
    return http_request.input.model_validate({"url": "https://api.example.com/", **payload})


def _statuses(*answers: web.Response) -> Callable[[Seen], web.Response]:
    """Each answer in turn."""
    left = list(answers)
    return lambda _seen: left.pop(0)


def _status(status: int, **headers: str) -> web.Response:
    return web.Response(status=status, headers={name.replace("_", "-"): value for name, value in headers.items()})


async def test_get_gives_status_headers_body_and_url() -> None:
    async with serving(lambda _: json_answer('{"usd": 2000}', x_a="b")) as server, calling() as call:
        result = await call(
            url=f"{server.url}/p?a=1#f", query={"b": [1, Decimal("2.50"), True, None], "c": "x y", "d": None}
        )
        url = f"{server.url}/p?a=1&b=1&b=2.50&b=true&c=x%20y"
        assert (result["status"], result["body"], result["url"]) == (200, {"usd": 2000}, url)
        assert set(result) == {"status", "headers", "body", "url"}
        assert result["headers"]["x_a"] == "b"
        assert (server.seen[0].method, server.seen[0].body) == ("GET", b"")
        assert "idempotency-key" not in server.seen[0].headers


_NUMBERS = '{"a":0.1,"b":123456789012345678901234567890,"c":-0.000000000000000001,"d":[1.10,1.0],"e":9007199254740993}'


async def test_numbers_are_exact_both_ways() -> None:
    async with serving(lambda seen: json_answer(seen.body)) as server, calling() as call:
        result = await call(method="POST", url=server.url, json=loads(_NUMBERS))
        assert server.seen[0].body.decode() == _NUMBERS
        assert result["body"] == loads(_NUMBERS)
        assert "float" not in repr([type(item) for item in (*result["body"].values(), *result["body"]["d"])])


@pytest.mark.parametrize(
    ("payload", "body", "content_type"),
    [
        ({"json": None}, b"null", "application/json"),
        ({"json": "text"}, b'"text"', "application/json"),
        (
            {"json": {"a": Decimal("1.0")}, "headers": {"content-type": "application/x+json"}},
            b'{"a":1.0}',
            "application/x+json",
        ),
        ({"form": {"a": "ü &", "b": [1, 2], "c": None}}, b"a=%C3%BC+%26&b=1&b=2", "application/x-www-form-urlencoded"),
        ({"form": {}}, b"", "application/x-www-form-urlencoded"),
        ({"body": "plain é"}, "plain é".encode(), "text/plain; charset=utf-8"),
        ({"body": "<a/>", "headers": {"Content-Type": "text/xml"}}, b"<a/>", "text/xml"),
        ({"body": {"a": 1}}, b'{"a":1}', "application/json"),
        ({"body": None}, b"", None),
        ({}, b"", None),
    ],
)
async def test_body(payload: dict[str, Any], body: bytes, content_type: str | None) -> None:
    async with serving(lambda _: web.Response()) as server, calling() as call:
        await call(method="POST", url=server.url, **payload)
        assert (server.seen[0].body, server.seen[0].headers.get("content-type")) == (body, content_type)


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        ({"json": 1, "body": "x"}, "only one of json, form and body; there are json and body"),
        ({"json": None, "form": {}}, "only one of"),
        ({"method": "POST", "retries": 1}, "retries are only for reads"),
        ({"effect": "write", "retries": 1}, "retries are only for reads"),
        ({"retries": 6}, "less than or equal to 5"),
        ({"method": "CONNECT"}, "Input should be"),
        ({"timeoutMs": 0}, "greater than or equal to 1"),
        ({"effect": "spend"}, "Input should be"),
        ({"headers": {"X": {"a": 1}}}, "headers"),
        ({"boddy": 1}, "Extra inputs"),
        ({"url": ""}, "at least 1"),
    ],
)
def test_input_that_contradicts_itself(payload: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        _input(**payload)


@pytest.mark.parametrize(
    ("payload", "effect"),
    [
        ({}, Effect.READ),
        ({"method": "head"}, Effect.READ),
        ({"method": "OPTIONS"}, Effect.READ),
        ({"method": "POST"}, Effect.WRITE),
        ({"method": "PUT"}, Effect.WRITE),
        ({"method": "PATCH"}, Effect.WRITE),
        ({"method": "DELETE"}, Effect.WRITE),
        ({"method": "POST", "effect": "read"}, Effect.READ),
        ({"method": "GET", "effect": "write"}, Effect.WRITE),
    ],
)
def test_effect(payload: dict[str, Any], effect: Effect) -> None:
    assert http_request.effect_for(_input(**payload)) is effect


def test_only_the_flag_makes_it_idempotent() -> None:
    url = {"url": "https://api.example.com/"}
    recorded: list[dict[str, Any] | None] = [
        {**url, "method": "PUT"},
        {**url, "method": "POST", "idempotent": True},
        {"bad": 1},
        None,
    ]
    assert [http_request.is_idempotent(item) for item in recorded] == [False, True, False, False]


@pytest.mark.parametrize(
    ("url", "host"),
    [("https://API.example.com:8/", "api.example.com"), ("http://[::1]:8/", "::1"), ("x", None), ("http://[", None)],
)
def test_host_of(url: str, host: str | None) -> None:
    assert http_request.host_of is not None
    assert http_request.host_of(_input(url=url)) == host


async def test_writes_carry_the_idempotency_key() -> None:
    async with serving(lambda _: web.Response()) as server, calling() as call:
        await call(method="POST", url=server.url)
        await call(method="POST", url=server.url, headers={"idempotency-KEY": "mine"})
        await call(url=server.url, effect="write")
        await call(method="POST", url=server.url, effect="read")
        keys = [seen.headers.get("idempotency-key") for seen in server.seen]
        assert keys == [KEY, "mine", KEY, None]


async def test_preview_is_the_request_that_goes_out() -> None:
    payload = {
        "method": "PATCH",
        "headers": {"Authorization": "Bearer s3cret", "X-N": Decimal("1.50"), "X-Left-Out": None},
        "query": {"page": 2},
        "json": {"amount": Decimal("0.10")},
    }
    async with serving(lambda _: web.Response()) as server, calling() as call:
        await call(url=f"{server.url}/", **payload)
        assert http_request.preview is not None
        preview = http_request.preview(_input(url=f"{server.url}/", **payload))
        seen = server.seen[0]
        assert preview == {
            "method": seen.method,
            "url": f"{server.url}{seen.path}",
            "headers": {
                "Authorization": "***",
                "X-N": seen.headers["x-n"],
                "Content-Type": seen.headers["content-type"],
                "Idempotency-Key": "(the key of this node in this run)",
            },
            "body": loads(seen.body),
        }
        assert seen.headers["authorization"] == "Bearer s3cret"


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        (web.Response(), None),
        (web.Response(status=204), None),
        (json_answer(""), None),
        (web.Response(body=b'{"a":1.0}', content_type="application/problem+json"), {"a": Decimal("1.0")}),
        (web.Response(body=b"1", headers={"Content-Type": "Application/JSON; charset=utf-8"}), 1),
        (web.Response(body="é".encode(), content_type="text/plain"), "é"),
        (web.Response(body=b"\xe9", content_type="text/plain"), "é"),
        (web.Response(body=b"\xe9", headers={"Content-Type": "text/html; charset=latin-1"}), "é"),
        (web.Response(body=b"<a/>", content_type="application/atom+xml"), "<a/>"),
        (web.Response(body=b"\x89PNG", content_type="image/png"), base64.b64encode(b"\x89PNG").decode()),
        (web.Response(body=b"abc", content_type="application/octet-stream"), "YWJj"),
    ],
)
async def test_answer_body(answer: web.Response, body: Any) -> None:
    async with serving(lambda _: answer) as server, calling() as call:
        result = await call(url=server.url)
        assert (result["body"], call.ctx.said) == (body, [])


@pytest.mark.parametrize("text", ["{bad", "NaN", "[" * 200 + "]" * 200, "1e99999"])
async def test_answer_that_only_says_it_is_json_comes_as_text_with_a_warning(text: str) -> None:
    async with serving(lambda _: json_answer(text)) as server, calling() as call:
        assert (await call(method="POST", url=server.url))["body"] == text
        assert len(call.ctx.said) == 1
        assert call.ctx.said[0].startswith("warning: The response is declared as JSON but is not")


async def _error(answer: Callable[[Seen], web.Response], **payload: Any) -> tuple[DustrunError, int]:
    async with serving(answer) as server, calling() as call:
        with pytest.raises(DustrunError) as caught:
            await call(url=server.url, **payload)
        return caught.value, len(server.seen)


@pytest.mark.parametrize(
    ("status", "headers", "of_read", "of_write"),
    [
        (400, {}, Permanent, Permanent),
        (404, {}, Permanent, Permanent),
        (408, {}, Temporary, Permanent),
        (429, {}, Temporary, Permanent),
        (429, {"Retry_After": "7"}, Temporary, Temporary),
        (500, {}, Temporary, Permanent),
        (502, {"Retry_After": "7"}, Temporary, Permanent),
        (503, {}, Temporary, Permanent),
        (503, {"Retry_After": "7"}, Temporary, Temporary),
        (503, {"Retry_After": "Tue, 14 Nov 2023 22:13:27 GMT"}, Temporary, Temporary),
        (503, {"Retry_After": "soon"}, Temporary, Permanent),
    ],
)
async def test_failing_status(
    status: int, headers: dict[str, str], of_read: type[DustrunError], of_write: type[DustrunError]
) -> None:
    for payload, kind in (({}, of_read), ({"method": "POST"}, of_write)):
        error, sent = await _error(lambda _: _status(status, **headers), **payload)
        assert (type(error), sent) == (kind, 1)
        if kind is Temporary and headers.get("Retry_After") != "soon" and headers:
            assert error.retry_after_s == 7


@pytest.mark.parametrize(("redirect", "kind"), [(303, Permanent), (307, Temporary)])
async def test_failing_status_of_the_result_sends_no_write_again(redirect: int, kind: type[DustrunError]) -> None:
    """A busy server that could not tell the result has taken the write before."""

    def answer(seen: Seen) -> web.Response:
        is_first = seen.path == "/"
        return _status(redirect, Location="/result") if is_first else _status(503, Retry_After="7")

    assert await _kind(answer, method="POST") is kind
    assert await _kind(answer, method="POST", effect="read") is Temporary


async def _kind(answer: Callable[[Seen], web.Response], **payload: Any) -> type[DustrunError]:
    return type((await _error(answer, **payload))[0])


async def test_failing_status_shows_what_was_answered() -> None:
    error, _ = await _error(lambda _: json_answer('{"error":"no funds"}', 422), method="POST")
    assert error.message.startswith("POST http://127.0.0.1:")
    assert error.message.endswith(' got status 422: {"error":"no funds"}')
    error, _ = await _error(lambda _: web.Response(status=400, text="x" * 1000), query={"token": "s3cret"})
    assert error.message.endswith(f" got status 400: {'x' * 300}…")
    assert "s3cret" not in error.message


async def test_failing_status_is_a_result_when_asked() -> None:
    async with serving(lambda _: json_answer('{"error":1}', 500)) as server, calling() as call:
        result = await call(method="POST", url=server.url, failOnStatus=False)
        assert (result["status"], result["body"]) == (500, {"error": 1})


async def test_retries_of_a_read() -> None:
    answer = _statuses(_status(503), _status(429, Retry_After="1"), web.Response(text="at last"))
    async with serving(answer) as server, calling() as call:
        assert (await call(url=server.url, retries=3))["body"] == "at last"
        assert (len(server.seen), call.ctx.said) == (
            3,
            [
                "No usable response; the next try is in 0.2 s (3 left).",
                "No usable response; the next try is in 1 s (2 left).",
            ],
        )


async def test_retries_of_a_post_that_reads() -> None:
    async with serving(_statuses(_status(502), web.Response(text="ok"))) as server, calling() as call:
        assert (await call(method="POST", url=server.url, effect="read", retries=1))["body"] == "ok"


async def test_retries_end_with_the_last_answer() -> None:
    error, sent = await _error(lambda _: _status(504), retries=1)
    assert (type(error), sent) == (Temporary, 2)
    async with serving(lambda _: _status(504)) as server, calling() as call:
        assert (await call(url=server.url, retries=1, failOnStatus=False))["status"] == 504
        assert len(server.seen) == 2


@pytest.mark.parametrize("status", [400, 404, 408, 500, 501])
async def test_no_retry_where_the_next_answer_would_be_the_same(status: int) -> None:
    assert (await _error(lambda _: _status(status), retries=5))[1] == 1


async def test_no_retry_when_the_asked_wait_is_long() -> None:
    error, sent = await _error(lambda _: _status(429, Retry_After="3600"), retries=5)
    assert (type(error), error.retry_after_s, sent) == (Temporary, 3600, 1)


async def test_retries_after_a_broken_connection() -> None:
    connections = 0

    async def break_first(reader: Any, writer: Any) -> None:
        nonlocal connections
        connections += 1
        await read_head(reader)
        if connections == 1:
            reset(writer)
            return
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        await writer.drain()

    async with serving_raw(break_first) as url, calling() as call:
        assert (await call(url=url, retries=1))["status"] == 200
        connections = 0
        with pytest.raises(Temporary):
            await call(url=url)
        connections = 0
        with pytest.raises(Uncertain):
            await call(method="POST", url=url)
        assert connections == 1


async def test_redirects() -> None:
    def answer(seen: Seen) -> web.Response:
        return _status(302, Location="/end") if seen.path == "/" else web.Response(text="end")

    async with serving(answer) as server, calling() as call:
        followed = await call(url=f"{server.url}/")
        assert (followed["body"], followed["url"]) == ("end", f"{server.url}/end")
        kept = await call(url=f"{server.url}/", followRedirects=False)
        assert (kept["status"], kept["headers"]["location"]) == (302, "/end")
    assert isinstance((await _error(lambda _: _status(302, Location="/"), maxRedirects=1))[0], Permanent)


async def test_limits_of_size_and_time() -> None:
    assert isinstance((await _error(lambda _: web.Response(body=b"x" * 100), maxBytes=99))[0], Permanent)

    async def handle(reader: Any, _writer: Any) -> None:
        await reader.read()

    async with serving_raw(handle) as url, calling() as call:
        with pytest.raises(Temporary, match=r"no answer within 0\.1 s"):
            await call(url=url, timeoutMs=100)


@pytest.mark.parametrize("url", ["http://10.0.0.1/", "http://127.1/", "file:///etc/passwd", "http://[::1]:1/"])
async def test_forbidden_address_is_invalid(url: str) -> None:
    async with calling() as call:
        with pytest.raises(Invalid):
            await call(url=url, retries=5)


def test_catalogue_finds_it_with_valid_examples() -> None:
    action = catalog.load().actions["http-request"]
    assert (action.family, action.effect, action.idempotent) == ("http", Effect.WRITE, False)
    assert action.summary == "Sends an HTTP request and reads the response."
    action.input.model_validate(action.example_input)
    action.output.model_validate(action.example_output)
    assert action.preview is not None
    named = action.example_input | {"headers": {"Authorization": "Bearer of-the-payload"}}
    assert action.preview(action.input.model_validate(named))["headers"]["Authorization"] == "***"
    assert (action.connector, action.connector_optional) == (("http",), True)


def test_import_brings_in_no_http_client() -> None:
    code = "import sys, dustrun.actions.http.http_request; assert 'aiohttp' not in sys.modules, 'aiohttp'"
    subprocess.run([sys.executable, "-c", code], check=True)
