"""Simulates a workflow with one source changed at a time, and holds each difference against the slices."""

from __future__ import annotations

import asyncio
import itertools
import random
import re
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import aiohttp

from bench.source_workflows import (
    HELPER_VALUES,
    ROOT_VALUES,
    TRIGGERED,
    VARIABLES,
    Draft,
    Stage,
    Step,
    changed_definitions,
)
from dustrun import catalog
from dustrun.core.sources.slicer import ClosedPrograms
from dustrun.core.sources.source import Source, parse_source
from dustrun.core.sources.spend_slice import SpendSlice, slices_of
from dustrun.core.workflow.definition import Definition
from dustrun.core.workflow.program import compile_program

Json = dict[str, Any]
Payment = tuple[str, str]
"""Recipient and amount."""

_FIELDS: Final = ("recipient", "amount")
_MOST_DEFINITIONS = 10  # changed fields of one workflow
_SPECS = catalog.load().specs()


class Unusable(Exception):
    """A workflow that the server does not take: drawn deeper than expressions may be."""


@dataclass(frozen=True)
class Outcome:
    """How a run ended, and the payments of each spending node by path and item. `said`: of each node that spent, the
    sources of its fields and of `decides` as the run's report tells them; None if the report left some out."""

    status: str
    spends: Mapping[str, Mapping[tuple[str, str], Payment]]
    said: Mapping[str, Mapping[str, frozenset[Source]] | None] = field(default_factory=dict)


@dataclass
class Tally:
    """What all pairs showed. `kinds`: pairs and differences by kind of source; `said`: how often a field names a source
    that was changed, `moved`: how often the field then differed."""

    counts: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    misses: list[str] = field(default_factory=list)

    def public(self) -> Json:
        """The figures as they are stored."""
        return {"counts": dict(sorted(self.counts.items())), "kinds": dict(sorted(self.kinds.items()))}


@dataclass(frozen=True)
class Case:
    """One source, and runs that differ in nothing else. `through`: the stores by which another run handed it on; before
    a run, it is only known that these may hold anything. The report must name the source itself, unless a hand stands
    for it (`is_by_hand`). `about`: what kind of pairs these are."""

    source: Source
    variants: tuple[Callable[[], Awaitable[Outcome]], ...]
    through: frozenset[Source] = frozenset()
    about: str = ""
    is_by_hand: bool = False

    @property
    def kind(self) -> str:
        """The kind of pairs, as the result tells it."""
        return f"{self.about or 'simulated'}, {self.source.kind}"

    def is_in(self, sources: frozenset[Source]) -> bool:
        """Whether sources name it, or a store that handed it on."""
        return _names(sources, self.source) or any(_names(sources, one) for one in self.through)

    def is_told(self, sources: frozenset[Source]) -> bool:
        """Whether the sources of a report name it as they must."""
        return self.is_in(sources) if self.is_by_hand else _names(sources, self.source)


class Caller(Protocol):
    """Calls the product's API."""

    async def call(self, method: str, path: str, body: Any = None) -> Any:
        """The `data` of an answer."""
        ...


class Api:
    """The product over HTTP."""

    def __init__(self, session: aiohttp.ClientSession, base: str, key: str) -> None:
        self._session, self._base = session, base
        self._headers = {"Authorization": f"Bearer {key}"}

    async def call(self, method: str, path: str, body: Any = None) -> Any:
        """The `data` of an answer; raises `Unusable` for what is refused as invalid."""
        async with self._session.request(method, self._base + path, json=body, headers=self._headers) as answer:
            found = await answer.json()
            if answer.status in (400, 422):
                raise Unusable(str(found)[:500])
            if answer.status not in (200, 202):
                raise RuntimeError(f"{method} {path} was answered {answer.status}: {str(found)[:500]}")
            return found["data"]


class Trial:
    """One drawn workflow with its helper, on a stage of its own."""

    is_live = False
    longest = 6  # steps of the workflow that spends

    def __init__(self, api: Caller, stage: Stage, answers: list[Json], choice: random.Random, set_balance: Any) -> None:
        self.api, self.stage, self.answers, self.choice = api, stage, answers, choice
        self._set_balance = set_balance
        self.payload = {name: choice.randint(0, 6) for name in TRIGGERED}
        self.props = {"p": choice.randint(0, 6)}
        self.variables = {name: choice.randint(0, 6) for name in VARIABLES}
        self.helper = self.workflow = ""
        self.documents: dict[str, Json] = {}

    async def open(self) -> dict[str, SpendSlice]:
        """Draws and stores the workflows; the slices of their spends by node."""
        draw, stage = self.choice, self.stage
        for answer in self.answers:
            answer.update(
                n=draw.randint(0, 6),
                ok=True,
                told=0,
                found=0,
                usd=1,
                list=[draw.randint(0, 6) for _ in range(draw.randint(1, 3))],
            )
        for address in (stage.payer, stage.recipients[0]):  # a live run may have paid on this stage
            await self._set_balance(address, 0)
        await self._rows({one: draw.randint(0, 6) for one in "01"})
        helper = Draft(stage, draw, "h", None, draw.random() < 0.4, self.is_live)
        self.helper = await self._store(helper.build(draw.randint(1, 3), HELPER_VALUES, self.opening()))
        root = Draft(stage, draw, "n", self.helper, True, self.is_live)
        self.workflow = await self._store(root.build(draw.randint(2, self.longest), ROOT_VALUES, self.opening()))
        await self._variables()
        return {one.place[1]: one for one in slices_of(self.closed(), _SPECS)}

    def opening(self) -> Step | None:
        """The first step of each workflow; None: any."""
        return None

    async def close(self) -> None:
        """Removes what only this one needs."""

    def closed(self) -> ClosedPrograms:
        """Both workflows, compiled."""
        programs = {
            f"{workflow}@1": compile_program(Definition.model_validate(document), _SPECS)
            for workflow, document in self.documents.items()
        }
        resolve: dict[tuple[str, int | None], str] = {(self.helper, None): f"{self.helper}@1"}
        return ClosedPrograms(f"{self.workflow}@1", programs, resolve, simulated=not self.is_live)

    async def _variables(self) -> None:
        for workflow in (self.workflow, self.helper):
            for name in VARIABLES:
                await self._write(workflow, name, self.variables[name])

    async def _store(self, definition: Json) -> str:
        body = {"name": "w", "description": "", "definition": definition}
        workflow = str((await self.api.call("POST", "/v1/workflows", body))["id"])
        self.documents = {workflow: definition, **self.documents}
        return workflow

    async def _rows(self, numbers: Mapping[str, int]) -> None:
        self.rows = dict(numbers)
        rows = [{"id": name, "n": number} for name, number in numbers.items()]
        body = {"mode": "upsert", "rows": rows}
        await self.api.call("POST", f"/v1/tables/{self.stage.table}/rows", body)

    async def _write(self, workflow: str, name: str, value: int) -> None:
        await self.api.call("POST", f"/v1/workflows/{workflow}/variables/{name}/value", {"value": value})

    async def base(self) -> Outcome:
        """The simulation that all others are compared with, and what its report says of its sources."""
        return await self.run(query="?include=sources")

    async def run(self, payload: Json | None = None, props: Json | None = None, query: str = "") -> Outcome:
        """One simulation."""
        body = {"simulate": True, "payload": payload or self.payload, "propValues": props or self.props}
        started = await self.api.call("POST", f"/v1/workflows/{self.workflow}/run-sync", body | {"waitMs": 60_000})
        return await self.outcome(started["runId"], started["status"], query)

    async def outcome(self, run_id: str, status: str, query: str) -> Outcome:
        """What an ended run spent, and with the right query what its report says of the sources."""
        report = await self.api.call("GET", f"/v1/runs/{run_id}/effects{query}")
        found: dict[str, dict[tuple[str, str], Payment]] = defaultdict(dict)
        for one in report["transactions"]:
            node = re.split(r"[./]", one["path"])[-1]
            found[node][one["path"], one["item"]] = (str(one.get("to")), str(one.get("value")))
        said = {one["nodeId"]: _said(one) for one in report.get("sources", ())}
        return Outcome(status, dict(found), said)

    # --- what can be changed ---

    def cases(self) -> Iterator[Case]:
        """Every source that the workflows mention."""
        text = str(self.documents)
        for name in TRIGGERED:
            if f".{name}" in text:
                yield Case(Source("trigger", "manual", (name,)), self._each(self._with_payload, name))
        if "$props" in text:
            yield Case(Source("props", "p"), self._each(self._with_props))
        for workflow, document in self.documents.items():
            for name in VARIABLES:
                if f"'{name}'" in str(document["nodes"]) or f"$vars.{name}" in str(document["nodes"]):
                    yield Case(Source("variable", workflow, (name,)), self._each(self._with_variable, workflow, name))
        for at, host in enumerate(self.stage.hosts):
            if host in text:
                yield Case(Source("http", host), self._each(self._with_answer, at))
        if "-table" in text:
            yield Case(Source("table", self.stage.table), self._each(self._with_row))
        if "get-balance" in text or "'max'" in text:
            yield Case(Source("chain", "31337"), self._each(self._with_balance))
        if "'llm'" in text:
            yield Case(Source("model", self.stage.model), self._each(self._with_said, "told"))
        if "'mcp-tool'" in text:
            yield Case(Source("mcp", self.stage.tools), self._each(self._with_said, "found"))
        if "get-price" in text:
            yield Case(Source("price", "31337"), self._each(self._with_said, "usd"))
            owned = Source("contract", "31337", (self.stage.token,))
            yield Case(owned, self._each(self._with_contract, self.stage.token))
        for workflow, document in self.documents.items():
            if "$workflow.name" in str(document):
                yield Case(Source("workflow", workflow, ("name",)), self._each(self._with_name, workflow))
        if "read-contract" in text:
            yield Case(
                Source("contract", "31337", (self.stage.contract,)),
                self._each(self._with_contract, self.stage.contract),
            )
        if "http-bearer" in text:
            yield Case(Source("connector", self.stage.signed), self._each(self._with_token))
        yield from self._definition_cases()

    def _each(
        self, run: Callable[..., Awaitable[Outcome]], *given: Any
    ) -> tuple[Callable[[], Awaitable[Outcome]], ...]:
        steps = self.choice.sample(range(1, 7), 3)
        return tuple(lambda step=step: run(*given, step) for step in steps)

    async def _with_payload(self, name: str, step: int) -> Outcome:
        return await self.run(payload={**self.payload, name: (self.payload[name] + step) % 7})

    async def _with_props(self, step: int) -> Outcome:
        return await self.run(props={"p": (self.props["p"] + step) % 7})

    async def _with_variable(self, workflow: str, name: str, step: int) -> Outcome:
        await self._write(workflow, name, (self.variables[name] + step) % 7)
        try:
            return await self.run()
        finally:
            await self._write(workflow, name, self.variables[name])

    async def _with_answer(self, at: int, step: int) -> Outcome:
        known = dict(self.answers[at])
        self.answers[at].update(n=(known["n"] + step) % 7)
        if step % 3 == 0:
            self.answers[at].update(list=[*known["list"], step])
        elif step % 3 == 1:
            self.answers[at].update(ok=False)
        try:
            return await self.run()
        finally:
            self.answers[at].update(known)

    async def _with_row(self, step: int) -> Outcome:
        known, changed = dict(self.rows), str(step % 2)
        await self._rows({**known, changed: (known[changed] + step) % 7})
        try:
            return await self.run()
        finally:
            await self._rows(known)

    async def _with_balance(self, step: int) -> Outcome:
        address = (self.stage.payer, self.stage.recipients[0])[step % 2]
        await self._set_balance(address, step)
        try:
            return await self.run()
        finally:
            await self._set_balance(address, 0)

    async def _with_said(self, name: str, step: int) -> Outcome:
        """What a model, a tool or a source of prices says."""
        usual = self.answers[0][name]
        self.answers[0][name] = usual + step
        try:
            return await self.run()
        finally:
            self.answers[0][name] = usual

    async def _with_name(self, workflow: str, step: int) -> Outcome:
        await self.api.call("PUT", f"/v1/workflows/{workflow}", {"name": "w" * (1 + step)})
        try:
            return await self.run()
        finally:
            await self.api.call("PUT", f"/v1/workflows/{workflow}", {"name": "w"})

    async def _with_contract(self, address: str, step: int) -> Outcome:
        await self._set_balance(address, step)
        try:
            return await self.run()
        finally:
            await self._set_balance(address, 0)

    async def _with_token(self, step: int) -> Outcome:
        await self._sign(step)
        try:
            return await self.run()
        finally:
            await self._sign(0)

    async def _sign(self, number: int) -> None:
        body = {"data": {"token": f"token-{number}"}}
        await self.api.call("PUT", f"/v1/connectors/{self.stage.signed}", body)

    def _definition_cases(self) -> Iterator[Case]:
        for workflow, document in self.documents.items():
            found = list(changed_definitions(document, self.choice))
            for node, name, changed in self.choice.sample(found, min(len(found), _MOST_DEFINITIONS // 2)):
                source = Source("definition", f"{workflow}@1", (node, name))
                runs = tuple(lambda workflow=workflow, one=one: self._with_definition(workflow, one) for one in changed)
                yield Case(source, runs)

    async def _with_definition(self, workflow: str, changed: Json) -> Outcome:
        await self.api.call("PUT", f"/v1/workflows/{workflow}", {"definition": changed})
        try:
            return await self.run()
        finally:
            await self.api.call("PUT", f"/v1/workflows/{workflow}", {"definition": self.documents[workflow]})


async def compare(trial: Trial, tally: Tally, most: int | None = None) -> None:
    """All pairs of one workflow, or those of the first sources: the variants with the base and with each other."""
    try:
        slices = await trial.open()
        base = await trial.base()
    except Unusable:
        tally.counts["unusable"] += 1
        return
    tally.counts["workflows"] += 1
    tally.counts[f"base {base.status}"] += 1
    tally.counts["spends"] += sum(map(len, base.spends.values()))
    tally.counts["nodes"] += sum(len(document["nodes"]) for document in trial.documents.values())
    can_stop = "'stop'" in str(trial.documents)
    for case in itertools.islice(trial.cases(), most):
        found = [base]
        for variant in case.variants:
            try:
                found.append(await variant())
            except Unusable:
                tally.counts["changes refused"] += 1
        for one, other in itertools.combinations(found, 2):
            _judge(case, one, other, slices, tally, can_stop)
        for other in found[1:]:
            _judge_report(case, base, other, slices, tally)


def _judge(
    case: Case, one: Outcome, other: Outcome, slices: Mapping[str, SpendSlice], tally: Tally, can_stop: bool
) -> None:
    tally.counts["pairs"] += 1
    tally.kinds[f"{case.kind}: pairs"] += 1
    is_different = False
    is_strict = one.status == other.status == "success" and not can_stop
    for node in {*one.spends, *other.spends}:
        found, a, b = slices[node], one.spends.get(node, {}), other.spends.get(node, {})
        for at, name in enumerate(_FIELDS):
            moved = any(a[path][at] != b[path][at] for path in a.keys() & b.keys())
            said = case.is_in(found.fields.get(name, frozenset()))
            tally.counts["a field differed"] += moved
            tally.counts["a field names the source"] += said
            tally.counts["a field names the source and differed"] += moved and said
            is_different = is_different or moved
            tally.kinds[f"{case.kind}: fields named"] += said
            tally.kinds[f"{case.kind}: fields moved"] += moved
            if moved and not said:
                tally.misses.append(f"{case.source} changes {name} of {found.place}")
        if a.keys() != b.keys():
            is_different = True
            level = _level(found, case)
            tally.counts[f"a spend came or went: {level}"] += 1
            tally.counts["a spend came or went, both runs succeeding"] += is_strict
            if level == "nowhere" or (is_strict and level == "stops"):
                tally.misses.append(f"{case.source} decides {found.place}, and is {level} in its slice")
    tally.kinds[f"{case.kind}: differing"] += is_different


def _judge_report(case: Case, base: Outcome, other: Outcome, slices: Mapping[str, SpendSlice], tally: Tally) -> None:
    """What the report of the base says must hold for every change of it, and be within what holds for any run."""
    for node, said in base.said.items():
        if said is None or node not in base.spends:
            continue
        a, b = base.spends[node], other.spends.get(node, {})
        for at, name in enumerate(_FIELDS):
            if any(a[path][at] != b[path][at] for path in a.keys() & b.keys()):
                tally.counts["a field differed, judged by the report"] += 1
                if not case.is_told(said.get(name, frozenset())):
                    tally.misses.append(f"{case.source} changes {name} of {node}, and is not in the report")
            if not case.through and not said.get(name, frozenset()) <= slices[node].fields.get(name, frozenset()):
                more = sorted(map(str, said.get(name, frozenset()) - slices[node].fields.get(name, frozenset())))
                tally.misses.append(f"{node}: the report names more than the slice in {name}: {more[:3]}")
        if a.keys() - b.keys():
            tally.counts["a spend went, judged by the report"] += 1
            if not any(case.is_told(one) for one in (*said.values(), slices[node].stops)):
                tally.misses.append(f"{case.source} decides {node}, and is not in the report")


def _said(one: Json) -> Mapping[str, frozenset[Source]] | None:
    lists = {"decides": one["decides"], **{each["field"]: each for each in one["fields"]}}
    if any(len(each["sources"]) < each["total"] for each in lists.values()):
        return None
    return {name: frozenset(parse_source(at["source"]) for at in each["sources"]) for name, each in lists.items()}


def _level(found: SpendSlice, case: Case) -> str:
    for level, sources in (("data", found.data), ("decides", found.decides), ("stops", found.stops)):
        if case.is_in(sources):
            return level
    return "nowhere"


def _names(sources: frozenset[Source], source: Source) -> bool:
    return source in sources or any(one.covers(source) for one in sources)


async def work(
    api: Api,
    stages: asyncio.Queue[tuple[Stage, list[Json]]],
    seed: int,
    tally: Tally,
    set_balance: Any,
    make: type[Trial] = Trial,
) -> None:
    """One workflow, on a stage that is free."""
    stage, answers = await stages.get()
    try:
        own = Tally(tally.counts, tally.kinds)
        trial = make(api, stage, answers, random.Random(seed), set_balance)
        await compare(trial, own)
        await trial.close()
        tally.misses += [f"workflow {seed}: {miss}" for miss in own.misses]
    finally:
        stages.put_nowait((stage, answers))
