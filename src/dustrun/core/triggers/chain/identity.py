"""Which events of a transaction are the same as before, when the transaction is in another block.

In another order of transactions, the same one may emit a log more in front, or its logs in another order. So events are
matched by what they say, in their order among equals. Of what is left, one that differs in a single value, or is in the
same place, is the event before with other values; each other one is new.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from dustrun.core.triggers.chain.watch import ChainEvent
from dustrun.records import dataclass

_PLACE: Final = frozenset(
    {"blockNumber", "blockHash", "blockTime", "transactionIndex", "logIndex", "position", "foundIn", "path", "reorg"}
)
_BLOCK: Final = "block"


@dataclass(frozen=True, slots=True)
class KnownEvent:
    """An event of a transaction that was recorded. `seen`: its position when it was seen last; `content`: what runs
    were told of it last (None if that was deleted); `block`: the block that it counts in, None after a reorg."""

    key: str
    seen: str
    content: Mapping[str, Any] | None
    block: str | None


def subject_of(key: str) -> str:
    """The transaction that an event is part of; or the height that it is."""
    _, subject, *_ = key.split(":")
    return key.split(":", 1)[1] if subject == _BLOCK else subject


def position_of(key: str) -> str:
    """The position that a key names, in a transaction as it was first."""
    return key.split(":")[2].partition("~")[0]


def content_of(payload: Mapping[str, Any]) -> dict[str, Any]:
    """The content of an event, wherever it is."""
    return {name: value for name, value in payload.items() if name not in _PLACE}


def match(block: str, events: Sequence[ChainEvent], known: Sequence[KnownEvent]) -> dict[str, str]:
    """The known key of each event of a transaction in a block, by the key that its position gives it; a new key for one
    that is new."""
    left = sorted(known, key=lambda one: _order(one.seen))
    found: dict[str, str] = {}

    def pair(event: ChainEvent, one: KnownEvent | None) -> None:
        if one is not None:
            found[event.key] = one.key
            left.remove(one)

    def rest() -> list[ChainEvent]:
        return [event for event in events if event.key not in found]

    for event in rest():  # what was recorded of this block before an interruption stays as it is
        position = position_of(event.key)
        pair(event, next((one for one in left if one.block == block and one.seen == position), None))
    left = [one for one in left if one.block != block]
    for event in rest():
        content = content_of(event.payload)
        pair(event, next((one for one in left if one.content == content), None))
    pairs = [(_difference(event, one), event, one) for event in rest() for one in left]
    for difference, event, one in sorted(pairs, key=lambda pair: pair[0]):
        if one in left and event.key not in found and (difference[0] <= 1 or not difference[1]):
            pair(event, one)
    taken = {one.key for one in known} | set(found.values())
    for event in rest():
        found[event.key] = _free(event.key, taken)
        taken.add(found[event.key])
    return found


def _difference(event: ChainEvent, one: KnownEvent) -> tuple[int, bool]:
    """In how many values they differ, and whether they are in different places."""
    known = None if one.content is None else dict(_values(one.content))
    values = dict(_values(content_of(event.payload)))
    count = len(values) if known is None else sum(values.get(name) != known.get(name) for name in values.keys() | known)
    return count, one.seen != position_of(event.key)


def _values(content: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in content.items():
        if isinstance(value, Mapping):
            yield from _values(value, f"{path}{name}.")
        else:
            yield path + name, value


def _order(seen: str) -> list[int]:
    return [int(part) if part.isdigit() else -1 for part in seen.split(".")]


def _free(key: str, taken: set[str]) -> str:
    number, name = 0, key
    while name in taken:
        number += 1
        name = f"{key}~{number}"
    return name
