"""When workflows run next, and trigger configs before they are published."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from dustrun import clock
from dustrun.operations.declaration.fields import moment_ms
from testkit.composition import Composition, composed


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Composition]:
    async with composed(tmp_path) as server:
        yield server


def scheduled(*triggers: tuple[str, dict[str, Any]]) -> dict[str, Any]:
    nodes: dict[str, Any] = {
        f"t{n}": {"type": kind, "payload": config, "children": ["say"]} for n, (kind, config) in enumerate(triggers)
    }
    say = {"type": "log", "payload": {"message": "hello"}}
    return {"nodes": {**nodes, "say": say}, "triggerNodeIds": list(nodes)}


NIGHTLY = ("cronjob", {"schedule": "30 2 * * *", "timezone": "Europe/Berlin"})
ONCE_AT = "2999-01-01T00:00:00.000Z"
ONCE = ("schedule", {"at": "2999-01-01T09:00:00", "timezone": "Asia/Tokyo"})


async def test_the_next_times_of_each_schedule(server: Composition) -> None:
    made = await server.owner.create_workflow(scheduled(NIGHTLY, ONCE, ("manual", {})))
    path = f"/v1/workflows/{made['id']}"
    draft = (await server.owner.get(f"{path}/schedule")).data
    assert (draft["nextRunAt"], [one["state"] for one in draft["triggers"]]) == (None, [None, None])
    await server.owner.post(f"{path}/publish")
    found = (await server.owner.get(f"{path}/schedule")).data
    nightly, once = found["triggers"]
    assert abs(moment_ms(found["serverTime"]) - clock.now_ms()) < 60_000
    assert (nightly["triggerNodeId"], nightly["state"], nightly["timezone"]) == ("t0", "armed", "Europe/Berlin")
    assert found["nextRunAt"] == nightly["nextFireAt"] == nightly["fires"][0]["at"]
    assert len(nightly["fires"]) == 10
    assert [fire["localTime"] for fire in once["fires"]] == ["2999-01-01T09:00:00+09:00"]
    await server.owner.post(f"{path}/pause")
    paused = (await server.owner.get(f"{path}/schedule")).data
    assert (paused["nextRunAt"], paused["triggers"][0]["state"]) == (None, "paused")


async def test_the_overview_has_what_runs_next(server: Composition) -> None:
    later, sooner = [await server.owner.create_workflow(scheduled(one)) for one in (ONCE, NIGHTLY)]
    for made in (later, sooner):
        await server.owner.post(f"/v1/workflows/{made['id']}/publish")
    overview = (await server.owner.get("/v1/overview?since=2020-01-01T00:00:00Z")).data
    assert [one["workflowId"] for one in overview["next"]] == [sooner["id"], later["id"]]
    assert overview["next"][1] == {"workflowId": later["id"], "workflowName": later["name"], "at": ONCE_AT}
    assert overview["runs"]["total"] == 0
    await server.owner.post(f"/v1/workflows/{sooner['id']}/pause")
    reader = await server.client_with("run:read")
    assert len((await server.owner.get("/v1/overview?since=2020-01-01T00:00:00Z")).data["next"]) == 1
    assert (await reader.get("/v1/overview?since=2020-01-01T00:00:00Z")).data | {"runs": 0, "since": 0} == {
        **{"runs": 0, "since": 0},
        **{"moved": None, "next": None, "attention": []},
    }


async def test_an_unfinished_draft_has_no_times(server: Composition) -> None:
    made = await server.owner.create_workflow(scheduled(("cronjob", {"schedule": "often"})))
    assert (await server.owner.get(f"/v1/workflows/{made['id']}/schedule")).data["triggers"] == []


async def test_a_key_sees_only_its_own_workflows(server: Composition) -> None:
    made = await server.owner.create_workflow(scheduled(NIGHTLY))
    other = await server.other_owner()
    assert (await other.get(f"/v1/workflows/{made['id']}/schedule")).status == 404
    body = {"config": NIGHTLY[1], "workflowId": made["id"]}
    assert (await other.post("/v1/triggers/cronjob/test", body)).status == 404
    stranger = await server.client_with("run:read")
    assert (await stranger.post("/v1/triggers/cronjob/test", {"config": NIGHTLY[1]})).status == 403


async def test_what_came_in_is_shown_to_who_may_read_runs(server: Composition) -> None:
    """As the event log asks for it; to others a test shows a sample."""
    hook = {"type": "webhook", "payload": {}, "children": ["say"]}
    nodes = {"root": hook, "say": {"type": "log", "payload": {"message": "it came"}}}
    made = await server.owner.create_workflow({"nodes": nodes, "triggerNodeIds": ["root"]})
    path = f"/v1/workflows/{made['id']}"
    assert (await server.owner.post(f"{path}/publish")).status == 200
    address = (await server.owner.post(f"{path}/webhooks/root/rotate", {})).data["url"]
    sent = await server.client(None).post(urlsplit(address).path, {"iban": "DE1"})
    assert sent.status == 202, sent.body
    body = {"config": {}, "workflowId": made["id"]}
    for rights, origin in ((["workflow:read"], "sample"), (["workflow:read", "run:read"], "recent")):
        client = await server.client_with(*rights)
        tested = await client.post("/v1/triggers/webhook/test", body)
        assert (tested.data["origin"], "DE1" in tested.response.text) == (origin, origin == "recent")


@pytest.mark.parametrize(
    "config",
    [
        {"at": "0001-01-01T00:00:00+23:59"},
        {"at": "9999-12-31T23:59:59-23:59"},
        {"at": "0001-01-01T00:00:00", "timezone": "Asia/Tokyo"},
        {"at": "9999-12-31T23:59:59", "timezone": "America/New_York"},
    ],
)
async def test_a_time_that_is_none_in_utc_is_refused(server: Composition, config: dict[str, Any]) -> None:
    refused = await server.owner.post("/v1/triggers/schedule/test", {"config": config})
    assert (refused.status, refused.code) == (400, 400001)
    assert "of the years 1 to 9999" in refused.body["details"][0]["message"]
    made = await server.owner.create_workflow(scheduled(("schedule", config)))
    published = await server.owner.post(f"/v1/workflows/{made['id']}/publish")
    assert published.status == 400


async def test_a_config_is_tested_without_arming_it(server: Composition) -> None:
    tested = (await server.owner.post("/v1/triggers/cronjob/test", {"config": NIGHTLY[1]})).data
    assert (tested["origin"], tested["valid"], tested["problems"]) == ("sample", True, [])
    assert tested["event"]["scheduledAt"] == tested["fires"][0]["at"]
    assert (await server.owner.get("/v1/runs")).data["items"] == []


@pytest.mark.parametrize(
    ("kind", "config", "field", "message"),
    [
        ("cronjob", {"schedule": "0 0 31 2 *"}, "config.schedule", "never fires"),
        ("cronjob", {"shedule": "@daily"}, "config.shedule", "schedule"),
        ("schedule", {"rrule": "DTSTART:20260101T000000Z\nRRULE:FREQ=DAILY;BYDAY=XX"}, "config", "(at character 49)"),
    ],
)
async def test_a_config_that_does_not_fit_is_refused(
    server: Composition, kind: str, config: dict[str, Any], field: str, message: str
) -> None:
    refused = await server.owner.post(f"/v1/triggers/{kind}/test", {"config": config})
    assert (refused.status, refused.code) == (400, 400001)
    assert any(one["field"] == field and message in one["message"] for one in refused.body["details"])


async def test_what_publishing_would_refuse_is_told(server: Composition) -> None:
    tested = (await server.owner.post("/v1/triggers/schedule/test", {"config": {"at": "2020-01-01T00:00:00Z"}})).data
    assert (tested["valid"], tested["problems"][0]["field"]) == (False, "config.at")
    assert (await server.owner.post("/v1/triggers/no-such/test", {"config": {}})).status == 404
