"""The workflows that run while the server is killed: every kind of node whose interruption could do harm."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Nodes = dict[str, dict[str, Any]]

SUCCESS = frozenset({"success"})
ANY_END = frozenset({"success", "partial", "failure", "cancelled"})


@dataclass(frozen=True, slots=True)
class Kind:
    """One workflow: its nodes, how its runs may end, and what its node `say` must have logged when it did."""

    name: str
    nodes: Nodes
    ends: frozenset[str] = SUCCESS
    says: str | None = None
    cancels: bool = False
    variables: tuple[str, ...] = ()

    def definition(self, workflows: dict[str, str]) -> dict[str, Any]:
        """The document; `workflows` are the ids of those that it may call."""
        nodes = dict(self.nodes)
        for node_id, node in nodes.items():
            if node["type"] == "call-workflow":
                payload = {**node["payload"], "workflowId": workflows[node["payload"]["workflowId"]]}
                nodes[node_id] = {**node, "payload": payload}
        declared = [{"name": name, "type": "number", "default": 0} for name in self.variables]
        return {"nodes": nodes, "triggerNodeIds": ["root"], "variableDefs": declared}


def _root(*children: str) -> dict[str, Any]:
    return {"type": "manual", "payload": {}, "children": list(children)}


def _url(behaviour: str, step: str) -> str:
    return "{{$trigger.body.sink}}/" + behaviour + "/{{$trigger.body.tag}}/" + step


def write(behaviour: str, step: str, *children: str, idempotent: bool = False, **more: Any) -> dict[str, Any]:
    """A POST to the sink, answered as `behaviour` says."""
    payload: dict[str, Any] = {"method": "POST", "url": _url(behaviour, step), "json": {"step": step}}
    if idempotent:
        payload["idempotent"] = True
    return {"type": "http-request", "payload": payload, "children": list(children), **more}


def read(behaviour: str, step: str, *children: str, **more: Any) -> dict[str, Any]:
    """A GET from the sink."""
    payload = {"method": "GET", "url": _url(behaviour, step)}
    return {"type": "http-request", "payload": payload, "children": list(children), **more}


def say(message: str, *children: str, **more: Any) -> dict[str, Any]:
    """A line in the run's log."""
    return {"type": "log", "payload": {"message": message}, "children": list(children), **more}


def _chain() -> Nodes:
    return {
        "root": _root("a"),
        "a": write("ok", "a", "b", idempotent=True),
        "b": write("slow", "b", "c", idempotent=True),
        "c": read("ok", "c", "say"),
        "say": say("{{$nodes.a.result.status}} {{$nodes.b.result.status}} {{$nodes.c.result.status}}"),
    }


def _plain() -> Nodes:
    return {
        "root": _root("a"),
        "a": write("ok", "a", "b"),
        "b": write("slow", "b", "say"),
        "say": say("both done"),
    }


def _policies() -> Nodes:
    return {
        "root": _root("gives_up", "again", "asks"),
        "gives_up": write("slow", "gives_up", "say", onUncertain="fail", onError="continue"),
        "again": write("slow", "again", "say", onUncertain="retry", retry={"maxAttempts": 3, "backoffMs": 20}),
        "asks": write("slow", "asks", "say"),
        "say": say("all settled"),
    }


def _choice() -> Nodes:
    test = {"$and": [{"{{$trigger.body.n % 2}}": {"$eq": 0}}]}
    return {
        "root": _root("look"),
        "look": read("ok", "look", "check"),
        "check": {"type": "if", "payload": {"condition": test}, "children": ["even", "odd"]},
        "even": write("ok", "even", "say", branch="then", idempotent=True),
        "odd": write("ok", "odd", "say", branch="else"),
        "say": say("chosen", join="any"),
    }


def _loop(*, idempotent: bool) -> Nodes:
    loop = {
        "type": "for-each",
        "payload": {"array": "{{$trigger.body.items}}", "concurrency": 2},
        "loopBody": ["w", "note"],
        "children": ["say"],
    }
    return {
        "root": _root("each"),
        "each": loop,
        "w": write("ok", "w{{$index}}", "note", idempotent=idempotent),
        "note": say("{{$item}} is {{$nodes.w.result.status}}"),
        "say": say("{{$nodes.each.result.iterationCount}} items"),
    }


def _pause() -> Nodes:
    return {
        "root": _root("nap"),
        "nap": {"type": "delay", "payload": {"delayMs": "{{$trigger.body.delayMs}}"}, "children": ["w"]},
        "w": write("ok", "w", "rest", idempotent=True),
        "rest": {"type": "delay", "payload": {"delayMs": 300}, "children": ["say"]},
        "say": say("awake"),
    }


def _retries() -> Nodes:
    policy = {"maxAttempts": 5, "backoffMs": 30}
    return {
        "root": _root("r"),
        "r": read("flaky", "r", "w", retry=policy),
        "w": write("flaky", "w", "say", idempotent=True, retry=policy),
        "say": say("at last"),
    }


def _lost_answer() -> Nodes:
    return {
        "root": _root("d", "e"),
        "d": write("drop", "d", "say"),
        "e": write("drop", "e", "say", idempotent=True, onUncertain="retry"),
        "say": say("answered"),
    }


def _pure() -> Nodes:
    names = [f"n{index}" for index in range(8)]
    following = [*names[1:], "w"]
    nodes: Nodes = {
        name: say(f"{{{{$trigger.body.n + {i}}}}}", next_)
        for i, (name, next_) in enumerate(zip(names, following, strict=True))
    }
    return {
        "root": _root("n0"),
        **nodes,
        "w": write("ok", "w", "say", idempotent=True),
        "say": say("{{$nodes.n7.result.message}}"),
    }


def _wide() -> Nodes:
    names = [f"w{index}" for index in range(6)]
    nodes: Nodes = {name: write("ok", name, "say", idempotent=index % 2 == 0) for index, name in enumerate(names)}
    return {"root": _root(*names), **nodes, "say": say("joined")}


def _long() -> Nodes:
    return {
        "root": _root("a"),
        "a": write("ok", "a", "nap", idempotent=True),
        "nap": {"type": "delay", "payload": {"delayMs": 400}, "children": ["b", "c"]},
        "b": write("slow", "b", "say"),
        "c": read("slow", "c", "say"),
        "say": say("not cancelled in time"),
    }


def _counter() -> Nodes:
    step = {"name": "n", "by": 1}
    return {
        "root": _root("one"),
        "one": {"type": "increment-variable", "payload": step, "children": ["w"]},
        "w": write("slow", "w", "two", idempotent=True),
        "two": {"type": "increment-variable", "payload": step, "children": ["say"]},
        "say": say("counted"),
    }


CHILD_SUFFIX = "-child"


def _calls() -> Nodes:
    payload = {"sink": "{{$trigger.body.sink}}", "tag": "{{$trigger.body.tag}}" + CHILD_SUFFIX}
    return {
        "root": _root("child"),
        "child": {
            "type": "call-workflow",
            "payload": {"workflowId": "chain", "payload": payload},
            "children": ["w"],
        },
        "w": write("ok", "w", "say", idempotent=True),
        "say": say("child is {{$nodes.child.result.status}}"),
    }


def _waits() -> Nodes:
    return {
        "root": _root("hold"),
        "hold": {"type": "wait", "payload": {"timeoutMs": 600_000}, "children": ["w"]},
        "w": write("ok", "w", "say"),
        "say": say("resumed"),
    }


KINDS: tuple[Kind, ...] = (
    Kind("chain", _chain(), says="200 200 200"),
    Kind("keyed", _chain(), says="200 200 200"),
    Kind("plain", _plain(), says="both done"),
    Kind("policies", _policies(), ends=frozenset({"success", "partial"})),
    Kind("choice", _choice(), says="chosen"),
    Kind("loop", _loop(idempotent=True), says="4 items"),
    Kind("loop-plain", _loop(idempotent=False), says="4 items"),
    Kind("pause", _pause(), says="awake"),
    Kind("retries", _retries(), says="at last"),
    Kind("lost-answer", _lost_answer(), says="answered"),
    Kind("pure", _pure()),
    Kind("wide", _wide(), says="joined"),
    Kind("counter", _counter(), says="counted", variables=("n",)),
    Kind("calls", _calls(), says="child is success"),
    Kind("waits", _waits(), says="resumed"),
    Kind("cancelled", _long(), ends=ANY_END, cancels=True),
)

BY_NAME = {kind.name: kind for kind in KINDS}
