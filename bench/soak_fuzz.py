"""Fuzzes every operation of a live server by its own OpenAPI document, with Schemathesis.

    scripts/soak fuzz [--scale CASES] [--seed S] [--store sqlite|postgresql]

A third of the cases are valid by the schema, a third break it, a third are made to succeed (ids that exist, bodies that
fit); some of each come with a broken body or without a key. Every answer must be below 500, of a documented status and
code, and as its schema says; every operation must have been answered 2xx at least once. Without `--store` all of it is
done on both.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import jsonschema
import requests
import schemathesis
from hypothesis import strategies as st
from schemathesis import GenerationMode, checks
from schemathesis.core.failures import Failure, FailureGroup
from schemathesis.openapi.loaders import from_dict
from schemathesis.specs.openapi import checks as openapi_checks

from testkit.chain.anvil import Anvil
from testkit.conformance import documented_answer
from testkit.fuzz_world import World, place, succeed
from testkit.identity_provider import IdentityProvider, providing_beside
from testkit.postgres import Cluster
from testkit.server_process import ServerProcess
from testkit.sink import SinkProcess

_SETTINGS = {
    "outbound_allow": "127.0.0.1",
    "rate_limit_per_second": "0",
    "max_waiting_streams": "1000",
    "max_tables": "100000",
}
_CHECKS = [
    checks.not_a_server_error,
    openapi_checks.status_code_conformance,
    openapi_checks.content_type_conformance,
    openapi_checks.response_headers_conformance,
]
_STREAM_S = 0.15
_LATE_HEAD_S = 5.0
_TIMEOUT_S = 30.0
_FOREIGN = frozenset({404004, 405001})
"""Codes of addresses that are no operation: a generated path parameter may hold a slash."""


def run(scale: int | None, seed: int, store: str = "both") -> dict[str, Any]:
    """At least `scale` cases (default 5,000) on each store."""
    with contextlib.ExitStack() as stack:
        urls: dict[str, str | None] = {"sqlite": None}
        if store != "sqlite":
            cluster = Cluster()
            stack.callback(cluster.end)
            urls["postgresql"] = cluster.fresh()
        found = {name: _run_on(url, scale or 5000, seed) for name, url in urls.items() if store in (name, "both")}
    failures = [f"{name}: {failure}" for name, one in found.items() for failure in one.pop("failures")]
    return {**found, "failures": failures}


def _run_on(url: str | None, scale: int, seed: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="dustrun-fuzz-") as folder:
        sink = SinkProcess(seed)
        with Anvil("--no-mining") as node, providing_beside() as provider:
            more = {"chain_endpoints": json.dumps({str(node.chain_id): [node.url]}), **provider.texts}
            more |= {} if url is None else {"database_url": url}
            server = ServerProcess(Path(folder) / "data", {**_SETTINGS, **more})
            try:
                server.start()
                asyncio.run(server.wait_ready())
                return _fuzz(server, sink, node, provider, scale, seed)
            finally:
                asyncio.run(server.stop())
                sink.stop()


def _fuzz(
    server: ServerProcess, sink: SinkProcess, node: Anvil, provider: IdentityProvider, scale: int, seed: int
) -> dict[str, Any]:
    document = requests.get(f"{server.base}/openapi.json", timeout=30).json()
    store = server.database_path if server.database_path.exists() else None
    world = World(server.base, server.owner_key, sink.base, node.rpc, node.chain_id, store)
    world.provider = provider
    fuzzer = Fuzzer(world, document, seed)
    try:
        fuzzer.run(scale)
        if not server.is_alive:
            fuzzer.failures["the server"] = f"it ended: {server.log_tail()}"
        tracebacks = server.log_path.read_text(errors="replace").count("Traceback")
        if tracebacks:
            fuzzer.failures["the server's log"] = f"{tracebacks} tracebacks: {server.log_tail()[-3000:]}"
        return fuzzer.report()
    finally:
        fuzzer.close()
        world.close()


class Fuzzer:
    """Sends cases and judges the answers."""

    def __init__(self, world: World, document: dict[str, Any], seed: int) -> None:
        self.failures: dict[str, str] = {}
        self._world = world
        self._document = document
        self._seed = seed
        self._schema = from_dict(document)
        self._session = requests.Session()
        self._statuses: Counter[tuple[str, int]] = Counter()
        self._kinds: Counter[str] = Counter()
        self._cases = 0
        self._frames = 0
        self._streams = dict(_streams(document))

    def close(self) -> None:
        """Closes the connections."""
        self._session.close()

    def run(self, scale: int) -> None:
        """Rounds over all operations until there were enough cases."""
        operations = list(self._operations())
        each = max(1, -(-scale // (3 * len(operations))))
        round_ = 0
        while self._cases < scale and round_ < 50:
            round_ += 1
            for number, operation in enumerate(operations):
                self._operation(operation, min(each, 40), self._seed + 1000 * round_ + number)

    def _operation(self, operation: Any, count: int, seed: int) -> None:
        plain = operation.as_strategy(generation_mode=GenerationMode.POSITIVE)
        self._draw("valid", operation, plain, count, seed)
        self._draw("helped", operation, plain, count, seed + 500)
        if _can_be_broken(operation):
            broken = operation.as_strategy(generation_mode=GenerationMode.NEGATIVE)
            self._draw("broken", operation, broken, count, seed)

    def _draw(self, kind: str, operation: Any, strategy: Any, count: int, seed: int) -> None:
        """Hypothesis draws the cases; a number beside each keeps it drawing when the case has nothing to vary."""

        @hypothesis.seed(seed)
        @hypothesis.settings(
            max_examples=count,
            database=None,
            deadline=None,
            phases=[hypothesis.Phase.generate],
            suppress_health_check=list(hypothesis.HealthCheck),
        )
        @hypothesis.given(strategy, st.integers(0, 2**32))
        def draw(case: Any, number: int) -> None:
            self._one(kind, operation, case, random.Random(number))

        try:
            draw()
        except hypothesis.errors.Unsatisfiable:
            self._kinds[f"{kind}, impossible"] += 1

    def _one(self, kind: str, operation: Any, case: Any, chance: random.Random) -> None:
        name = operation.definition.raw["operationId"]
        if kind == "helped":
            succeed(self._world, name, case)
        elif chance.random() < 0.4:
            place(self._world, name, case)
        if self._would_end_the_fuzz(name, case):
            return
        if name in self._streams and case.query and chance.random() < 0.8:
            case.query.pop("token", None)
        case.headers = {key: value for key, value in (case.headers or {}).items() if key.lower() != "authorization"}
        self._cases += 1
        self._kinds[kind] += 1
        options: dict[str, Any] = {"headers": self._headers(kind, chance)}
        if kind == "broken" and operation.body and chance.random() < 0.1:
            options["data"] = chance.choice([b"{", b"\xff", b"[1,2", b'{"a":1}{"b":2}', b'"\\ud800"'])
            options["headers"]["Content-Type"] = "application/json"
        self._send(name, case, options)

    def _headers(self, kind: str, chance: random.Random) -> dict[str, str]:
        if kind != "helped" and chance.random() < 0.03:
            return {"Authorization": chance.choice(["Bearer sk_nobody", "Basic eDp5", "Bearer", "sk_x"])}
        return {"Authorization": f"Bearer {self._world.key}"}

    def _would_end_the_fuzz(self, name: str, case: Any) -> bool:
        return name == "revoke_key" and (case.path_parameters or {}).get("id") == self._world.key_id

    def _send(self, name: str, case: Any, options: dict[str, Any]) -> None:
        try:
            answer = self._call(name, case, options)
        except requests.exceptions.InvalidHeader:
            self._kinds["not sendable"] += 1
            return
        except (requests.RequestException, TimeoutError) as error:
            self._fail(name, f"no answer: {type(error).__name__}: {error}", case)
            return
        self._statuses[(name, answer.status_code)] += 1
        self._judge(name, case, answer)

    def _call(self, name: str, case: Any, options: dict[str, Any]) -> Any:
        """A stream is read for a moment only; one whose head comes late gets a second, longer chance."""
        options = {**options, "base_url": self._world.base, "session": self._session}
        if name not in self._streams:
            return case.call(timeout=_TIMEOUT_S, **options)
        try:
            return case.call(timeout=(_TIMEOUT_S, _STREAM_S), **options)
        except (requests.RequestException, TimeoutError):
            return case.call(timeout=(_TIMEOUT_S, _LATE_HEAD_S), **options)

    def _judge(self, name: str, case: Any, answer: Any) -> None:
        code = _code_of(answer)
        if code in _FOREIGN:
            return
        try:
            is_stream = name in self._streams and answer.status_code == 200
            schema_check = [] if is_stream else [openapi_checks.response_schema_conformance]
            case.validate_response(answer, checks=[*_CHECKS, *schema_check])
            if is_stream:
                self._judge_frames(name, case, answer)
        except (Failure, FailureGroup) as error:
            found = error.exceptions if isinstance(error, FailureGroup) else [error]
            self._fail(name, "; ".join(f"{getattr(e, 'title', '')} {e}" for e in found), case)
            return
        if code is not None and answer.status_code >= 400:
            operation = case.operation.definition.raw
            answered = documented_answer(self._schema.raw_schema, operation, answer.status_code)
            if str(code) not in answered["description"]:
                self._fail(name, f"code {code} is not documented for {answer.status_code}", case)

    def _judge_frames(self, name: str, case: Any, answer: Any) -> None:
        """Each event is as the schema of its type says; OpenAPI 3.1 has no words for that, the document's own has."""
        for block in answer.content.decode().split("\n\n"):
            fields = dict(line.split(": ", 1) for line in block.split("\n") if ": " in line and line[0] != ":")
            if fields.get("event", "end") == "end":
                continue
            self._frames += 1
            validator = self._streams[name].get(fields["event"])
            if validator is None:
                self._fail(name, f"the event {fields['event']} is not documented", case)
                continue
            for error in validator.iter_errors(json.loads(fields["data"])):
                self._fail(name, f"the event {fields['event']} is not as documented: {error.message}", case)

    def _fail(self, name: str, what: str, case: Any) -> None:
        key = f"{name}: {what[:300]}"
        if key not in self.failures and len(self.failures) < 60:
            sent = {"path": case.path_parameters, "query": case.query, "headers": case.headers, "body": case.body}
            self.failures[key] = f"{name}: {what[:1500]}\nsent: {str(sent)[:1500]}"

    def report(self) -> dict[str, Any]:
        """The counts, and what failed."""
        names = [operation.definition.raw["operationId"] for operation in self._operations()]
        never = [
            name
            for name in names
            if name not in self._impossible() and not any(self._statuses[(name, status)] for status in (200, 204))
        ]
        failures = list(self.failures.values())
        failures += [f"{name} was never answered 2xx" for name in never]
        by_status: Counter[int] = Counter()
        for (_, status), count in self._statuses.items():
            by_status[status] += count
        return {
            "cases": self._cases,
            "operations": len(names),
            "answered2xx": len(names) - len(never),
            "byStatus": {str(status): count for status, count in sorted(by_status.items())},
            "streamEvents": self._frames,
            "byKind": dict(self._kinds),
            "schemathesis": schemathesis.__version__,
            "failures": failures,
        }

    def _impossible(self) -> frozenset[str]:
        """What cannot be answered 2xx here: only a chain that is far ahead, or a write to the store, makes a gap."""
        return frozenset() if self._world.can_write_store else frozenset({"replay_trigger_gap"})

    def _operations(self) -> Iterator[Any]:
        for result in self._schema.get_all_operations():
            found: Any = result
            yield found.ok()


def _streams(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The operations that are streams, each with a validator per type of event. One without a schema for each type has
    one schema, which lists the types."""
    for path in document["paths"].values():
        for operation in path.values():
            content = operation["responses"].get("200", {}).get("content", {}).get("text/event-stream")
            if content is None:
                continue
            schemas = operation.get("x-events")
            if schemas is None:
                schema = content["schema"]["contentSchema"]
                schemas = dict.fromkeys(schema["properties"]["type"]["enum"], schema)
            parts = _parts(document)
            yield (
                operation["operationId"],
                {kind: jsonschema.Draft202012Validator({**schema, **parts}) for kind, schema in schemas.items()},
            )


def _parts(document: dict[str, Any]) -> dict[str, Any]:
    return {"components": document["components"]}


def _can_be_broken(operation: Any) -> bool:
    """Whether there is anything that a case could get wrong."""
    raw = operation.definition.raw
    return bool(raw.get("parameters") or raw.get("requestBody"))


def _code_of(answer: Any) -> int | None:
    try:
        found = json.loads(answer.content)
    except ValueError:
        return None
    return found.get("code") if isinstance(found, dict) and isinstance(found.get("code"), int) else None
