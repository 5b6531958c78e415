"""Runs that wait for a person, who decides through any server."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from dustrun.errors import Code
from testkit.composition import Client
from testkit.sharing import ended, until

Json = dict[str, Any]
ASKING: Json = {
    "nodes": {
        "root": {"type": "manual", "children": ["ask"]},
        "ask": {
            "type": "approve",
            "payload": {"message": "Shall I?", "timeoutMs": 600_000, "allowStarter": True},
            "children": ["yes", "no"],
        },
        "yes": {"type": "log", "payload": {"message": "approved"}, "branch": "approved"},
        "no": {"type": "log", "payload": {"message": "rejected"}, "branch": "rejected"},
    }
}


async def question_of(client: Client, run_id: str) -> str:
    """The approval that a run waits for, once it does."""

    async def look() -> str | None:
        found = (await client.get(f"/v1/approvals?status=pending&runId={run_id}")).data["items"]
        assert all(one["runId"] == run_id for one in found)
        return str(found[0]["id"]) if found else None

    return str(await until(look))


async def decide_at_once(clients: Sequence[Client], rounds: int) -> None:
    """Starts runs through the first server; each is approved and rejected through all of them at once. One decision
    counts, the others are told so, and the run goes by it."""
    for number in range(rounds):
        run_id = f"run_asks_{number}"
        assert (await clients[0].post("/v1/runs", {"runId": run_id, "definition": ASKING})).status == 200
        path = f"/v1/approvals/{await question_of(clients[-1], run_id)}"
        verbs = ["approve", "reject"] if number % 2 else ["reject", "approve"]
        answers = await asyncio.gather(*(client.post(f"{path}/{verb}") for client in clients for verb in verbs))
        won = [answer.data["status"] for answer in answers if answer.status == 200]
        assert (len(won), {answer.status for answer in answers}) == (1, {200, 409})
        told = {(answer.code, answer.body["message"]) for answer in answers if answer.status == 409}
        assert told == {(Code.APPROVAL_DECIDED, f'The approval is no longer open (it is "{won[0]}").')}
        run = await ended(clients[-1], run_id)
        done = {name: run["executionState"][name]["status"] for name in ("yes", "no")}
        assert (run["status"], done) == (
            "success",
            {"yes": "success", "no": "skipped"} if won == ["approved"] else {"yes": "skipped", "no": "success"},
        )
