"""`/v1/api-keys` and the owner key of the first start."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from dustrun import ids
from dustrun.services.access.api_keys import MCP, OWNER_FILE, READ, READ_WRITE, ensure_owner
from dustrun.storage.access.audit import AuditFilters
from dustrun.storage.db.database import Database
from dustrun.storage.db.tables import api_keys, audit, metadata, organizations
from testkit.composition import Client, Composition


async def test_create_shows_the_key_once_and_stores_its_hash(server: Composition, owner: Client) -> None:
    made = (await owner.post("/v1/api-keys", {"name": "ci", "description": "d", "permissions": ["run:read"]})).data
    assert len(made["key"]) == 43
    shown = {name: value for name, value in made.items() if name != "key"}
    assert (await owner.get(f"/v1/api-keys/{made['id']}")).data == shown
    listed = (await owner.get("/v1/api-keys")).data["items"]
    assert shown in listed
    assert [set(item) for item in listed] == [set(shown)] * 2
    stored = await server.rows(sa.select(api_keys.c.hash).where(api_keys.c.id == made["id"]))
    assert stored == [(ids.secret_hash(made["key"]),)]
    everything = await server.rows(sa.select(audit.c.detail))
    assert made["key"] not in str(everything)


async def test_presets_hold_no_power_over_money_or_keys(owner: Client) -> None:
    read = (await owner.post("/v1/api-keys", {"name": "r", "scope": "read"})).data["permissions"]
    both = (await owner.post("/v1/api-keys", {"name": "rw", "scope": "read-write"})).data["permissions"]
    assert (read, both) == (sorted(READ), sorted(READ_WRITE))
    assert {"wallet:spend", "wallet:admin", "admin", "key:write"}.isdisjoint(both)
    assert set(read) < set(both)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({}, "body"),
        ({"permissions": ["run:read"], "scope": "read"}, "body"),
        ({"permissions": []}, "permissions"),
        ({"permissions": ["run:read", "run:fly"]}, "permissions[1]"),
        ({"scope": "all"}, "scope"),
        ({"scope": "read", "expiresAt": "tomorrow"}, "expiresAt"),
        ({"scope": "read", "expiresAt": "2999-01-01T00:00:00"}, "expiresAt"),
        ({"scope": "read", "expiresAt": "2001-01-01T00:00:00Z"}, "expiresAt"),
    ],
)
async def test_create_refuses(owner: Client, change: dict[str, Any], field: str) -> None:
    reply = await owner.post("/v1/api-keys", {"name": "k", **change})
    assert (reply.status, reply.code, reply.fields) == (400, 400001, [field])


async def test_keys_of_another_organisation_are_unknown(server: Composition, owner: Client) -> None:
    made = (await owner.post("/v1/api-keys", {"name": "k", "scope": "read"})).data
    other = await server.other_owner()
    for method in ("GET", "DELETE"):
        reply = await other.send(method, f"/v1/api-keys/{made['id']}")
        assert (reply.status, reply.code) == (404, 404011)
    assert [item["name"] for item in (await other.get("/v1/api-keys")).data["items"]] == ["owner"]


async def test_changes_are_listed_with_their_key(owner: Client) -> None:
    made = (await owner.post("/v1/api-keys", {"name": "k", "scope": "read"})).data
    page = (await owner.get("/v1/audit?limit=1")).data
    assert (page["items"][0]["action"], page["items"][0]["subject"]) == ("key.create", made["id"])
    assert (await owner.get("/v1/audit?apiKeyId=key_none")).data["items"] == []


async def test_organisations(server: Composition, owner: Client) -> None:
    own = (await owner.get("/v1/organizations")).data["items"]
    assert len(own) == 1
    assert (await owner.get(f"/v1/organizations/{own[0]['id']}")).data == own[0]
    made = (await owner.post("/v1/organizations", {"name": "Second"})).data
    assert (await owner.get(f"/v1/organizations/{made['id']}")).code == 404012
    second = server.client(made["ownerKey"])
    assert [item["id"] for item in (await second.get("/v1/organizations")).data["items"]] == [made["id"]]


async def test_the_owner_key_is_in_a_file_for_its_owner_alone(server: Composition) -> None:
    path = server.parts.settings.data_dir / OWNER_FILE
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    parts = server.parts
    assert await ensure_owner(parts.database, parts.writer, parts.settings.data_dir) is None
    assert await server.rows(sa.select(sa.func.count()).select_from(organizations)) == [(1,)]


async def test_a_first_start_that_crashed_after_the_file_is_taken_up(server: Composition, tmp_path: Path) -> None:
    parts = server.parts
    await server.execute(sa.delete(api_keys))
    await server.execute(sa.delete(organizations))
    path = tmp_path / "again" / OWNER_FILE
    path.parent.mkdir()
    secret = ids.new_secret("sk")
    path.write_text(secret + "\n")
    path.with_name("owner.key.new").write_text("half a ke")
    assert await ensure_owner(parts.database, parts.writer, path.parent) == path
    assert path.read_text().strip() == secret
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert (await server.client(secret).get("/v1/workflows")).status == 200


async def test_a_key_for_dry_runs_makes_no_key_for_more(server: Composition, owner: Client) -> None:
    maker = server.client(await server.key_with("workflow:simulate", "run:inline", "key:write"))
    refused = await maker.post("/v1/api-keys", {"name": "k", "permissions": ["run:inline"]})
    assert (refused.status, refused.code) == (403, 403001)
    assert (await maker.post("/v1/api-keys", {"name": "k", "permissions": ["workflow:execute"]})).status == 403
    same = {"name": "k", "permissions": ["run:inline", "workflow:simulate"]}
    assert (await maker.post("/v1/api-keys", same)).status == 200
    assert (await owner.post("/v1/api-keys", {"name": "k", "scope": "mcp"})).data["permissions"] == sorted(MCP)


async def test_the_log_is_filtered_by_who_did_what_to_what_and_when(server: Composition, owner: Client) -> None:
    makers = ["key:write", "key:read"]
    made = [(await owner.post("/v1/api-keys", {"name": f"k{n}", "permissions": makers})).data for n in range(3)]
    maker = server.client(made[0]["key"])
    theirs = (await maker.post("/v1/api-keys", {"name": "of k0", "permissions": ["key:read"]})).data
    await owner.post("/v1/variables", {"name": "rate", "value": 1})
    await owner.delete(f"/v1/api-keys/{made[1]['id']}")

    async def found(where: str, by: Client = owner) -> list[tuple[str, str]]:
        page = (await by.get(f"/v1/audit?{where}")).data
        return [(one["action"], one["subject"]) for one in page["items"]]

    everything = await found("")
    created = [("key.create", one["id"]) for one in (theirs, *made[::-1])]
    assert await found("action=key.create") == [one for one in everything if one[0] == "key.create"] == created
    assert await found("action=key") == [one for one in everything if one[0].startswith("key.")]
    assert await found("action=key.creat") == await found("action=ke") == []
    assert await found(f"subject={made[1]['id']}") == [("key.revoke", made[1]["id"]), created[2]]
    assert await found(f"madeBy={made[0]['id']}") == await found("madeBy=me", maker) == created[:1]
    assert await found(f"apiKeyId={made[0]['id']}") == created[:1]
    assert await found(f"madeBy={made[0]['id']}&apiKeyId={made[2]['id']}") == []
    times = {one["subject"]: one["at"] for one in (await owner.get("/v1/audit?action=key.create")).data["items"]}
    at = times[theirs["id"]].replace("+", "%2B")
    assert (await found(f"action=key.create&since={at}"))[:1] == created[:1]
    assert created[0] not in await found(f"until={at}")
    assert await found(f"since={at}&until={at}") == []
    assert await found("since=2999-01-01T00:00:00Z") == []
    refused = await owner.get("/v1/audit?action=Key.*")
    assert (refused.status, refused.fields) == (400, ["action"])
    # a limited key sees what it did itself, whatever it asks for
    limited = {"name": "l", "permissions": ["key:read"], "workflowIds": [(await owner.create_workflow())["id"]]}
    narrow = server.client((await owner.post("/v1/api-keys", limited)).data["key"])
    assert await found(f"madeBy={made[0]['id']}", narrow) == await found("", narrow) == []


@pytest.mark.parametrize(
    ("filters", "index"),
    [
        (AuditFilters(keys=("a",)), "ix_audit_org_id_key_id_id (org_id=? AND key_id=?)"),
        (AuditFilters(action="key.create"), "ix_audit_org_id_action_id (org_id=? AND action=?)"),
        (AuditFilters(subject="a"), "ix_audit_org_id_subject_id (org_id=? AND subject=?)"),
        (AuditFilters(since=1, until=2), "ix_audit_org_id_at_id (org_id=? AND at>? AND at<?)"),
    ],
)
def test_each_filter_of_the_log_has_an_index(tmp_path: Path, filters: AuditFilters, index: str) -> None:
    database = Database(f"sqlite:///{tmp_path / 'store.db'}")
    metadata.create_all(database.engine)
    with database.engine.connect() as connection:
        query = sa.select(audit.c.detail).where(audit.c.org_id == "a", *filters.where()).order_by(audit.c.id.desc())
        text = str(query.compile(database.engine, compile_kwargs={"literal_binds": True}))
        plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}").fetchall()
    database.close()
    assert f"SEARCH audit USING INDEX {index}" in [row[3] for row in plan]
