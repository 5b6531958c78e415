"""The envelope, whatever goes wrong: unknown routes, wrong methods, bad bodies, defects."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any, cast

import httpx
import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from dustrun.errors import Temporary, Uncertain
from dustrun.services.workflows.workflows import Workflows
from testkit.composition import DEFINITION, Client, Composition, composed
from testkit.examples import examples
from testkit.loop_watch import least_hold, watched

PATH = "/v1/workflows"
JSON = {"Content-Type": "application/json"}


async def test_an_unknown_route_and_a_wrong_method(owner: Client) -> None:
    missing = await owner.get("/v1/nothing")
    assert (missing.status, missing.code) == (404, 404004)
    trailing = await owner.get("/v1/workflows/")
    assert trailing.status in (404, 405)
    assert "GET /v1/nothing" in missing.body["message"]
    wrong = await owner.send("PATCH", PATH)
    assert (wrong.status, wrong.code) == (405, 405001)
    assert (wrong.response.headers["allow"], wrong.body["message"]) == (
        "GET, POST",
        "There is no PATCH /v1/workflows; this route accepts GET, POST.",
    )


@pytest.mark.parametrize(
    ("body", "field", "told"),
    [
        ({"naem": "x"}, "naem", 'Unknown field. Did you mean "name"?'),
        ({}, "name", "This field is required."),
        ({"name": 1}, "name", "Must be a string."),
        (
            {"definition": {"nodes": {"a": {"type": "log", "paylod": {}}}}},
            "definition.nodes.a.paylod",
            'Unknown field. Did you mean "payload"?',
        ),
        ([], "body", "Must be a JSON object."),
        (None, "body", "This field is required."),
    ],
)
async def test_each_field_is_told_what_was_expected(owner: Client, body: Any, field: str, told: str) -> None:
    reply = await owner.post(PATH, body)
    assert (reply.status, reply.code) == (400, 400001)
    assert {detail["field"]: detail["message"] for detail in reply.body["details"]}[field] == told


async def test_a_run_call_tells_the_field_that_was_meant(owner: Client) -> None:
    workflow = await owner.create_workflow()
    reply = await owner.post(f"{PATH}/{workflow['id']}/run", {"simulte": True, "dustTest": "yes"})
    assert {detail["field"]: detail["message"] for detail in reply.body["details"]} == {
        "simulte": 'Unknown field. Did you mean "simulate"?',
        "dustTest": "Must be true or false.",
    }


async def test_what_is_no_time_and_no_run_id_is_told_what_one_is(owner: Client) -> None:
    since = await owner.get("/v1/runs?since=yesterday")
    assert since.body["details"][0]["message"].startswith("Must be an RFC 3339 time")
    stream = await owner.get("/v1/runs/17/stream")
    assert "run_ and 1 to 64" in stream.body["message"]


@pytest.mark.parametrize("edge", ["0001-01-01T00:00:00%2B23:59", "9999-12-31T23:59:59-23:59"])
async def test_a_time_outside_of_the_years_that_are_told_is_none(owner: Client, edge: str) -> None:
    """It is one on some clock, and none in UTC."""
    for path in ("/v1/runs?until=", "/v1/runs/status-counts?since=", "/v1/trigger-events?since="):
        found = await owner.get(path + edge)
        assert (found.status, found.code) == (400, 400002)
        assert found.body["details"][0]["message"].startswith("Must be an RFC 3339 time")
    assert (await owner.get("/v1/runs?since=0001-01-01T00:00:00Z&until=9999-12-31T23:59:59Z")).status == 200


async def test_many_unknown_parameters_hold_up_nobody(owner: Client) -> None:
    """As many as the head of a request has room for."""
    names = ("".join(letters) for letters in itertools.product("aeilmnorstuv", repeat=4))
    query = "&".join(itertools.islice(names, 13_000))
    with watched() as watch:

        async def ask() -> None:
            reply = await owner.get(f"/v1/runs?{query}")
            assert (reply.status, reply.code, reply.fields[0]) == (400, 400002, "aaaa")

        assert await least_hold(watch, ask, 0.1) < 0.1


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("staus=draft", 'There is no such parameter. Did you mean "status"'),
        ("page=2", "There is no such parameter. Known parameters: "),
    ],
)
async def test_a_misspelt_filter_is_no_filter(owner: Client, query: str, told: str) -> None:
    reply = await owner.get(f"{PATH}?limit=1&{query}")
    assert (reply.status, reply.code, reply.fields) == (400, 400002, [query.partition("=")[0]])
    assert reply.body["details"][0]["message"].startswith(told)


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b'{"name": }', "line 1, column 10"),
        (b"{", "line 1"),
        (b"[1, 2", "line 1"),
        (b"\xff\xfe", "UTF-8"),
        (b'"\xed\xa0\x80"', "UTF-8"),
        (b'{"name": "\\ud800"}', "surrogate"),
        (b'{"name": NaN}', "NaN"),
        (b'{"name": ' + b"9" * 2000 + b"}", "1000"),
        (b'{"name": 1e999999}', "range"),
        (b"[" * 200 + b"]" * 200, "deeper"),
        (b"[" * 100_000, ""),
    ],
)
async def test_a_body_that_is_no_acceptable_json(owner: Client, raw: bytes, said: str) -> None:
    reply = await owner.post(PATH, raw=raw)
    assert (reply.status, reply.code) == (400, 400001)
    assert said in reply.body["message"]


@pytest.mark.parametrize("raw", [b"null", b"[]", b"1", b'"x"', b"true"])
async def test_a_body_that_is_no_object(owner: Client, raw: bytes) -> None:
    reply = await owner.post(PATH, raw=raw)
    assert (reply.status, reply.code, reply.fields) == (400, 400001, ["body"])


@pytest.mark.parametrize(
    "content_type",
    ["text/plain", "application/x-www-form-urlencoded", "application/json; charset=latin-1", "application/jsonx", ""],
)
async def test_a_body_of_another_kind(owner: Client, content_type: str) -> None:
    reply = await owner.post(PATH, raw=b"{}", headers={"Content-Type": content_type})
    assert (reply.status, reply.code) == (415, 415001)


async def test_an_encoded_body_is_refused(owner: Client) -> None:
    reply = await owner.post(PATH, raw=b"{}", headers={"Content-Encoding": "gzip"})
    assert (reply.status, reply.code) == (415, 415001)


@pytest.mark.parametrize("content_type", ["application/json; charset=utf-8", 'APPLICATION/JSON; charset="UTF-8"'])
async def test_json_with_a_charset_is_taken(owner: Client, content_type: str) -> None:
    reply = await owner.post("/v1/conversations", raw=b"{}", headers={"Content-Type": content_type})
    assert reply.status == 200


async def test_the_body_limit_counts_what_arrives(server: Composition) -> None:
    limit = server.parts.settings.max_body_bytes

    async def endless() -> AsyncIterator[bytes]:
        for _ in range(limit // 65536 + 2):
            yield b" " * 65536

    reply = await server.owner.post(PATH, raw=endless())
    assert (reply.status, reply.code) == (413, 413001)
    declared = await server.owner.post(PATH, raw=b"{}", headers={"Content-Length": str(limit + 1)})
    assert (declared.status, declared.code) == (413, 413001)


async def test_the_callers_request_id_is_kept_when_well_formed(owner: Client) -> None:
    for sent, kept in [("abc-DEF_123", True), ("x" * 128, True), ("x" * 129, False), ("a b", False), ("", False)]:
        reply = await owner.get("/healthz", headers={"X-Request-ID": sent})
        assert (reply.body["requestId"] == sent) is kept
    fresh = await owner.get("/healthz")
    assert fresh.body["requestId"].startswith("req_")


async def test_a_nul_in_the_address_is_refused(owner: Client) -> None:
    for path in ("/v1/workflows/a%00b", "/v1/workflows?q=%00"):
        reply = await owner.get(path)
        assert (reply.status, reply.code) == (400, 400002)


def _break(server: Composition, error: Exception) -> None:
    broken = cast(Workflows, _BrokenWorkflows(error))
    server.app.parts = replace(server.app.parts, workflows=broken)


class _BrokenWorkflows:
    def __init__(self, error: Exception) -> None:
        self._error = error

    async def get(self, *_: Any) -> Any:
        raise self._error

    pause = get


async def test_a_defect_shows_nothing_of_itself(server: Composition) -> None:
    _break(server, RuntimeError("the secret inside"))
    reply = await server.owner.get(f"{PATH}/wf_1")
    assert (reply.status, reply.code) == (500, 500001)
    assert "secret inside" not in reply.response.text
    assert "Traceback" not in reply.response.text


@pytest.mark.parametrize(
    ("error", "code"),
    [(Temporary("Full.", retry_after_s=2.5), 503001), (Uncertain("Gone."), 503002)],
)
async def test_an_unavailable_store_says_when_to_come_back(server: Composition, error: Exception, code: int) -> None:
    _break(server, error)
    reply = await server.owner.post(f"{PATH}/wf_1/pause")
    assert (reply.status, reply.code) == (503, code)
    assert int(reply.response.headers["retry-after"]) >= 1


async def test_a_stopping_writer_answers_503(server: Composition) -> None:
    await server.parts.writer.stop()
    reply = await server.owner.post("/v1/conversations")
    assert (reply.status, reply.code) == (503, 503001)
    assert reply.response.headers["retry-after"]


async def test_health_needs_no_key_and_readiness_follows_the_server(server: Composition) -> None:
    anyone = server.client(None)
    assert (await anyone.get("/healthz")).data == {"status": "ok"}
    assert (await anyone.get("/readyz")).data == {"status": "ready"}
    server.parts.status.is_ready = False
    reply = await anyone.get("/readyz")
    assert (reply.status, reply.code, reply.response.headers["retry-after"]) == (503, 503001, "1")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=15,
)
names = st.sampled_from(["name", "description", "definition", "maxRuns", "nodes", "type", "children", "uiMetadata"])
bodies = st.dictionaries(names, json_values | st.dictionaries(names, json_values, max_size=3), max_size=5)


@examples(150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(raw=st.binary(max_size=60))
async def test_any_bytes_get_an_envelope(server: Composition, raw: bytes) -> None:
    reply = await server.owner.post(PATH, raw=raw)
    assert reply.status == 400


@examples(200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=bodies, definition=json_values)
async def test_any_document_is_taken_or_refused(server: Composition, body: dict[str, Any], definition: Any) -> None:
    assert (await server.owner.post(PATH, {"name": "n", "description": "", **body})).status in (200, 400)
    for_validation = {"definition": definition}
    assert (await server.owner.post(f"{PATH}/validate", for_validation)).status == 200


@examples(100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(payload=json_values)
async def test_any_payload_of_a_node_comes_back_as_it_was(server: Composition, payload: Any) -> None:
    definition = {"nodes": {**DEFINITION["nodes"], "say": {"type": "log", "payload": {"value": payload}}}}
    reply = await server.owner.post(PATH, {"name": "n", "description": "", "definition": definition})
    path = f"{PATH}/{reply.data['id']}"
    again = await server.owner.put(path, {"definition": definition})
    assert again.data["version"] == 1
    assert again.data["definition"] == reply.data["definition"]


async def test_the_rate_is_limited_for_each_organisation(
    server: Composition, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("limited")
    async with composed(folder, rate_limit_per_second=1) as limited:
        colleague = await limited.client_with("workflow:read")
        other = await limited.other_owner()  # the second request of a burst of two
        refused = await limited.owner.get(PATH)
        assert (refused.code, refused.response.headers["retry-after"]) == (429001, "1")
        assert [(await client.get(PATH)).status for client in (colleague, other)] == [429, 200]


async def test_head_and_options_have_no_surprise(owner: Client) -> None:
    for method in ("HEAD", "OPTIONS", "TRACE"):
        response: httpx.Response = await owner.http.request(method, PATH)
        assert response.status_code == 405


@pytest.mark.parametrize("query", ["status=failure,success", "status=failure&status=success", "mode=live, dust"])
async def test_a_filter_of_several_is_repeated_or_has_commas(owner: Client, query: str) -> None:
    started = (await owner.post("/v1/runs/sync", {"definition": DEFINITION})).data
    assert [item["id"] for item in (await owner.get(f"/v1/runs?{query}")).data["items"]] == [started["runId"]]
    assert (await owner.get("/v1/runs?status=failure,partial&mode=simulate")).data["items"] == []
    assert (await owner.get("/v1/transactions?status=sent,final")).data["items"] == []
    assert (await owner.get("/v1/approvals?status=approved,rejected")).data["items"] == []


async def test_big_integers_are_numbers_for_who_reads_them_exactly(server: Composition) -> None:
    big = 2**64 + 1
    definition = {
        "nodes": {
            "root": {"type": "manual", "children": ["say"]},
            "say": {"type": "format", "payload": {"template": "x", "values": [big, -big, 2**53, 1]}},
        }
    }
    made = await server.owner.create_workflow(definition)
    path = f"{PATH}/{made['id']}"
    assert made["definition"]["nodes"]["say"]["payload"]["values"] == [str(big), str(-big), str(2**53), 1]
    exact = (await server.owner.get(path, headers={"Dustrun-Exact-Numbers": "true"})).data
    assert exact["definition"] == definition
    both = {"dustrun-exact-numbers": "TRUE", "Dustrun-Omit-Null": "true"}
    assert (await server.owner.http.get(path, headers=both)).json()["data"]["definition"] == definition
    saved = await server.owner.put(path, {"definition": exact["definition"]})
    assert saved.data["version"] == 1
    assert (await server.owner.get(path, headers={"Dustrun-Exact-Numbers": "false"})).data["definition"] != definition
    refused = await server.owner.get(path, headers={"Dustrun-Exact-Numbers": "yes"})
    assert (refused.status, refused.fields) == (400, ["Dustrun-Exact-Numbers"])
