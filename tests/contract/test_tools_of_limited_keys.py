"""Every tool of `/mcp`, called by keys that may do one thing each, and by a key that is limited to other objects.

A tool tells a key nothing that the API would not tell it: what the key can read by GET is asked first.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from dustrun.api.mcp.tools import TOOLS
from dustrun.services.access.principal import PERMISSIONS, Principal
from testkit.fuzz_world import World
from testkit.server_process import ServerProcess

_WORDS = {
    "workflow": "Pay the quarterly dividend",
    "other": "Payroll of the board",
    "archived": "Severance of the founder",
    "wallet": "Strategic reserve",
    "retired": "Reserve of last year",
    "connector": "Ledger of the auditors",
    "host": "ledger.auditors.example",
    "node": "words of the definition",
    "payload": "words of the payload",
}
"""What the organisation has written, by what it is."""


class Scene:
    """Things that no one-permission key has made, and how keys ask for them."""

    def __init__(self, world: World) -> None:
        self.world = world
        call = world.call
        self.wallet = call("POST", "/v1/wallets", {"name": _WORDS["wallet"]})
        self.retired = call("POST", "/v1/wallets", {"name": _WORDS["retired"]})
        call("DELETE", f"/v1/wallets/{self.retired['id']}")
        self.connector = str(
            call(
                "POST",
                "/v1/connectors",
                {
                    "type": "http-bearer",
                    "name": _WORDS["connector"],
                    "data": {"token": "tok_0123456789abcdef"},
                    "allowedHosts": [_WORDS["host"]],
                },
            )["id"]
        )
        self.other = world.draft(name=_WORDS["other"])
        self.archived = world.draft(name=_WORDS["archived"])
        call("DELETE", f"/v1/workflows/{self.archived}")
        self.workflow = world.draft({"type": "log", "payload": {"message": _WORDS["node"]}}, name=_WORDS["workflow"])
        self.run = self._ran({"note": _WORDS["payload"]})
        self.rehearsal = self._ran({})
        self.texts = {*_WORDS.values(), self.wallet["address"], self.retired["address"]}
        self.ids = {self.wallet["id"], self.retired["id"], self.connector, self.other, self.archived}
        self.ids |= {self.workflow, self.run, self.rehearsal}

    def _ran(self, payload: dict[str, Any]) -> str:
        body = {"simulate": True, "payload": payload}
        run = str(self.world.call("POST", f"/v1/workflows/{self.workflow}/run", body)["runId"])
        return self.world.wait(run, "success")

    def key(self, permissions: list[str], **limits: Any) -> str:
        body = {"name": "k", "permissions": permissions, **limits}
        return str(self.world.call("POST", "/v1/api-keys", body)["key"])

    @property
    def definitions(self) -> list[dict[str, Any]]:
        """Definitions whose problems have to do with what there is."""

        def of(node: dict[str, Any]) -> dict[str, Any]:
            root = {"type": "manual", "children": ["n"]}
            return {"nodes": {"root": root, "n": node}, "triggerNodeIds": ["root"]}

        get = {"url": "https://elsewhere.example/", "method": "GET"}
        pay = {"chainId": 1, "recipient": "0x" + "00" * 19 + "aa", "amount": "1"}
        bearer, wrong = ({"type": kind, "id": self.connector} for kind in ("http-bearer", "http-basic"))
        wallets = [{"type": "wallet", "id": one["id"]} for one in (self.wallet, self.retired)]
        return [
            of({"type": "http-request", "payload": get, "connector": bearer}),
            of({"type": "http-request", "payload": get, "connector": wrong}),
            *(of({"type": "send-native", "payload": pay, "connector": wallet}) for wallet in wallets),
            of({"type": "call-workflow", "payload": {"workflowId": self.archived}}),
            of({"type": "call-workflow", "payload": {"workflowId": self.other, "version": 99}}),
        ]

    def calls(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Tools with arguments that they take."""
        yield "search_nodes", {"query": "log"}
        yield "describe_nodes", {"types": ["log"]}
        yield "list_workflows", {}
        yield "get_workflow", {"id": self.workflow}
        for one in self.definitions:
            yield "validate_workflow", {"definition": one}
            yield "save_workflow", {"definition": one, "name": "mine"}
            yield "save_workflow", {"definition": one, "workflowId": self.workflow}
            yield "simulate", {"definition": one, "waitS": 20}
        yield "simulate", {"workflowId": self.workflow, "version": 1, "waitS": 20}
        for what in ("summary", "effects", "nodes"):
            yield "get_report", {"runId": self.run, "what": what}
        for node in ("root", "n"):
            yield "get_report", {"runId": self.run, "what": "nodes", "node": node}
        yield "get_report", {"runId": self.run, "what": "compare", "otherRunId": self.rehearsal}
        yield "explain_spend", {"runId": self.run}
        yield "explain_spend", {"workflowId": self.workflow}
        yield "policy_sentences", {"text": "ask above $100"}
        yield "policy_sentences", {"walletId": self.wallet["id"]}
        yield "list_runs", {}
        for run in (self.run, self.rehearsal):
            yield (
                "launch",
                {"workflowId": self.workflow, "version": 1, "mode": "live", "rehearsalRunId": run, "payload": {}},
            )


class Caller:
    """One key at `/mcp` and at the API."""

    def __init__(self, base: str, key: str) -> None:
        self._base = base
        self._session = requests.Session()
        self._session.headers["Authorization"] = f"Bearer {key}"

    def readable(self, scene: Scene) -> str:
        """All that GET tells the key."""
        paths = ("workflows", "workflows?status=archived", "runs", "wallets?archived=true", "connectors")
        of_run = (f"runs/{scene.run}", f"runs/{scene.run}/effects", f"runs/{scene.rehearsal}")
        of_workflows = (f"workflows/{one}" for one in (scene.workflow, scene.other, scene.archived))
        asked = [self._session.get(f"{self._base}/v1/{path}") for path in (*paths, *of_run, *of_workflows)]
        return "".join(one.text for one in asked if one.status_code == 200)

    def tools(self) -> list[str]:
        """The names in `tools/list`."""
        return [one["name"] for one in self._rpc("tools/list", {})["tools"]]

    def call(self, tool: str, arguments: dict[str, Any]) -> tuple[bool, str]:
        """Whether a call succeeded, and its text."""
        found = self._rpc("tools/call", {"name": tool, "arguments": arguments})
        return not found.get("isError", False), str(found["content"][0]["text"])

    def _rpc(self, method: str, params: dict[str, Any]) -> Any:
        body: Any = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        answer = self._session.post(f"{self._base}/mcp", json=body, timeout=60)
        assert answer.status_code == 200, answer.text
        return answer.json()["result"]


@pytest.fixture(scope="module")
def scene(world_of_server: World) -> Scene:
    return Scene(world_of_server)


@pytest.mark.parametrize("permission", sorted(PERMISSIONS - {"admin", "operator"}))
def test_tools_tell_a_key_no_more_than_the_api(scene: Scene, chain_server: ServerProcess, permission: str) -> None:
    caller = Caller(chain_server.base, scene.key([permission]))
    readable, listed = caller.readable(scene), caller.tools()
    secret = [text for text in scene.texts if text not in readable]
    held = Principal("k", "o", frozenset({permission}))
    assert listed == [name for name, tool in TOOLS.items() if tool.is_for(held)]
    for tool, arguments in scene.calls():
        done, text = caller.call(tool, arguments)
        assert [one for one in secret if one in text] == [], (tool, arguments, text)
        code, message = (None, "") if done else (json.loads(text)["code"], json.loads(text)["message"])
        if tool not in listed:
            assert (code, any(f'"{one}"' in message for one in TOOLS[tool].needs)) == (403001, True)
        elif code == 403001:  # of a tool for two things, the other one
            assert any(f'"{one}"' in message for one in PERMISSIONS - {permission}), text
        elif tool == "launch":
            assert code == 404003, "what differs from a run that the key may not read would tell of it"


def test_tools_tell_a_limited_key_of_nothing_beyond_its_limits(scene: Scene, chain_server: ServerProcess) -> None:
    own = {"workflowIds": [scene.world.draft()], "walletIds": [scene.world.wallet()]}
    caller = Caller(chain_server.base, scene.key(["admin"], **own))
    for tool, arguments in scene.calls():
        of_own = {"workflowId": own["workflowIds"][0]} if tool == "save_workflow" and "name" not in arguments else {}
        sent = {**arguments, **of_own}
        text = caller.call(tool, sent)[1]
        told = [one for one in scene.texts | scene.ids if one in text and one not in json.dumps(sent)]
        assert told == [], (tool, sent, text)
