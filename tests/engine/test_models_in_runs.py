"""The node `llm` in runs: asked once, the same in every life, and never shown a secret."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from dustrun.core.run.state import Mode
from dustrun.core.validate.whole import MODEL_DECIDES as CODE
from dustrun.errors import Code
from dustrun.services.runs.launching.decision import LaunchRequest
from engine.conftest import OWN_ACTIONS, Bench, Definition, trial
from testkit.composition import composed
from testkit.model_server import ModelServer, Reply, serving_model

SECRET = "s3cret-with-odd+signs&more"
PAYEE = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"


@pytest.fixture
async def models() -> AsyncIterator[ModelServer]:
    async with serving_model(Reply("first"), Reply("second"), Reply("third")) as server:
        yield server


@pytest.fixture
async def bench(tmp_path: Path, store_url: str) -> AsyncIterator[Bench]:
    settings = {"actions_dir": OWN_ACTIONS, "outbound_allow": ("127.0.0.1",)}
    async with composed(tmp_path, database_url=store_url, **settings) as composition:
        yield Bench(composition)


async def reference(bench: Bench, models: ModelServer) -> dict[str, str]:
    made = (await bench.api.post("/v1/connectors", models.connector())).data
    return {"type": made["type"], "id": made["id"]}


async def asking(bench: Bench, models: ModelServer, **payload: Any) -> Definition:
    given = {"prompt": "Say it", "maxCostUsd": "1", **payload}
    return {"type": "llm", "connector": await reference(bench, models), "payload": given}


def answer_of(run: dict[str, Any], node: str = "ask") -> Any:
    return run["executionState"][node]["result"]["text"]


async def test_simulation_really_asks_and_shows_the_cost(bench: Bench, models: ModelServer) -> None:
    run = await bench.run({"ask": await asking(bench, models)}, simulate=True)
    assert (run["status"], run["passed"]) == ("success", True)
    assert run["executionState"]["ask"]["result"]["costUsd"] == "0.0003"
    assert answer_of(run) == "first"
    assert models.asked[0].headers["authorization"] == "Bearer sk-model-0123456789"


async def test_retry_of_a_run_keeps_the_answer(bench: Bench, models: ModelServer) -> None:
    ask = await asking(bench, models)
    failed = await bench.run({"ask": {**ask, "children": ["then"]}, "then": trial(outcomes=["permanent", "ok"])})
    assert failed["status"] == "failure"
    retried = await bench.api.post(f"/v1/runs/{failed['id']}/retry", {})
    again = await bench.ended(retried.data["runId"])
    assert (again["status"], len(models.asked)) == ("success", 1)


async def test_prompt_shows_no_secret_of_the_run(bench: Bench, models: ModelServer) -> None:
    """Neither one that an answer echoes nor one that somebody typed into the prompt."""
    ask = await asking(bench, models, prompt=f"Is {SECRET} long, and sk-model-0123456789?", data={"deep": [SECRET]})
    other = {"type": "http-bearer", "name": "other", "data": {"token": SECRET}, "allowedHosts": [models.url]}
    made = (await bench.api.post("/v1/connectors", other)).data
    unused = {
        "type": "http-request",
        "connector": {"type": made["type"], "id": made["id"]},
        "payload": {"url": f"{models.url}/x"},
    }
    run = await bench.run({"ask": ask, "other": unused})
    assert answer_of(run) in ("first", "second")
    sent = next(one for one in models.asked if one.path == "/v1/chat/completions").raw.decode()
    assert SECRET not in sent
    assert "sk-model" not in sent
    assert sent.encode().decode("unicode_escape").count("long, and") == 1


async def test_answer_from_the_rehearsal_is_the_one_that_was_shown(bench: Bench, models: ModelServer) -> None:
    ask = await asking(bench, models, prompt="Who is {{$trigger.body.who}}?", answerFrom="rehearsal")
    nodes = {"root": {"type": "manual", "children": ["ask"]}, "ask": ask}
    made = (
        await bench.api.post("/v1/workflows", {"name": "Shown", "description": "", "definition": {"nodes": nodes}})
    ).data
    await bench.api.post(f"/v1/workflows/{made['id']}/publish", {})

    async def run(who: str, **body: Any) -> dict[str, Any]:
        reply = await bench.api.post(f"/v1/workflows/{made['id']}/run", {"payload": {"who": who}, **body})
        return await bench.ended(reply.data["runId"])

    early = await run("Ada")
    assert early["status"] == "failure"
    error = early["executionState"]["ask"]["error"]
    assert (error["code"], error["retryable"]) == ("REHEARSAL_ANSWER_MISSING", False)
    assert answer_of(await run("Ada", simulate=True)) == "first"
    assert answer_of(await run("Ada", simulate=True)) == "second"
    assert [answer_of(await run("Ada")), answer_of(await run("Ada"))] == ["second", "second"]
    assert (await run("Bob"))["status"] == "failure"
    assert len(models.asked) == 2


async def test_answer_from_the_rehearsal_is_found_by_nodes_in_the_middle_of_a_run(
    bench: Bench, models: ModelServer
) -> None:
    """What a node was given is looked up in the store: its start is there first, which that of a read need not be."""
    ask = await asking(bench, models, prompt="Who is {{$nodes.say.result.message}}?", answerFrom="rehearsal")
    say = {"type": "log", "payload": {"message": "Ada"}, "children": ["ask"]}
    nap = {"type": "delay", "payload": {"delayMs": 1}, "children": ["say"]}
    nodes = {"root": {"type": "manual", "children": ["nap"]}, "nap": nap, "say": say, "ask": ask}
    made = (
        await bench.api.post("/v1/workflows", {"name": "Shown", "description": "", "definition": {"nodes": nodes}})
    ).data
    await bench.api.post(f"/v1/workflows/{made['id']}/publish", {})
    answers = []
    for mode in ({"simulate": True}, *[{}] * 5):
        reply = await bench.api.post(f"/v1/workflows/{made['id']}/run", {"payload": {}, **mode})
        answers.append(answer_of(await bench.ended(reply.data["runId"])))
    assert answers == ["first"] * 6


async def test_launched_run_answers_as_its_own_rehearsal_did(bench: Bench, models: ModelServer) -> None:
    """A later simulation of the same has another answer, which nobody has looked at."""
    nodes = {
        "root": {"type": "manual", "children": ["ask"]},
        "ask": await asking(bench, models, answerFrom="rehearsal"),
    }
    made = await bench.api.create_workflow({"nodes": nodes})
    for answer in ("first", "second"):
        reply = await bench.api.post(f"/v1/workflows/{made['id']}/run", {"simulate": True})
        shown = await bench.ended(reply.data["runId"])
        assert answer_of(shown) == answer
        if answer == "first":
            seen = shown["id"]
    asked = LaunchRequest(workflow_id=made["id"], version=1, mode=Mode.LIVE, rehearsal_run_id=seen)
    owner = await bench.composition.parts.access.keys.find(bench.composition.owner_key)
    assert owner is not None
    launched = await bench.composition.parts.launches.propose(owner, asked)
    assert (launched.has_started, answer_of(await bench.ended(launched.run_id))) == (True, "first")


async def test_answer_of_a_failed_simulation_is_not_used(bench: Bench, models: ModelServer) -> None:
    ask = await asking(bench, models, answerFrom="rehearsal")
    run = await bench.run({"ask": ask})
    assert run["executionState"]["ask"]["error"]["code"] == "REHEARSAL_ANSWER_MISSING"
    assert models.asked == []


async def test_validation_warns_where_a_model_decides_a_spend(bench: Bench, models: ModelServer) -> None:
    ask = {**await asking(bench, models), "children": ["shape"]}
    shape = {"type": "format", "payload": {"template": "{{ask.result.text}}"}, "children": ["pay", "fixed"]}
    pay = {"type": "send-native", "payload": {"chainId": 31337, "to": "{{$nodes.shape.result.text}}", "amount": "1"}}
    fixed = {"type": "send-native", "payload": {"chainId": 31337, "to": PAYEE, "amount": "1"}}
    nodes = {"root": {"type": "manual", "children": ["ask"]}, "ask": ask, "shape": shape, "pay": pay, "fixed": fixed}
    found = (await bench.api.post("/v1/workflows/validate", {"definition": {"nodes": nodes}})).data
    warned = [one for one in found["warnings"] if one["code"] == CODE]
    assert [(one["nodeId"], one["field"]) for one in warned] == [("pay", "nodes.pay.payload.to")]


@pytest.mark.parametrize(
    "change",
    [{"baseUrl": "http://127.0.0.2:9/v1"}, {"prices": {"*": {"inputUsd": "-1", "outputUsd": "1"}}}, {"prices": None}],
)
async def test_connector_with_bad_data_is_refused(bench: Bench, models: ModelServer, change: dict[str, Any]) -> None:
    reply = await bench.api.post("/v1/connectors", models.connector(**change))
    assert reply.status == 400
    assert reply.body["details"][0]["field"].startswith(f"data.{next(iter(change))}")


@pytest.mark.both_stores
@pytest.mark.parametrize("is_simulated", [False, True])
async def test_models_are_not_asked_beyond_the_tokens_of_the_organisation(
    tmp_path: Path, store_url: str, models: ModelServer, is_simulated: bool
) -> None:
    """The first run's answer uses them up; the second's node fails before it asks, though it may retry, and what the
    run did before stays. The assistant is refused as well."""
    settings = {"actions_dir": OWN_ACTIONS, "outbound_allow": ("127.0.0.1",), "max_model_tokens": 100}
    async with composed(tmp_path, database_url=store_url, **settings) as composition:
        bench = Bench(composition)
        ask = await asking(bench, models)
        first = await bench.run({"ask": ask}, simulate=is_simulated)
        result = first["executionState"]["ask"]["result"]
        used = result["inputTokens"] + result["outputTokens"]
        assert used >= 100
        again = {**ask, "retry": {"maxAttempts": 3}}
        before = {"type": "log", "payload": {"message": "before"}, "children": ["ask"]}
        second = await bench.run({"before": before, "ask": again}, simulate=is_simulated)
        assert (second["status"], second["executionState"]["before"]["status"]) == ("failure", "success")
        error = second["executionState"]["ask"]["error"]
        says = f"The organisation has used {used} tokens of models in 24 hours, and may use 100 (setting max_model_tok"
        assert (error["code"], error["message"].startswith(says)) == ("MODEL_TOKEN_LIMIT", True), error
        assert (error["retryable"], len(models.asked)) == (False, 1)
        own = (await bench.api.get("/v1/organizations")).data["items"][0]["id"]
        quotas = (await bench.api.get(f"/v1/organizations/{own}/quotas")).data["items"]
        assert [(one["used"], one["limit"]) for one in quotas if one["name"] == "modelTokens"] == [(used, 100)]
        chat = (await bench.api.post("/v1/conversations", {"title": "Plan"})).data["id"]
        refused = await bench.api.post(f"/v1/conversations/{chat}/turns", {"text": "Hi"})
        assert refused.code == Code.MODEL_TOKEN_LIMIT
