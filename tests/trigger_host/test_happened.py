"""Triggers for what happens in this server: approvals, transactions on a real chain, and triggers that fail."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from dustrun import clock
from dustrun.storage.db import facts
from dustrun.storage.db.statement import Tx
from dustrun.storage.db.tables import approvals as approval_table
from dustrun.storage.db.trigger_tables import trigger_events
from dustrun.storage.runs import approvals
from outbox import address, open_outbox, transfer
from testkit.chain.anvil import Anvil
from testkit.composition import Composition, composed

SAY = {"type": "log", "payload": {"message": "{{$trigger.body}}"}}


async def publish(server: Composition, kind: str, **config: Any) -> str:
    root = {"type": kind, "payload": {"pollMs": 1000, **config}, "children": ["say"]}
    made = await server.owner.create_workflow({"nodes": {"root": root, "say": SAY}}, name=f"{kind}s")
    published = await server.owner.post(f"/v1/workflows/{made['id']}/publish")
    assert published.status == 200, published.body
    return str(made["id"])


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(60):
        while not await holds():
            await asyncio.sleep(0.05)


async def told(server: Composition, workflow_id: str, count: int) -> list[dict[str, Any]]:
    """The payloads of so many events, all of which started a run."""
    t = trigger_events.c
    query = sa.select(t.payload, t.outcome).where(t.workflow_id == workflow_id).order_by(t.pk)

    async def holds() -> bool:
        return len(await server.rows(query)) >= count

    await until(holds)
    found = await server.rows(query)
    assert {outcome for _, outcome in found} == {"started"}
    return [json.loads(payload) for payload, _ in found]


async def test_approvals_and_failing_triggers_of_other_workflows(tmp_path: Path, store_url: str) -> None:
    async with composed(tmp_path, database_url=store_url, outbound_allow=["127.0.0.1"]) as server:
        watcher = await publish(server, "approval", statuses=["asked", "decided"])
        failing = await publish(server, "trigger-failed", failures=1)
        wants = {"type": "webhook", "payload": {"inputSchema": {"required": ["n"]}}, "children": ["say"]}
        strict = await server.owner.create_workflow({"nodes": {"root": wants, "say": SAY}}, name="strict")
        await server.owner.post(f"/v1/workflows/{strict['id']}/publish")
        made = (await server.owner.post(f"/v1/workflows/{strict['id']}/webhooks/root/rotate", {})).data
        await server.owner.http.post("/" + made["url"].split("/", 3)[3], json={})
        ask = {"type": "approve", "payload": {"message": "Pay?", "timeoutMs": 600_000, "allowStarter": True}}
        nodes = {"root": {"type": "manual", "children": ["ask"]}, "ask": ask}
        asker = await server.owner.create_workflow({"nodes": nodes}, name="Payer")
        run_id = (await server.owner.post(f"/v1/workflows/{asker['id']}/run", {})).data["runId"]
        source = await publish(server, "http-poll", url="http://127.0.0.1:9/none")
        (asked,) = await told(server, watcher, 1)
        assert (asked["status"], asked["runId"], asked["workflowName"], asked["message"]) == (
            "asked",
            run_id,
            "Payer",
            "Pay?",
        )
        decided = await server.owner.post(f"/v1/approvals/{asked['approvalId']}/approve", {"comment": "yes"})
        assert decided.status == 200
        _, closed = await told(server, watcher, 2)
        assert (closed["status"], closed["decision"], closed["comment"]) == ("decided", "approved", "yes")
        assert (closed["depth"], closed["through"]) == (1, [asker["id"]])
        failed = {one["what"]: one for one in await told(server, failing, 2)}
        assert (failed["look"]["workflowId"], failed["look"]["triggerType"]) == (source, "http-poll")
        assert (failed["event"]["workflowId"], failed["event"]["reason"]) == (strict["id"], "payload")
        tested = await server.owner.post("/v1/triggers/approval/test", {"config": {"statuses": ["decided"]}})
        assert (tested.data["origin"], tested.data["event"]["approvalId"]) == ("recent", asked["approvalId"])
        reader = await server.client_with("workflow:read", "run:inline")
        unseen = (await reader.post("/v1/triggers/approval/test", {"config": {}})).data
        assert (unseen["origin"], asked["approvalId"] in json.dumps(unseen)) == ("sample", False)


async def test_transactions_are_told_when_final_and_when_a_reorg_removes_them(tmp_path: Path) -> None:
    with Anvil("--no-mining") as node:
        async with open_outbox(tmp_path, node) as outbox:
            server = outbox.composition
            watcher = await publish(server, "transaction", statuses=["final", "reorged"])
            await outbox.pay("pay", transfer(address(1), 5))
            node.mine()
            await outbox.state("pay", "mined")
            node.reorg(1)
            (first,) = await told(server, watcher, 1)
            assert (first["status"], first["runId"], first["chainId"]) == ("reorged", outbox.run_id, 31337)
            while (await outbox.status("pay")).status != "settled":
                node.mine()
                await asyncio.sleep(0.1)
            _, second = await told(server, watcher, 2)
            assert (second["status"], second["transactionId"]) == ("final", first["transactionId"])
            assert second["hash"] is not None
            await asyncio.sleep(1.5)
            assert len(await told(server, watcher, 2)) == 2


def add_all(tx: Tx, rows: list[approvals.ApprovalRow]) -> None:
    for row in rows:
        approvals.add(tx, row)


async def test_what_is_committed_long_after_its_time_is_told_once_also_over_a_restart(
    tmp_path: Path, store_url: str
) -> None:
    """A server that was frozen, or had no store, commits what is minutes old by then; and who looks may be down."""
    settings: dict[str, Any] = {"database_url": store_url} if store_url else {}
    async with composed(tmp_path, **settings) as server:
        watcher = await publish(server, "approval", statuses=["asked", "voted", "decided", "expired", "cancelled"])
        asking = {"type": "approve", "payload": {"message": "Pay?", "timeoutMs": 600_000}}
        nodes = {"root": {"type": "manual", "children": ["ask"]}, "ask": asking}
        asker = await server.owner.create_workflow({"nodes": nodes}, name="Payer")
        await server.owner.post(f"/v1/workflows/{asker['id']}/run", {})
        (asked,) = await told(server, watcher, 1)
        long_ago = clock.now_ms() - 300_000
        names = [field.name for field in fields(approvals.ApprovalRow)]
        (found,) = await server.rows(sa.select(*(approval_table.c[name] for name in names)))
        row = approvals.ApprovalRow(**dict(zip(names, found, strict=True)))
        several: dict[str, Any] = {"quorum": 3, "votes": '[{"by": "key_a", "at": 1000, "comment": "seen"}]'}
        late = [replace(row, id=f"apr_late{n}", created_at=long_ago, **several) for n in range(3)]
        await server.parts.writer.write(lambda tx: add_all(tx, late))
        await told(server, watcher, 4)
    async with composed(tmp_path, **settings) as server:
        first, *others = [row.id for row in late]
        await server.parts.writer.write(lambda tx: approvals.close(tx, first, "timed_out", long_ago + 1))
        events = await told(server, watcher, 5)
        assert [one["status"] for one in events] == ["asked"] * 4 + ["expired"]
        assert [one["approvalId"] for one in events] == [asked["approvalId"], first, *others, first]
        votes = [{"by": "key_a", "at": "1970-01-01T00:00:01.000Z", "comment": "seen"}]
        assert [(one["quorum"], one["votes"]) for one in events] == [(1, []), *[(3, [])] * 3, (3, votes)]
    async with composed(tmp_path, **settings) as server:
        await server.parts.writer.write(
            lambda tx: [approvals.close(tx, one, "cancelled", long_ago + 2) for one in others]
        )
        assert [one["status"] for one in (await told(server, watcher, 7))[5:]] == ["cancelled"] * 2
        await server.parts.writer.write(
            lambda tx: facts.add(tx, row.org_id, "approval", others[0], "voted", long_ago + 3, place="1")
        )
        voted = (await told(server, watcher, 8))[7]
        assert (voted["status"], voted["decidedBy"], voted["comment"], voted["votes"]) == (
            "voted",
            "key_a",
            "seen",
            votes,
        )
        runs = await server.owner.get(f"/v1/workflows/{watcher}/runs/count")
        assert runs.data["total"] == 8
