"""Random workflows whose spends hang on everything that there is: the world of the proof of sources.

Every node's inputs are integer expressions over what came before; amounts and recipients are such expressions too, so
that a changed source is likely to show. A workflow may call a helper, which may spend as well.
"""

from __future__ import annotations

import copy
import json
import random
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from testkit.chain.anvil import CHAIN_ID

Json = dict[str, Any]
VARIABLES: Final = ("v", "w")
TRIGGERED: Final = ("a", "b", "c")
TOOL: Final = "look"
"""The tool of a stage's MCP server."""
ROOT_VALUES: Final = ("$trigger.body.a", "$trigger.body.b", "$inputs.c", "int($props.p)")
HELPER_VALUES: Final = ("$trigger.body.a", "$trigger.body.b")
_KEPT: Final = frozenset({"chainId", "timeoutMs", "url", "workflowId", "table"})
_NUMBER: Final = re.compile(r"(?<![\w.\[$'\"x-])([0-6])(?![\w\]])")
_ODD: Final = "if (Number(input) % 2) throw new Error('odd'); return 1"


@dataclass(frozen=True)
class Stage:
    """What one workflow has to itself: recipients, hosts that answer it, its table, its wallet. Not in each world: the
    connector of a model, a contract that answers a number, a connector whose token the first host answers with, the
    connector of a server with a tool, a token with a price, whose symbol is its owner's to choose."""

    recipients: tuple[str, ...]
    hosts: tuple[str, ...]
    table: str
    wallet: str
    payer: str
    model: str = ""
    contract: str = ""
    signed: str = ""
    tools: str = ""
    token: str = ""

    def recipient(self, value: str) -> str:
        """A template that chooses a recipient."""
        return _template(f"{_quoted(self.recipients)}[({value}) % {len(self.recipients)}]")


class Draft:
    """One definition in the making. `helper`: the workflow that it may call; `is_live`: it is run live, with people who
    answer, and without what earlier runs or time change: balances, races."""

    def __init__(
        self, stage: Stage, choice: random.Random, prefix: str, helper: str | None, spends: bool, is_live: bool = False
    ) -> None:
        self.stage, self.choice, self.prefix, self.helper, self.spends = stage, choice, prefix, helper, spends
        self.is_live = is_live
        self.nodes: Json = {"root": {"type": "manual", "children": []}}
        self._count = 0

    def build(self, length: int, known: Sequence[str], opening: Step | None = None, is_writer: bool = False) -> Json:
        """The definition: a row of steps and a spend at its end; of a helper, a result that may hang on a branch.
        `opening`: its first step; `is_writer`: it ends with a row that it writes, and maybe removes another."""
        first, values = self._opened(opening, list(known), length)
        self.nodes["root"]["children"] = [first]
        end = self._end_of(first)
        if is_writer:
            for step in self.choice.choice([(_leaves,), (_leaves, _removes), (_stores, _removes)]):
                last = self._add(step(self, "", values)[0])
                self._follow(end, last)
                end = last
        elif self.helper is not None:
            self._follow(end, self._add(self.spend(values)))
            if not self.is_live and self.choice.random() < 0.25:  # a second row, beside the first
                beside, _ = self._row(list(known[:3]), self.choice.randint(1, 2), 0)
                self.nodes["root"]["children"].append(beside)
        elif self.choice.random() < 0.5:
            self._follow(end, self._add(self.write("out", values)))
        else:  # two ends: a branch chooses the last node
            ends = [self._add(self.write("out", values) | {"branch": branch}) for branch in ("then", "else")]
            self._follow(
                end, self._add({"type": "if", "payload": {"expression": self._test(values)}, "children": ends})
            )
        declared = [{"name": name, "type": "any", "default": 1} for name in VARIABLES]
        return {"nodes": self.nodes, "triggerNodeIds": ["root"], "variableDefs": declared}

    def _opened(self, opening: Step | None, known: list[str], length: int) -> tuple[str, list[str]]:
        if opening is None:
            return self._row(known, length, 0)
        name = self._name()
        node, more = opening(self, name, known)
        first, values = self._row([*known, *more * 3], length, 0)
        return self._add({**node, "children": [first]}, name), [*values, *more * 3]

    def _add(self, node: Json, name: str | None = None) -> str:
        name = name or self._name()
        self.nodes[name] = {"children": [], **node}
        return name

    def _name(self) -> str:
        self._count += 1
        return f"{self.prefix}{self._count}"

    def _follow(self, before: str, after: str) -> None:
        self.nodes[before]["children"].append(after)

    def _end_of(self, first: str) -> str:
        name = first
        while children := self.nodes[name]["children"]:
            name = next((one for one in children if self.nodes[one]["type"] != "stop"), children[-1])
        return name

    # --- expressions ---

    def small(self) -> int:
        return self.choice.randint(0, 6)

    def value(self, known: Sequence[str], depth: int = 0) -> str:
        """An expression that gives an integer."""
        chance = self.choice.random()

        def value() -> str:
            return self.value(known, depth + 1)

        if depth < 2 and chance < 0.25:
            return f"({value()} {self.choice.choice('+*')} {value()})"
        if depth < 2 and chance < 0.33:
            return f"({self._test(known, depth + 1)} ? {value()} : {value()})"
        if depth < 2 and chance < 0.36:
            return f"int($vars[['v', 'w'][({value()}) % 2]])"
        if depth < 2 and chance < 0.40:
            return f"size([{value()}, {value()}, 3].filter(q, q > {value()}))"
        if depth < 2 and chance < 0.43:
            return f"([{value()}, {value()}].exists(q, q % 2 == 0) ? 1 : 5)"
        if chance < 0.47:
            return f"int($vars.{self.choice.choice(VARIABLES)})"
        if known and chance < 0.93:
            return self.choice.choice(known[-4:] if self.choice.random() < 0.6 else known)
        return str(self.small())

    def _test(self, known: Sequence[str], depth: int = 1) -> str:
        return f"({self.value(known, depth)} % 2 == {self.choice.randint(0, 1)})"

    def text(self, known: Sequence[str]) -> str:
        return _template(f"string({self.value(known)})")

    # --- steps ---

    def _row(self, known: list[str], length: int, depth: int) -> tuple[str, list[str]]:
        """So many steps in a row, some of which fork and join again: the first, and what is known after them."""
        first = last = ""
        for _ in range(length):
            begin, end = (self._fork if self.choice.random() < 0.3 and depth < 2 else self._step)(known, depth)
            if last:
                self._follow(last, begin)
            first, last = first or begin, end
        return first, known

    def _fork(self, known: list[str], depth: int) -> tuple[str, str]:
        fork, one, other = self._name(), self._name(), self._name()
        labels, node = self._forking(known)
        for name, label in ((one, labels[0]), (other, labels[1])):
            self._add(self._side(known) | ({"branch": label} if label else {}), name)
        if self.choice.random() < 0.1:
            stop = {"type": "stop", "payload": {"status": "success", "message": "x"}, "branch": labels[1]}
            self._add(stop, other)
        self._add(node | {"children": [one, other]}, fork)
        joining = {"join": "any"} if not self.is_live and self.choice.random() < 0.3 else {}
        join = self._add({"type": "log", "payload": {"message": self.text(known)}, **joining})
        for name in (one, other):
            side = self.nodes[name]
            if side["type"] == "stop":
                continue
            self._follow(name, join)
            known.append(f"($nodes.{name}.status == 'success' ? 2 : 3)")
            if side["type"] == "format":
                known.append(f"int($nodes.{name}.result.text ?? '4')")
            if side["type"] == "set-variable":
                known += [f"int($vars.{side['payload']['name']})"] * 3
        return fork, join

    def _forking(self, known: Sequence[str]) -> tuple[tuple[str | None, str], Json]:
        chance, test = self.choice.random(), self._test(known)
        if self.is_live and chance < 0.3:
            return ("approved", "rejected"), _question(self.text(known))
        if chance < 0.6:
            return ("then", "else"), {"type": "if", "payload": {"expression": test}}
        if chance < 0.8:
            cases = [{"name": "one", "expression": test}]
            return ("one", "default"), {"type": "switch", "payload": {"cases": cases}}
        payload = {"code": _ODD, "input": _template(self.value(known))}
        return (None, "error"), {"type": "code-transform", "onError": "branch", "payload": payload}

    def _side(self, known: Sequence[str]) -> Json:
        chance = self.choice.random()
        if chance < 0.35 and self.spends:
            return self.spend(known)
        if chance < 0.5 and self.helper is not None:
            return self.call(known)
        if chance < 0.6:
            return self.write(self.choice.choice(VARIABLES), known)
        return {"type": "format", "payload": {"template": self.text(known)}}

    def _step(self, known: list[str], depth: int) -> tuple[str, str]:
        kinds: list[Step] = [*(_LIVE_STEPS if self.is_live else _STEPS)]
        kinds += [step for step, name in _OF_STAGES.items() if not self.is_live and getattr(self.stage, name)] * 2
        kinds += [_pauses] * 2 if self.is_live and not depth else []
        kinds += [_calls] * 2 if self.helper is not None else []
        kinds += [_spends] * 2 if self.spends else []
        name = self._name()
        if depth < 2 and self.choice.random() < 0.15:
            node, more = self._loop(name, known, depth)
        else:
            node, more = self.choice.choice(kinds)(self, name, known)
        known += more * 2
        self._add(node, name)
        return name, name

    def _loop(self, name: str, known: list[str], depth: int) -> tuple[Json, list[str]]:
        small = self.small

        def value() -> str:
            return self.value(known)

        lists = [
            _template(f"[{value()}, {value()}]"),
            _template(f"[1,2,3,4].filter(q, q <= ({value()}) % 4)"),
            [small(), small()],
        ]
        payload: Json = {"array": self.choice.choice(lists)}
        payload["onItemError"] = self.choice.choice(["fail", "continue", "stop"])
        if self.choice.random() < 0.4:
            following = _template(f"($item + {value()}) % 50")
            payload = {"while": f"$index < ({value()}) % 3", "first": _template(value()), "next": following}
        body, _ = self._row([*known, "$index", "int($item)", "int($item)"], self.choice.randint(1, 2), depth + 1)
        results = [f"$nodes.{name}.result.iterationCount", f"$nodes.{name}.result.counts.success"]
        return {"type": "for-each", "payload": payload, "loopBody": [body]}, results

    def write(self, variable: str, known: Sequence[str]) -> Json:
        return {"type": "set-variable", "payload": {"name": variable, "value": _template(self.value(known))}}

    def call(self, known: Sequence[str]) -> Json:
        given = {name: _template(self.value(known)) for name in ("a", "b")}
        return {"type": "call-workflow", "payload": {"workflowId": self.helper, "payload": given}}

    def spend(self, known: Sequence[str]) -> Json:
        chance, stage = self.choice.random(), self.stage
        amount = _template(f"string(1 + ({self.value(known)}) % 97)")
        if chance < 0.06 and not self.is_live:
            amount = "max"
        elif chance < 0.25:
            amount = str(1 + self.small())
        to = stage.recipient(self.value(known)) if self.choice.random() < 0.7 else stage.recipients[0]
        wallet = {"type": "wallet", "id": stage.wallet}
        if self.choice.random() < 0.18:
            return {"type": "batch-transfer", "payload": self._rows(known, to), "connector": wallet}
        payload = {"chainId": CHAIN_ID, "recipient": to, "amount": amount}
        return {"type": "send-native", "payload": payload, "connector": wallet}

    def _rows(self, known: Sequence[str], to: str) -> Json:
        if self.choice.random() < 0.5:
            amounts = [_template(f"string(1 + ({self.value(known)}) % 97)") for _ in range(2)]
            return {"chainId": CHAIN_ID, "rows": [{"recipient": to, "amount": one} for one in amounts]}
        chosen = f"{_quoted(self.stage.recipients)}[q % {len(self.stage.recipients)}]"
        entry = f"{{'recipient': {chosen}, 'amount': string(1 + q % 50)}}"
        listed = f"[{self.value(known)}, {self.value(known)}]"
        return {"chainId": CHAIN_ID, "rows": _template(f"{listed}.map(q, {entry})")}


Step = Callable[[Draft, str, list[str]], tuple[Json, list[str]]]


def _formats(draft: Draft, name: str, known: list[str]) -> tuple[Json, list[str]]:
    return {"type": "format", "payload": {"template": draft.text(known)}}, [f"int($nodes.{name}.result.text)"]


def _computes(draft: Draft, name: str, known: list[str]) -> tuple[Json, list[str]]:
    code = f"return {{n: Number(input.a) % 1000 + {draft.small()}, m: Number(input.b) % 1000}}"
    given = {key: _template(draft.value(known)) for key in ("a", "b")}
    results = [f"int($nodes.{name}.result.value.n)", f"int($nodes.{name}.result.value.m)"]
    return {"type": "code-transform", "payload": {"code": code, "input": given}}, results


def _asks(draft: Draft, name: str, known: list[str]) -> tuple[Json, list[str]]:
    url = f"http://{draft.choice.choice(draft.stage.hosts)}/x"
    node: Json = {"type": "http-request", "payload": {"method": "GET", "url": url}}
    result = f"$nodes.{name}.result.body"
    if draft.choice.random() < 0.4:
        node["onError"] = "continue"
        return node, [f"({result}.n ?? {draft.small()})", f"($nodes.{name}.status == 'success' ? 1 : 2)"]
    return node, [f"{result}.n", f"size({result}.list)", f"{result}.list[0]"]


def _writes(draft: Draft, name: str, known: list[str]) -> tuple[Json, list[str]]:
    return draft.write(draft.choice.choice(VARIABLES), known), [f"$nodes.{name}.result.value"]


def _adds(draft: Draft, name: str, known: list[str]) -> tuple[Json, list[str]]:
    payload = {"name": draft.choice.choice(VARIABLES), "by": _template(draft.value(known))}
    return {"type": "increment-variable", "payload": payload}, [f"$nodes.{name}.result.value"]


def _reads(draft: Draft, name: str, known: list[str]) -> tuple[Json, list[str]]:
    payload = {"name": draft.choice.choice(VARIABLES), "default": draft.small()}
    return {"type": "get-variable", "payload": payload}, [f"int($nodes.{name}.result.value)"]


def _plucks(draft: Draft, name: str, known: list[str]) -> tuple[Json, list[str]]:
    listed = _template(f"[{draft.value(known)}, {draft.value(known)}].map(q, {{'n': q}})")
    results = [f"$nodes.{name}.result.items[0]", f"$nodes.{name}.result.items[1]"]
    return {"type": "pluck", "payload": {"array": listed, "field": "n"}}, results


def _tries(draft: Draft, name: str, known: list[str]) -> tuple[Json, list[str]]:
    payload = {"code": _ODD, "input": _template(draft.value(known))}
    value = f"$nodes.{name}.result.value"
    results = [f"(has({value}) ? int({value}) : {draft.small()})", f"(has($nodes.{name}.error) ? 1 : 0)"]
    return {"type": "code-transform", "onError": "continue", "payload": payload}, results


def _logs(draft: Draft, name: str, known: list[str]) -> tuple[Json, list[str]]:
    return {"type": "log", "payload": {"message": draft.text(known)}}, [f"int($nodes.{name}.result.message)"]


def _weighs(draft: Draft, name: str, known: list[str]) -> tuple[Json, list[str]]:
    address = draft.choice.choice([draft.stage.payer, draft.stage.recipients[0]])
    payload = {"chainId": CHAIN_ID, "address": address}
    return {"type": "get-balance", "payload": payload}, [f"(int($nodes.{name}.result.balance) % 89)"]


def _looks_up(draft: Draft, name: str, known: list[str]) -> tuple[Json, list[str]]:
    where = {"id": _template(f"string(({draft.value(known)}) % 2)")}
    results = [f"($nodes.{name}.result.first.n ?? 5)", f"$nodes.{name}.result.count"]
    return {"type": "read-table", "payload": {"table": draft.stage.table, "where": where}}, results


def _stores(draft: Draft, name: str, known: list[str]) -> tuple[Json, list[str]]:
    row = {"id": _template(f"string(({draft.value(known)}) % 2)"), "n": _template(f"({draft.value(known)}) % 1000")}
    payload = {"table": draft.stage.table, "mode": "upsert", "rows": row}
    return {"type": "write-table", "payload": payload}, []


def _consults_a_model(draft: Draft, name: str, known: list[str]) -> tuple[Json, list[str]]:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    payload = {"prompt": draft.text(known), "schema": schema, "maxCostUsd": "1"}
    connector = {"type": "llm-openai", "id": draft.stage.model}
    return {"type": "llm", "payload": payload, "connector": connector}, [f"$nodes.{name}.result.value.n"]


def _calls_a_tool(draft: Draft, name: str, known: list[str]) -> tuple[Json, list[str]]:
    payload = {"tool": TOOL, "args": {"path": draft.text(known)}}
    node = {"type": "mcp-tool", "payload": payload, "connector": {"type": "mcp", "id": draft.stage.tools}}
    return node, [f"$nodes.{name}.result.structured.n"]


def _consults_with_a_tool(draft: Draft, name: str, known: list[str]) -> tuple[Json, list[str]]:
    node, results = _consults_a_model(draft, name, known)
    tool = {"type": "mcp-tool", "name": TOOL, "payload": {"tool": TOOL}}
    node["payload"]["tools"] = [tool | {"connector": {"type": "mcp", "id": draft.stage.tools}}]
    return node, results


def _asks_a_price(draft: Draft, name: str, known: list[str]) -> tuple[Json, list[str]]:
    payload = {"chainId": CHAIN_ID, "token": draft.stage.token}
    results = [f"int($nodes.{name}.result.usd)", f"($nodes.{name}.result.symbol == 'A' ? 2 : 5)"]
    return {"type": "get-price", "payload": payload}, results


def _names_itself(draft: Draft, name: str, known: list[str]) -> tuple[Json, list[str]]:
    template = "{{string(size($workflow.name))}}"
    return {"type": "format", "payload": {"template": template}}, [f"int($nodes.{name}.result.text)"]


def _reads_a_contract(draft: Draft, name: str, known: list[str]) -> tuple[Json, list[str]]:
    payload = {"chainId": CHAIN_ID, "contract": draft.stage.contract, "function": "n() returns (uint256 n)"}
    return {"type": "read-contract", "payload": payload}, [f"(int($nodes.{name}.result.value) % 89)"]


def _asks_signed(draft: Draft, name: str, known: list[str]) -> tuple[Json, list[str]]:
    url = f"http://{draft.stage.hosts[0]}/token"
    connector = {"type": "http-bearer", "id": draft.stage.signed}
    payload = {"method": "GET", "url": url}
    return {"type": "http-request", "payload": payload, "connector": connector}, [f"$nodes.{name}.result.body.n"]


def _leaves(draft: Draft, name: str, known: list[str]) -> tuple[Json, list[str]]:
    rows = [{"id": one, "n": _template(f"({draft.value(known)}) % 1000")} for one in "01"]
    return {"type": "write-table", "payload": {"table": draft.stage.table, "mode": "upsert", "rows": rows}}, []


def _removes(draft: Draft, name: str, known: list[str]) -> tuple[Json, list[str]]:
    where = {"id": _template(f"string(({draft.value(known)}) % 2)")}
    return {"type": "write-table", "payload": {"table": draft.stage.table, "mode": "delete", "where": where}}, []


def _waits(draft: Draft, name: str, known: list[str]) -> tuple[Json, list[str]]:
    answered = {"status": "resumed", "branch": "resumed", "source": "api", "timeoutMs": 5000}
    pinned = answered | {"triggerResult": {"n": draft.small()}}
    node = {"type": "wait", "payload": {"timeoutMs": 5000}, "pinned": pinned}
    return node, [f"$nodes.{name}.result.triggerResult.n"]


def _pauses(draft: Draft, name: str, known: list[str]) -> tuple[Json, list[str]]:
    return {"type": "wait", "payload": {"timeoutMs": 600_000}}, [f"$nodes.{name}.result.triggerResult.n"]


def _consults(draft: Draft, name: str, known: list[str]) -> tuple[Json, list[str]]:
    result = f"$nodes.{name}.result"
    return _question(draft.text(known)), [
        f"int({result}.comment)",
        f"int({result}.comment)",
        f"({result}.decision == 'approved' ? 2 : 5)",
    ]


def _question(message: str) -> Json:
    return {"type": "approve", "payload": {"message": message, "allowStarter": True, "timeoutMs": 600_000}}


def _calls(draft: Draft, name: str, known: list[str]) -> tuple[Json, list[str]]:
    node = draft.call(known) | ({"onError": "continue"} if draft.choice.random() < 0.2 else {})
    result = f"($nodes.{name}.result.result.value ?? 7)"
    return node, [f"({result} == null ? 4 : int({result}))"]


def _spends(draft: Draft, name: str, known: list[str]) -> tuple[Json, list[str]]:
    return draft.spend(known), []


_STEPS: Final[tuple[Step, ...]] = (
    _formats,
    _computes,
    _asks,
    _asks,
    _writes,
    _adds,
    _reads,
    _plucks,
    _tries,
    _logs,
    _weighs,
    _looks_up,
    _looks_up,
    _stores,
    _waits,
)


_OF_STAGES: Final[dict[Step, str]] = {
    _consults_a_model: "model",
    _reads_a_contract: "contract",
    _asks_signed: "signed",
    _calls_a_tool: "tools",
    _consults_with_a_tool: "tools",
    _asks_a_price: "token",
    _names_itself: "tools",
}
"""Steps that need something of the stage."""
_ASKING: Final[tuple[Step, ...]] = (_asks, _pauses, _consults)
OPENINGS: Final[tuple[Step, ...]] = (_looks_up, _looks_up, _reads)
"""The first steps of who spends by what an earlier run left."""
_LIVE_STEPS: Final[tuple[Step, ...]] = (
    _formats,
    _asks,
    _asks,
    _writes,
    _writes,
    _adds,
    _reads,
    _looks_up,
    _looks_up,
    _looks_up,
    _stores,
    _stores,
    _tries,
    _consults,
    _consults,
)


def asking(stage: Stage) -> list[Step]:
    """The first steps of who leaves rows to others."""
    return [*_ASKING, *([_consults_a_model] if stage.model else []), *([_calls_a_tool] if stage.tools else [])]


def _template(expression: str) -> str:
    return "{{" + expression + "}}"


def _quoted(texts: Sequence[str]) -> str:
    return json.dumps(list(texts)).replace('"', "'")


def changed_definitions(definition: Json, choice: random.Random) -> Iterator[tuple[str, str, list[Json]]]:
    """(node, field, changed definitions): one number of one input, or a pinned answer, with two other values."""
    for name, node in definition["nodes"].items():
        for key, value in node.get("payload", {}).items():
            text = json.dumps(value)
            spots = [] if key in _KEPT else list(_NUMBER.finditer(text))
            if spots:
                spot = choice.choice(spots)
                numbers = [(int(spot.group(1)) + step) % 7 for step in (1, 3)]
                texts = [f"{text[: spot.start()]}{number}{text[spot.end() :]}" for number in numbers]
                yield name, key, [_changed(definition, name, "payload", key, json.loads(one)) for one in texts]
        if "pinned" in node:
            answer = node["pinned"]["triggerResult"]
            answers = [{**answer, "n": (answer["n"] + step) % 7} for step in (1, 3)]
            yield name, "pinned", [_changed(definition, name, "pinned", "triggerResult", one) for one in answers]


def _changed(definition: Json, node: str, part: str, key: str, value: Any) -> Json:
    found = copy.deepcopy(definition)
    found["nodes"][node][part][key] = value
    return found
