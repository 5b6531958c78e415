"""How a declared operation reads a request: parameters, body, and all that is wrong with both."""

from __future__ import annotations

from typing import Any

from dustrun.api.routing import Paths, RawRoute
from testkit.composition import Client

VARIABLE = "/v1/workflows/wf_none/variables/v"
LONG = f"/v1/workflows/wf_none/variables/{'n' * 65}"


async def test_everything_that_is_wrong_is_reported_together(owner: Client) -> None:
    reply = await owner.put(LONG, {"type": "odd", "typ": 1})
    assert (reply.code, reply.fields) == (400001, ["name", "type", "typ"])
    reply = await owner.put(LONG, {"type": "number"})
    assert (reply.code, reply.fields) == (400002, ["name"])
    reply = await owner.get("/v1/approvals?limit=x&offset=-1&status=odd")
    assert (reply.code, reply.fields) == (400002, ["limit", "offset", "status[0]"])


async def test_a_body_that_an_operation_must_have_or_may_have(owner: Client) -> None:
    for raw, code, kind in (
        (None, 400001, "missing"),
        (b" ", 400001, "missing"),
        (b"null", 400001, "model_attributes_type"),
        (b"[]", 400001, "model_attributes_type"),
        (b"{}", 404001, None),
        (b"{bad", 400001, None),
    ):
        reply = await owner.put(VARIABLE, raw=raw)
        found = [detail["code"] for detail in reply.body["details"] if detail.get("field") == "body"]
        assert (reply.code, found) == (code, [kind] if kind else []), raw
        may = await owner.post("/v1/approvals/none/reject", raw=raw)
        assert may.status == (400 if raw in (b"[]", b"{bad") else 404), raw


async def test_how_parameters_of_the_query_are_read(owner: Client) -> None:
    reply = await owner.get("/v1/approvals?limt=3&status=pending")
    assert (reply.code, reply.fields) == (400002, ["limt"])
    assert "limit" in reply.body["details"][0]["message"]
    assert "no parameters" in (await owner.get("/v1/me?x=1")).body["details"][0]["message"]
    assert (await owner.get("/v1/approvals?limit=1&limit=7")).data["limit"] == 7
    for several in ("status=pending&status=rejected", "status=pending,%20rejected", "status=,"):
        assert (await owner.get(f"/v1/approvals?{several}")).data["items"] == []
    assert (await owner.get("/v1/approvals?status=pending&status=odd")).fields == ["status[1]"]
    assert (await owner.get("/healthz?probe=1")).status == 200  # which programs of all kinds ask


def test_a_fixed_part_of_a_path_goes_before_a_parameter() -> None:
    routes = {
        "fixed": RawRoute("/a/fixed", _never, permission="public"),
        "made": RawRoute("/a/fixed", _never, method="POST", permission="public"),
        "one": RawRoute("/a/{id}", _never, permission="public"),
        "part": RawRoute("/a/{id}/parts/{part}", _never, permission="public"),
    }
    paths = Paths(routes.values())
    for method, path, name, parameters in (
        ("GET", "/a/fixed", "fixed", {}),
        ("GET", "/a/other", "one", {"id": "other"}),
        ("POST", "/a/fixed", "made", {}),
        ("GET", "/a/fixed/parts/3", "part", {"id": "fixed", "part": "3"}),
        ("GET", "/a/{}/parts/ GET", "part", {"id": "{}", "part": " GET"}),
    ):
        assert paths.find(method, path) == (routes[name], parameters)
    for method, path in (("POST", "/a/b"), ("GET", "/a//parts/3"), ("GET", "/a/fixed/"), ("GET", "/a"), ("GET", "")):
        assert paths.find(method, path) is None


async def _never(*_: Any) -> None:
    """The endpoint of a route that nobody asks."""
