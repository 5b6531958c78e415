"""Random workflows on the whole engine against the naive interpreter: real nodes, retries, waits, loops, restarts.

What each path comes to is scripted in the trigger's payload, so that both sides agree on it and on nothing else.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import sqlalchemy as sa

from dustrun.core.run.state import NodeStatus
from dustrun.core.workflow.definition import Definition
from dustrun.storage.db.tables import executions, runs
from testkit.composition import Composition
from testkit.models.graphs import Naive, graph_of, random_definition

N = NodeStatus
Json = dict[str, Any]
Compose = Callable[[], AbstractAsyncContextManager[Composition]]


class Case:
    """One random workflow, its script, and what must become of it."""

    def __init__(self, seed: int) -> None:
        self.run_id = f"run_model-{seed}"
        self.rng = random.Random(seed)
        document = _with_error_children(random_definition(self.rng, failing=False))
        graph = graph_of(Definition.model_validate(document))
        naive = Naive(graph, seed)
        self.status = naive.run().value
        self.statuses = {path: status.value for path, status in naive.statuses.items()}
        self.resumes: list[str] = []
        script: Json = {}
        for path, status in naive.statuses.items():
            node = graph.nodes[path.rpartition(".")[2]]
            if status is not N.SKIPPED:
                script[path] = self._scripted(naive, path, node.type)
        self.payload = {"s": script}
        loops = {node_id: tuple(reversed(graph.loops_around(node_id))) for node_id in graph.nodes}
        nodes = document["nodes"]
        self.document = {"nodes": {name: self._real(name, node, loops[name]) for name, node in nodes.items()}}

    def _scripted(self, naive: Naive, path: str, kind: str) -> Any:
        if kind == "for-each":
            return list(range(naive.items(path)))
        status, branch = naive.outcome(path, path.rpartition(".")[2])
        if kind == "if":
            return "fail" if status is N.FAILURE else branch
        if kind == "wait":
            if branch == "resumed" and status is N.SUCCESS:
                self.resumes.append(path)
            return 0 if status is N.FAILURE else 3_600_000 if branch == "resumed" else 1000
        ends = "permanent" if status is N.FAILURE else "ok"
        return [*["temporary"] * self.rng.choice([0, 0, 0, 1, 2]), *[ends] * 20]

    def _real(self, name: str, node: Json, loops: tuple[str, ...]) -> Json:
        place = "'" + "".join(f"{loop}[' + string($for.{loop}.index) + ']." for loop in loops) + name + "'"
        found = f"$trigger.body.s[{place}]"
        real = {key: value for key, value in node.items() if key != "payload"}
        payload = dict(node.get("payload", {}))
        if node["type"] == "if":
            payload = {"expression": f"{{'then': true, 'else': false}}[{found}]"}
        elif node["type"] == "for-each":
            payload["array"] = f"{{{{{found}}}}}"
        elif node["type"] == "wait":
            payload = {"timeoutMs": f"{{{{{found}}}}}"}
        elif node["type"] == "step":
            real["type"] = "trial"
            # each life of the server begins the script anew, so there must be attempts enough for all of them
            real["retry"] = {"maxAttempts": 30, "backoffMs": self.rng.choice([0, 1, 30]), "jitter": False}
            payload = {
                "name": f"{self.run_id}:{{{{{place}}}}}",
                "outcomes": f"{{{{{found}}}}}",
                "effect": self.rng.choice(["pure", "read", "write"]),
                "idempotent": True,
                "sleepMs": self.rng.choice([0, 0, 5, 20]),
            }
        return {**real, "payload": payload}


def _with_error_children(definition: Definition) -> Json:
    """The document, valid: a node with `onError: branch` has a child on that branch."""
    document: Json = definition.model_dump(by_alias=True, exclude_unset=True)
    nodes = document["nodes"]
    for name in list(nodes):
        node = nodes[name]
        node["children"] = list(node.get("children", ()))
        if node.get("onError") == "branch" and not any(nodes[c].get("branch") == "error" for c in node["children"]):
            nodes[f"{name}_e"] = {
                "type": "step",
                "payload": {},
                "branch": "error",
                "onError": "continue",
                "children": [],
            }
            node["children"].append(f"{name}_e")
    return document


async def check(compose: Compose, seeds: range, *, restarts: int, seed: int) -> list[str]:
    """Runs all cases at once on one server, which ends and starts again in between; what differed."""
    rng = random.Random(seed)
    cases = [Case(number) for number in seeds]
    pending = [(case, path) for case in cases for path in case.resumes]
    rng.shuffle(pending)
    started = False
    for life in range(restarts + 1):
        async with compose() as server:
            if not started:
                await asyncio.gather(*(_start(server, case) for case in cases))
                started = True
            share = len(pending) if life == restarts else rng.randint(0, len(pending))
            resuming, pending = pending[:share], pending[share:]
            for case, path in resuming:
                await server.owner.post(f"/v1/runs/{case.run_id}/nodes/{path}/resume", {"data": {}})
            if life == restarts:
                return await _differences(server, cases)
            await asyncio.sleep(rng.uniform(0.05, 0.6))
    raise AssertionError


async def _start(server: Composition, case: Case) -> None:
    body = {"definition": case.document, "runId": case.run_id, "payload": case.payload}
    reply = await server.owner.post("/v1/runs", body)
    assert reply.status == 200, (case.run_id, reply.body)


async def _differences(server: Composition, cases: list[Case]) -> list[str]:
    found = []
    for case in cases:
        status = await _end_of(server, case.run_id)
        rows = await server.rows(
            sa.select(executions.c.path, executions.c.status)
            .join(runs, runs.c.pk == executions.c.run_pk)
            .where(runs.c.id == case.run_id)
            .order_by(executions.c.path, executions.c.attempt)
        )
        statuses = {path: status for path, status in rows if path != "root"}
        if (status, statuses) != (case.status, case.statuses):
            wrong = {
                path: (statuses.get(path), case.statuses.get(path))
                for path in {*statuses, *case.statuses}
                if statuses.get(path) != case.statuses.get(path)
            }
            found.append(f"{case.run_id} ended as {status}, not {case.status}; (is, must be): {wrong}")
    return found


async def _end_of(server: Composition, run_id: str) -> str:
    async with asyncio.timeout(60):
        while True:
            [(status, finished_at)] = await server.rows(
                sa.select(runs.c.status, runs.c.finished_at).where(runs.c.id == run_id)
            )
            if finished_at is not None:
                return str(status)
            await asyncio.sleep(0.02)
