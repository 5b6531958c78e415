"""Live pairs of the proof of sources: what people answer, and what an earlier run left in tables and variables.

A simulation asks nobody and writes nothing, so these run live, each with everything set back before it: people approve
with a comment or reject, and resume what waits with a value. With an earlier run, only what shaped that one is changed:
the run that spends is started the same way each time.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from functools import partial
from typing import Any, Final

from bench.source_pairs import Caller, Case, Json, Outcome, Trial
from bench.source_workflows import HELPER_VALUES, OPENINGS, TRIGGERED, VARIABLES, Draft, Stage, Step, asking
from dustrun.core.sources.slicer import COMMENT
from dustrun.core.sources.source import Source
from dustrun.core.sources.spend_slice import SpendSlice

_POLL_S: Final = 0.02
_WITHIN_S: Final = 120.0  # only bounds hanging
Node = tuple[str, str]
"""A workflow and a node of it."""


class LiveTrial(Trial):
    """One drawn workflow, run live. People answer each node in their own way: `said`, and `rejected`."""

    is_live = True
    about = "live"
    through: frozenset[Source] = frozenset()

    def __init__(self, api: Caller, stage: Stage, answers: list[Json], choice: random.Random, set_balance: Any) -> None:
        super().__init__(api, stage, answers, choice, set_balance)
        self.usual = choice.randint(0, 6)
        self.said: dict[Node, int] = {}
        self.rejected: set[Node] = set()

    async def open(self) -> dict[str, SpendSlice]:
        """Works with a table of its own: one keeps what ever shaped the columns by which its rows are found."""
        self.stage = replace(self.stage, table=f"t{self.choice.getrandbits(64):x}")
        columns = [{"name": "id", "type": "text"}, {"name": "n", "type": "integer"}]
        table = {"name": self.stage.table, "primaryKey": "id", "columns": columns}
        self._table = (await self.api.call("POST", "/v1/tables", table))["id"]
        return await super().open()

    async def close(self) -> None:
        """Removes its table."""
        await self.api.call("DELETE", f"/v1/tables/{self._table}")

    async def run(self, payload: Json | None = None, props: Json | None = None, query: str = "") -> Outcome:
        """One live run, with what earlier ones left set back."""
        await self._set_back()
        return await self._paid(payload or self.payload, query)

    async def _set_back(self) -> None:
        await self._rows(self.rows)
        await self._variables()

    async def _paid(self, payload: Json, query: str) -> Outcome:
        run_id, status = await self._ended(self.workflow, payload)
        return await self.outcome(run_id, status, query)

    async def _ended(self, workflow: str, payload: Json) -> tuple[str, str]:
        """Runs a workflow, and answers whatever is asked until it has ended: its id and status."""
        body = {"payload": payload, "propValues": self.props}
        run_id = str((await self.api.call("POST", f"/v1/workflows/{workflow}/run", body))["runId"])
        async with asyncio.timeout(_WITHIN_S):
            while True:
                run = await self.api.call("GET", f"/v1/runs/{run_id}?summary=true")
                if run["finishedAt"] is not None:
                    return run_id, str(run["status"])
                if run["status"] != "waiting" or not await self._answer():
                    await asyncio.sleep(_POLL_S)

    async def _answer(self) -> bool:
        """Answers all that is open; whether anything was."""
        asked = [
            (str(one["id"]), (str(one["workflowId"]), str(one["nodeId"])))
            for one in (await self.api.call("GET", "/v1/approvals?status=pending&limit=100"))["items"]
            if one["workflowId"] in self.documents
        ]
        for approval, node in asked:
            how = "reject" if node in self.rejected else "approve"
            await self.api.call("POST", f"/v1/approvals/{approval}/{how}", {"comment": str(self._word(node))})
        waits = [one async for one in self._waits()] if any(self._nodes_of("wait")) else []
        for run_id, node in waits:
            await self.api.call("POST", f"/v1/runs/{run_id}/nodes/{node[1]}/resume", {"data": {"n": self._word(node)}})
        return bool(asked or waits)

    async def _waits(self) -> AsyncIterator[tuple[str, Node]]:
        for workflow in self.documents:
            found = await self.api.call("GET", f"/v1/runs?workflowId={workflow}&status=waiting&limit=100")
            for listed in found["items"]:
                run = await self.api.call("GET", f"/v1/runs/{listed['id']}")
                for node, state in run["executionState"].items():
                    if (workflow, node) in self._nodes_of("wait") and state["status"] == "waiting":
                        yield listed["id"], (workflow, node)

    def _nodes_of(self, kind: str) -> list[Node]:
        return [
            (workflow, name)
            for workflow, document in self.documents.items()
            for name, node in document["nodes"].items()
            if node["type"] == kind
        ]

    def _word(self, node: Node) -> int:
        return self.said.get(node, self.usual)

    # --- what can be changed ---

    def _asking(self, kind: str) -> list[Node]:
        return self._nodes_of(kind)

    def _said(self, source: Source, runs: Any) -> Case:
        """What a key says is kept in a store as its hand."""
        return Case(source, runs, self.through, self.about, is_by_hand=bool(self.through))

    def cases(self) -> Iterator[Case]:
        """What people answer to each node that asks them."""
        for node in self._asking("approve"):
            approval = Source("approval", f"{node[0]}@1", (node[1],))
            yield Case(
                replace(approval, path=(node[1], COMMENT)), self._each(self._with_word, node), self.through, self.about
            )
            yield Case(approval, (partial(self._with_rejection, node),), self.through, self.about)
        for node in self._asking("wait"):
            source = Source("resume", f"{node[0]}@1", (node[1],))
            yield self._said(source, self._each(self._with_word, node))

    async def _with_word(self, node: Node, step: int) -> Outcome:
        self.said[node] = (self.usual + step) % 7
        try:
            return await self.run()
        finally:
            self.said.clear()

    async def _with_rejection(self, node: Node) -> Outcome:
        self.rejected = {node}
        try:
            return await self.run()
        finally:
            self.rejected = set()


class TwoRuns(LiveTrial):
    """A run that spends, and before it one that writes to tables and variables: of a workflow that it does not call,
    of its helper, or of itself. Only the first is changed: what a host, a model or a tool answers it, what people say,
    its variables, its payload, for which the key stands that gave it."""

    about = "another run"
    longest = 2

    async def open(self) -> dict[str, SpendSlice]:
        """Draws a third workflow too, which writes or removes rows of the table."""
        found = await super().open()
        self._given = {name: self.choice.randint(0, 6) for name in TRIGGERED}
        self._answered: dict[tuple[int, str], int] = {}
        self._own: dict[str, int] = {}
        writer = Draft(self.stage, self.choice, "w", None, False, is_live=True)
        own = await self._store(writer.build(1, HELPER_VALUES, self.choice.choice(asking(self.stage)), is_writer=True))
        self.first = self.choice.choice([own, own, own, self.helper, self.workflow])
        self.ran = (self.first, *((self.helper,) if self.first == self.workflow else ()))
        stores = (Source("variable", one, (name,)) for one in (self.workflow, self.helper) for name in VARIABLES)
        self.through = frozenset((Source("table", self.stage.table), *stores))
        return found

    def opening(self) -> Step | None:
        """Reads what the first run may have left."""
        return self.choice.choice(OPENINGS)

    async def run(self, payload: Json | None = None, props: Json | None = None, query: str = "") -> Outcome:
        """The first run with whatever is changed, then that which spends, with everything as usual."""
        await self._set_back()
        usual = [dict(one) for one in self.answers]
        for (at, name), number in self._answered.items():
            self.answers[at][name] = number
        try:
            await self._ended(self.first, payload or self._given)
        finally:
            for answer, one in zip(self.answers, usual, strict=True):
                answer.update(one)
        self.said.clear()
        self.rejected = set()
        return await self._paid(self.payload, query)

    # --- what can be changed ---

    def _asking(self, kind: str) -> list[Node]:
        return [one for one in self._nodes_of(kind) if one[0] in self.ran]

    def cases(self) -> Iterator[Case]:
        """What shaped the first run."""
        yield from super().cases()
        text = str([self.documents[one]["nodes"] for one in self.ran])
        for at, host in enumerate(self.stage.hosts):
            if host in text:
                answers = self._each(self._with_other_answer, at, "n")
                yield Case(Source("http", host), answers, self.through, self.about)
        if "'llm'" in text:
            told = self._each(self._with_other_answer, 0, "told")
            yield Case(Source("model", self.stage.model), told, self.through, self.about)
        if "'mcp-tool'" in text:
            found = self._each(self._with_other_answer, 0, "found")
            yield Case(Source("mcp", self.stage.tools), found, self.through, self.about)
        if self.first not in (self.workflow, self.helper):
            for name in VARIABLES:
                if f"'{name}'" in text or f"$vars.{name}" in text:
                    runs = self._each(self._with_own_variable, name)
                    yield Case(Source("variable", self.first, (name,)), runs, self.through, self.about)
        for name in TRIGGERED:
            if f".{name}" in text:
                given = self._each(self._with_given, name)
                yield Case(Source("trigger", "manual", (name,)), given, self.through, self.about, is_by_hand=True)

    async def _with_other_answer(self, at: int, name: str, step: int) -> Outcome:
        self._answered = {(at, name): (self.answers[at][name] + step) % 7}
        try:
            return await self.run()
        finally:
            self._answered = {}

    async def _with_own_variable(self, name: str, step: int) -> Outcome:
        self._own[name] = (self.variables[name] + step) % 7
        try:
            return await self.run()
        finally:
            self._own.clear()

    async def _with_given(self, name: str, step: int) -> Outcome:
        return await self.run({**self._given, name: (self._given[name] + step) % 7})

    async def _set_back(self) -> None:
        await super()._set_back()
        for name in VARIABLES:
            await self._write(self.first, name, self._own.get(name, self.variables[name]))
