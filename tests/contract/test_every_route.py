"""Every operation of the document, asked for things that exist, by keys that may and keys that may not.

`tests/api/test_auth.py` holds every route against every permission with ids of nothing; here the same request that is
answered 2xx for a key with the declared permission alone has just been refused to everybody else.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import requests
from bench.fuzz_world import World, succeed
from bench.server_process import ServerProcess
from bench.sink import SinkProcess

from anvil import Anvil
from dustrun.services.principal import PERMISSIONS

_ID = re.compile(r"\b(?:wf|run|conn|wal|key|msg|conv|org|tbl|tx|sig|apr)_[0-9a-z]{26}\b")
_LIMITED_KINDS = ("wf_", "run_", "wal_", "tx_", "sig_", "apr_")
"""What a key that is limited to other workflows and wallets must see nothing of."""
_LIMITED_PATHS = (
    *(f"/v1/{noun}/{{id}}" for noun in ("workflows", "runs", "wallets", "transactions", "signatures", "approvals")),
    "/v1/transactions/release",
)
"""What is named there is of a workflow or wallet."""
_FORBIDDEN = {
    "create_organization",
    "update_organization",
    "run_inline",
    "run_sync",
    "create_workflow",
    "import_workflow",
    "create_wallet",
    "import_wallet",
    "set_default_wallet",
}
"""What reaches beyond any limit."""
_READ_S = 0.3
_DOCUMENT = json.loads((Path(__file__).parents[2] / "docs/reference/openapi.json").read_text())
_OPERATIONS = {
    operation["operationId"]: (method.upper(), path)
    for path, operations in _DOCUMENT["paths"].items()
    for method, operation in operations.items()
}
_PERMISSION_OF = {
    operation["operationId"]: operation["x-permission"]
    for operations in _DOCUMENT["paths"].values()
    for operation in operations.values()
}
_MORE = {"workflow:execute": ["approval:decide"], "key:write": ["run:read"], "wallet:write": ["wallet:admin"]}
"""What some request needs besides the permission of its operation: a key gives only what it holds itself, and the
policy that is put loosens."""


@dataclass
class Asked:
    """A request, as `succeed` fills it in."""

    method: str
    path: str
    name: str
    path_parameters: dict[str, Any] = field(default_factory=dict)
    query: dict[str, Any] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    body: Any = None
    media_type: str | None = None

    @property
    def operation(self) -> Any:
        return SimpleNamespace(path=self.path)

    @property
    def named(self) -> set[str]:
        """The ids in the request itself."""
        return set(_ID.findall(f"{self.url} {self.query} {self.body}"))

    @property
    def url(self) -> str:
        return self.path.format(**self.path_parameters)


@dataclass
class Answered:
    status: int
    text: str

    @property
    def ids(self) -> set[str]:
        return set(_ID.findall(self.text))


class Everybody:
    """The keys that ask, and the world of the first organisation."""

    def __init__(self, server: ServerProcess, sink: SinkProcess, node: Anvil) -> None:
        self.world = World(server.base, server.owner_key, sink.base, node.rpc, node.chain_id)
        self._base = server.base
        self._session = requests.Session()
        self.stranger: str = self.world.call("POST", "/v1/organizations", {"name": "Other"})["ownerKey"]
        self._note_ids()
        own = {"workflowIds": [self.world.draft()], "walletIds": [self.world.wallet()]}
        self.own = {name for names in own.values() for name in names}
        self.limited = self.key(["admin"], **own)
        self.only = {name: self.key([name, *_MORE.get(name, [])]) for name in PERMISSIONS - {"admin"}}
        self.but = {name: self.key(sorted(PERMISSIONS - {name, "admin"})) for name in PERMISSIONS - {"admin"}}

    def _note_ids(self) -> None:
        """Every id that the world is told is one that no stranger may be told."""
        call = self.world.call
        self.world_ids: set[str] = set()

        def noting(method: str, path: str, body: Any = None) -> Any:
            data = call(method, path, body)
            self.world_ids |= set(_ID.findall(json.dumps(data)))
            return data

        self.world.call = noting  # type: ignore[method-assign]

    def request(self, name: str) -> Asked:
        """A request that should succeed, for things that were just made."""
        method, path = _OPERATIONS[name]
        asked = Asked(method, path, name)
        succeed(self.world, name, asked)
        return asked

    def key(self, permissions: list[str], **limits: Any) -> str:
        made = self.world.call("POST", "/v1/api-keys", {"name": "k", "permissions": permissions, **limits})
        return str(made["key"])

    def ask(self, asked: Asked, key: str | None) -> Answered:
        """The answer; of a stream what comes within a moment."""
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        options: dict[str, Any] = {} if asked.body is None else {"json": asked.body}
        timeout = (10, _READ_S) if asked.path.endswith("/stream") else 30
        with self._session.request(
            asked.method, self._base + asked.url, params=asked.query, headers=headers, stream=True, timeout=timeout,
            **options,
        ) as answer:  # fmt: skip
            text = b""
            try:
                for chunk in answer.iter_content(None):
                    text += chunk
            except requests.exceptions.RequestException:
                assert asked.path.endswith("/stream")
            return Answered(answer.status_code, text.decode())

    def close(self) -> None:
        self._session.close()
        self.world.close()


@pytest.fixture(scope="module")
def everybody(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Everybody]:
    sink = SinkProcess(1)
    with Anvil("--no-mining") as node:
        settings = {
            "outbound_allow": "127.0.0.1",
            "rate_limit_per_second": "0",
            "chain_endpoints": json.dumps({str(node.chain_id): [node.url]}),
        }
        server = ServerProcess(tmp_path_factory.mktemp("routes") / "data", settings)
        server.start()
        asyncio.run(server.wait_ready())
        found = Everybody(server, sink, node)
        yield found
        found.close()
        asyncio.run(server.stop())
        sink.stop()


@pytest.mark.parametrize("name", list(_PERMISSION_OF))
def test_a_request_is_for_those_who_may_alone(everybody: Everybody, name: str) -> None:
    permission = _PERMISSION_OF[name]
    if permission == "public":
        assert everybody.ask(everybody.request(name), None).status in (200, 204)
        return
    _check_limited(everybody, everybody.request(name))
    asked = everybody.request(name)
    assert everybody.ask(asked, None).status == 401
    if permission in everybody.but:
        assert everybody.ask(asked, everybody.but[permission]).status == 403
    _check_stranger(everybody, asked)
    if name == "import_wallet":  # the stranger has it now
        asked = everybody.request(name)
    answer = everybody.ask(asked, everybody.only.get(permission, everybody.world.key))
    assert answer.status in (200, 204), answer.text
    if name == "stream_run":
        assert "event: run_finished" in answer.text


def _check_stranger(everybody: Everybody, asked: Asked) -> None:
    """To another organisation's owner what is named in the path is not there, and no id of ours is told."""
    answer = everybody.ask(asked, everybody.stranger)
    if asked.name == "stream_run":
        assert (answer.status, "event: " in answer.text) == (200, False)
    else:
        assert (answer.status == 404) is ("{id}" in asked.path or asked.name == "release_spends"), answer.text
        assert answer.status == 404 or not answer.ids & everybody.world_ids - asked.named, answer.text


def _check_limited(everybody: Everybody, asked: Asked) -> None:
    """Nor to a key that is limited to another workflow and another wallet, which may do everything else."""
    answer = everybody.ask(asked, everybody.limited)
    if asked.name == "stream_run":
        assert (answer.status, "event: " in answer.text) == (200, False)
    elif asked.path.startswith(_LIMITED_PATHS):
        assert answer.status == 404 or asked.name in _FORBIDDEN, answer.text
    elif asked.name in _FORBIDDEN:
        assert answer.status == 403, answer.text
    else:
        assert answer.status == 200, answer.text
        seen = {found for found in answer.ids if found.startswith(_LIMITED_KINDS)}
        assert not seen & everybody.world_ids - everybody.own - asked.named, answer.text
