"""`wait` and `approve`: links, keys, loop items, early and late answers, limits, simulations; nothing shows a link."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import sqlalchemy as sa

from dustrun import clock, log
from dustrun.storage.db.tables import api_keys, events, executions, runs
from dustrun.storage.runs import journal
from engine.conftest import OWN_ACTIONS, Bench, Definition, let_go, trial
from testkit.composition import Client, composed

LINK = re.compile(r"dlk_[0-9a-f]{64}")
DAY_MS = 86_400_000


def say(message: str, **more: Any) -> Definition:
    return {"type": "log", "payload": {"message": message}, **more}


def wait(*children: str, timeout_ms: int = DAY_MS, **more: Any) -> Definition:
    return {
        "type": "wait",
        "payload": {"timeoutMs": timeout_ms, **more.pop("payload", {})},
        "children": [*children],
        **more,
    }


def waiting(node_id: str) -> Any:
    """Whether a node outside of loops waits."""
    return lambda run: run["status"] == "waiting" and run["executionState"][node_id]["status"] == "waiting"


async def resume(api: Client, run_id: str, node: str, data: Any = None, **more: Any) -> dict[str, Any]:
    body = {"data": data if data is not None else {}, **more}
    answer: dict[str, Any] = (await api.post(f"/v1/runs/{run_id}/nodes/{node}/resume", body)).data
    return answer


async def use(bench: Bench, link: str, body: dict[str, Any]) -> Any:
    """POSTs to a link without any key."""
    found = urlsplit(link)
    return await bench.composition.client(None).post(f"{found.path}?{found.query}", body)


async def sent_link(bench: Bench) -> str:
    """The link that a trial action was given: what really went out."""
    return str(sys.modules["dustrun_own_trial"].VALUES[-1])


async def test_wait_is_resumed_with_a_key_once(bench: Bench) -> None:
    run_id = await bench.start(
        {
            "w": wait("yes", "late"),
            "yes": say("got {{w.result.triggerResult.n}}", branch="resumed"),
            "late": say("late", branch="timed_out"),
        }
    )
    await bench.until(run_id, waiting("w"))
    assert await resume(bench.api, run_id, "w", {"n": 7}) == {"action": "resumed", "reason": None}
    run = await bench.ended(run_id)
    state = run["executionState"]
    assert (run["status"], state["yes"]["result"]["message"], state["late"]["status"]) == (
        "success",
        "got 7",
        "skipped",
    )
    assert state["w"]["result"] == {
        "status": "resumed",
        "branch": "resumed",
        "triggerResult": {"n": 7},
        "source": "api",
        "timeoutMs": DAY_MS,
    }
    assert await resume(bench.api, run_id, "w") == {
        "action": "skipped",
        "reason": 'the run has ended (it is "success")',
    }


@pytest.mark.both_stores
@pytest.mark.every_engine
async def test_two_resumes_at_once_count_once(bench: Bench) -> None:
    run_id = await bench.start({"w": wait("next"), "next": wait()})
    await bench.until(run_id, waiting("w"))
    answers = await asyncio.gather(*(resume(bench.api, run_id, "w", {"n": n}) for n in range(8)))
    assert sorted(answer["action"] for answer in answers) == ["resumed", *["skipped"] * 7]
    run = await bench.until(run_id, waiting("next"))
    winner = next(n for n, answer in enumerate(answers) if answer["action"] == "resumed")
    assert run["executionState"]["w"]["result"]["triggerResult"] == {"n": winner}
    assert (await resume(bench.api, run_id, "w"))["reason"] == 'the node no longer waits (it is "success")'


async def test_early_resume_is_kept(bench: Bench) -> None:
    nodes = {"slow": trial(name="early", held=True, children=["w"]), "w": wait()}
    run_id = await bench.start(nodes)
    assert await resume(bench.api, run_id, "w", {"n": 1}) == {
        "action": "resumed",
        "reason": "kept until the node waits",
    }
    assert (await resume(bench.api, run_id, "w"))["reason"] == "the node has been resumed already"
    let_go("early")
    run = await bench.ended(run_id)
    assert run["executionState"]["w"]["result"]["triggerResult"] == {"n": 1}


async def test_wait_times_out(bench: Bench) -> None:
    nodes = {
        "w": wait("yes", "late", timeout_ms=1000),
        "yes": say("y", branch="resumed"),
        "late": say("l", branch="timed_out"),
    }
    run = await bench.run(nodes)
    state = run["executionState"]
    assert (state["late"]["status"], state["yes"]["status"]) == ("success", "skipped")
    assert state["w"]["result"]["status"] == "timed_out"


async def test_link_resumes_once_and_is_shown_nowhere(bench: Bench) -> None:
    url = "{{$run.resumeUrl('w')}}"
    nodes = {
        "ask": trial(name="ask", value={"link": url, "text": f"see {url}"}, children=["log"]),
        "log": say(f"the link is {url}", children=["w"]),
        "w": wait("seen"),
        "seen": say("{{$nodes.ask.input.value.link}}"),
    }
    run_id = await bench.start(nodes)
    run = await bench.until(run_id, waiting("w"))
    assert "dlk_***" in json.dumps(run)
    link = await sent_link(bench)
    assert LINK.search(link)
    wrong = link[:-1] + ("0" if link[-1] != "0" else "1")
    reply = await use(bench, wrong, {})
    assert (reply.status, reply.code) == (401, 401002)
    for other in (
        link.replace("/w/resume", "/ask/resume"),
        link.replace(run_id, f"{run_id}x"),
        link.replace("org=org", "org=xrg"),
    ):
        assert (await use(bench, other, {})).status == 401
    assert (await use(bench, link, {"data": {"ok": True}})).data == {"action": "resumed", "reason": None}
    run = await bench.ended(run_id)
    assert run["executionState"]["w"]["result"]["source"] == "link"
    assert (await use(bench, link, {})).data["action"] == "skipped"
    stored = [
        *await bench.composition.rows(
            sa.select(executions.c.input, executions.c.result, executions.c.facts, executions.c.error)
        ),
        *await bench.composition.rows(sa.select(events.c.data)),
        *await bench.composition.rows(sa.select(runs.c.payload, runs.c.error)),
    ]
    for text in (json.dumps(run), repr(stored)):
        assert not LINK.search(text)
    assert not LINK.search(log.mask_text(link))
    assert not LINK.search(log.mask_text(link.replace("=", "%3D")))
    assert run["executionState"]["seen"]["result"]["message"].endswith("token=dlk_***")


async def test_result_that_holds_a_link_is_masked_for_later_nodes_too(bench: Bench) -> None:
    url = "{{$run.resumeUrl('w')}}"
    nodes = {
        "make": trial(name="make", value=url, children=["next"]),
        "next": trial(name="next", value="{{make.result.value}}"),
        "w": wait(timeout_ms=1000),
    }
    await bench.run(nodes)
    assert (await sent_link(bench)).endswith("token=dlk_***")


async def test_items_of_loops_are_resumed_by_context_and_by_path(bench: Bench) -> None:
    loop = {
        "type": "for-each",
        "payload": {"array": ["a", "b", "c"], "concurrency": 3},
        "loopBody": ["w"],
        "children": ["end"],
    }
    nodes = {"each": loop, "w": wait("s"), "s": say("{{$item}} {{w.result.triggerResult.n}}"), "end": say("end")}
    run_id = await bench.start(nodes)
    await bench.until(run_id, lambda run: run["status"] == "waiting")
    refused = await bench.api.post(f"/v1/runs/{run_id}/nodes/w/resume", {})
    assert (refused.status, refused.code, refused.fields) == (400, 400086, ["forEachContext"])
    for stack in ([], [{"parentNodeId": "other", "index": 0}], [{"parentNodeId": "each", "index": 3}]):
        refused = await bench.api.post(f"/v1/runs/{run_id}/nodes/w/resume", {"forEachContext": {"stack": stack}})
        assert refused.code == 400086, stack
    for path in ("each[9].w", "each[x].w", "each.w", "other[0].w", "each[0].each[0].w"):
        assert (await bench.api.post(f"/v1/runs/{run_id}/nodes/{path}/resume", {})).code == 400086, path
    stack = [{"parentNodeId": "each", "index": 2, "total": 3}]
    await resume(bench.api, run_id, "w", {"n": 2}, forEachContext={"stack": stack})
    await resume(bench.api, run_id, "each[1].w", {"n": 1})
    assert (await resume(bench.api, run_id, "each[01].w"))["action"] == "skipped"
    await resume(bench.api, run_id, "each[0].w", {"n": 0})
    run = await bench.ended(run_id)
    results = [item["results"]["s"]["message"] for item in run["executionState"]["each"]["result"]["iterations"]]
    assert (run["status"], results) == ("success", ["a 0", "b 1", "c 2"])


def _waits_at(index: int) -> Callable[[dict[str, Any]], bool]:
    def holds(run: dict[str, Any]) -> bool:
        return run["status"] == "waiting" and len(run["executionState"]["each"]["iterations"]) == index + 1

    return holds


async def test_link_inside_a_loop_is_of_its_item(bench: Bench) -> None:
    loop = {"type": "for-each", "payload": {"array": [0, 1], "concurrency": 1}, "loopBody": ["ask"]}
    nodes = {"each": loop, "ask": trial(name="in-loop", value="{{$run.resumeUrl('w')}}", children=["w"]), "w": wait()}
    run_id = await bench.start(nodes)
    for index in (0, 1):
        await bench.until(run_id, _waits_at(index))
        link = await sent_link(bench)
        assert f"each%5B{index}%5D.w/resume" in link
        assert (await use(bench, link, {"data": {"i": index}})).data["action"] == "resumed"
    assert (await bench.ended(run_id))["status"] == "success"


async def test_resume_of_what_cannot_be_resumed(bench: Bench) -> None:
    run_id = await bench.start({"w": wait(), "s": say("x")})
    assert (await bench.api.post("/v1/runs/run_none/nodes/w/resume", {})).code == 404003
    assert (await bench.api.post(f"/v1/runs/{run_id}/nodes/none/resume", {})).code == 404005
    assert (await bench.api.post(f"/v1/runs/{run_id}/nodes/s/resume", {})).code == 400086
    assert (await bench.api.post(f"/v1/runs/{run_id}/nodes/w/resume", {"data": "x"})).code == 400001
    assert (await bench.api.post(f"/v1/runs/{run_id}/nodes/w/resume", {"other": 1})).code == 400001
    assert (await bench.composition.client(None).post(f"/v1/runs/{run_id}/nodes/w/resume", {})).code == 401001
    reader = await bench.composition.client_with("run:read")
    assert (await reader.post(f"/v1/runs/{run_id}/nodes/w/resume", {})).code == 403001
    other = await bench.composition.other_owner()
    assert (await other.post(f"/v1/runs/{run_id}/nodes/w/resume", {})).code == 404003


async def test_schema_of_the_awaited_trigger_checks_what_comes(bench: Bench) -> None:
    schema = {"type": "object", "required": ["paid"], "properties": {"paid": {"type": "boolean"}}}
    awaited = {"triggerType": "manual", "triggerConfig": {"inputSchema": schema}}
    run_id = await bench.start({"w": wait(payload=awaited)})
    assert (await bench.api.post(f"/v1/runs/{run_id}/nodes/w/resume", {"data": {"paid": 1}})).code == 400081
    assert (await resume(bench.api, run_id, "w", {"paid": True}))["action"] == "resumed"
    assert (await bench.ended(run_id))["status"] == "success"


async def test_idempotency_key_replays_a_resume(bench: Bench) -> None:
    run_id = await bench.start({"w": wait("v"), "v": wait()})
    await bench.until(run_id, waiting("w"))
    for _ in range(2):
        reply = await bench.api.post(f"/v1/runs/{run_id}/nodes/w/resume", {}, headers={"Idempotency-Key": "k1"})
        assert reply.data == {"action": "resumed", "reason": None}


async def test_cancel_ends_a_waiting_run(bench: Bench) -> None:
    run_id = await bench.start({"w": wait(), "a": {"type": "approve", "payload": {"message": "?"}}})
    await bench.until(run_id, lambda run: run["status"] == "waiting")
    await bench.api.post(f"/v1/runs/{run_id}/cancel")
    run = await bench.ended(run_id)
    assert {name: run["executionState"][name]["status"] for name in "wa"} == {"w": "cancelled", "a": "cancelled"}
    [approval] = (await bench.api.get("/v1/approvals?status=cancelled")).data["items"]
    assert approval["runId"] == run_id


async def test_failure_beside_a_wait_does_not_wait_for_it(bench: Bench) -> None:
    run_id = await bench.start({"w": wait(), "bad": trial(name="beside", sleep_ms=50, outcomes=["permanent"])})
    run = await bench.ended(run_id)
    assert (run["status"], run["executionState"]["w"]["status"]) == ("failure", "cancelled")


# --- approvals ---


def ask(**payload: Any) -> Definition:
    return {
        "ask": {
            "type": "approve",
            "payload": {"message": "Pay {{$trigger.body.usd}} USD?", "allowStarter": True, **payload},
            "children": ["yes", "no", "late"],
        },
        "yes": say("yes by {{ask.result.by}}", branch="approved"),
        "no": say("no: {{ask.result.comment}}", branch="rejected"),
        "late": say("late", branch="timed_out"),
    }


async def pending(bench: Bench, run_id: str) -> dict[str, Any]:
    await bench.until(run_id, waiting("ask"))
    [approval] = [a for a in (await bench.api.get("/v1/approvals")).data["items"] if a["runId"] == run_id]
    assert approval["why"] == "the step `ask` asks a person"
    return dict(approval)


@pytest.mark.both_stores
async def test_approval_is_listed_and_given(bench: Bench) -> None:
    run_id = await bench.start(ask(), payload={"usd": 20})
    approval = await pending(bench, run_id)
    assert (approval["message"], approval["nodeId"], approval["status"], approval["decidedAt"]) == (
        "Pay 20 USD?",
        "ask",
        "pending",
        None,
    )
    decided = (await bench.api.post(f"/v1/approvals/{approval['id']}/approve", {"comment": "fine"})).data
    assert (decided["status"], decided["comment"]) == ("approved", "fine")
    again = await bench.api.post(f"/v1/approvals/{approval['id']}/reject", {})
    assert (again.status, again.code) == (409, 409009)
    run = await bench.ended(run_id)
    state = run["executionState"]
    assert (state["yes"]["status"], state["no"]["status"], state["late"]["status"]) == ("success", "skipped", "skipped")
    assert (state["ask"]["result"]["decision"], state["ask"]["result"]["by"]) == ("approved", decided["decidedBy"])


async def test_approval_is_refused_by_link(bench: Bench) -> None:
    nodes = {"send": trial(name="send", value="{{$run.resumeUrl('ask')}}", children=["ask"]), **ask()}
    run_id = await bench.start(nodes, payload={"usd": 1})
    approval = await pending(bench, run_id)
    link = await sent_link(bench)
    for data in ({}, {"decision": "maybe"}, {"decision": "approved", "comment": 5}):
        assert (await use(bench, link, {"data": data})).status == 400
    assert (await use(bench, link, {"data": {"decision": "rejected", "comment": "too much"}})).data[
        "action"
    ] == "resumed"
    assert (await use(bench, link, {"data": {"decision": "approved"}})).data["action"] == "skipped"
    run = await bench.ended(run_id)
    assert run["executionState"]["no"]["result"]["message"] == "no: too much"
    [shown] = (await bench.api.get("/v1/approvals?status=rejected")).data["items"]
    assert (shown["id"], shown["decidedBy"]) == (approval["id"], "link")
    (noted, *_) = (await bench.api.get("/v1/audit")).data["items"]
    assert (noted["action"], noted["keyId"], noted["subject"]) == ("approval.rejected", "link", approval["id"])


async def test_a_decision_by_resume_is_audited_and_needs_a_key_that_is_still_good(bench: Bench) -> None:
    """As one through `/v1/approvals` is: the key may have been revoked by another server a moment ago."""
    rights = ["approval:decide", "workflow:execute"]
    made = [(await bench.api.post("/v1/api-keys", {"name": name, "permissions": rights})).data for name in "ab"]
    clients = [bench.composition.client(one["key"]) for one in made]
    run_id = await bench.start(ask(), payload={"usd": 1})
    approval = await pending(bench, run_id)
    for client in clients:
        assert (await client.get("/v1/me")).status == 200  # cached from now on
    revoked = sa.update(api_keys).where(api_keys.c.id == made[0]["id"]).values(revoked_at=1)
    await bench.composition.execute(revoked)
    path, body = f"/v1/runs/{run_id}/nodes/ask/resume", {"data": {"decision": "approved"}}
    refused = await clients[0].post(path, body)
    assert (refused.status, "was revoked" in refused.body["message"]) == (401, True)
    assert (await clients[1].post(path, body)).data["action"] == "resumed"
    (noted, *_) = (await bench.api.get("/v1/audit")).data["items"]
    assert (noted["action"], noted["keyId"], noted["subject"]) == ("approval.approved", made[1]["id"], approval["id"])
    assert noted["detail"] == {"runId": run_id, "path": "ask"}
    assert (await bench.ended(run_id))["status"] == "success"


async def test_only_the_named_approvers_decide(bench: Bench) -> None:
    made = (
        await bench.api.post(
            "/v1/api-keys", {"name": "boss", "permissions": ["approval:decide", "workflow:execute", "run:read"]}
        )
    ).data
    boss = bench.composition.client(made["key"])
    run_id = await bench.start(ask(approvers=[made["id"]]), payload={"usd": 1})
    approval = await pending(bench, run_id)
    refused = await bench.api.post(f"/v1/approvals/{approval['id']}/approve", {})
    assert (refused.status, refused.code) == (403, 403001)
    body = {"data": {"decision": "approved"}}
    assert (await bench.api.post(f"/v1/runs/{run_id}/nodes/ask/resume", body)).status == 403
    runner = await bench.composition.client_with("workflow:execute", "run:read")
    assert (await runner.post(f"/v1/runs/{run_id}/nodes/ask/resume", body)).status == 403
    assert (await boss.post(f"/v1/approvals/{approval['id']}/approve")).data["decidedBy"] == made["id"]
    assert (await bench.ended(run_id))["executionState"]["yes"]["status"] == "success"


async def test_who_started_the_run_does_not_decide_unless_the_node_says_so(bench: Bench) -> None:
    """Neither with that key nor with one that it made, on neither route, and not after a retry either."""
    owner = bench.api
    rights = ["workflow:execute", "workflow:read", "run:read", "run:inline", "approval:decide", "key:write"]
    made = (await owner.post("/v1/api-keys", {"name": "starter", "permissions": rights})).data
    starter = bench.composition.client(made["key"])
    child = bench.composition.client(
        (await starter.post("/v1/api-keys", {"name": "child", "permissions": ["approval:decide", "run:read",
                                                                           "workflow:execute"]})).data["key"]
    )  # fmt: skip
    body = {"data": {"decision": "approved"}}

    async def asked(**payload: Any) -> tuple[str, str]:
        nodes = {"root": {"type": "manual", "children": ["ask"]}, **ask(allowStarter=False, **payload)}
        started = await starter.post("/v1/runs", {"definition": {"nodes": nodes}, "payload": {"usd": 1}})
        return started.data["runId"], (await pending(bench, started.data["runId"]))["id"]

    run_id, approval_id = await asked()
    for client in (starter, child):
        refused = await client.post(f"/v1/approvals/{approval_id}/approve", {})
        assert (refused.code, "allowStarter" in refused.body["message"]) == (403001, True)
        assert (await client.post(f"/v1/runs/{run_id}/nodes/ask/resume", body)).code == 403001
        assert (await client.post(f"/v1/approvals/{approval_id}/reject", {})).code == 403001
    assert (await owner.post(f"/v1/approvals/{approval_id}/approve", {})).status == 200
    assert (await bench.ended(run_id))["status"] == "success"
    run_id, approval_id = await asked(approvers=[made["id"]])
    assert (await starter.post(f"/v1/approvals/{approval_id}/approve", {})).status == 200
    assert (await bench.ended(run_id))["status"] == "success"


async def test_approval_times_out(bench: Bench) -> None:
    run = await bench.run(ask(timeoutMs=1000), payload={"usd": 1})
    assert run["executionState"]["late"]["status"] == "success"
    [shown] = (await bench.api.get("/v1/approvals?status=timed_out")).data["items"]
    late = await bench.api.post(f"/v1/approvals/{shown['id']}/approve", {})
    assert late.code == 409009
    other = await bench.composition.other_owner()
    assert (await other.post(f"/v1/approvals/{shown['id']}/approve", {})).code == 404014
    assert (await other.get("/v1/approvals?status=timed_out")).data["items"] == []


# --- simulations ---


async def test_simulated_wait_without_pin_ends_the_simulation(bench: Bench) -> None:
    run = await bench.run({"w": wait("s"), "s": say("x")}, simulate=True)
    assert (run["status"], run["passed"], run["executionState"]["s"]["status"]) == ("partial", False, "skipped")
    assert [kind for kind, _ in await bench.events(run["id"])][-1] == "run_finished"


async def test_simulated_wait_goes_on_with_its_pin(bench: Bench) -> None:
    branches = {"s": say("{{w.result.triggerResult.n}}", branch="resumed"), "t": say("late", branch="timed_out")}
    run = await bench.run({"w": wait("s", "t", pinned={"n": 3}), **branches}, simulate=True)
    assert (run["status"], run["passed"], run["executionState"]["s"]["result"]["message"]) == ("success", True, "3")
    run = await bench.run(
        {
            "w": wait("s", "t", pinned={"status": "timed_out"}),
            **branches,
        },
        simulate=True,
    )
    assert (run["executionState"]["t"]["status"], run["passed"]) == ("success", True)


async def test_simulated_wait_for_a_trigger_takes_its_example_as_assumed(bench: Bench) -> None:
    nodes = {
        "w": wait("s", payload={"triggerType": "manual"}),
        "s": say("{{w.result.triggerResult.usd}}", branch="resumed"),
    }
    run = await bench.run(nodes, simulate=True)
    state = run["executionState"]
    assert (run["status"], run["passed"], state["s"]["result"]["message"]) == ("success", False, "2000")
    assert state["w"]["assumed"]
    assert state["s"]["assumed"]


async def test_simulated_approval(bench: Bench) -> None:
    run = await bench.run(ask(), simulate=True, payload={"usd": 1})
    assert (run["executionState"]["yes"]["status"], run["passed"]) == ("success", False)
    nodes = ask()
    nodes["ask"]["pinned"] = "rejected"
    run = await bench.run(nodes, simulate=True, payload={"usd": 1})
    assert (run["executionState"]["no"]["status"], run["passed"]) == ("success", True)
    assert (await bench.api.get("/v1/approvals?status=pending")).data["items"] == []


# --- restarts ---


async def test_link_and_wait_survive_a_restart(tmp_path: Path) -> None:
    nodes = {
        "ask": trial(name="restart", value="{{$run.resumeUrl('w')}}", children=["w"]),
        "w": wait("s"),
        "s": say("on"),
    }
    async with composed(tmp_path, actions_dir=OWN_ACTIONS) as first:
        bench = Bench(first)
        run_id = await bench.start(nodes)
        await bench.until(run_id, waiting("w"))
        link = await sent_link(bench)
    assert (tmp_path / "link.key").stat().st_mode & 0o777 == 0o600
    async with composed(tmp_path, actions_dir=OWN_ACTIONS) as second:
        bench = Bench(second)
        assert (await use(bench, link, {"data": {}})).data["action"] == "resumed"
        assert (await bench.ended(run_id))["status"] == "success"


async def test_a_link_has_a_budget_of_requests(tmp_path: Path) -> None:
    nodes = {"ask": trial(name="budget", value="{{$run.resumeUrl('w')}}", children=["w"]), "w": wait()}
    async with composed(tmp_path, actions_dir=OWN_ACTIONS, form_requests_per_second=1) as server:
        bench = Bench(server)
        run_id = await bench.start(nodes)
        await bench.until(run_id, waiting("w"))
        link = await sent_link(bench)
        answers = await asyncio.gather(*(use(bench, link, {}) for _ in range(120)))
        assert {answer.status for answer in answers} == {200, 429}
        assert [answer.data["action"] for answer in answers if answer.status == 200].count("resumed") == 1
        refused = next(answer for answer in answers if answer.status == 429)
        assert (refused.code, refused.body["message"]) == (429001, "Too many requests to this link; wait a moment.")
        assert (await server.owner.get(f"/v1/runs/{run_id}")).status == 200


async def test_resume_that_came_as_the_time_was_up_wins(bench: Bench) -> None:
    """The answer said `resumed`: the node must not time out after that."""
    for number in range(20):
        run_id = await bench.start({"w": wait(timeout_ms=1000)}, runId=f"run_edge-{number}")
        await bench.until(run_id, lambda run: run["status"] != "running")
    await asyncio.sleep(0.9)
    outcomes = {}
    for number in range(20):
        answer = await resume(bench.api, f"run_edge-{number}", "w", {"n": number})
        outcomes[f"run_edge-{number}"] = answer["action"]
        await asyncio.sleep(0.01)
    for run_id, action in outcomes.items():
        run = await bench.ended(run_id)
        assert (run["executionState"]["w"]["result"]["status"] == "resumed") is (action == "resumed"), (run_id, action)


async def test_what_others_write_is_numbered_between_what_the_run_writes(bench: Bench) -> None:
    run_id = await bench.start({"w": wait("yes"), "yes": say("went on")})
    await bench.until(run_id, waiting("w"))
    server = bench.composition
    (row,) = await server.rows(sa.select(runs.c.pk, runs.c.org_id, runs.c.workflow_id).where(runs.c.id == run_id))
    said = ("log", clock.now_ms(), '{"level":"info","message":"from elsewhere"}')
    at = {"run_pk": row[0], "org_id": row[1], "workflow_id": row[2]}
    await server.parts.writer.write(
        lambda tx: journal.append(tx, **at, written=[said])
    )  # the run in memory hears nothing
    await resume(bench.api, run_id, "w")
    await bench.ended(run_id)
    found = await server.rows(sa.select(events.c.seq, events.c.type).where(events.c.run_pk == row[0]).order_by("seq"))
    assert [seq for seq, _ in found] == list(range(1, len(found) + 1))
    assert found[-1][1] == "run_finished"
    (newest,) = await server.rows(sa.select(runs.c.last_seq).where(runs.c.pk == row[0]))
    assert newest[0] == len(found)
