"""Questions about spends that several hands must approve, that end by themselves, or that a lone person answers."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from dustrun.core.hooks import type_of
from dustrun.core.money.intent import Spend
from dustrun.storage.db.tables import approvals, events, facts
from outbox import address, transfer
from rehearsals import Studio, error, open_studio, pay, told
from testkit.approving import question_of
from testkit.chain.anvil import CHAIN_ID
from testkit.chain.contracts import World
from testkit.composition import Client

NATIVE = f"eip155:{CHAIN_ID}/native"
ABOVE = {"assets": {NATIVE: "5"}}


@pytest.fixture
async def studio(tmp_path: Path, world: World, store_url: str) -> AsyncIterator[Studio]:
    with world.node() as chain:
        async with open_studio(tmp_path, world, chain, store_url=store_url) as studio:
            yield studio


async def _asked(studio: Studio) -> tuple[str, str]:
    """A started run that asks, and its question."""
    run_id = await studio.bench.start({"pay": pay(9)})
    return run_id, await question_of(studio.api, run_id)


async def _approve(client: Client, question: str, verb: str = "approve") -> Any:
    return await client.post(f"/v1/approvals/{question}/{verb}", {"comment": "seen"})


@pytest.mark.both_stores
async def test_two_hands_approve_and_one_rejects(studio: Studio) -> None:
    await studio.let(approvalAbove=ABOVE, approval={"quorum": 2})
    one, two = [await studio.outbox.composition.client_with("approval:decide", "run:read") for _ in range(2)]
    run_id, question = await _asked(studio)
    reply = await _approve(one, question)
    assert (reply.data["status"], reply.data["quorum"], len(reply.data["votes"])) == ("pending", 2, 1)
    told_of = await studio.outbox.composition.rows(sa.select(events.c.data).where(events.c.type == "transaction"))
    (vote,) = [data for (text,) in told_of if (data := json.loads(text))["status"] == "voted"]
    assert (vote["path"], vote["approvalId"], vote["votes"], vote["quorum"]) == ("pay", question, 1, 2)
    assert type_of("transaction", vote) == "transaction.voted"
    written = sa.select(facts.c.what, facts.c.place).where(facts.c.subject_id == question)
    assert [*map(tuple, await studio.outbox.composition.rows(written.order_by(facts.c.id)))] == [
        ("asked", ""),
        ("voted", "1"),
    ]
    again = await _approve(one, question)
    assert (again.status, "one hand" in again.body["message"]) == (403, True)
    assert (await _approve(studio.api, question)).status == 403  # whoever started it is none of them
    assert studio.outbox.balance(address(1)) == 0
    reply = await _approve(two, question)
    assert (reply.data["status"], [vote["comment"] for vote in reply.data["votes"]]) == ("approved", ["seen", "seen"])
    run = await studio.bench.ended(run_id)
    assert run["status"] == "success", told(run)
    told_audit = (await studio.api.get("/v1/audit?limit=100")).data["items"]
    assert {"approval.vote", "approval.approved"} <= {one["action"] for one in told_audit}

    run_id, question = await _asked(studio)
    assert (await _approve(one, question)).status == 200
    assert (await _approve(two, question, "reject")).data["status"] == "rejected"
    assert error(await studio.bench.ended(run_id), "pay")["code"] == "REJECTED"
    assert studio.outbox.balance(address(1)) == 9


async def test_a_vote_of_a_revoked_key_does_not_count(studio: Studio) -> None:
    """A key that was stolen and replaced has one hand behind it, not two."""
    await studio.let(approvalAbove=ABOVE, approval={"quorum": 2})
    lost, one, two = [await studio.outbox.composition.client_with("approval:decide", "run:read") for _ in range(3)]
    run_id, question = await _asked(studio)
    assert len((await _approve(lost, question)).data["votes"]) == 1
    gone = (await lost.get("/v1/me")).data["keyId"]
    assert (await studio.api.send("DELETE", f"/v1/api-keys/{gone}")).status in (200, 204)
    assert (await studio.api.get(f"/v1/approvals/{question}")).data["votes"] == []
    listed = (await studio.api.get("/v1/approvals")).data["items"]
    over = "9 is over 5 base units: a person must approve it."
    assert [(one["votes"], one["why"]) for one in listed if one["id"] == question] == [([], over)]
    reply = await _approve(one, question)
    assert (reply.data["status"], len(reply.data["votes"])) == ("pending", 1)
    places = sa.select(facts.c.place).where(facts.c.subject_id == question, facts.c.what == "voted")
    assert [*map(tuple, await studio.outbox.composition.rows(places.order_by(facts.c.id)))] == [("1",), ("2",)]
    assert studio.outbox.balance(address(1)) == 0
    reply = await _approve(two, question)
    assert (reply.data["status"], len(reply.data["votes"])) == ("approved", 2)
    run = await studio.bench.ended(run_id)
    assert run["status"] == "success", told(run)


async def test_only_named_keys_decide_and_none_of_them_its_own_run(studio: Studio) -> None:
    other = await studio.outbox.composition.client_with("approval:decide", "run:read")
    await studio.let(approvalAbove=ABOVE, approval={"approvers": [studio.outbox.key_id]})
    _, question = await _asked(studio)
    assert (await _approve(other, question)).status == 403
    assert (await _approve(studio.api, question)).status == 403  # named, but it started the run


async def test_whoever_started_a_run_may_reject_what_it_asks(studio: Studio) -> None:
    """Which only stops the spend; the branch of an `approve` node may be one, so that stays for others."""
    await studio.let(approvalAbove=ABOVE)
    run_id, question = await _asked(studio)
    assert (await _approve(studio.api, question)).status == 403
    assert (await _approve(studio.api, question, "reject")).data["status"] == "rejected"
    assert error(await studio.bench.ended(run_id), "pay")["code"] == "REJECTED"
    assert studio.outbox.balance(address(1)) == 0
    run_id = await studio.bench.start({"ask": {"type": "approve", "payload": {"message": "Pay?"}}})
    assert (await _approve(studio.api, await question_of(studio.api, run_id), "reject")).status == 403


async def test_an_open_question_follows_the_stricter_rules(studio: Studio) -> None:
    """Those under which it was asked, and those in force as somebody decides."""
    one, two = [await studio.outbox.composition.client_with("approval:decide", "run:read") for _ in range(2)]
    named = (await two.get("/v1/me")).data["keyId"]
    await studio.let(approvalAbove=ABOVE)
    _, raised = await _asked(studio)
    await studio.let(approvalAbove=ABOVE, approval={"quorum": 2})
    _, lowered = await _asked(studio)
    reply = await _approve(one, raised)
    assert (reply.data["status"], reply.data["quorum"]) == ("pending", 2)
    await studio.let(approvalAbove=ABOVE, approval={"approvers": [named]})
    refused = await _approve(one, lowered)
    assert (refused.status, "names who may decide" in refused.body["message"]) == (403, True)
    reply = await _approve(two, lowered)
    assert (reply.data["status"], reply.data["quorum"]) == ("pending", 2)
    assert (await _approve(two, raised)).data["status"] == "approved"


async def test_an_ask_ends_when_its_time_is_over(studio: Studio) -> None:
    await studio.let(approvalAbove=ABOVE, approval={"quorum": 2, "expiresMs": 60_000})
    outbox = studio.outbox
    await outbox.outbox.plan(outbox.request("pay"), Spend((transfer(address(1), 9),)))
    assert (await outbox.outbox.advance(outbox.request("pay"))).waits_for == "approval"
    asked = approvals.c.binding.is_not(None)
    ((ends, began),) = await outbox.composition.rows(
        sa.select(approvals.c.expires_at, approvals.c.created_at).where(asked)
    )
    assert ends - began == 60_000
    await outbox.composition.execute(sa.update(approvals).where(asked).values(expires_at=began))
    status = await outbox.outbox.advance(outbox.request("pay"))
    assert status.failure is not None
    assert (status.failure.code, status.failure.message) == (
        "APPROVAL_EXPIRED",
        "Only 0 of 2 approved it within 0 hours.",
    )


async def _refusals(studio: Studio, question: str) -> list[str | None]:
    """Why the caller may not approve an open question, in the list and by itself."""
    listed = {one["id"]: one["refusal"] for one in (await studio.api.get("/v1/approvals")).data["items"]}
    return [listed[question], (await studio.api.get(f"/v1/approvals/{question}")).data["refusal"]]


async def test_a_lone_owner_is_warned_and_may_choose_to_approve(studio: Studio) -> None:
    path = f"/v1/wallets/{studio.outbox.wallet_id}/policy"
    await studio.let(approvalAbove=ABOVE)
    assert any(text.startswith("Nobody could approve") for text in (await studio.api.get(path)).data["warnings"])
    run_id, question = await _asked(studio)
    refused = await _approve(studio.api, question)
    assert await _refusals(studio, question) == [refused.body["message"]] * 2
    assert (refused.status, "singlePersonApproves" in refused.body["message"]) == (403, True)
    org = (await studio.api.get("/v1/organizations")).data["items"][0]
    assert org["singlePersonApproves"] is False
    limited = await studio.outbox.composition.client_with("workflow:execute")
    assert (await limited.send("PATCH", f"/v1/organizations/{org['id']}", {"singlePersonApproves": True})).status == 403
    changed = await studio.api.send("PATCH", f"/v1/organizations/{org['id']}", {"singlePersonApproves": True})
    assert (changed.data["singlePersonApproves"], changed.data["retentionDays"]) == (True, org["retentionDays"])
    assert not any("Nobody" in text for text in (await studio.api.get(path)).data["warnings"])
    assert await _refusals(studio, question) == [None] * 2
    assert (await _approve(studio.api, question)).data["status"] == "approved"
    run = await studio.bench.ended(run_id)
    assert run["status"] == "success", told(run)
    audit = (await studio.api.get("/v1/audit?limit=100")).data["items"]
    (entry,) = [one for one in audit if one["action"] == "approval.approved"]
    assert entry["detail"]["ownRun"] is True
    assert any(one["detail"].get("singlePersonApproves") is True for one in audit)
