"""Reads an event's signature with the names of its arguments, and decodes its logs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Final

from dustrun.core.evm.abi import AbiFault, Event
from dustrun.core.evm.abi_signatures import parse_event
from dustrun.core.triggers.chain.event_filter import EventFilter
from dustrun.core.triggers.chain.queries import LogQuery
from dustrun.core.triggers.chain.watch import ChainLog, MatchLog

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
    """What to ask the chain for: the event's topic, and what its filter demands of indexed arguments."""
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
