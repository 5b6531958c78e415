"""A node's connector: attached as the request goes out, to its own hosts alone, and the same in every life."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from dustrun.errors import Code
from echoing import Echo, echoing
from engine.conftest import OWN_ACTIONS, Bench
from testkit.composition import composed

SECRET = "s3cret-with/odd+signs&more"


@pytest.fixture
async def echo() -> AsyncIterator[Echo]:
    async with echoing() as echo:
        yield echo


@pytest.fixture
async def bench(tmp_path: Path, store_url: str) -> AsyncIterator[Bench]:
    settings = {"actions_dir": OWN_ACTIONS, "outbound_allow": ("127.0.0.1", "localhost")}
    async with composed(tmp_path, database_url=store_url, **settings) as composition:
        yield Bench(composition)


async def connector(bench: Bench, echo: Echo, type_: str, data: dict[str, Any], **fields: Any) -> dict[str, Any]:
    body = {"type": type_, "name": type_, "data": data, "allowedHosts": [echo.url], **fields}
    made: dict[str, Any] = (await bench.api.post("/v1/connectors", body)).data
    return made


def asking(made: dict[str, Any], url: str, **payload: Any) -> dict[str, Any]:
    node = {name: payload.pop(name) for name in ("dust", "onError", "timeoutMs", "retry") if name in payload}
    reference = {"type": made["type"], "id": made["id"]}
    return {"ask": {"type": "http-request", "connector": reference, "payload": {"url": url, **payload}, **node}}


async def oauth(bench: Bench, echo: Echo, **data: Any) -> dict[str, Any]:
    data = {"tokenUrl": f"{echo.url}/token", "clientId": "me", "clientSecret": SECRET, **data}
    type_ = "oauth2-refresh-token" if "refreshToken" in data else "oauth2-client-credentials"
    return await connector(bench, echo, type_, data)


BASIC = f"Basic {base64.b64encode(f'me:{SECRET}'.encode()).decode()}"


@pytest.mark.parametrize(
    ("type_", "data", "header", "value"),
    [
        ("http-bearer", {"token": SECRET}, "Authorization", f"Bearer {SECRET}"),
        ("http-basic", {"username": "me", "password": SECRET}, "Authorization", BASIC),
        ("http-header", {"name": "X-Api-Key", "value": SECRET}, "X-Api-Key", SECRET),
    ],
)
async def test_header_is_attached(
    bench: Bench, echo: Echo, type_: str, data: dict[str, Any], header: str, value: str
) -> None:
    made = await connector(bench, echo, type_, data)
    run = await bench.run(asking(made, f"{echo.url}/echo", headers={header: "of the node"}))
    assert run["status"] == "success"
    assert [request.headers.getall(header) for request in echo.seen] == [[value]]


async def test_query_parameter_is_attached(bench: Bench, echo: Echo) -> None:
    made = await connector(bench, echo, "http-query", {"name": "api_key", "value": SECRET})
    run = await bench.run(asking(made, f"{echo.url}/echo?a=1&api_key=node", query={"b": "2"}))
    assert [dict(request.query) for request in echo.seen] == [{"a": "1", "b": "2", "api_key": SECRET}]
    assert run["executionState"]["ask"]["result"]["url"] == f"{echo.url}/echo?a=1&api_key=node&b=2"


async def test_redirect_within_its_hosts_keeps_the_credential(bench: Bench, echo: Echo) -> None:
    made = await connector(bench, echo, "http-bearer", {"token": SECRET})
    run = await bench.run(asking(made, f"{echo.url}/redirect", query={"to": "/guarded"}))
    assert run["status"] == "success"
    assert echo.credentials == [f"Bearer {SECRET}"] * 2


@pytest.mark.parametrize("type_", ["http-bearer", "http-query"])
async def test_redirect_to_another_host_is_refused(bench: Bench, echo: Echo, type_: str) -> None:
    data = {"token": SECRET} if type_ == "http-bearer" else {"name": "key", "value": SECRET}
    made = await connector(bench, echo, type_, data)
    run = await bench.run(asking(made, f"{echo.url}/redirect", query={"to": f"http://localhost:{echo.port}/echo"}))
    error = run["executionState"]["ask"]["error"]
    assert (run["status"], error["code"]) == ("failure", "REFUSED")
    assert "allowedHosts" in error["message"]
    assert [request.path for request in echo.seen] == ["/redirect"]


async def test_other_host_is_never_asked(bench: Bench, echo: Echo) -> None:
    made = await connector(bench, echo, "http-bearer", {"token": SECRET})
    run = await bench.run(asking(made, f"http://localhost:{echo.port}/echo"))
    assert run["executionState"]["ask"]["error"]["code"] == "REFUSED"
    assert echo.seen == []


async def test_private_address_is_refused_by_the_guard(bench: Bench, echo: Echo) -> None:
    made = await connector(bench, echo, "http-bearer", {"token": SECRET}, allowedHosts=["http://10.0.0.1"])
    error = (await bench.run(asking(made, "http://10.0.0.1/")))["executionState"]["ask"]["error"]
    assert error["code"] == "INVALID_INPUT"
    assert "is a private address" in error["message"]


async def test_deleted_connector_fails_the_node(bench: Bench, echo: Echo) -> None:
    made = await connector(bench, echo, "http-bearer", {"token": SECRET})
    await bench.api.delete(f"/v1/connectors/{made['id']}")
    error = (await bench.run(asking(made, f"{echo.url}/echo")))["executionState"]["ask"]["error"]
    assert error["code"] == "INVALID_INPUT"
    assert made["id"] in error["message"]
    assert echo.seen == []


async def test_other_organisations_connector_is_unknown(bench: Bench, echo: Echo) -> None:
    made = await connector(bench, echo, "http-bearer", {"token": SECRET})
    bench.api = await bench.composition.other_owner()
    assert (
        "There is no connector"
        in (await bench.run(asking(made, f"{echo.url}/echo")))["executionState"]["ask"]["error"]["message"]
    )
    assert echo.seen == []


async def test_simulation_reads_with_the_credential_and_writes_nothing(bench: Bench, echo: Echo) -> None:
    made = await connector(bench, echo, "http-bearer", {"token": SECRET})
    await bench.run(asking(made, f"{echo.url}/guarded"), simulate=True)
    await bench.run(asking(made, f"{echo.url}/guarded", method="POST"), simulate=True)
    assert echo.credentials == [f"Bearer {SECRET}"]


@pytest.mark.parametrize(
    ("moves", "method", "dust", "asked"),
    [(True, "POST", None, 0), (True, "GET", None, 1), (True, "POST", "run", 1), (False, "POST", None, 1)],
)
async def test_dust_test_refuses_writes_that_move_money(
    bench: Bench, echo: Echo, moves: bool, method: str, dust: str | None, asked: int
) -> None:
    made = await connector(bench, echo, "http-bearer", {"token": SECRET}, movesMoney=moves)
    node = {"dust": dust} if dust else {}
    run = await bench.run(asking(made, f"{echo.url}/guarded", method=method, **node), dustTest=True)
    assert len(echo.seen) == asked
    if not asked:
        assert run["executionState"]["ask"]["error"]["code"] == "REFUSED"
        assert "moves money" in run["executionState"]["ask"]["error"]["message"]


# --- OAuth 2 ---


async def test_token_is_asked_for_once_and_kept(bench: Bench, echo: Echo) -> None:
    made = await oauth(bench, echo, scope="a b")
    for _ in range(2):
        await bench.run(asking(made, f"{echo.url}/guarded"))
    assert echo.credentials == ["Bearer access-1"] * 2
    pair = base64.b64encode(b"me:s3cret-with%2Fodd%2Bsigns%26more").decode()
    assert echo.asked == [{"grant_type": "client_credentials", "scope": "a b", "auth": f"Basic {pair}"}]


async def test_client_may_go_into_the_form(bench: Bench, echo: Echo) -> None:
    made = await oauth(bench, echo, clientAuth="body", audience="orders")
    await bench.run(asking(made, f"{echo.url}/guarded"))
    form = {"grant_type": "client_credentials", "audience": "orders", "client_id": "me", "client_secret": SECRET}
    assert echo.asked == [{**form, "auth": ""}]


async def test_many_nodes_share_one_request_for_a_token(bench: Bench, echo: Echo) -> None:
    made = await oauth(bench, echo)
    echo.slow_s = 0.2
    node = asking(made, f"{echo.url}/guarded")["ask"]
    run = await bench.run({f"ask{number}": node for number in range(10)})
    assert run["status"] == "success"
    assert (len(echo.asked), len(echo.seen)) == (1, 10)


async def test_token_is_renewed_before_it_ends(bench: Bench, echo: Echo) -> None:
    made = await oauth(bench, echo)
    echo.expires_in = 0
    for _ in range(2):
        await bench.run(asking(made, f"{echo.url}/guarded"))
    # one that ends at once is never kept: each of a node's two looks at it asks anew
    assert len(set(echo.credentials)) == 2


async def test_refused_token_is_renewed_and_the_request_sent_again(bench: Bench, echo: Echo) -> None:
    made = await oauth(bench, echo)
    echo.good_tokens = {"access-2"}
    run = await bench.run(asking(made, f"{echo.url}/guarded", method="POST"))
    assert run["status"] == "success"
    assert echo.credentials == ["Bearer access-1", "Bearer access-2"]
    assert len(echo.asked) == 2


@pytest.mark.parametrize(("status", "methods"), [(303, ["POST", "GET"]), (307, ["POST", "POST"] * 2)])
async def test_write_that_was_taken_is_not_sent_again_with_a_new_token(
    bench: Bench, echo: Echo, status: int, methods: list[str]
) -> None:
    """The page of its result refuses the token; the write itself was done with it."""
    made = await oauth(bench, echo)
    echo.good_tokens = {"access-2"}
    query = {"to": "/guarded", "status": str(status)}
    await bench.run(asking(made, f"{echo.url}/redirect", method="POST", query=query))
    assert [one.method for one in echo.seen] == methods


async def test_refusal_of_every_token_ends(bench: Bench, echo: Echo) -> None:
    made = await oauth(bench, echo)
    echo.good_tokens = set()
    run = await bench.run(asking(made, f"{echo.url}/guarded"))
    assert run["status"] == "failure"
    assert len(echo.seen) == 2


@pytest.mark.both_stores
async def test_rotated_refresh_token_is_stored_before_use(tmp_path: Path, store_url: str, echo: Echo) -> None:
    settings = {"database_url": store_url, "outbound_allow": ("127.0.0.1",)}
    echo.refresh_prefix = "refresh"
    echo.expires_in = "1"
    async with composed(tmp_path, **settings) as first:
        bench = Bench(first)
        made = await oauth(bench, echo, refreshToken="refresh-0")
        assert (await bench.run(asking(made, f"{echo.url}/guarded")))["status"] == "success"
    await asyncio.sleep(1)
    async with composed(tmp_path, **settings) as second:
        assert (await Bench(second).run(asking(made, f"{echo.url}/guarded")))["status"] == "success"
    sent = [form["refresh_token"] for form in echo.asked]
    assert sent == [f"refresh-{number}" for number in range(len(sent))]
    assert len(sent) >= 2


@pytest.mark.both_stores
async def test_token_outlives_the_server(tmp_path: Path, store_url: str, echo: Echo) -> None:
    settings = {"database_url": store_url, "outbound_allow": ("127.0.0.1",)}
    async with composed(tmp_path, **settings) as first:
        made = await oauth(Bench(first), echo)
        await Bench(first).run(asking(made, f"{echo.url}/guarded"))
    async with composed(tmp_path, **settings) as second:
        await Bench(second).run(asking(made, f"{echo.url}/guarded"))
    assert (len(echo.asked), len(echo.seen)) == (1, 2)


async def test_node_whose_time_is_up_does_not_cut_the_request_for_a_token_off(bench: Bench, echo: Echo) -> None:
    echo.slow_s, echo.refresh_prefix = 0.4, "refresh"
    made = await oauth(bench, echo, refreshToken="refresh-0")
    late = await bench.run(asking(made, f"{echo.url}/guarded", timeoutMs=100))
    assert late["status"] == "failure"
    assert (await bench.run(asking(made, f"{echo.url}/guarded")))["status"] == "success"
    assert len(echo.asked) == 1


async def test_changing_the_connector_drops_its_token(bench: Bench, echo: Echo) -> None:
    made = await oauth(bench, echo)
    await bench.run(asking(made, f"{echo.url}/guarded"))
    await bench.api.put(f"/v1/connectors/{made['id']}", {"name": "renamed"})
    await bench.run(asking(made, f"{echo.url}/guarded"))
    assert echo.credentials == ["Bearer access-1", "Bearer access-2"]


async def test_refused_client_is_told_without_its_secret(bench: Bench, echo: Echo) -> None:
    made = await oauth(bench, echo, tokenUrl=f"{echo.url}/no_token", clientAuth="body")
    error = (await bench.run(asking(made, f"{echo.url}/guarded")))["executionState"]["ask"]["error"]
    assert error["code"] == "PERMANENT"
    assert "invalid_client" in error["message"]
    assert SECRET[:8] not in error["message"]


async def test_token_of_another_type_is_not_told(bench: Bench, echo: Echo) -> None:
    echo.tells_token = True
    made = await oauth(bench, echo)
    error = (await bench.run(asking(made, f"{echo.url}/guarded")))["executionState"]["ask"]["error"]
    assert error["code"] == "PERMANENT"
    assert 'a token of type "•••"' in error["message"]


async def test_test_call_tells_what_the_address_said(bench: Bench, echo: Echo) -> None:
    made = await oauth(bench, echo)
    path = f"/v1/connectors/{made['id']}/test"
    assert (await bench.api.post(path)).data == {
        "ok": True,
        "message": "The provider issued an access token.",
        "status": None,
    }
    assert (await bench.api.post(path, {"url": f"{echo.url}/guarded"})).data["status"] == 200
    echo.good_tokens = set()
    refused = (await bench.api.post(path, {"url": f"{echo.url}/guarded"})).data
    assert (refused["ok"], refused["status"]) == (False, 401)
    assert (await bench.api.post("/v1/connectors/conn_none/test")).code == Code.CONNECTOR_UNKNOWN
