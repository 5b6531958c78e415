"""What well-known token methods move, decoded from the calldata: an action may forget to declare it, the policy must
not miss it.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any, Final

from dustrun.core.evm.abi import AbiFault, Function
from dustrun.core.evm.abi_signatures import parse_function
from dustrun.core.evm.calls import read_selector, selector_of
from dustrun.core.money.intent import Movement, MovementKind
from dustrun.core.values.addresses import checksum
from dustrun.core.values.amounts import MAX_UINT256, Asset
from dustrun.records import dataclass

TRANSFER = "0xa9059cbb"
APPROVE = "0x095ea7b3"
TRANSFER_FROM = "0x23b872dd"
INCREASE_ALLOWANCE = "0x39509351"
SET_APPROVAL_FOR_ALL = "0xa22cb465"
SAFE_TRANSFER_FROM = "0x42842e0e"
SAFE_TRANSFER_FROM_WITH_DATA = "0xb88d4fde"
SAFE_TRANSFER_OF_MANY = "0xf242432a"
SAFE_BATCH_TRANSFER = "0x2eb2c2d6"
AUTHORIZE_OPERATOR = "0x959b8c3f"
PERMIT2_APPROVE = "0x87517c45"
PERMIT2_TRANSFER_FROM = "0x36c78516"

OF_TOKENS = frozenset({TRANSFER, APPROVE, INCREASE_ALLOWANCE})
"""Token methods that a policy judges by what they move, not by contract and method."""

_TWO_WORDS: dict[str | None, MovementKind] = {
    TRANSFER: "send",
    APPROVE: "approve",
    INCREASE_ALLOWANCE: "approve",
    "0xd73dd623": "approve",  # increaseApproval
    "0xcae9ca51": "approve",  # approveAndCall of ERC-1363, and without data
    "0x3177029f": "approve",
    "0x4000aea0": "send",  # transferAndCall of ERC-677 and ERC-1363, and without data
    "0x1296ee62": "send",
    "0x9bd9bbc6": "send",  # send of ERC-777
    "0xb753a98c": "send",  # push of DAI
}
_OPERATORS = frozenset({SET_APPROVAL_FOR_ALL, AUTHORIZE_OPERATOR, "0x558a7297"})
"""ERC-721 and ERC-1155, ERC-777 operators, and ERC-6909's setOperator."""
_OF_KINDS: dict[str | None, MovementKind] = {"0x095bcdb6": "send", "0x426a8493": "approve"}
"""ERC-6909's transfer and approve."""
_FROM = frozenset({TRANSFER_FROM, "0xc1d34b89", "0xd8fbe994", "0xbb35783b"})
"""transferFrom, ERC-1363's transferFromAndCall, and DAI's move."""
_OF_PIECES = frozenset({SAFE_TRANSFER_FROM, SAFE_TRANSFER_FROM_WITH_DATA})


def implied_movement(chain_id: int, to: str, data: bytes) -> Movement | None:
    """The movements of a call of a well-known token method; None for any other call.

    ERC-721 methods share selectors with ERC-20 and have the token id where the amount would be; `safeTransferFrom`
    exists only in ERC-721 and moves one token. ERC-1155 amounts of all ids are summed; a batch whose list cannot be
    decoded counts as the maximum. Truncated calldata is read as the EVM reads it, padded with zeros: contracts of old
    compilers accept it.
    """
    selector = selector_of(data)
    asset = Asset(chain_id, checksum(to))
    if selector in _TWO_WORDS:
        return Movement(_TWO_WORDS[selector], asset, _word(data, 1), _address(data, 0))
    if selector in _OPERATORS:
        is_given = selector == AUTHORIZE_OPERATOR or bool(_word(data, 1))
        return Movement("approve", asset, MAX_UINT256 if is_given else 0, _address(data, 0))
    if selector in _FROM:
        return Movement("send", asset, _word(data, 2), _address(data, 1))
    if selector in _OF_PIECES:
        return Movement("send", asset, 1, _address(data, 1))
    if selector == SAFE_TRANSFER_OF_MANY:
        return Movement("send", asset, _word(data, 3), _address(data, 1))
    if selector == SAFE_BATCH_TRANSFER:
        return Movement("send", asset, _sum_of_list(data, 3), _address(data, 1))
    if selector in _OF_KINDS:
        return Movement(_OF_KINDS[selector], asset, _word(data, 2), _address(data, 0))
    if selector == PERMIT2_APPROVE:
        return Movement("approve", Asset(chain_id, _address(data, 0)), _word(data, 2), _address(data, 1))
    if selector == PERMIT2_TRANSFER_FROM:
        return Movement("send", Asset(chain_id, _address(data, 3)), _word(data, 2), _address(data, 1))
    return None


def _sum_of_list(data: bytes, index: int) -> int:
    """The sum of the array that a word points to."""
    start, words = _word(data, index), (len(data) - 4) // 32
    if start % 32 or start // 32 >= words:
        return MAX_UINT256
    first, count = start // 32 + 1, _word(data, start // 32)
    if count > words - first:
        return MAX_UINT256
    return min(MAX_UINT256, sum(_word(data, first + place) for place in range(count)))


def _word(data: bytes, index: int) -> int:
    return int.from_bytes(data[4 + 32 * index : 36 + 32 * index].ljust(32, b"\0"))


def _address(data: bytes, index: int) -> str:
    return checksum(f"0x{_word(data, index).to_bytes(32)[12:].hex()}")


# Calls nested in calls (`multicall`, Multicall3): the policy judges each as if it were called directly.


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
    """The movements of a call and its nested calls by well-known token methods; equal ones are summed. Raises
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
