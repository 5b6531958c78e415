"""What running shows of every action: examples come true, nothing reaches out but through `ctx`, nothing is a float.

What can be read off a declaration is in `test_nodes.py`. `-k parse-csv` looks at one action.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

import jsonschema
import pytest
from pydantic import ValidationError

from dustrun.catalog import load
from dustrun.core.evm.network import Dex, NativeAsset, Network, Token
from dustrun.core.expression import compile_value
from dustrun.core.validate import check
from dustrun.core.values import exact_json
from dustrun.core.workflow.definition import Definition
from dustrun.errors import DustrunError, Invalid
from dustrun.sdk import Action, Effect, HttpResponse, ScriptResult
from dustrun.sdk.testing import FakeContext, FakeRoots, json_response, perform
from dustrun.sdk.testing_chain import WALLET, Answer, FakeChain, FakePrices, succeed

CATALOG = load()
ACTIONS = [pytest.param(action, id=kind) for kind, action in sorted(CATALOG.actions.items())]
PURE = [param for param in ACTIONS if param.values[0].effect is Effect.PURE]  # type: ignore[union-attr]

every_action = pytest.mark.parametrize("action", ACTIONS)
every_pure_action = pytest.mark.parametrize("action", PURE)

WORLD = {
    "$trigger": {"body": {"usd": 2000, "amount": "1.5", "rows": []}, "source": "api"},
    "$env": {"ORDERS_TOKEN": "token", "WEBHOOK_SECRET": "secret"},
}
"""What the templates of examples may look at."""

TOKEN = "0xA0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48"
ETHEREUM = Network(
    chain_id=1,
    name="Ethereum",
    short_name="ethereum",
    native=NativeAsset(symbol="ETH", name="Ether"),
    explorer="https://etherscan.io",
    block_time_ms=12_000,
    confirmations=3,
    wrapped_native="0xC02aaA39b223FE8D0A0e5C4F27eAD9083C756Cc2",
    tokens=(Token(address=TOKEN, symbol="USDC", decimals=6),),
    dex=Dex(v2_router="0x7a250d5630B4cF539739dF2C5dAcb4c659F2488D"),
)
CALLS: dict[tuple[str, str], Answer] = {
    (TOKEN, "decimals()"): 6,
    (TOKEN, "symbol()"): b"USDC".ljust(32, b"\0"),
    (TOKEN, "name()"): b"USD Coin".ljust(32, b"\0"),
    (TOKEN, "totalSupply()"): 10**18,
    (TOKEN, "balanceOf(address)"): 10**15,
    (TOKEN, "allowance(address,address)"): 0,
    (TOKEN, "approve(address,uint256)"): 1,
    (TOKEN, "transfer(address,uint256)"): 1,
}
"""What the chain of the examples answers."""

_OUTSIDE = ("socket.", "subprocess.", "os.system", "os.exec", "os.fork", "os.posix_spawn", "ftplib.", "smtplib.")
_HARMLESS = frozenset({"socket.__new__"})  # asyncio makes its own pair of sockets


class Guard:
    """Refuses to let the process reach out while it watches."""

    def __init__(self) -> None:
        self.watching = False
        self.seen: list[str] = []
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.watching and event.startswith(_OUTSIDE) and event not in _HARMLESS:
            self.seen.append(event)
            raise AssertionError(f"the action reached out by itself: {event}")

    @contextmanager
    def watch(self) -> Iterator[None]:
        """Only within; afterwards nothing may have been seen, even if the action swallowed the refusal."""
        self.seen.clear()
        self.watching = True
        try:
            yield
        finally:
            self.watching = False
        assert self.seen == []


@pytest.fixture(scope="module")
def guard() -> Guard:
    return Guard()


def floats(value: Any) -> list[float]:
    if isinstance(value, dict | list | tuple):
        items = value.values() if isinstance(value, dict) else value
        return [found for item in items for found in floats(item)]
    return [value] if isinstance(value, float) else []


def fakes(action: Action) -> FakeContext:
    """A world in which everything that is asked for answers with what the example says."""
    example = action.example_output
    body = json_response(example.get("body", example))
    script = ScriptResult(example.get("value"), tuple(example.get("logs", ())))
    return FakeContext(
        responses=[body] * 10,
        scripts=[script] * 10,
        chains={1: FakeChain(ETHEREUM, calls=CALLS, balances={WALLET.address: 10**24})},
        prices=FakePrices(),
        wallet=WALLET,
    )


def nothing_there() -> FakeContext:
    """A world that answers, and has nothing."""
    empty = HttpResponse(204, {}, b"", "https://api.example.com/")
    return FakeContext(
        responses=[empty] * 10,
        scripts=[ScriptResult(None)] * 10,
        chains={1: FakeChain(ETHEREUM)},
        prices=FakePrices(Invalid("nobody prices it")),
        wallet=WALLET,
    )


def filled(action: Action) -> Any:
    """The example input as the engine would resolve it."""
    return compile_value(action.example_input, action.raw_fields).evaluate(FakeRoots(WORLD))


@every_action
def test_its_summary_is_one_sentence_and_its_page_says_more(action: Action) -> None:
    assert action.summary.endswith(".")
    assert not action.summary.startswith(("This ", "An action", "Action"))
    assert action.description, "say when to use it, and when not"
    assert all(line == line.rstrip() for line in action.description.splitlines())
    assert not action.description.splitlines()[-1].endswith(","), "the description ends in the middle of a sentence"


@every_action
def test_its_schemas_are_json_schema_and_take_its_examples(action: Action) -> None:
    shown = CATALOG.public_action(action.type)
    for schema, example in (("inputSchema", "exampleInput"), ("outputSchema", "exampleOutput")):
        jsonschema.Draft202012Validator.check_schema(shown[schema])
        jsonschema.Draft202012Validator(shown[schema]).validate(shown[example])


@every_action
def test_it_refuses_fields_that_it_does_not_know(action: Action) -> None:
    with pytest.raises(ValidationError) as caught:
        action.input.model_validate({**filled(action), "noSuchField": 1})
    assert [error["type"] for error in caught.value.errors()] == ["extra_forbidden"]


def _lacks_what_replaces_it(action: Action) -> bool:
    replaced_by = action.connector_instead_of
    return replaced_by is not None and replaced_by not in action.example_input


@every_action
def test_its_example_is_a_valid_node(action: Action) -> None:
    example: dict[str, Any] = {"type": action.type, "payload": action.example_input}
    if action.connector and (not action.connector_optional or _lacks_what_replaces_it(action)):
        example["connector"] = {"type": action.connector[0], "id": "conn_0123456789abcdefghjkmnpqrs"}
    definition = {"nodes": {"root": {"type": "manual", "children": ["example"]}, "example": example}}
    assert check(Definition.model_validate(definition), CATALOG.specs()) == []


@every_pure_action
async def test_its_example_comes_true(action: Action, guard: Guard) -> None:
    with guard.watch():
        result = await perform(action, action.example_input, fakes(action), WORLD)
    stored = exact_json.loads(exact_json.dumps(result))
    assert stored == exact_json.loads(exact_json.dumps(action.example_output))
    assert floats(result) == []


@every_pure_action
async def test_it_gives_the_same_again_and_leaves_its_input_alone(action: Action) -> None:
    payload = filled(action)
    before = exact_json.dumps(payload)
    first = await perform(action, payload, fakes(action))
    assert await perform(action, payload, fakes(action)) == first
    assert exact_json.dumps(payload) == before


@every_action
async def test_it_reaches_out_only_through_ctx(action: Action, guard: Guard) -> None:
    """With answers that fit, that are empty, and with none at all: a result or an error of ours, never a socket."""
    for ctx in (fakes(action), nothing_there()):
        with guard.watch():
            try:
                result = await perform(action, action.example_input, ctx, WORLD, succeed)
            except DustrunError:
                continue
        assert floats(result) == []
        action.output.model_validate(result)


@every_action
def test_its_preview_shows_what_would_go_out(action: Action, guard: Guard) -> None:
    if action.preview is None:
        return
    with guard.watch():
        shown = action.preview(action.input.model_validate(filled(action)))
    assert shown
    assert floats(shown) == []
    assert exact_json.loads(exact_json.dumps(shown)) == shown


@every_action
def test_its_numbers_stay_exact_on_the_way_in(action: Action) -> None:
    """A field that takes any value keeps it; one that takes a number takes no float."""
    exact = Decimal("0.1000000000000000055511151231257827")
    for name, field in action.input.model_fields.items():
        assert field.annotation is not float, name
        if field.annotation is Any:
            payload = {**filled(action), field.alias or name: exact}
            try:
                value = action.input.model_validate(payload)
            except ValidationError:
                continue
            assert getattr(value, name) == exact
