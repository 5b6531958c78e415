"""Slices as API objects, with words: what every surface shows as "why this amount, why this recipient"."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from dustrun.core.sources.inputs import MONEY_FIELDS
from dustrun.core.sources.slicer import workflow_of
from dustrun.core.sources.source import ANY, Source, parse_source
from dustrun.core.sources.spend_slice import SpendSlice

# Sources in words, for people: reports, warnings, the command line and assistants say them the same way.


LEVELS: Final[Mapping[str, str]] = {
    "recipient": "who is paid",
    "amount": "how much",
    "asset": "which asset",
    "chain": "on which chain",
    "calldata": "what a contract is told",
    "limits": "within which limits",
    "wallet": "from which wallet",
    "decides": "whether it happens, and how often",
}
"""The questions that each money field, and `decides`, answers."""


def describe(source: Source) -> str:
    """A source in a few words that fit after "comes from"."""
    said = _WORDS[source.kind](source)
    return said if source.name != ANY else f"any {source.kind}"


def _definition(source: Source) -> str:
    if not source.path:
        return f"version {source.version} of {source.workflow}"
    field = f"`{source.path[1]}` of " if len(source.path) > 1 else ""
    return f"{field}`{source.path[0]}`, written in version {source.version} of {source.workflow}"


def _trigger(source: Source) -> str:
    path = "".join(f"[{one}]" if one.isdecimal() else f".{one}" for one in source.path)
    return f"`$trigger{path}` of the {source.name} that started the run"


_WORDS: Final[Mapping[str, Callable[[Source], str]]] = {
    "definition": _definition,
    "trigger": _trigger,
    "props": lambda one: f"the property `{one.name}` of whoever started the run",
    "http": lambda one: f"the answer of {one.name}",
    "model": lambda one: f"what the model of {one.name} says",
    "mcp": lambda one: f"the answer of a tool of {one.name}",
    "connector": lambda one: f"the connector {one.name}: where it points, and its credentials",
    "import": lambda one: f"the imported document {one.name}: where its requests go, and what they are",
    "system": lambda one: f"the answer to `{one.name}`",
    "chain": lambda one: f"the state of chain {one.name}",
    "contract": lambda one: f"the answer of the contract {''.join(one.path) or ANY} on chain {one.name}",
    "price": lambda one: f"a price on chain {one.name}",
    "variable": lambda one: f"the variable `{''.join(one.path)}` of {one.name}, as it was written before",
    "table": lambda one: f"the table `{one.name}`, as it was written before",
    "workflow": lambda one: f"the name of {one.name}" if one.path else f"the workflow {one.name}",
    "approval": lambda one: f"{'what is said with ' if one.path[1:] else ''}the decision at `{one.path[0]}`",
    "resume": lambda one: f"whoever resumes `{''.join(one.path)}`",
    "env": lambda one: f"the server's variable `{one.name}`",
    "setting": lambda one: f"the setting {one.name}",
    "clock": lambda _: "the time",
    "run": lambda _: "the run's own id and mode",
    "result": lambda one: f"the result of `{''.join(one.path)}` in {one.name}",
}


_MOST_SAID: Final = 2
_MOST_CHARS: Final = 300
_WRITTEN: Final = frozenset({"definition", "setting", "chain", "clock", "run", "env"})


def in_a_sentence(sources: Mapping[str, Iterable[str]]) -> str:
    """The sources of a spend's money fields, as its verdict keeps them, short enough for a list: without what its
    authors wrote and the settings and chains say."""
    parts = []
    for money in MONEY_FIELDS:
        others = (one for one in sources.get(money, ()) if one.partition(":")[0] not in _WRITTEN)
        said = [_in_words(one) for one in sorted(others, key=lambda one: (one == "starter", one))]
        if said:
            more = f" and {len(said) - _MOST_SAID} more" if len(said) > _MOST_SAID else ""
            parts.append(f"{LEVELS[money]}: {', '.join(said[:_MOST_SAID])}{more}")
    return shortened("; ".join(parts) or "as its authors wrote it")


def shortened(text: str) -> str:
    """A text short enough for a list."""
    return text if len(text) <= _MOST_CHARS else text[: _MOST_CHARS - 1] + "…"


def _in_words(source: str) -> str:
    return "what its starter gave" if source == "starter" else describe(parse_source(source))


Json = dict[str, Any]
MayTell = Callable[[str], bool]
MOST_SOURCES: Final = 100
"""Sources that one list shows; `total` says how many there are."""
MOST_NODES: Final = 500


def report_of(found: SpendSlice, may_tell: MayTell, *, with_stops: bool) -> Json:
    """One spend with its sources. `may_tell`: whether a workflow may be named; the sources of others are one `*`."""
    key, node_id = found.place
    stops = found.stops - found.data - found.decides if with_stops else None
    return {
        "workflowId": workflow_of(key),
        "version": int(key.rpartition("@")[2]),
        "nodeId": node_id,
        "type": found.type,
        "fields": [
            {"field": money, "question": LEVELS[money], **list_sources(found.fields[money], may_tell)}
            for money in MONEY_FIELDS
            if money in found.fields
        ],
        "decides": {"question": LEVELS["decides"], **list_sources(found.decides, may_tell)},
        "stops": None if stops is None else {"question": "what can only prevent it", **list_sources(stops, may_tell)},
        "nodes": _nodes(found, may_tell),
        "approvals": [
            {"nodeId": approval.node, "shows": sorted(fields, key=MONEY_FIELDS.index)}
            for approval, fields in found.shown.items()
        ],
    }


def _nodes(found: SpendSlice, may_tell: MayTell) -> list[Json]:
    """The nodes that shape it, but for itself."""
    data = found.places_of(found.data) - {found.place}
    deciding = found.places_of(found.decides) - {found.place} - data
    levels = [(place, "data") for place in sorted(data)] + [(place, "decides") for place in sorted(deciding)]
    told = [(key, node_id, level) for (key, node_id), level in levels if may_tell(workflow_of(key))]
    return [
        {"workflowId": workflow_of(key), "version": int(key.rpartition("@")[2]), "nodeId": node_id, "level": level}
        for key, node_id, level in told[:MOST_NODES]
    ]


def list_sources(sources: Iterable[Source], may_tell: MayTell) -> Json:
    """Sources as a list of them is shown, and how many there are."""
    told = {_visible(one, may_tell) for one in sources}
    ordered = sorted(told, key=lambda one: (one.kind == "definition", str(one)))
    shown: list[Mapping[str, str]] = [
        {"source": str(one), "kind": one.kind, "says": describe(one)} for one in ordered[:MOST_SOURCES]
    ]
    return {"sources": shown, "total": len(ordered)}


def _visible(source: Source, may_tell: MayTell) -> Source:
    workflow = source.workflow
    return source if workflow is None or workflow == ANY or may_tell(workflow) else Source(source.kind, ANY)
