"""The filter of a log trigger: an expression over the event's arguments by name, like `value >= 1000000`."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Final

from dustrun.core.evm.abi import AbiFault, Event, Param, encode, read_value
from dustrun.core.evm.abi_signatures import parse_event
from dustrun.core.expression import DEFAULT_LIMITS, ExpressionError, Template, parse_expression
from dustrun.core.expression.fault import Fault
from dustrun.core.expression.functions.abi import AbiType
from dustrun.core.expression.syntax import tree
from dustrun.core.expression.syntax.parse import parse
from dustrun.core.triggers.chain.queries import LogQuery
from dustrun.core.triggers.chain.watch import ChainLog, MatchLog
from dustrun.core.values.addresses import ZERO_ADDRESS, keccak256, read_address
from dustrun.records import dataclass

ARGS: Final = "args"
LOG: Final = "log"
_LOG_FIELDS: Final = ("address", "blockNumber", "transactionHash")
_ADDRESS: Final = re.compile(r"(?<=['\"])0x[0-9a-fA-F]{40}(?=['\"])")


class FilterFault(ValueError):
    """A filter that cannot be used."""


@dataclass(frozen=True, slots=True)
class _Roots:
    values: Mapping[str, Any]

    def root(self, name: str) -> Any:
        return self.values[name]


@dataclass(frozen=True, slots=True)
class EventFilter:
    """A compiled filter. `topics` are what it demands of indexed arguments, by place; None: anything."""

    template: Template
    topics: tuple[str | None, ...]

    def holds(self, args: Mapping[str, Any], log: Mapping[str, Any]) -> bool:
        """Whether it holds for an event; integers are exact. Raises `ExpressionError` if it cannot be evaluated."""
        return self.template.evaluate(_Roots({LOG: log, ARGS: args, **args}), DEFAULT_LIMITS) is True


def compile_filter(text: str, event: Event) -> EventFilter:
    """Compiles a filter for an event; raises `FilterFault` naming what the event does not have."""
    text = _with_checksums(text)
    try:
        template = parse_expression(text)
    except ExpressionError as error:
        raise FilterFault(f"does not parse: {error}") from None
    _check_names(template, event)
    found = EventFilter(template, _topics(text, event))
    _try(found, event)
    return found


def _with_checksums(text: str) -> str:
    """The text with addresses written as decoded values have them, so that `to == "0xabc…"` holds in any case."""

    def fix(match: re.Match[str]) -> str:
        try:
            return read_address(match[0])
        except ValueError as error:
            raise FilterFault(str(error)) from None

    return _ADDRESS.sub(fix, text)


def _check_names(template: Template, event: Event) -> None:
    names = [param.name for param in event.inputs if param.name]
    for found in template.references:
        name = found.root
        if name == ARGS and ARGS not in names:
            if not found.path or found.path[0] in names:
                continue
            name = str(found.path[0])
        elif name == LOG and LOG not in names:
            if not found.path or found.path[0] in _LOG_FIELDS:
                continue
            raise FilterFault(f'"log" has no "{found.path[0]}"; it has {", ".join(_LOG_FIELDS)}')
        if name not in names:
            close = difflib.get_close_matches(name, names, n=1)
            hint = f' Did you mean "{close[0]}"?' if close else f" Its fields are {', '.join(names) or 'all unnamed'}."
            raise FilterFault(f'the event {event.name} has no field "{name}".{hint}')


def _try(compiled: EventFilter, event: Event) -> None:
    """Evaluates the filter with an example of each type: comparing text with a number would never work."""
    args = {param.name: sample(param.kind, param.parts) for param in event.inputs if param.name}
    log = {"address": ZERO_ADDRESS, "blockNumber": 1, "transactionHash": f"0x{'0' * 64}"}
    try:
        value = compiled.template.evaluate(_Roots({LOG: log, ARGS: args, **args}), DEFAULT_LIMITS)
    except ExpressionError as error:
        if error.kind == "type":
            raise FilterFault(f"does not fit the event's types: {error}") from None
        return
    if not isinstance(value, bool):
        raise FilterFault("must be true or false, like value >= 1000000")


def sample(kind: AbiType, parts: tuple[Param, ...]) -> Any:
    """An example of a type, in the form of decoded values."""
    if kind.name == "tuple":
        return [sample(part, ()) for part in kind.parts]
    if kind.name == "array":
        return [sample(kind.parts[0], parts) for _ in range(kind.length or 1)]
    if kind.name == "address":
        return ZERO_ADDRESS
    if kind.name == "bool":
        return False
    if kind.name == "string":
        return ""
    if kind.name.startswith("bytes"):
        return f"0x{'00' * int(kind.name[5:] or 0)}"
    return 1


def _topics(text: str, event: Event) -> tuple[str | None, ...]:
    """Demands of `name == constant`, joined by `&&`, on indexed arguments: the node then filters before it sends."""
    try:
        node = parse(text)
    except Fault:
        return ()
    demanded: dict[str, Any] = {}
    for part in node.parts if isinstance(node, tree.Logic) and node.operator == "&&" else (node,):
        if isinstance(part, tree.Chain) and len(part.rest) == 1 and part.rest[0][0] == "==":
            name, value = part.first, part.rest[0][1]
            if isinstance(name, tree.Literal):
                name, value = value, name
            if isinstance(name, tree.Name) and isinstance(value, tree.Literal):
                demanded[name.name] = value.value
    indexed = [param for param in event.inputs if param.indexed]
    return tuple(_topic(param, demanded[param.name]) if param.name in demanded else None for param in indexed)


def _topic(param: Param, value: Any) -> str | None:
    if param.kind.name in ("array", "tuple", "bytes"):
        return None
    if param.kind.name == "string":
        return None  # the log has only its hash, which the filter compares with
    try:
        word = encode((param,), [read_value(param.kind, param.parts, value, param.name)])
    except AbiFault:
        return None
    return f"0x{word.hex()}"


def topic_of(text: str) -> str:
    """topic0 of a canonical signature."""
    return f"0x{keccak256(text.encode()).hex()}"


# Reads an event's signature with the names of its arguments, and decodes its logs.


_MOST_INDEXED: Final = 3
TRANSFER: Final = parse_event("Transfer(address indexed from, address indexed to, uint256 value)")


def read_event(text: str) -> Event:
    """The event of a signature such as `Transfer(address indexed from, address indexed to, uint256 value)`; raises
    `AbiFault`."""
    event = parse_event(text)
    unnamed = [param.type for param in event.inputs if not param.name]
    if unnamed:
        raise AbiFault(
            f"the {unnamed[0]} of {event.name} has no name: write the signature with names, like "
            "event Transfer(address indexed from, address indexed to, uint256 value)"
        )
    twice = [name for name, count in Counter(param.name for param in event.inputs).items() if count > 1]
    if twice:
        raise AbiFault(f'two arguments of {event.name} are named "{twice[0]}"')
    if sum(param.indexed for param in event.inputs) > _MOST_INDEXED:
        raise AbiFault(f"{event.name} has more than {_MOST_INDEXED} indexed arguments; a log has room for no more")
    return event


def query_of(event: Event, addresses: Iterable[str], demanded: Iterable[str | None] = ()) -> LogQuery:
    """The question for the chain: the event's topic, and what its filter demands of indexed arguments."""
    rest = tuple(None if topic is None else frozenset((topic,)) for topic in demanded)
    topics = (frozenset((f"0x{event.topic.hex()}",)), *rest)
    return LogQuery(frozenset(address.lower() for address in addresses), topics)


def word_of(address: str) -> str:
    """An address as a topic."""
    return f"0x{'0' * 24}{address[2:].lower()}"


def matcher(event: Event, condition: EventFilter | None) -> MatchLog:
    """Decodes the logs of an event, and keeps those for which the filter holds."""

    def match(log: ChainLog) -> Mapping[str, Any] | None:
        topics = log.topic_bytes
        values = event.find(topics, log.data)
        if values is None:
            return None
        about = {"address": log.address, "blockNumber": log.block_number, "transactionHash": log.transaction_hash}
        if condition is not None and not condition.holds(values, about):
            return None
        return {"event": event.name, "args": event.show(topics, log.data)}

    return match
