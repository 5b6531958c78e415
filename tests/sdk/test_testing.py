"""The fakes that authors of plugins test with."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from pydantic import Field, ValidationError

from dustrun.core.evm.abi_signatures import parse_function
from dustrun.core.evm.network import NativeAsset, Network
from dustrun.core.money.intent import Intent, Movement, Spend, Spent
from dustrun.core.values.addresses import address_of_word
from dustrun.core.values.amounts import Asset
from dustrun.errors import Temporary
from dustrun.sdk import Context, Effect, Fields, HttpRequest, HttpResponse, ScriptResult, action
from dustrun.sdk.chain import ChainCall
from dustrun.sdk.testing import (
    KEY,
    NOW_MS,
    FakeContext,
    FakeHttp,
    FakeScript,
    LogEntry,
    Progress,
    ScriptCall,
    intents,
    json_response,
    perform,
    text_response,
)
from dustrun.sdk.testing_chain import WALLET, Answer, FakeChain, FakePrices, succeed

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
    assert ctx.logs == [LogEntry("asked", "debug", KEY)]
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


async def pay(input: Input, ctx: Context) -> Spend:
    """Asks for one transfer."""
    moved = (Movement("send", Asset(1), 5, PAYEE),)
    return Spend((Intent("pay", 1, PAYEE, 5, b"", moved, "Pay"),), notes={"symbol": input.symbol})


async def told(input: Input, spend: Spend, spent: Spent, ctx: Context) -> Output:
    """Says what became of it."""
    return Output(usd=f"{spend.notes['symbol']} {spent.receipts[0].item} {spent.receipts[0].hash}")


PAYEE = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"
payment = action(effect=Effect.SPEND, input=Input, output=Output, example_input={}, example_output={}, finish=told)(pay)


async def test_a_spend_is_planned_carried_out_and_finished() -> None:
    seen: list[Spend] = []

    def execute(spend: Spend) -> Spent:
        seen.append(spend)
        return succeed(spend)

    result = await perform(payment, {"symbol": "ETH"}, FakeContext(wallet=WALLET), execute=execute)
    assert result == {"usd": f"ETH pay 0x{1:064x}"}
    assert seen == [await intents(payment, {"symbol": "ETH"}, FakeContext(wallet=WALLET))]
    with pytest.raises(AssertionError, match="needs `execute`"):
        await perform(payment, {"symbol": "ETH"})


async def test_intents_are_those_of_a_spend_only() -> None:
    with pytest.raises(AssertionError, match="not a Spend"):
        await intents(price, {"symbol": "ETH"}, FakeContext(responses=[text_response("1")]))


async def test_a_fake_chain_answers_what_it_was_given() -> None:
    network = Network(
        chain_id=1,
        name="Ethereum",
        short_name="ethereum",
        native=NativeAsset(symbol="ETH", name="Ether"),
        block_time_ms=1,
        confirmations=1,
    )
    calls: dict[tuple[str, str], Answer] = {
        (PAYEE, "decimals()"): 6,
        (PAYEE, "owner()"): WALLET.address,
        (PAYEE, "broken()"): Temporary("down"),
    }
    chain = FakeChain(network, calls=calls, balances={PAYEE: 7})

    def call(signature: str, to: str = PAYEE) -> ChainCall:
        return ChainCall(to, parse_function(signature).selector)

    assert await chain.call(call("decimals()")) == (6).to_bytes(32)
    assert address_of_word(await chain.call(call("owner()"))) == WALLET.address
    assert await chain.call(call("decimals()", WALLET.address)) == b"", "a plain account answers with nothing"
    found = await chain.call_many([call("decimals()"), call("unknown()")])
    assert [result.is_success for result in found] == [True, False]
    with pytest.raises(Temporary):
        await chain.call(call("broken()"))
    assert (await chain.balance(PAYEE), await chain.balance(WALLET.address)) == (7, 0)
    assert (await chain.find_transaction("0x00"), (await chain.block()).number) == (None, 1)


async def test_fake_prices_are_one_price_or_an_error() -> None:
    assert (await FakePrices().price(Asset(1))).usd == 2500
    with pytest.raises(Temporary):
        await FakePrices(Temporary("down")).price(Asset(1))


async def test_an_action_must_return_its_declared_output() -> None:
    @action(effect=Effect.PURE, input=Input, output=Output, example_input={}, example_output={})
    def wrong(input: Input, ctx: Context) -> object:
        return {"usd": "1"}

    with pytest.raises(AssertionError, match="returned dict"):
        await perform(wrong, {"symbol": "ETH"})


def test_clock_and_key_are_constant_until_a_test_sets_them() -> None:
    ctx = FakeContext()
    as_given: Context = ctx
    assert (as_given.now_ms, as_given.idempotency_key) == (NOW_MS, KEY)
    ctx.now_ms, ctx.idempotency_key = 5, "k"
    assert (as_given.now_ms, as_given.idempotency_key) == (5, "k")


def test_the_server_imports_no_fakes() -> None:
    for path in SOURCE.rglob("*.py"):
        text = path.read_text()
        for node in ast.walk(ast.parse(text)) if "testing" in text else ():  # to parse each takes seconds
            if isinstance(node, ast.ImportFrom):
                assert not str(node.module).startswith("dustrun.sdk.testing") or "testing" in path.name, path
            elif isinstance(node, ast.Import):
                assert all(alias.name != "dustrun.sdk.testing" for alias in node.names), path
