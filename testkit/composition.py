"""A whole API over a real store, without a socket: what the tests of `api` and `services` run against."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import httpx
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict
from starlette.types import ASGIApp

from dustrun.api import openapi
from dustrun.app import compose
from dustrun.engine.hosts.embedded import EmbeddedEngine
from dustrun.operations.declaration.parts import Parts
from dustrun.settings import Settings
from dustrun.storage.db.statement import Statement, Tx
from dustrun.trigger_host.host import TriggerHost
from testkit import store_template
from testkit.conformance import Conformance

DEFINITION: dict[str, Any] = {
    "nodes": {
        "root": {"type": "manual", "children": ["say"]},
        "say": {"type": "log", "payload": {"message": "hello"}},
    },
    "triggerNodeIds": ["root"],
}
BROKEN_DEFINITION: dict[str, Any] = {
    "nodes": {
        "root": {"type": "manual", "children": ["say"]},
        "say": {"type": "no-such-type", "payload": {}},
    },
    "triggerNodeIds": ["root"],
}


@dataclass(slots=True)
class Reply:
    """An answer, checked to be one of our envelopes."""

    response: httpx.Response
    body: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        self.body = json.loads(self.response.content)
        assert self.body["requestId"] == self.response.headers["x-request-id"]
        assert self.response.headers["content-type"] == "application/json"
        success = {"code", "message", "data", "requestId"}
        failure = {"code", "message", "details", "requestId"}
        assert set(self.body) == (success if self.response.is_success else failure)

    @property
    def status(self) -> int:
        return self.response.status_code

    @property
    def code(self) -> int:
        return int(self.body["code"])

    @property
    def data(self) -> Any:
        assert self.status == 200, self.body
        return self.body["data"]

    @property
    def fields(self) -> list[str]:
        return [detail["field"] for detail in self.body["details"]]


class Client:
    """A caller with one key."""

    def __init__(self, app: ASGIApp, key: str | None, conformance: Conformance) -> None:
        self._conformance = conformance
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        transport = httpx.ASGITransport(app)
        self.http = httpx.AsyncClient(transport=transport, base_url="http://test", headers=headers)

    async def send(
        self, method: str, path: str, body: Any = None, *, headers: dict[str, str] | None = None, raw: Any = None
    ) -> Reply:
        """Sends JSON (or `raw` bytes) and checks the envelope of the answer."""
        sent = dict(headers or {})
        content = raw
        if body is not None:
            content = json.dumps(body).encode()
        if content is not None:
            sent.setdefault("Content-Type", "application/json")
        reply = Reply(await self.http.request(method, path, content=content, headers=sent))
        self._conformance.check(method, path.partition("?")[0], reply.status, reply.body)
        return reply

    async def get(self, path: str, **options: Any) -> Reply:
        return await self.send("GET", path, **options)

    async def post(self, path: str, body: Any = None, **options: Any) -> Reply:
        return await self.send("POST", path, body, **options)

    async def put(self, path: str, body: Any = None, **options: Any) -> Reply:
        return await self.send("PUT", path, body, **options)

    async def delete(self, path: str, **options: Any) -> Reply:
        return await self.send("DELETE", path, **options)

    async def create_workflow(self, definition: Any = None, **fields: Any) -> dict[str, Any]:
        """Makes a workflow and answers it."""
        body = {"name": "flow", "description": "", "definition": definition or DEFINITION, **fields}
        workflow: dict[str, Any] = (await self.post("/v1/workflows", body)).data
        return workflow


@dataclass(slots=True)
class Composition:
    """The running parts and the owner's client."""

    parts: Parts
    app: Any
    engine: EmbeddedEngine
    """That of one process, unless the store is shared over Temporal."""

    trigger_host: TriggerHost
    owner_key: str
    owner: Client
    conformance: Conformance
    clients: list[Client] = field(default_factory=list)

    def client(self, key: str | None) -> Client:
        """A caller with that key, or without any."""
        client = Client(self.app, key, self.conformance)
        self.clients.append(client)
        return client

    async def key_with(self, *permissions: str) -> str:
        """A fresh key of the owner's organisation with these permissions."""
        made = await self.owner.post("/v1/api-keys", {"name": "test", "permissions": list(permissions)})
        key: str = made.data["key"]
        return key

    async def client_with(self, *permissions: str) -> Client:
        """A caller of the owner's organisation with a fresh key of these permissions."""
        return self.client(await self.key_with(*permissions))

    async def other_owner(self) -> Client:
        """The owner of a second organisation."""
        made = await self.owner.post("/v1/organizations", {"name": "Other"})
        return self.client(made.data["ownerKey"])

    async def rows(self, statement: Any) -> Sequence[tuple[Any, ...]]:
        """What the store holds."""
        return await self.parts.database.read(lambda tx: tx.all(Statement(statement)))

    async def execute(self, statement: Any) -> None:
        """Changes the store past the API."""

        def unit(tx: Tx) -> int:
            return tx.run(Statement(statement))

        await self.parts.writer.write(unit)


class Given(Settings):
    """Settings that are given, or stay as they are by default: to look for each in the environment takes longer than to
    open the store."""

    model_config = SettingsConfigDict(toml_file=None)

    @classmethod
    def settings_customise_sources(
        cls, settings_cls: type[BaseSettings], init_settings: PydanticBaseSettingsSource, *_: Any, **__: Any
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """No environment, no file."""
        return (init_settings,)


class SharedStore(str):
    """The URL of a store, with the settings that servers on it need besides."""

    settings: dict[str, Any]

    def __new__(cls, url: str, **settings: Any) -> SharedStore:
        made = super().__new__(cls, url)
        made.settings = settings
        return made


_documented: list[Conformance] = []


def _conformance_of(app: Any) -> Conformance:
    """Built once, which takes a while: the document is the same for every server of a test run."""
    if not _documented:
        _documented.append(Conformance(openapi.document.build(app.app)))
    return _documented[0]


@asynccontextmanager
async def composed(folder: Path, **settings: Any) -> AsyncIterator[Composition]:
    """The whole server as the program composes it, over the store of `database_url`, else a SQLite file in `folder`."""
    settings = {**getattr(settings.get("database_url"), "settings", {}), **settings}
    settings.setdefault("master_key_file", folder / "secret" / "master.key")
    chosen = Given(data_dir=folder, sqlite_synchronous="NORMAL", **settings)
    store_template.fill(chosen.store_url())
    async with compose(chosen) as server:
        key = (folder / "owner.key").read_text().strip()
        conformance = _conformance_of(server.app)
        owner = Client(server.app, key, conformance)
        composition = Composition(
            server.app.parts,
            server.app,
            cast(EmbeddedEngine, server.engine),
            server.trigger_host,
            key,
            owner,
            conformance,
        )
        try:
            yield composition
        finally:
            for client in (composition.owner, *composition.clients):
                await client.http.aclose()
