"""Every bundled workflow is valid, says what it does, and simulates on a chain and on loopback servers."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from dustrun import catalog
from dustrun.core.money.policy.sources_rule import default_sources, judge_sources
from dustrun.core.sources.slicer import ClosedPrograms
from dustrun.core.sources.source import Source
from dustrun.core.sources.spend_slice import slices_of
from dustrun.core.values import exact_json
from dustrun.core.workflow.definition import Definition
from dustrun.core.workflow.program import compile_program
from dustrun.services.templates.blanks import blanks_of, fill
from dustrun.services.templates.templates import CATEGORIES, FIRST, definition_of, get_template, list_templates
from engine.conftest import Bench
from outbox import ANYTHING, open_outbox
from served import outside
from testkit.chain.anvil import CHAIN_ID
from testkit.chain.contracts import World

_OF_MAINNET = {
    "0x7a250d5630B4cF539739dF2C5dAcb4c659F2488D": "v2_router",
    "0xC02aaA39b223FE8D0A0e5C4F27eAD9083C756Cc2": "weth",
    "0xA0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48": "usdc",
}
_WRITTEN = ("https://example.com", "http://127.0.0.1:8099")
_TABLE = {
    "name": "orders",
    "primaryKey": "id",
    "columns": [{"name": "id", "type": "text"}, {"name": "status", "type": "text"}],
}


@pytest.fixture
async def bench(tmp_path: Path, world: World) -> AsyncIterator[tuple[Bench, dict[str, str]]]:
    """A server with a wallet on a chain, and what stands for the addresses that the templates name."""
    with world.node("--block-time", "1") as node, outside(tmp_path) as notices:
        network = world.network(node.url).model_dump(
            mode="json", by_alias=True, exclude={"chain_id", "block_time_ms", "confirmations", "endpoints"}
        )
        at = world.witness(node).addresses
        here = {old: at[name] for old, name in _OF_MAINNET.items()} | dict.fromkeys(_WRITTEN, notices.url)
        here |= {'"chainId":1,': f'"chainId":{CHAIN_ID},', '"chainId":1}': f'"chainId":{CHAIN_ID}}}'}
        async with open_outbox(tmp_path, node, network=network, outbound_allow=notices.address) as outbox:
            yield Bench(outbox.composition), here


def test_templates_are_found_by_words_and_category() -> None:
    assert len(list_templates()) >= 20
    assert list_templates()[0].id == FIRST
    assert {one.category for one in list_templates()} == set(CATEGORIES)
    assert [one.id for one in list_templates("week PRICE guard", "money")] == ["dca"]
    assert list_templates("no such words") == []
    assert len({one.id for one in list_templates()}) == len(list_templates())


def test_triggers_that_listen_or_watch_transactions_have_templates() -> None:
    """Nobody saw before how the events of these are used."""
    shown = {definition_of(one)["nodes"]["root"]["type"] for one in list_templates()}
    assert shown >= {"postgres-row", "sse", "nats", "evm-contract-call", "evm-transaction", "websocket", "kafka"}


def test_a_template_asks_if_a_form_starts_it_and_not_if_its_owner_does() -> None:
    """By the sources that new policies name, apart from the tokens that are asked: which they are, runs say."""
    specs, rules = catalog.load().specs(), default_sources()
    by_owner, by_form = dict[str, bool](), dict[str, bool]()
    for one in list_templates():
        program = compile_program(Definition.model_validate(definition_of(one)), specs)
        for spend in slices_of(ClosedPrograms("t@1", {"t@1": program}), specs):
            told = {
                money: frozenset(source for source in found if source.kind != "contract")
                for money, found in spend.fields.items()
            }
            name = f"{one.id}.{spend.place[1]}"
            owned = {money: frozenset(map(_of_owner, found)) for money, found in told.items()}
            by_owner[name] = any(judge_sources(rules, owned))
            formed = {money: frozenset(map(str, found)) for money, found in told.items()}
            by_form[name] = any(judge_sources(rules, formed))
    assert (len(by_owner), sum(by_owner.values()), sum(by_form.values())) == (10, 0, 7)


def _of_owner(source: Source) -> str:
    is_given = source.kind == "props" or (source.kind, source.name) == ("trigger", "manual")
    return "starter" if is_given else str(source)


async def test_every_template_is_valid_and_simulates(bench: tuple[Bench, dict[str, str]]) -> None:
    """By the owner, under what a new policy asks: nothing of what shapes a spend is worth a question."""
    server, here = bench
    (wallet,) = (await server.api.get("/v1/wallets")).data["items"]
    rules = {name: rule.model_dump(mode="json", by_alias=True) for name, rule in default_sources().items()}
    policy = {"policy": {**ANYTHING, "sources": rules}}
    assert (await server.api.put(f"/v1/wallets/{wallet['id']}/policy", policy)).status == 200
    judged: dict[str, set[str]] = {}
    await server.api.post("/v1/tables", _TABLE)
    ended: dict[str, Any] = {}
    for one in list_templates():
        made = (await server.api.post(f"/v1/templates/{one.id}/use", {"keepExamples": True})).data
        checked = (await server.api.post("/v1/workflows/validate", {"definition": made["definition"]})).data
        assert checked["valid"], (one.id, checked["errors"])
        text = exact_json.dumps({"definition": made["definition"], "payload": one.payload}).decode()
        for written, found in here.items():
            text = text.replace(written, found)
        here_too = json.loads(text)
        await server.api.put(f"/v1/workflows/{made['id']}", {"definition": here_too["definition"]})
        asked = {"payload": here_too["payload"], "simulate": True}
        reply = await server.api.post(f"/v1/workflows/{made['id']}/run", asked)
        assert reply.status == 200, (one.id, reply.body)
        run = await server.ended(reply.data["runId"])
        effects = (await server.api.get(f"/v1/runs/{run['id']}/effects")).data
        assert [request for request in effects["requests"] if request["sent"]] == [], one.id
        for verdict in effects["policyVerdicts"]:
            judged.setdefault(f"{one.id}.{verdict['nodeId']}", set()).add(verdict["outcome"])
        errors = {path: node["error"] for path, node in run["executionState"].items() if node.get("error")}
        ended[one.id] = errors or run["status"]
    assert ended == dict.fromkeys(ended, "success")
    assert set().union(*judged.values()) == {"allow"}
    assert judged.keys() >= {"take-profit.share", "payout.pay", "permit.sign", "sweep.send", "approve-a-payout.pay"}


async def test_a_template_becomes_a_workflow_of_its_own(bench: tuple[Bench, dict[str, str]]) -> None:
    server, _ = bench
    made = (await server.api.post(f"/v1/templates/{FIRST}/use", {"name": "Mine", "keepExamples": True})).data
    assert (made["name"], made["status"], made["version"]) == ("Mine", "draft", 1)
    schema = made["definition"]["nodes"]["root"]["payload"]["inputSchema"]["properties"]
    assert {name: field["default"] for name, field in schema.items()} == get_template(FIRST).payload
    assert "default" not in json.dumps(get_template(FIRST).definition), "the template itself is unchanged"
    missing = await server.api.post("/v1/templates/none/use", {})
    assert (missing.status, missing.body["code"]) == (404, 404015)


_OWN = f"0x{'ab' * 20}"
_ANSWERS = {"url": "https://mine.dev/x", "address": _OWN, "text": "mine", "table": "mine"}
_NAMED = {"type": "own", "id": "con_1"}


def test_nothing_that_stands_for_somebody_is_left_once_the_blanks_are_filled() -> None:
    known = catalog.load()
    left = re.compile(r"example\.(com|org|net)|127\.0\.0\.1|123456789012|0x7099|0x3C44|0xd8dA")
    for one in list_templates():
        definition = definition_of(one)
        blanks = blanks_of(definition, known)
        assert len({blank.name for blank in blanks}) == len(blanks), one.id
        filled = fill(definition, blanks, {blank.name: _ANSWERS.get(blank.kind, _NAMED) for blank in blanks})
        assert left.search(exact_json.dumps_text(filled)) is None, one.id
        again = [blank for blank in blanks_of(filled, known) if blank.example not in _ANSWERS.values()]
        assert again == [], one.id
        assert definition == definition_of(one), "what is filled is a copy"


def test_a_template_asks_for_what_it_cannot_know_each_once() -> None:
    known = catalog.load()
    asked = {
        one.id: [(blank.kind, blank.name) for blank in blanks_of(definition_of(one), known)] for one in list_templates()
    }
    assert asked["sweep"] == [("wallet", "wallet"), ("address", "send.recipient")]
    assert asked[FIRST] == [("wallet", "wallet"), ("address", "treasury"), ("url", "noticeUrl")]
    assert asked["payout"] == [("wallet", "wallet"), ("text", "csv")]
    assert asked["site-check"] == [("url", "ask.url"), ("url", "down.url")]
    assert asked["invoice-by-email"] == [("connector", "root.connector"), ("url", "accepted.url")]
    assert asked["every-so-often"] == []
    (person, url) = blanks_of(definition_of(get_template("health-factor")), known)
    assert (person.places, url.places) == ((("root", "args", 0),), (("notify", "url"),))


async def test_a_blank_without_a_value_is_refused_by_its_name(bench: tuple[Bench, dict[str, str]]) -> None:
    server, _ = bench
    before = (await server.api.get("/v1/workflows")).data["items"]

    async def use(values: dict[str, str]) -> Any:
        return await server.api.post(f"/v1/templates/{FIRST}/use", {"values": values})

    def fields(reply: Any) -> list[str]:
        assert reply.status == 400, reply.body
        return [one["field"] for one in reply.body["details"]]

    assert fields(await use({})) == ["values.treasury", "values.noticeUrl"]
    url = "https://mine.dev/x"
    assert fields(await use({"treasury": "0x12", "noticeUrl": url})) == ["values.treasury"]
    assert fields(await use({"treasury": _OWN, "noticeUrl": url, "n": "1"})) == ["values.n"]
    assert fields(await use({"treasury": _OWN, "noticeUrl": url, "wallet": "wal_none"})) != []
    assert (await server.api.get("/v1/workflows")).data["items"] == before
    (wallet,) = (await server.api.get("/v1/wallets")).data["items"]
    made = (await use({"treasury": _OWN, "noticeUrl": url, "wallet": wallet["id"]})).data
    inputs = made["definition"]["nodes"]["root"]["payload"]["inputSchema"]["properties"]
    assert (inputs["treasury"]["default"], inputs["noticeUrl"]["default"]) == (_OWN, url)
    shown = (await server.api.get(f"/v1/templates/{FIRST}")).data["blanks"]
    assert [(one["name"], one["isRequired"]) for one in shown] == [
        ("wallet", False),
        ("treasury", True),
        ("noticeUrl", True),
    ]
