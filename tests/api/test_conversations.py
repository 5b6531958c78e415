"""`/v1/conversations` and their messages."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import sqlalchemy as sa

from dustrun.storage.db.tables import message_runs, runs
from testkit.composition import Client, Composition


async def test_a_conversation_and_its_messages_in_order(owner: Client) -> None:
    made = (await owner.post("/v1/conversations", {"title": "Plan"})).data
    path = f"/v1/conversations/{made['id']}"
    assert (await owner.get(path)).data == made
    sent = []
    for number in range(5):
        body = {"role": ["user", "assistant", "system", "tool"][number % 4], "content": f"no {number} é😀"}
        sent.append((await owner.post(f"{path}/messages", body)).data)
    assert (await owner.get(f"{path}/messages")).data["items"] == sent
    page = (await owner.get(f"{path}/messages?limit=2&offset=1")).data
    assert (page["items"], page["hasMore"]) == (sent[1:3], True)
    assert (await owner.get(f"{path}/messages/{sent[0]['id']}")).data == sent[0]


async def test_the_last_used_conversation_is_first(owner: Client) -> None:
    first = (await owner.post("/v1/conversations")).data
    second = (await owner.post("/v1/conversations", raw=b"null")).data
    await asyncio.sleep(0.002)  # of two that were used in the same millisecond the newer one is first
    await owner.post(f"/v1/conversations/{first['id']}/messages", {"role": "user", "content": "hi"})
    listed = (await owner.get("/v1/conversations")).data["items"]
    assert [item["id"] for item in listed] == [first["id"], second["id"]]


async def test_a_message_shows_the_runs_that_it_launched(server: Composition, owner: Client) -> None:
    made = (await owner.post("/v1/conversations")).data
    path = f"/v1/conversations/{made['id']}/messages"
    message = (await owner.post(path, {"role": "assistant", "content": "run it"})).data
    assert message["runIds"] == []
    for pk, name in ((1, "run_b"), (2, "run_a")):
        await server.execute(
            sa.insert(runs).values(
                pk=pk,
                id=name,
                org_id=made["organizationId"],
                workflow_name="w",
                mode="live",
                status="running",
                trigger_node_id="root",
                trigger_source="api",
                triggered_by="k",
                payload="{}",
                prop_values="{}",
                root_run_id=name,
                started_at=1,
            )
        )
        await server.execute(sa.insert(message_runs).values(message_id=message["id"], run_pk=pk))
    assert (await owner.get(f"{path}/{message['id']}")).data["runIds"] == ["run_b", "run_a"]
    assert (await owner.get(path)).data["items"][0]["runIds"] == ["run_b", "run_a"]


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({}, ["content", "role"]),
        ({"role": "robot", "content": ""}, ["role"]),
        ({"role": "user", "content": 5}, ["content"]),
        ({"role": "user", "content": "a\x00"}, ["content"]),
        ({"role": "user", "content": "", "extra": 1}, ["extra"]),
    ],
)
async def test_a_bad_message_is_refused(owner: Client, body: dict[str, Any], fields: list[str]) -> None:
    made = (await owner.post("/v1/conversations")).data
    reply = await owner.post(f"/v1/conversations/{made['id']}/messages", body)
    assert (reply.code, sorted(reply.fields)) == (400001, fields)


async def test_what_is_unknown_or_another_organisations(server: Composition, owner: Client) -> None:
    made = (await owner.post("/v1/conversations")).data
    path = f"/v1/conversations/{made['id']}"
    message = (await owner.post(f"{path}/messages", {"role": "user", "content": "x"})).data
    other = await server.other_owner()
    assert (await other.get("/v1/conversations")).data["items"] == []
    for client, where, code in [
        (other, path, 404006),
        (other, f"{path}/messages", 404006),
        (other, f"{path}/messages/{message['id']}", 404006),
        (owner, "/v1/conversations/conv_none", 404006),
        (owner, f"{path}/messages/msg_none", 404007),
    ]:
        assert (await client.get(where)).code == code
    refused = await other.post(f"{path}/messages", {"role": "user", "content": "x"})
    assert refused.code == 404006
