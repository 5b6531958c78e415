"""What the fuzzer needs to exist: workflows in each status, runs in each, conversations, keys. Made through the API."""

from __future__ import annotations

import contextlib
import itertools
import secrets
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import requests

from dustrun.operations.declaration.operation import Operation
from testkit import declared, plain_mcp
from testkit.authenticator import Authenticator
from testkit.chain.anvil import ACCOUNTS
from testkit.identity_provider import IdentityProvider

_TRIGGER = "root"

Adapt = Callable[["World", Any], None]

_SAY: dict[str, Any] = {"type": "log", "payload": {"message": "hello"}}
_ROOT: dict[str, Any] = {"type": "manual", "payload": {}, "children": ["n"]}
_SETTLED = ("success", "failure", "partial", "cancelled")


_PAST = {"from": "2026-01-01T00:00:00Z", "to": "2026-01-03T00:00:00Z"}


def definition(node: dict[str, Any] | None = None) -> dict[str, Any]:
    """A trigger and one node, a line in the log without another one."""
    return {"nodes": {"root": _ROOT, "n": node or _SAY}, "triggerNodeIds": ["root"]}


_MOST_HOOKS = 8


class World:
    """Things of one organisation, made on demand; `key` is the key that makes them and must live."""

    def __init__(
        self, base: str, key: str, sink: str, node: Callable[..., Any], chain_id: int, store: Path | None = None
    ) -> None:
        self._store = store
        self.base = base
        self.key = key
        self.sink = sink
        self._node = node
        self._chain_id = chain_id
        self._sender: dict[str, Any] | None = None
        self._session = requests.Session()
        self._session.headers["Authorization"] = f"Bearer {key}"
        self._numbers = itertools.count(1)
        self._has_default_wallet = False
        self._invited = 0
        self.key_id = self._own_key_id()
        self.provider: IdentityProvider | None = None

    @property
    def can_write_store(self) -> bool:
        """Whether it can put rows into the store that no request makes."""
        return self._store is not None

    def close(self) -> None:
        """Closes the connections."""
        self._session.close()

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """A call that must succeed; its `data`."""
        answer = self._session.request(method, self.base + path, json=body, timeout=30)
        if answer.status_code != 200:
            raise RuntimeError(f"{method} {path} was answered {answer.status_code}: {answer.text}")
        return answer.json()["data"]

    def made(self, operation: Operation) -> str:
        """The id of what an operation makes of its documented body."""
        return str(self.call(operation.method, operation.path, declared.body_of(operation))["id"])

    def _own_key_id(self) -> str:
        keys = self.call("GET", "/v1/api-keys?limit=100")["items"]
        return str(keys[-1]["id"])

    # --- workflows ---

    def draft(self, node: dict[str, Any] | None = None, **fields: Any) -> str:
        """A workflow that was never published."""
        body = {"name": "fuzzed", "description": "", "definition": definition(node), **fields}
        return str(self.call("POST", "/v1/workflows", body)["id"])

    def live(self, **fields: Any) -> str:
        """A published workflow without a draft."""
        workflow_id = self.draft(**fields)
        self.call("POST", f"/v1/workflows/{workflow_id}/publish", {})
        return workflow_id

    def live_with_draft(self) -> str:
        """A published workflow with a newer draft: versions 1 and 2."""
        workflow_id = self.live()
        changed = definition({"type": "log", "payload": {"message": "changed"}})
        self.call("PUT", f"/v1/workflows/{workflow_id}", {"definition": changed})
        return workflow_id

    def accepted(self) -> str:
        """A draft that is accepted."""
        workflow_id = self.written_by_another()
        self.call("POST", f"/v1/workflows/{workflow_id}/versions/1/accept")
        return workflow_id

    def written_by_another(self) -> str:
        """A draft whose author is another key, since authors do not accept their own versions."""
        permissions = ["workflow:read", "workflow:create"]
        key = self.call("POST", "/v1/api-keys", {"name": "author", "permissions": permissions})["key"]
        body: dict[str, Any] = {"name": "of another", "description": "", "definition": definition(self.spending())}
        headers = {"Authorization": f"Bearer {key}"}
        answer = requests.post(f"{self.base}/v1/workflows", json=body, headers=headers, timeout=30)
        return str(answer.json()["data"]["id"])

    def seen_on_chain(self) -> str:
        """A workflow whose trigger has seen a block."""
        watch = {"chainId": self._chain_id, "every": 1, "confirmations": 0}
        root = {"type": "evm-block", "payload": watch, "children": ["n"]}
        body = {"name": "blocks", "description": "", "definition": {"nodes": {"root": root, "n": _SAY}}}
        workflow_id = str(self.call("POST", "/v1/workflows", body)["id"])
        self.call("POST", f"/v1/workflows/{workflow_id}/publish", {})
        for _ in range(500):
            self._node("evm_mine")
            if self.call("GET", f"/v1/workflows/{workflow_id}/trigger-events")["items"]:
                self.call("POST", f"/v1/workflows/{workflow_id}/pause", {})
                return workflow_id
            time.sleep(0.05)
        raise RuntimeError("no block was seen")

    def ticking(self) -> str:
        """A workflow that a schedule would fire."""
        tick = {"type": "cronjob", "payload": {"schedule": "@daily"}, "children": ["n"]}
        nodes = {"nodes": {"tick": tick, "n": _SAY}, "triggerNodeIds": ["tick"]}
        body = {"name": "ticking", "description": "", "definition": nodes}
        return str(self.call("POST", "/v1/workflows", body)["id"])

    def backtest(self) -> str:
        """A back-test that has ended."""
        return str(self.call("POST", f"/v1/workflows/{self.ticking()}/backtest", dict(_PAST))["id"])

    def sign_in_token(self) -> str:
        """The token of a link that signs in."""
        return str(self.call("POST", "/v1/session/links")["url"]).partition("#signin=")[2]

    def paused(self) -> str:
        """A paused workflow."""
        workflow_id = self.live()
        self.call("POST", f"/v1/workflows/{workflow_id}/pause", {})
        return workflow_id

    def webhook(self) -> tuple[str, str]:
        """A published workflow with the webhook `root`, whose sender waits for the result; and its address."""
        root = {"type": "webhook", "payload": {"respond": "result"}, "children": ["n"]}
        nodes = {"nodes": {"root": root, "n": _SAY}, "triggerNodeIds": ["root"]}
        body = {"name": "fuzzed", "description": "", "definition": nodes}
        workflow_id = str(self.call("POST", "/v1/workflows", body)["id"])
        self.call("POST", f"/v1/workflows/{workflow_id}/publish", {})
        made = self.call("POST", f"/v1/workflows/{workflow_id}/webhooks/{_TRIGGER}/rotate", {})
        return workflow_id, str(made["url"]).rsplit("/", 1)[1]

    def form(self) -> tuple[str, str, str]:
        """A published workflow that asks for a number, the id of a link to its form, and the link's secret."""
        root = {**_ROOT, "payload": {"inputSchema": {"type": "object", "properties": {"n": {"type": "integer"}}}}}
        nodes = {"nodes": {"root": root, "n": _SAY}, "triggerNodeIds": ["root"]}
        body = {"name": "fuzzed", "description": "", "definition": nodes}
        workflow_id = str(self.call("POST", "/v1/workflows", body)["id"])
        self.call("POST", f"/v1/workflows/{workflow_id}/publish", {})
        made = self.call("POST", f"/v1/workflows/{workflow_id}/forms", {"maxRuns": 100_000})
        return workflow_id, str(made["id"]), str(made["url"]).rsplit("/", 1)[1]

    def submission(self) -> tuple[str, str]:
        """The secret of a form, and the id of a submission."""
        secret = self.form()[2]
        return secret, str(self.call("POST", f"/v1/forms/{secret}", {"values": {}})["submissionId"])

    def archived(self) -> str:
        """An archived workflow."""
        workflow_id = self.draft()
        self.call("DELETE", f"/v1/workflows/{workflow_id}")
        return workflow_id

    def exported(self) -> str:
        """The file of a workflow."""
        return str(self.call("GET", f"/v1/workflows/{self.draft()}/export")["content"])

    # --- runs ---

    def run(self, node: dict[str, Any] | None = None, workflow_id: str | None = None) -> str:
        """A run that was just started."""
        workflow_id = workflow_id or self.draft(node)
        return str(self.call("POST", f"/v1/workflows/{workflow_id}/run", {})["runId"])

    def finished(self, workflow_id: str | None = None) -> str:
        """A run that succeeded."""
        return self.wait(self.run(workflow_id=workflow_id), *_SETTLED)

    def failed(self) -> str:
        """A run that failed."""
        return self.wait(self.run({"type": "stop", "payload": {"status": "failure"}}), *_SETTLED)

    def waiting(self) -> str:
        """A run that waits for an hour."""
        return self.wait(self.run({"type": "delay", "payload": {"delayMs": 3_600_000}}), "waiting")

    def uncertain(self) -> str:
        """A run that waits for a word about its node `n`."""
        url = f"{self.sink}/drop/fuzz/{next(self._numbers)}"
        return self.wait(self.run({"type": "http-request", "payload": {"method": "POST", "url": url}}), "waiting")

    def awaiting(self) -> str:
        """A run whose node `n` waits to be resumed."""
        return self.wait(self.run({"type": "wait", "payload": {"timeoutMs": 600_000}}), "waiting")

    def approval(self) -> str:
        """An approval that is not decided."""
        run_id = self.wait(
            self.run({"type": "approve", "payload": {"message": "Go on?", "allowStarter": True}}), "waiting"
        )
        pending = self.call("GET", "/v1/approvals?limit=100")["items"]
        return str(next(item["id"] for item in pending if item["runId"] == run_id))

    def watching(self) -> tuple[str, str]:
        """A workflow whose trigger only watches, and the id of an event that it saw."""
        first = self.draft()
        root = {"type": "workflow-finished", "payload": {"workflowIds": [first], "mode": "simulate"}, "children": ["n"]}
        body = {"name": "fuzzed", "description": "", "definition": {"nodes": {"root": root, "n": _SAY}}}
        workflow_id = str(self.call("POST", "/v1/workflows", body)["id"])
        self.call("POST", f"/v1/workflows/{workflow_id}/publish", {})
        self.finished(first)
        for _ in range(500):
            found = self.call("GET", f"/v1/workflows/{workflow_id}/trigger-events")["items"]
            if found:
                return workflow_id, str(found[0]["id"])
            time.sleep(0.02)
        raise RuntimeError("the end of the run was not seen")

    def gap(self) -> tuple[str, str] | None:
        """A workflow and a gap of its trigger, put into the store; None if that is not at hand."""
        if self._store is None:
            return None
        (workflow_id, _), gap_id = self.watching(), f"gap_{next(self._numbers)}"
        with contextlib.closing(sqlite3.connect(self._store, timeout=30)) as store, store:
            store.execute(
                "INSERT INTO trigger_gaps (id, org_id, workflow_id, subscription_pk, range, reason, state, created_at)"
                " SELECT ?, org_id, workflow_id, pk, '{}', 'more than allowed', 'open', 0 FROM subscriptions"
                " WHERE workflow_id = ?",
                (gap_id, workflow_id),
            )
        return workflow_id, gap_id

    def counting(self) -> str:
        """A workflow with a variable `n` that its one node has written."""
        workflow_id = self.draft({"type": "set-variable", "payload": {"name": "n", "value": 1}})
        self.call("PUT", f"/v1/workflows/{workflow_id}/variables/n", {"type": "number", "default": 0})
        self.finished(workflow_id)
        return workflow_id

    def wait(self, run_id: str, *statuses: str) -> str:
        """Waits until a run has come to one of these statuses; its id."""
        for _ in range(500):
            if self.call("GET", f"/v1/runs/{run_id}?summary=true")["status"] in statuses:
                return run_id
            time.sleep(0.01)
        raise RuntimeError(f"{run_id} did not come to {statuses}")

    # --- the rest ---

    def connector_type(self) -> str:
        """A connector type of the catalogue, or one that it could have."""
        found = self.call("GET", "/v1/connector-types")
        return str(found[0]["type"]) if found else "wallet"

    def hook(self) -> str:
        """An active hook, whose receiver does not take what it gets; there is always room for some more."""
        for old in self.call("GET", "/v1/hooks?limit=100")["items"][_MOST_HOOKS:]:
            self.call("DELETE", f"/v1/hooks/{old['id']}")
        body = {"name": "fuzzed", "url": f"{self.sink}/nothing", "subscribedEventTypes": ["*"]}
        return str(self.call("POST", "/v1/hooks", body)["id"])

    def delivery(self) -> str:
        """A delivery that has not arrived."""
        return str(self.call("POST", f"/v1/hooks/{self.hook()}/test")["id"])

    def connector(self) -> str:
        """A stored connector."""
        return str(self.call("POST", "/v1/connectors", CONNECTOR)["id"])

    def document(self) -> dict[str, Any]:
        """An OpenAPI document to import, under a name of its own."""
        document = {
            "openapi": "3.0.3",
            "info": {"title": "Fuzzed"},
            "servers": [{"url": self.sink}],
            "paths": {"/a": {"post": {"operationId": "a"}}},
        }
        return {"name": f"fuzzed-{next(self._numbers)}", "document": document}

    def imported(self) -> str:
        """An imported document of its own, which a request for one of its operations finds too."""
        return str(self.call("POST", "/v1/catalog/imports", self.document())["id"])

    def imported_type(self) -> str:
        """The type of an imported operation."""
        return f"{self.call('GET', f'/v1/catalog/imports/{self.imported()}')['name']}.a"

    def consented(self) -> str:
        """A connector that a person consents to."""
        return str(self.call("POST", "/v1/connectors", declared.CONSENTED)["id"])

    def mcp(self) -> str:
        """A connector to an MCP server."""
        return str(self.call("POST", "/v1/connectors", plain_mcp.connector(f"{self.sink}/_mcp"))["id"])

    def model(self) -> str:
        """A connector to a model server that is not there."""
        prices = {"*": {"inputUsd": "1", "outputUsd": "1"}}
        data = {"model": "small", "prices": prices, "baseUrl": "http://127.0.0.1:1/v1"}
        body = {"type": "llm-openai", "name": "fuzzed", "data": data, "allowedHosts": ["http://127.0.0.1:1"]}
        return str(self.call("POST", "/v1/connectors", body)["id"])

    def table(self) -> str:
        """A table with one row `a`."""
        columns = [{"name": "id", "type": "text"}, {"name": "n", "type": "integer"}]
        name = f"fuzzed-{next(self._numbers)}"
        table_id = str(self.call("POST", "/v1/tables", {"name": name, "columns": columns})["id"])
        self.call("POST", f"/v1/tables/{table_id}/rows", {"rows": [{"id": "a", "n": 1}]})
        return table_id

    def new_table(self) -> dict[str, Any]:
        """The body of a table whose name is free."""
        return {"name": f"fuzzed-{next(self._numbers)}", "columns": [{"name": "id", "type": "text"}]}

    def conversation(self) -> str:
        """A conversation."""
        return str(self.call("POST", "/v1/conversations", {"title": "fuzzed"})["id"])

    def message(self, conversation_id: str) -> str:
        """A message of a conversation."""
        body = {"role": "assistant", "content": "hello"}
        return str(self.call("POST", f"/v1/conversations/{conversation_id}/messages", body)["id"])

    def turn(self, conversation_id: str) -> str:
        """The message of a turn whose model is not there."""
        body = {"text": "hello", "connectorId": self.model()}
        return str(self.call("POST", f"/v1/conversations/{conversation_id}/turns", body)["messageId"])

    def part(self, message_id: str) -> None:
        """A part of a message, as a turn whose model answers stores it."""
        if self._store is None:
            raise RuntimeError("only a store of ours can be written")
        row = (message_id, 1, "text", '{"type":"text","text":"hello"}')
        with contextlib.closing(sqlite3.connect(self._store, timeout=30)) as store, store:
            store.execute("INSERT INTO message_parts (message_id, seq, kind, body) VALUES (?, ?, ?, ?)", row)

    def spare_key(self) -> str:
        """A key that may be revoked."""
        return str(self.call("POST", "/v1/api-keys", {"name": "spare", "permissions": ["run:read"]})["id"])

    def invitation(self) -> dict[str, Any]:
        """An invitation of somebody whom nobody has invited."""
        self._invited += 1
        return {"name": "fuzzed", "email": f"fuzzed-{self._invited}@example.com", "permissions": ["run:read"]}

    def person(self) -> str:
        """A person who may be deactivated."""
        return str(self.call("POST", "/v1/people", self.invitation())["id"])

    def new_role(self) -> dict[str, Any]:
        """A role that there is not."""
        self._invited += 1
        return {"name": f"fuzzed-{self._invited}", "permissions": ["run:read"]}

    def role(self) -> str:
        """A role that nobody has, and no other of ours."""
        for one in self.call("GET", "/v1/roles?limit=100")["items"]:
            if not one["builtIn"]:
                self.call("DELETE", f"/v1/roles/{one['name']}")
        return str(self.call("POST", "/v1/roles", self.new_role())["name"])

    def new_account(self) -> dict[str, Any]:
        """A service account that there is not."""
        self._invited += 1
        return {"name": f"fuzzed-{self._invited}", "permissions": ["run:read"]}

    def account(self) -> str:
        """A service account that may be deleted."""
        return str(self.call("POST", "/v1/service-accounts", self.new_account())["id"])

    def account_key(self) -> str:
        """A key of a service account."""
        body = {"name": "fuzzed", "serviceAccountId": self.account()}
        return str(self.call("POST", "/v1/api-keys", body)["id"])

    def keyed_person(self) -> tuple[str, str]:
        """A person, and a key of theirs."""
        person = self.person()
        made = self.call("POST", "/v1/api-keys", {"name": "theirs", "permissions": ["run:read"]})
        self.call("PATCH", f"/v1/people/{person}", {"keyIds": [made["id"]]})
        return person, str(made["key"])

    def asked_as(self, key: str | None, path: str, body: Any = None) -> Any:
        """What somebody else is answered."""
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        answer = requests.post(f"{self.base}{path}", json=body, headers=headers, timeout=30)
        answer.raise_for_status()
        return answer.json()["data"]

    def made_passkey(self, key: str) -> dict[str, Any]:
        """What a browser has made for the person of a key."""
        self.device = Authenticator(self.base)
        return self.device.create(self.asked_as(key, "/v1/passkeys/begin")["publicKey"])

    def passkey(self) -> tuple[str, str]:
        """A passkey, and a key of its person."""
        _, key = self.keyed_person()
        body = {"name": "fuzzed", "credential": self.made_passkey(key)}
        return str(self.asked_as(key, "/v1/passkeys", body)["id"]), key

    def used_passkey(self) -> dict[str, Any]:
        """What an authenticator has answered for a person."""
        self.passkey()
        return self.device.get(self.asked_as(None, "/v1/session/passkey")["publicKey"])

    def session(self) -> str:
        """A session of the key that asks."""
        self._enter(self.sign_in_token())
        return str(self.call("GET", "/v1/sessions")["items"][0]["id"])

    def session_of_person(self) -> tuple[str, str]:
        """A person, and a session of theirs."""
        made = self.call("POST", "/v1/people", self.invitation())
        self._enter(str(made["url"]).partition("#signin=")[2])
        (session,) = self.call("GET", f"/v1/people/{made['id']}/sessions")["items"]
        return str(made["id"]), str(session["id"])

    def answer_of_provider(self) -> tuple[dict[str, str], str]:
        """What the provider sends a browser back with, and the cookie of that browser."""
        assert self.provider is not None
        begun = requests.post(f"{self.base}/v1/session/provider", timeout=30)
        begun.raise_for_status()
        cookie = "; ".join(f"{name}={value}" for name, value in begun.cookies.items())
        return self.provider.sign_in(begun.json()["data"]["url"], "ada"), cookie

    def _enter(self, token: str) -> None:
        self.call("POST", "/v1/session/redeem", {"token": token})
        self._session.cookies.clear()

    def wallet(self) -> str:
        """A wallet that is not the default one."""
        if not self._has_default_wallet:
            self.call("POST", "/v1/wallets", {"name": "default", "isDefault": True})
            self._has_default_wallet = True
        return str(self.call("POST", "/v1/wallets", {"name": "fuzzed"})["id"])

    def template(self) -> str:
        return str(self.call("POST", "/v1/templates", {"sourceWorkflowId": self.draft(), "name": "fuzzed"})["id"])

    def sender(self) -> dict[str, Any]:
        """A wallet with coins that may do anything."""
        if self._sender is None:
            self._sender = self.call("GET", f"/v1/wallets/{self.wallet()}")
            policy = {"chains": ["*"], "assets": ["*"], "recipients": ["*"], "signatures": {"messages": True}}
            self.call("PUT", f"/v1/wallets/{self._sender['id']}/policy", {"policy": policy})
            self._node("anvil_setBalance", self._sender["address"], hex(10**21))
        return self._sender

    def transaction(self) -> str:
        """A pending transaction; no block is mined."""
        run_id = self.run(self.spending())
        for _ in range(500):
            found = self.call("GET", f"/v1/transactions?runId={run_id}&status=sent")["items"]
            if found:
                return str(found[0]["id"])
            time.sleep(0.02)
        raise RuntimeError(f"the transaction of {run_id} was not sent: {self.call('GET', f'/v1/runs/{run_id}')}")

    def sent_hash(self) -> str:
        """The hash of a transaction that was sent."""
        return str(self.call("GET", f"/v1/transactions/{self.transaction()}")["hash"])

    def spending(self) -> dict[str, Any]:
        """A node that sends coins of that wallet."""
        payload = {"chainId": self._chain_id, "recipient": "0x" + "00" * 19 + "aa", "amount": "1"}
        return {"type": "send-native", "connector": {"type": "wallet", "id": self.sender()["id"]}, "payload": payload}

    def signature(self) -> str:
        """A signature of that wallet."""
        connector = {"type": "wallet", "id": self.sender()["id"]}
        node = {"type": "sign-message", "connector": connector, "payload": {"message": "hello"}}
        run_id = self.wait(self.run(node), *_SETTLED)
        return str(self.call("GET", f"/v1/signatures?runId={run_id}")["items"][0]["id"])

    def organization(self) -> str:
        """The organisation of the key."""
        return str(self.call("GET", "/v1/organizations")["items"][0]["id"])


# --- how each operation is made to succeed ---


def _path(case: Any, **values: Any) -> None:
    case.path_parameters = {**(case.path_parameters or {}), **values}


def _id_of(make: Callable[[World], str]) -> Adapt:
    return lambda world, case: _path(case, id=make(world))


def _id_and_body(make: Callable[[World], str], body: Any) -> Adapt:
    def adapt(world: World, case: Any) -> None:
        _path(case, id=make(world))
        _body(case, body)

    return adapt


def _body(case: Any, body: Any) -> None:
    """Sets a whole body that the operation takes."""
    case.body = body
    case.media_type = "application/json"


_ROUTER = "0x7a250d5630B4cF539739dF2C5dAcb4c659F2488D"


def _put_contract(world: World, case: Any) -> None:
    _path(case, chainId="1", address=_ROUTER)
    _body(case, {"name": "Router"})


def _delete_contract(world: World, case: Any) -> None:
    world.call("PUT", f"/v1/contracts/1/{_ROUTER}", {"name": "Router"})
    _path(case, chainId="1", address=_ROUTER)


def _no_query(adapt: Adapt) -> Adapt:
    """Without query and headers of chance: a stray `since` or token says no."""

    def adapted(world: World, case: Any) -> None:
        case.query = {}
        case.headers = {}
        adapt(world, case)

    return adapted


def _new_hook(world: World, case: Any) -> None:
    world.hook()  # makes room
    _body(case, {"name": "fuzzed", "url": f"{world.sink}/nothing"})


def _renewal(world: World, case: Any) -> None:
    _path(case, id=world.imported())
    _body(case, {"document": world.document()["document"]})


def _version(world: World, case: Any) -> None:
    _path(case, id=world.live_with_draft(), number=1)


def _diff(world: World, case: Any) -> None:
    _version(world, case)
    case.query = {"against": 2}


def _compare(world: World, case: Any) -> None:
    workflow_id = world.draft()
    _path(case, id=world.finished(workflow_id), otherId=world.finished(workflow_id))


def _messages(world: World, case: Any) -> None:
    conversation_id = world.conversation()
    _path(case, id=conversation_id, messageId=world.message(conversation_id))


def _new_message(world: World, case: Any) -> None:
    _messages(world, case)
    _body(case, {"role": "user", "content": "hello"})


def _turn(world: World, case: Any) -> None:
    _path(case, id=world.conversation())
    _body(case, {"text": "hello", "connectorId": world.model()})


def _stopped_turn(world: World, case: Any) -> None:
    conversation_id = world.conversation()
    _path(case, id=conversation_id, messageId=world.turn(conversation_id))


def _resolve(world: World, case: Any) -> None:
    _path(case, id=world.uncertain(), nodeId="n")
    _body(case, {"outcome": "happened", "result": {"status": 200}})


def _resume(world: World, case: Any) -> None:
    _path(case, id=world.awaiting(), nodeId="n")
    _body(case, {"data": {"ok": True}})


def _gap(world: World, case: Any) -> None:
    found = world.gap()
    if found is not None:
        _path(case, id=found[0], gapId=found[1])


def _variable(body: Any = None) -> Adapt:
    def adapt(world: World, case: Any) -> None:
        _path(case, id=world.counting(), name="n")
        if body is not None:
            _body(case, body)

    return adapt


def _webhook(world: World, case: Any) -> None:
    _path(case, id=world.webhook()[0], nodeId="root")
    if case.method.upper() == "POST":
        _body(case, {})


def _inbound(world: World, case: Any) -> None:
    _path(case, secret=world.webhook()[1])
    _body(case, {"n": 1})


def _form(world: World, case: Any) -> None:
    workflow_id, form_id, _ = world.form()
    _path(case, id=workflow_id, formId=form_id)


def _submit(world: World, case: Any) -> None:
    _path(case, secret=world.form()[2])
    _body(case, {"values": {"n": 1}})


def _submission(world: World, case: Any) -> None:
    secret, submission_id = world.submission()
    _path(case, secret=secret, submissionId=submission_id)


def _import(_world: World, case: Any) -> None:
    _body(case, {"name": "fuzzed", "privateKey": secrets.token_hex(32)})


def _row(world: World, case: Any) -> None:
    _path(case, id=world.table(), key="a")


def _rollback(world: World, case: Any) -> None:
    _path(case, id=world.live_with_draft())
    _body(case, {"targetVersion": 1})


def _streams(world: World, case: Any) -> None:
    case.query = {"ids": [world.draft()]}


def _whole_workflow(_world: World, case: Any) -> None:
    _body(case, {"name": "fuzzed", "description": "", "definition": definition()})


def _sign_in(world: World, case: Any) -> None:
    _body(case, {"key": world.key})


def _redeem(world: World, case: Any) -> None:
    _body(case, {"token": world.sign_in_token()})


def _finish_sign_in(world: World, case: Any) -> None:
    body, cookie = world.answer_of_provider()
    _body(case, body)
    case.headers = {"Cookie": cookie}


def _by(case: Any, key: str) -> None:
    case.headers = {"Authorization": f"Bearer {key}"}


def _begin_passkey(world: World, case: Any) -> None:
    _by(case, world.keyed_person()[1])


def _add_passkey(world: World, case: Any) -> None:
    _, key = world.keyed_person()
    _body(case, {"name": "fuzzed", "credential": world.made_passkey(key)})
    _by(case, key)


def _own_passkey(world: World, case: Any) -> None:
    passkey, key = world.passkey()
    _path(case, id=passkey)
    _by(case, key)


def _rename_passkey(world: World, case: Any) -> None:
    _own_passkey(world, case)
    _body(case, {"name": "renamed"})


def _new_role(world: World, case: Any) -> None:
    world.role()  # an organisation has so many at most
    _body(case, world.new_role())


def _session_of_person(world: World, case: Any) -> None:
    person, session = world.session_of_person()
    _path(case, id=person, session=session)


def _test_trigger(_world: World, case: Any) -> None:
    _path(case, type="cronjob")
    _body(case, {"config": {"schedule": "@daily"}})


def _action(_world: World, case: Any) -> None:
    _path(case, type="log")
    _body(case, {"inputs": {"message": "fuzzed"}})


def _nothing(_world: World, _case: Any) -> None:
    pass


def _since(_: World, case: Any) -> None:
    case.query = {"since": "2026-01-31T12:00:00.000Z"}


def _span(_: World, case: Any) -> None:
    case.query = {"since": "2026-01-01T00:00:00.000Z", "until": "2027-01-01T00:00:00.000Z"}


def _only_body(body: Any) -> Adapt:
    return lambda _world, case: _body(case, body)


CONNECTOR: dict[str, Any] = {
    "type": "http-bearer",
    "name": "fuzzed",
    "data": {"token": "fuzzed-token", "testUrl": "https://api.example.com/"},
    "allowedHosts": ["api.example.com"],
}

HELP: dict[str, Adapt] = {
    "search_everything": lambda _, case: setattr(case, "query", {"q": "fuzzed"}),
    "search_similar": lambda world, case: _path(case, type="workflow", id=world.draft()),
    "get_action": lambda _, case: _path(case, type="log"),
    "run_action": _action,
    "test_action": _action,
    "get_trigger": lambda _, case: _path(case, type="manual"),
    "get_workflow_template": _id_of(lambda _: "price-alert"),
    "use_workflow_template": _id_and_body(lambda _: "price-alert", {"keepExamples": True}),
    "create_template": lambda world, case: _body(case, {"sourceWorkflowId": world.draft(), "name": "fuzzed"}),
    "update_template": _id_and_body(World.template, {"name": "renamed"}),
    "delete_template": _id_of(World.template),
    "rollback_template": _id_and_body(World.template, {"targetVersion": 1}),
    "list_template_versions": _id_of(World.template),
    "count_template_versions": _id_of(World.template),
    "get_template_version": lambda world, case: _path(case, id=world.template(), number=1),
    "get_template_stats": _id_of(World.template),
    "find_template_of_workflow": lambda world, case: _path(case, id=world.draft()),
    "test_trigger": _test_trigger,
    "start_backtest": _id_and_body(World.ticking, _PAST),
    "list_backtests": _id_of(World.ticking),
    "get_backtest": _id_of(World.backtest),
    "start_session": _sign_in,
    "redeem_sign_in_link": _redeem,
    "finish_sign_in": _finish_sign_in,
    "finish_passkey_sign_in": lambda world, case: _body(case, {"credential": world.used_passkey()}),
    "begin_passkey": _begin_passkey,
    "add_passkey": _add_passkey,
    "rename_passkey": _rename_passkey,
    "remove_passkey": _own_passkey,
    "remove_person_passkeys": _id_of(World.person),
    "get_schedule": _id_of(World.draft),
    "get_connector_type": lambda world, case: _path(case, type=world.connector_type()),
    "create_hook": _new_hook,
    "get_hook": _id_of(World.hook),
    "update_hook": _id_and_body(World.hook, {"name": "renamed"}),
    "delete_hook": _id_of(World.hook),
    "enable_hook": _id_of(World.hook),
    "disable_hook": _id_of(World.hook),
    "rotate_hook_secret": _id_of(World.hook),
    "try_hook": _id_of(World.hook),
    "get_hook_delivery": _id_of(World.delivery),
    "retry_hook_delivery": _id_of(World.delivery),
    "replay_hook_delivery": _id_of(World.delivery),
    "import_document": lambda world, case: _body(case, world.document()),
    "get_import": _id_of(World.imported),
    "renew_import": _renewal,
    "delete_import": _id_of(World.imported),
    "get_operation_type": lambda world, case: _path(case, type=world.imported_type()),
    "get_service": lambda _, case: _path(case, name="github"),
    "update_connector": _id_and_body(World.connector, {"name": "renamed"}),
    "begin_consent": _id_of(World.consented),
    "list_connector_tools": _id_of(World.mcp),
    "read_connector_tools": _id_and_body(World.mcp, {}),
    "try_connector": _id_and_body(World.connector, {"url": "https://elsewhere.example.com/"}),
    "create_message": _new_message,
    "create_turn": _turn,
    "stop_turn": _stopped_turn,
    "stream_conversation": _no_query(_id_of(World.conversation)),
    "list_messages": _messages,
    "get_message": _messages,
    "create_key": _only_body({"name": "fuzzed", "permissions": ["run:read"]}),
    "get_key": _id_of(World.spare_key),
    "revoke_key": _id_of(World.spare_key),
    "rotate_key": _id_and_body(World.account_key, {"graceS": 60}),
    "invite_person": lambda world, case: _body(case, world.invitation()),
    "get_person": _id_of(World.person),
    "update_person": _id_and_body(World.person, {"name": "renamed"}),
    "make_person_link": _id_of(World.person),
    "list_person_sessions": _id_of(World.person),
    "end_person_sessions": _id_of(World.person),
    "create_role": _new_role,
    "delete_role": _id_of(World.role),
    "end_person_session": _session_of_person,
    "end_own_session": _id_of(World.session),
    "get_organization": _id_of(World.organization),
    "list_quotas": _id_of(World.organization),
    "update_organization": _id_and_body(World.organization, {"retentionDays": 90}),
    "run_inline": _only_body({"definition": definition()}),
    "run_inline_sync": _only_body({"definition": definition()}),
    "list_workflow_runs": _id_of(World.draft),
    "count_workflow_runs": _id_of(World.draft),
    "get_run": _id_of(World.finished),
    "get_run_effects": _id_of(World.uncertain),
    "compare_runs": _compare,
    "cancel_run": _id_of(World.waiting),
    "retry_run": _id_of(World.failed),
    "resolve_node": _resolve,
    "resume_node": _resume,
    "get_approval": _id_of(World.approval),
    "get_approval_spends": _id_of(World.approval),
    "get_overview": _since,
    "get_runs_timeseries": _span,
    "list_top_errors": _span,
    "get_payee": lambda _, case: _path(case, address=ACCOUNTS[3]),
    "approve_approval": _id_and_body(World.approval, {"comment": "yes"}),
    "reject_approval": _id_and_body(World.approval, {"comment": "no"}),
    "get_trigger_event": _id_of(lambda world: world.watching()[1]),
    "replay_trigger_events": lambda world, case: _body(case, {"workflowId": world.watching()[0]}),
    "replay_trigger_event": _id_and_body(lambda world: world.watching()[1], {"ignoreLimits": True}),
    "make_triggers_live": _id_and_body(lambda world: world.watching()[0], {}),
    "replay_trigger_gap": _gap,
    "list_variables": _id_of(World.counting),
    "declare_variable": _variable({"type": "number", "default": 5}),
    "delete_variable": _variable(),
    "set_variable": _variable({"value": 7}),
    "reset_variable": _variable({}),
    "list_variable_history": _variable(),
    "list_variable_writes": lambda world, case: _path(case, id=world.finished(world.counting())),
    "list_rows": _id_of(World.table),
    "add_rows": _id_and_body(World.table, {"rows": [{"id": "b", "n": 2}]}),
    "change_rows": _id_and_body(World.table, {"where": {"id": "a"}, "values": {"n": 3}}),
    "delete_rows": _id_and_body(World.table, {"where": {"n": 1}}),
    "get_row": _row,
    "delete_row": _row,
    "get_chain": lambda _, case: _path(case, chainId=1),
    "get_chain_status": lambda _, case: _path(case, chainId=31337),
    "create_wallet": _only_body({"name": "fuzzed"}),
    "import_wallet": _import,
    "get_wallet": _id_of(World.wallet),
    "update_wallet": _id_and_body(World.wallet, {"name": "renamed"}),
    "set_default_wallet": _id_of(World.wallet),
    "export_wallet": _id_and_body(World.wallet, {"password": "fuzzed fuzzed"}),
    "archive_wallet": _id_of(World.wallet),
    "get_wallet_policy": _id_of(World.wallet),
    "set_wallet_policy": _id_and_body(World.wallet, {"policy": {"chains": [1]}}),
    "list_wallet_policies": _id_of(World.wallet),
    "replay_wallet_policy": _id_and_body(World.wallet, {"only": "all"}),
    "try_payment": _id_and_body(World.wallet, {"asset": "eip155:1/native", "amount": "1", "recipient": ACCOUNTS[3]}),
    "get_wallet_balances": _id_of(World.wallet),
    "get_wallet_spending": _id_of(World.wallet),
    "list_bundled_contracts": lambda world, case: _path(case, chainId="1"),
    "put_contract": _put_contract,
    "delete_contract": _delete_contract,
    "get_wallet_allowances": _id_of(World.wallet),
    "revoke_wallet_allowances": _id_and_body(World.wallet, {"chainId": 1}),
    "get_transaction": _id_of(World.transaction),
    "speed_up_transaction": _id_and_body(World.transaction, {}),
    "cancel_transaction": _id_of(World.transaction),
    "release_spends": lambda world, case: _body(case, {"walletId": world.wallet(), "chainId": 1}),
    "attribute_transactions": lambda world, case: _body(case, {"txHashes": [world.sent_hash()]}),
    "get_signature": _id_of(World.signature),
    "apply_files": _only_body({"files": [{"path": "applied.yaml", "content": "nodes: {root: {type: manual}}"}]}),
    "import_workflow": lambda world, case: _body(case, {"content": world.exported()}),
    "create_stream_token": _only_body({"stream": "/v1/activity/stream"}),
    "list_versions": _id_of(World.live_with_draft),
    "count_versions": _id_of(World.live_with_draft),
    "list_incoming_links": _id_of(World.draft),
    "get_version": _version,
    "accept_version": lambda world, case: _path(case, id=world.written_by_another(), number=1),
    "withdraw_acceptance": lambda world, case: _path(case, id=world.accepted(), number=1),
    "diff_versions": _diff,
    "create_workflow": _whole_workflow,
    "analyze_definition_funds": lambda world, case: _body(case, {"definition": definition(world.spending())}),
    "plan_dust": _id_and_body(lambda world: world.draft(world.spending()), {"payload": {}}),
    "get_workflow": _id_of(World.draft),
    "update_workflow": _id_and_body(World.draft, {"name": "renamed"}),
    "archive_workflow": _id_of(World.draft),
    "get_draft": _id_of(World.draft),
    "discard_draft": _id_of(World.live_with_draft),
    "get_live": _id_of(World.live),
    "set_ui_metadata": _id_and_body(World.draft, {"uiMetadata": {"zoom": 1}}),
    "publish_workflow": _id_and_body(World.draft, {}),
    "pause_workflow": _id_and_body(World.live, {}),
    "resume_workflow": _id_and_body(World.paused, {}),
    "rollback_workflow": _rollback,
    "unarchive_workflow": _id_and_body(World.archived, {}),
    "refill_workflow": _id_and_body(lambda world: world.draft(maxRuns=5), {"remainRuns": 5}),
    "list_webhooks": lambda world, case: _path(case, id=world.webhook()[0]),
    "rotate_webhook": _webhook,
    "revoke_webhook": _webhook,
    "receive_webhook": _inbound,
    "evaluate_expression": lambda world, case: _body(
        case, {"template": "{{1 + 1}}", "runId": world.finished(world.draft())}
    ),
    "list_forms": lambda world, case: _path(case, id=world.form()[0]),
    "create_form": _id_and_body(lambda world: world.form()[0], {"maxRuns": 3}),
    "revoke_form": _form,
    "show_form": lambda world, case: _path(case, secret=world.form()[2]),
    "submit_form": _submit,
    "get_submission": _submission,
    "run_workflow": _id_and_body(World.draft, {}),
    "stream_run": _no_query(_id_of(World.finished)),
    "stream_workflow_runs": _no_query(_id_of(World.draft)),
    "stream_workflows": _no_query(_streams),
    "stream_activity": _no_query(_nothing),
}
"""Operation → how a case of it is changed so that it should be answered 2xx; only those whose declaration says too
little (`testkit/declared.py`)."""


_BY_PATH: dict[str, Adapt] = {
    "/v1/workflows/{id}": _id_of(World.live_with_draft),
    "/v1/runs/{id}": _id_of(World.finished),
}


def _help_for(operation_id: str, case: Any) -> Adapt | None:
    """Its own help, else an id of the kind that its path begins with, else what its declaration says."""
    by_path = next((adapt for path, adapt in _BY_PATH.items() if case.operation.path.startswith(path)), None)
    return HELP.get(operation_id, by_path or _declared(operation_id))


def _declared(operation_id: str) -> Adapt | None:
    """A thing that its noun's documented body makes, and its own documented body."""
    operation = declared.operations().get(operation_id)
    if operation is None or not declared.is_enough(operation):
        return None
    maker, body = declared.maker_of(operation.path), declared.body_of(operation)
    if maker is None and body is None:
        return None

    def adapt(world: World, case: Any) -> None:
        if maker is not None:
            _path(case, id=world.made(maker))
        if body is not None:
            _body(case, declared.body_of(operation))

    return adapt


def succeed(world: World, operation_id: str, case: Any) -> None:
    """Changes a case so that it should succeed; without help, a clean query must do."""
    adapt = _help_for(operation_id, case)
    if adapt is None:
        case.query = {}
        return
    case.query = {}
    case.headers = {}
    adapt(world, case)


def place(world: World, operation_id: str, case: Any) -> None:
    """Puts ids that exist into the path and leaves the rest as it was generated."""
    adapt = _help_for(operation_id, case)
    if adapt is None or not case.path_parameters:
        return
    body, query, headers, media_type = case.body, case.query, case.headers, case.media_type
    adapt(world, case)
    case.body, case.query, case.headers, case.media_type = body, query, headers, media_type
