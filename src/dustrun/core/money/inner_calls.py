"""Calls nested in calls (`multicall`, Multicall3): the policy judges each as if it were called directly."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any, Final

from dustrun.core.evm.abi import AbiFault, Function
from dustrun.core.evm.abi_signatures import parse_function
from dustrun.core.evm.selectors import read_selector, selector_of
from dustrun.core.money.intent import Movement
from dustrun.core.money.token_calls import implied_movement
from dustrun.records import dataclass

MAX_DEPTH: Final = 4
MAX_CALLS: Final = 256
MAX_BYTES: Final = 256 * 1024


class Unread(ValueError):
    """The nested calls cannot be decoded; the message says why."""


@dataclass(frozen=True, slots=True)
class InnerCall:
    """One nested call."""

    to: str
    value_units: int
    data: bytes


@functools.cache
def _by_selector(signatures: tuple[str, ...]) -> dict[str, Function]:
    """Built on first use: hashing would load a library with every action."""
    return {read_selector(function.signature): function for function in map(parse_function, signatures)}


_OF_ITSELF: Final = (
    "multicall(bytes[] calls)",
    "multicall(uint256 deadline, bytes[] calls)",
    "multicall(bytes32 previousBlockhash, bytes[] calls)",
    "batch(bytes[] calls, bool revertOnFail)",
)
"""Each element of the bytes array runs as a call of the same contract by the same sender."""
_OF_OTHERS: Final = (
    "aggregate((address to, bytes data)[] calls)",
    "blockAndAggregate((address to, bytes data)[] calls)",
    "tryAggregate(bool requireSuccess, (address to, bytes data)[] calls)",
    "tryBlockAndAggregate(bool requireSuccess, (address to, bytes data)[] calls)",
    "aggregate3((address to, bool allowFailure, bytes data)[] calls)",
    "aggregate3Value((address to, bool allowFailure, uint256 value, bytes data)[] calls)",
)
"""Multicall3 and its predecessors."""


def is_readable(selector: str) -> bool:
    """Whether a method's nested calls are decoded and judged one by one."""
    return selector in _by_selector(_OF_ITSELF) or selector in _by_selector(_OF_OTHERS)


def inner_calls(to: str, data: bytes) -> list[InnerCall]:
    """Every nested call at any depth, in order; empty for other methods. Raises `Unread`."""
    found: list[InnerCall] = []
    size = 0
    for inner in _follow(to, data, 0):
        found.append(inner)
        size += len(inner.data)
        if len(found) > MAX_CALLS or size > MAX_BYTES:
            raise Unread(f"it contains more than {MAX_CALLS} nested calls, or more than {MAX_BYTES} bytes of them")
    return found


def _follow(to: str, data: bytes, depth: int) -> Iterator[InnerCall]:
    for inner in _carried_out(to, data):
        if depth == MAX_DEPTH:
            raise Unread(f"calls are nested deeper than {MAX_DEPTH} levels")
        yield inner
        yield from _follow(inner.to, inner.data, depth + 1)


def _carried_out(to: str, data: bytes) -> Iterator[InnerCall]:
    selector = selector_of(data) or ""
    if (function := _by_selector(_OF_ITSELF).get(selector)) is not None:
        for call in _arguments(function, data)["calls"]:
            yield InnerCall(to, 0, bytes.fromhex(call[2:]))
    elif (function := _by_selector(_OF_OTHERS).get(selector)) is not None:
        parts = [param.name for param in function.inputs[-1].parts]
        for call in _arguments(function, data)["calls"]:
            values = dict(zip(parts, call, strict=True))
            yield InnerCall(values["to"], values.get("value", 0), bytes.fromhex(values["data"][2:]))


def _arguments(function: Function, data: bytes) -> dict[str, Any]:
    try:
        return {p.name: value for p, value in zip(function.inputs, function.decode_args(data), strict=True)}
    except AbiFault as fault:
        raise Unread(f"its arguments do not match {function.signature}: {fault.message}") from None


def implied_movements(chain_id: int, to: str, data: bytes) -> list[Movement]:
    """What a call and its nested calls move by well-known token methods; equal movements are summed. Raises
    `Unread`.
    """
    totals: dict[tuple[Any, ...], Movement] = {}
    for call in (InnerCall(to, 0, data), *inner_calls(to, data)):
        one = implied_movement(chain_id, call.to, call.data)
        if one is not None:
            key = (one.kind, one.asset, one.counterparty)
            units = one.amount_units + (totals[key].amount_units if key in totals else 0)
            totals[key] = Movement(one.kind, one.asset, units, one.counterparty)
    return list(totals.values())
