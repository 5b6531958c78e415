"""The fakes that authors of plugins test with."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from pydantic import Field, ValidationError

from dustrun.errors import Temporary
from dustrun.sdk import Context, Effect, Fields, HttpRequest, HttpResponse, ScriptResult, action
from dustrun.sdk.testing import (
    KEY,
    NOW_MS,
    FakeContext,
    FakeHttp,
    FakeScript,
    Logged,
    Progress,
    ScriptCall,
    json_response,
    perform,
    text_response,
)

SOURCE = Path(__file__).resolve().parents[2] / "src" / "dustrun"


class Input(Fields):
    """What is asked."""

    symbol: str = Field(description="The symbol.")


class Output(Fields):
    """What was found."""

    usd: str = Field(description="The price.")


@action(effect=Effect.READ, input=Input, output=Output, example_input={"symbol": "ETH"}, example_output={"usd": "2000"})
async def price(input: Input, ctx: Context) -> Output:
    """Asks, and says so."""
    ctx.progress("asking", percent=50)
    answer = await ctx.http.request(HttpRequest("GET", f"https://example.com/{input.symbol}"))
    ctx.log("asked", level="debug", data=ctx.idempotency_key)
    return Output(usd=answer.body.decode())


async def test_an_action_runs_as_the_engine_runs_it() -> None:
    ctx = FakeContext(responses=[text_response("2000.10")])
    payload = {"symbol": "{{$trigger.body.symbol}}"}
    assert await perform(price, payload, ctx, {"$trigger": {"body": {"symbol": "ETH"}}}) == {"usd": "2000.10"}
    assert ctx.http.requests == [HttpRequest("GET", "https://example.com/ETH")]
    assert ctx.logs == [Logged("asked", "debug", KEY)]
    assert ctx.reports == [Progress("asking", 50)]


async def test_an_input_that_the_engine_refuses_is_refused() -> None:
    with pytest.raises(ValidationError):
        await perform(price, {"symbol": "ETH", "chain": 1})


async def test_requests_are_answered_in_order_and_no_further() -> None:
    def echo(request: HttpRequest) -> HttpResponse:
        return json_response({"url": request.url}, 201)

    http = FakeHttp([Temporary("busy"), echo])
    with pytest.raises(Temporary):
        await http.request(HttpRequest("GET", "https://a.example"))
    assert await http.request(HttpRequest("GET", "https://b.example")) == json_response(
        {"url": "https://b.example"}, 201
    )
    with pytest.raises(AssertionError, match=r"scripted for GET https://c\.example"):
        await http.request(HttpRequest("GET", "https://c.example"))
    assert [request.url for request in http.requests] == ["https://a.example", "https://b.example", "https://c.example"]


async def test_scripts_are_answered_in_order_and_no_further() -> None:
    script = FakeScript([ScriptResult(1, ("said",)), lambda code, input: ScriptResult(input), Temporary("busy")])
    assert await script.run("return 1", None) == ScriptResult(1, ("said",))
    assert await script.run("return input", 7, timeout_ms=5) == ScriptResult(7)
    with pytest.raises(Temporary):
        await script.run("", None)
    with pytest.raises(AssertionError, match="no answer is scripted"):
        await script.run("", None)
    assert script.calls[1] == ScriptCall("return input", 7, 5)


async def test_an_action_must_return_its_declared_output() -> None:
    @action(effect=Effect.PURE, input=Input, output=Output, example_input={}, example_output={})
    def wrong(input: Input, ctx: Context) -> object:
        return {"usd": "1"}

    with pytest.raises(AssertionError, match="returned dict"):
        await perform(wrong, {"symbol": "ETH"})


def test_the_clock_and_the_key_stand_still() -> None:
    ctx: Context = FakeContext()
    assert (ctx.now_ms, ctx.idempotency_key) == (NOW_MS, KEY)
    assert FakeContext(now_ms=5, idempotency_key="k").now_ms == 5


def test_the_server_imports_no_fakes() -> None:
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                assert node.module != "dustrun.sdk.testing", path
            elif isinstance(node, ast.Import):
                assert all(alias.name != "dustrun.sdk.testing" for alias in node.names), path
