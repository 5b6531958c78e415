"""Sources in words, for people: reports, warnings, the command line and assistants say them the same way."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from dustrun.core.sources.source import ANY, Source

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
"""What each money field, and `decides`, answers."""


def describe(source: Source) -> str:
    """What a source is, in a few words that fit after "comes from"."""
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
    "system": lambda one: f"the answer to `{one.name}`",
    "chain": lambda one: f"the state of chain {one.name}",
    "contract": lambda one: f"the answer of the contract {''.join(one.path) or ANY} on chain {one.name}",
    "price": lambda one: f"a price on chain {one.name}",
    "variable": lambda one: f"the variable `{''.join(one.path)}` of {one.name}, as it was written before",
    "table": lambda one: f"the table `{one.name}`, as it was written before",
    "workflow": lambda one: f"the name of {one.name}" if one.path else f"the workflow {one.name}",
    "approval": lambda one: f"the decision at `{''.join(one.path)}`",
    "resume": lambda one: f"whoever resumes `{''.join(one.path)}`",
    "env": lambda one: f"the server's variable `{one.name}`",
    "setting": lambda one: f"the setting {one.name}",
    "clock": lambda _: "the time",
    "run": lambda _: "the run's own id and mode",
    "result": lambda one: f"the result of `{''.join(one.path)}` in {one.name}",
}
