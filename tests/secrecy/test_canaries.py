"""Secrets are planted in every type of connector, runs of every ending use them, and then everything is searched.

A real server in a process of its own: what it answers, streams, logs and writes to its disk is looked at from outside,
byte by byte.
"""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from echoing import Echo, echoing
from secrecy.spelled import find_leaks, pieces
from secrecy.stores import rows_of
from served import Served, served

SPILL = '''"""Says a secret in every way an action can."""
from pydantic import Field
from dustrun import log
from dustrun.errors import Invalid, Permanent, Uncertain
from dustrun.sdk import Effect, Fields, action


class Input(Fields):
    """How."""

    how: str = Field(description="result, error, bug or doubt.")


class Output(Fields):
    """What."""

    said: list[str] = Field(description="The secret.")
    by: dict[str, str] = Field(description="The secret as a name.")


@action(effect=Effect.WRITE, input=Input, output=Output, example_input={"how": "result"},
        example_output={"said": ["x"], "by": {"x": "y"}}, connector="apprise")
async def spill(value, ctx):
    """Says it."""
    url = ctx.connection.data.url
    ctx.log(f"the url is {url}", data={"url": url, url: [url]})
    ctx.progress(url)
    log.get("spill").error("spilt", url=url, connection=ctx.connection)
    if value.how == "error":
        raise Permanent(f"it is {url}")
    if value.how == "bug":
        raise RuntimeError(f"it is {url}")
    if value.how == "doubt":
        raise Uncertain(f"it is {url}")
    if value.how == "invalid":
        raise Invalid("no", details=[{"field": "url", "message": url}])
    return Output(said=[url, url[::1]], by={url: url})
'''


def canary(name: str) -> str:
    """Long, odd, and easily told from everything else."""
    return f"Zq7{name}/+K9&x=W{len(name)}~vT3mR8pL5"


CANARIES = {
    name: canary(name)
    for name in ("bearer", "basic", "header", "query", "client", "secretOfTwo", "refresh", "replaced", "invalid")
} | {"apprise": "xmls://Zq7apprise/K9&x=W7~vT3mR8pL5aPpRs"}


@dataclass
class Watch:
    """A caller that keeps every byte it is answered."""

    server: Served
    heard: dict[str, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.http = httpx.Client(
            base_url=self.server.url, headers={"Authorization": f"Bearer {self.server.key}"}, timeout=30
        )

    def send(self, method: str, path: str, body: Any = None, **options: Any) -> Any:
        """The `data` of the answer, or the whole failure."""
        answer = self.http.request(method, path, json=body, **options)
        head = "\n".join(f"{name}: {value}" for name, value in answer.headers.items()).encode()
        self.heard[f"{len(self.heard)} {method} {path} {answer.status_code}"] = head + b"\n\n" + answer.content
        try:
            found = answer.json()
        except json.JSONDecodeError:
            return answer.text
        return found["data"] if answer.is_success and "data" in found else found

    def run(self, workflow_id: str, **body: Any) -> str:
        """Runs to the end, or to where it waits for a person."""
        run_id: str = self.send("POST", f"/v1/workflows/{workflow_id}/run", body)["runId"]
        self.settle(run_id)
        return run_id

    def settle(self, run_id: str) -> None:
        """Waits, then looks at the run from every side."""
        deadline = time.monotonic() + 30
        while self.send("GET", f"/v1/runs/{run_id}")["status"] == "running":
            assert time.monotonic() < deadline, run_id
            time.sleep(0.05)
        self.send("GET", f"/v1/runs/{run_id}/effects")
        self.listen(run_id)

    def listen(self, run_id: str) -> None:
        """The run's events so far."""
        with self.http.stream("GET", f"/v1/runs/{run_id}/stream") as stream:
            text = b""
            try:
                for line in stream.iter_lines():
                    text += line.encode() + b"\n"
                    if line.startswith("event: end"):
                        break
                    if line.startswith("event: run_waiting"):
                        break
            except httpx.ReadTimeout:
                pass
        self.heard[f"stream of {run_id}"] = text


def connectors(watch: Watch, echo: Echo) -> dict[str, dict[str, Any]]:
    """One of every type, each with canaries of its own."""
    kinds: dict[str, tuple[str, dict[str, Any]]] = {
        "bearer": ("http-bearer", {"token": CANARIES["bearer"]}),
        "basic": ("http-basic", {"username": "me", "password": CANARIES["basic"]}),
        "header": ("http-header", {"name": "X-Api-Key", "value": CANARIES["header"]}),
        "query": ("http-query", {"name": "k", "value": CANARIES["query"]}),
        "client": (
            "oauth2-client-credentials",
            {"tokenUrl": f"{echo.url}/token", "clientId": "me", "clientSecret": CANARIES["client"]},
        ),
        "denied": (
            "oauth2-client-credentials",
            {
                "tokenUrl": f"{echo.url}/no_token",
                "clientId": "me",
                "clientSecret": CANARIES["client"],
                "clientAuth": "body",
            },
        ),
        "refresh": (
            "oauth2-refresh-token",
            {
                "tokenUrl": f"{echo.url}/token",
                "clientId": "me",
                "clientSecret": CANARIES["secretOfTwo"],
                "refreshToken": CANARIES["refresh"],
            },
        ),
        "apprise": ("apprise", {"url": CANARIES["apprise"]}),
    }
    made = {}
    for name, (type_, data) in kinds.items():
        hosts = [] if type_ == "apprise" else [echo.url]
        body = {"type": type_, "name": name, "data": data, "allowedHosts": hosts}
        made[name] = watch.send("POST", "/v1/connectors", body, headers={"Idempotency-Key": f"make-{name}"})
        assert "id" in made[name], made[name]
    return made


def asking(made: dict[str, Any], url: str, **payload: Any) -> dict[str, Any]:
    reference = {"type": made["type"], "id": made["id"]}
    node = {"type": "http-request", "connector": reference, "payload": {"url": url, **payload}, "onError": "continue"}
    return node | {"children": ["tell"], "timeoutMs": 1500}


def workflow(watch: Watch, name: str, nodes: dict[str, Any]) -> str:
    """A workflow that does all nodes at once, and then says what became of them."""
    first = [node_id for node_id in nodes if node_id != "tell"]
    results = " ".join(f"{{{{$nodes.{node_id}.result ?? $nodes.{node_id}.error}}}}" for node_id in first)
    nodes = {
        "root": {"type": "manual", "children": first},
        **nodes,
        "tell": {"type": "log", "payload": {"message": results}, "children": ["kept"]},
        "kept": {"type": "set-variable", "payload": {"name": "heard", "value": results}},
    }
    variables = [{"name": "heard", "type": "any"}]
    definition = {"nodes": nodes, "triggerNodeIds": ["root"], "variableDefs": variables}
    made = watch.send("POST", "/v1/workflows", {"name": name, "description": "", "definition": definition})
    assert "id" in made, made
    return str(made["id"])


def nodes_of(made: dict[str, Any], echo: Echo) -> dict[str, Any]:
    """Every way in which an answer, or none, can come back."""
    return {
        "echo": asking(made, f"{echo.url}/echo", query={"q": "1"}),
        "posted": asking(made, f"{echo.url}/echo", method="POST", json={"a": 1}),
        "binary": asking(made, f"{echo.url}/binary"),
        **{f"fail{cut}": asking(made, f"{echo.url}/fail", query={"cut": str(cut)}) for cut in range(100, 300, 25)},
        "hang": asking(made, f"{echo.url}/hang", timeoutMs=300),
        "away": asking(made, f"{echo.url}/redirect", query={"to": f"http://localhost:{echo.port}/echo"}),
        "elsewhere": asking(made, f"http://localhost:{echo.port}/echo"),
        "near": asking(made, f"{echo.url}/redirect", query={"to": "/echo", "status": "307"}),
        "tell": {},
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    actions = tmp_path / "actions"
    actions.mkdir()
    (actions / "spill.py").write_text(SPILL)
    return tmp_path


async def test_no_canary_is_found_anywhere(folder: Path, store_url: str) -> None:
    async with echoing() as echo:
        echo.token_prefix, echo.refresh_prefix = canary("access"), canary("rotated")
        echo.expires_in = 2
        await asyncio.to_thread(_search, folder, echo, store_url)


def _search(folder: Path, echo: Echo, store_url: str) -> None:
    data_dir, key = folder / "data", folder / "master.key"
    settings = {
        "database_url": store_url,
        "outbound_allow": "127.0.0.1,localhost",
        "log_level": "debug",
        "master_key_file": str(key),
    }
    with served(data_dir, 0, actions_dir=str(folder / "actions"), **settings) as server:
        watch = Watch(server)
        made = connectors(watch, echo)
        _bad_bodies(watch, made)
        _use(watch, made, echo)
        for path in ("/v1/connectors", "/v1/audit", "/v1/runs", "/v1/workflows", "/metrics", "/v1/connector-types"):
            watch.send("GET", path)
        watch.http.close()
        live = {f"on disk, live: {path.name}": path.read_bytes() for path in data_dir.iterdir() if path.is_file()}
    at_rest = {f"on disk: {path.name}": path.read_bytes() for path in data_dir.iterdir() if path.is_file()}

    # the secrets did go out, else nothing was proved
    sent = "\n".join(f"{request.raw_path}\n{dict(request.headers)}" for request in echo.seen)
    assert CANARIES["bearer"] in sent
    assert CANARIES["header"] in sent
    assert canary("access") in sent
    rows = rows_of(store_url) | {path.name: path.read_bytes() for path in folder.glob("dustrun.db*")}
    assert "•••" in rows["table executions"].decode(), "what was masked is there"
    places = {**watch.heard, **live, **at_rest, **rows}
    assert any("server.log" in place for place in places)
    canaries = {**CANARIES, "access": canary("access"), "rotated": canary("rotated")}
    cut = {part: text for name, whole in canaries.items() for part, text in pieces(whole, 12).items()}
    leaks = find_leaks(canaries, places) + find_leaks(cut, places)
    assert leaks == [], f"{len(leaks)} leaks:\n" + "\n".join(leaks[:6])


def _bad_bodies(watch: Watch, made: dict[str, dict[str, Any]]) -> None:
    """Refusals that could repeat what they refuse."""
    bad = CANARIES["invalid"]
    body = {"type": "http-bearer", "name": "bad", "data": {"token": f"{bad} {bad}"}, "allowedHosts": ["a.example.com"]}
    for change in (
        {},
        {"data": {"token": bad, "other": bad}},
        {"data": {"token": [bad]}},
        {"data": bad},
        {"type": "http-basic", "data": {"username": "a:b", "password": bad}},
        {"data": {"token": bad}, "allowedHosts": ["no host"]},
        {"type": "apprise", "data": {"url": f"exec://{bad}"}},
        {"data": {"token": bad}, "unknown": bad},
    ):
        assert watch.send("POST", "/v1/connectors", {**body, **change})["code"] == 400001
    path = f"/v1/connectors/{made['bearer']['id']}"
    watch.send("PUT", path, {"data": {"token": bad, "testUrl": f"{bad}://"}})
    watch.send("POST", f"{path}/test", {"url": "http://localhost/"})


def _use(watch: Watch, made: dict[str, dict[str, Any]], echo: Echo) -> None:
    """Runs that succeed, fail, time out, are echoed, simulated, retried, exported, and waited for."""
    for name in ("bearer", "basic", "header", "query", "client", "refresh", "denied"):
        workflow_id = workflow(watch, name, nodes_of(made[name], echo))
        run_id = watch.run(workflow_id)
        if name in ("bearer", "query", "client"):
            watch.run(workflow_id, simulate=True)
            watch.run(workflow_id, dustTest=True)
        for form in ("json", "yaml"):
            watch.send("GET", f"/v1/workflows/{workflow_id}/export?format={form}")
        again = watch.send("POST", f"/v1/runs/{run_id}/retry")
        if "runId" in again:
            watch.settle(again["runId"])
        watch.send("GET", f"/v1/workflows/{workflow_id}/variables")
        watch.send("POST", f"/v1/connectors/{made[name]['id']}/test", {"url": f"{echo.url}/echo"})
        watch.send("POST", f"/v1/connectors/{made[name]['id']}/test", {"url": f"{echo.url}/fail"})
    reference = {"type": "apprise", "id": made["apprise"]["id"]}
    hows = ("result", "error", "bug", "doubt", "invalid")
    spills = {
        how: {
            "type": "spill",
            "connector": reference,
            "payload": {"how": how},
            "onError": "continue",
            "children": ["tell"],
        }
        for how in hows
    }
    spilling = workflow(watch, "spill", {**spills, "tell": {}})
    watch.run(spilling)
    watch.run(spilling, simulate=True)
    # a later change of the secret: the old one goes, the new one is as hidden
    path = f"/v1/connectors/{made['bearer']['id']}"
    watch.send("PUT", path, {"data": {"token": CANARIES["replaced"]}})
    watch.run(workflow(watch, "replaced", nodes_of(made["bearer"], echo)))
    watch.send("DELETE", path)
    watch.send("DELETE", f"{path}?force=true")
