"""What refusals tell keys that may change a thing and not read it, and keys that are limited to other objects."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from testkit.composition import Composition, composed

_NAME, _CALLED = "Strategic reserve", "Payroll of the board"
_ADDRESS = "0x70997970c51812dc3a010c7d01b50e0d17dc79c8"
_EVERYTHING = {"chains": ["*"], "assets": ["*"], "recipients": ["*"], "outflow": None}


async def test_refusals_about_a_wallet_name_it_to_those_who_may_read_it(tmp_path: Path) -> None:
    async with composed(tmp_path) as server:
        watched = await _made(server, "/v1/wallets", {"name": _NAME, "kind": "watch", "address": _ADDRESS})
        default = await _made(server, "/v1/wallets", {"name": _NAME, "isDefault": True})
        archived = await _made(server, "/v1/wallets", {"name": _NAME})
        await server.owner.delete(f"/v1/wallets/{archived}")
        refused: list[tuple[str, str, Any]] = [
            ("PUT", f"/v1/wallets/{watched}/default", None),
            ("POST", f"/v1/wallets/{watched}/export", {"password": "a long password for it"}),
            ("DELETE", f"/v1/wallets/{default}", None),
            ("PATCH", f"/v1/wallets/{archived}", {"name": "other"}),
            ("PUT", f"/v1/wallets/{archived}/policy", {"policy": _EVERYTHING}),
            ("POST", "/v1/wallets", {"name": "same", "kind": "watch", "address": _ADDRESS}),
        ]
        writer = await server.client_with("wallet:write", "wallet:admin")
        for method, path, body in refused:
            known, unread = [await one.send(method, path, body) for one in (server.owner, writer)]
            assert (known.status, unread.status) == (409, 409), (path, known.body, unread.body)
            assert (_NAME in json.dumps(known.body), _NAME in json.dumps(unread.body)) == (True, False), path


async def test_a_gate_names_what_the_caller_may_read(tmp_path: Path) -> None:
    """A workflow calls another one, which can spend and is not rehearsed."""
    async with composed(tmp_path) as server:
        wallet = await _made(server, "/v1/wallets", {"name": "w"})
        send = {"chainId": 1, "recipient": _ADDRESS, "amount": "1"}
        spends = {"type": "send-native", "connector": {"type": "wallet", "id": wallet}, "payload": send}
        called = await _made(server, "/v1/workflows", _workflow(_CALLED, spends))
        calls = {"type": "call-workflow", "payload": {"workflowId": called}}
        flow = await _made(server, "/v1/workflows", {**_workflow("Caller", calls), "requireRehearsal": "simulate"})
        path = f"/v1/workflows/{flow}/run"
        whole = await server.owner.post(path, {})
        assert (whole.status, _CALLED in whole.body["message"]) == (409, True), whole.body
        executes = await server.client_with("workflow:execute", "wallet:spend")
        limited = server.client(await _limited_to(server, flow))
        for one in (executes, limited):
            refused = await one.post(path, {})
            assert (refused.status, refused.body["code"]) == (409, whole.body["code"])
            told = json.dumps(refused.body)
            assert [text for text in (_CALLED, called) if text in told] == []
            assert "nodes that spend" in told
        author = await server.client_with("workflow:read", "workflow:update")
        await author.put(f"/v1/workflows/{called}", _workflow(_CALLED, {**spends, "payload": {**send, "amount": "2"}}))
        unaccepted = [await one.post(path, {}) for one in (server.owner, executes, limited)]
        assert [one.body["code"] for one in unaccepted] == [unaccepted[0].body["code"]] * 3
        assert [_CALLED in json.dumps(one.body) for one in unaccepted] == [True, False, False]
        assert [called in json.dumps(one.body) for one in unaccepted] == [True, True, False]


async def test_an_import_tells_a_key_no_ids_that_it_may_not_read(tmp_path: Path) -> None:
    async with composed(tmp_path) as server:
        wallet = await _made(server, "/v1/wallets", {"name": _NAME})
        send = {"chainId": 1, "recipient": _ADDRESS, "amount": "1"}
        spends = {"type": "send-native", "connector": {"type": "wallet", "id": wallet}, "payload": send}
        flow = await _made(server, "/v1/workflows", _workflow("Payer", spends))
        content = (await server.owner.get(f"/v1/workflows/{flow}/export")).data["content"]
        creator = await server.client_with("workflow:create")
        whole, part = [await one.post("/v1/workflows/import", {"content": content}) for one in (server.owner, creator)]
        assert (wallet in json.dumps(whole.data), wallet in json.dumps(part.data)) == (True, False)
        assert part.data["hiddenWithout"] == "workflow:read"
        assert part.data["workflow"]["status"] == "draft"
        assert [part.data[name] for name in ("toBind", "problems", "warnings")] == [
            whole.data[name] for name in ("toBind", "problems", "warnings")
        ]
        bound = (await server.owner.get(f"/v1/workflows/{part.data['workflow']['id']}")).data["definition"]
        assert bound == whole.data["workflow"]["definition"], "it is bound all the same"
        twin = await _made(server, "/v1/wallets", {"name": _NAME})
        many = [await one.post("/v1/workflows/import", {"content": content}) for one in (server.owner, creator)]
        assert [(one.status, twin in json.dumps(one.body)) for one in many] == [(400, True), (400, False)]
        limited = server.client(await _limited_to(server, flow))
        assert (await limited.post("/v1/workflows/import", {"content": content})).status == 403, "and no name is sought"


async def _made(server: Composition, path: str, body: dict[str, Any]) -> str:
    answer = await server.owner.post(path, body)
    assert answer.status == 200, answer.body
    return str(answer.data["id"])


async def _limited_to(server: Composition, workflow_id: str) -> str:
    body = {"name": "k", "permissions": ["admin"], "workflowIds": [workflow_id]}
    return str((await server.owner.post("/v1/api-keys", body)).data["key"])


def _workflow(name: str, node: dict[str, Any]) -> dict[str, Any]:
    root = {"type": "manual", "children": ["n"]}
    definition = {"nodes": {"root": root, "n": node}, "triggerNodeIds": ["root"]}
    return {"name": name, "description": "", "definition": definition}


async def test_refusals_about_rows_name_no_table_that_the_key_has_not_named(tmp_path: Path) -> None:
    async with composed(tmp_path) as server:
        columns = [{"name": "id", "type": "text"}]
        table = await _made(server, "/v1/tables", {"name": "board-salaries", "columns": columns})
        writer = await server.client_with("table:write")
        rows = f"/v1/tables/{table}/rows"
        assert (await writer.post(rows, {"rows": [{"id": "a"}]})).status == 200
        refused = [await writer.post(rows, {"rows": [{"id": "a"}]}), await writer.delete(f"{rows}/b")]
        assert [one.status for one in refused] == [409, 404]
        assert ["board-salaries" in json.dumps(one.body) for one in refused] == [False, False]
