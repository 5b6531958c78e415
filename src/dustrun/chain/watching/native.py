"""Native coin that moved in a block, from its transactions or from their traces."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from dustrun.chain import wire
from dustrun.core.triggers.chain.watch import NativeMove
from dustrun.core.values.addresses import checksum

_MOVING: Final = frozenset({"CALL", "CREATE", "CREATE2", "SELFDESTRUCT"})


def of_transactions(transactions: Sequence[Mapping[str, Any]]) -> list[NativeMove]:
    """What transactions send themselves, whether or not they succeed; one that creates a contract has no recipient."""
    moves = []
    for place, sent in enumerate(transactions):
        units = wire.quantity(sent.get("value") or "0x0")
        if units and sent.get("to") is not None:
            parties = (checksum(sent["from"]), checksum(sent["to"]))
            moves.append(NativeMove(sent["hash"], place, "", *parties, units, "transaction"))
    return moves


def of_traces(answer: Any, hashes: Sequence[str]) -> list[NativeMove] | None:
    """What moved according to `debug_traceBlockByHash`; None if the answer is not that of `callTracer`."""
    if not isinstance(answer, list) or len(answer) != len(hashes):
        return None
    moves: list[NativeMove] = []
    for place, (entry, hash) in enumerate(zip(answer, hashes, strict=True)):
        frame = entry.get("result") if isinstance(entry, Mapping) else None
        if not isinstance(frame, Mapping) or entry.get("txHash", hash) != hash or "from" not in frame:
            return None
        moves += _of_frame(frame, hash, place, "")
    return moves


def _of_frame(frame: Mapping[str, Any], hash: str, place: int, path: str) -> Iterator[NativeMove]:
    if frame.get("error"):
        return  # it was taken back, with everything that it called
    units = wire.quantity(frame.get("value") or "0x0")
    if units and frame.get("type") in _MOVING and frame.get("to") is not None:
        parties = (checksum(frame["from"]), checksum(frame["to"]))
        yield NativeMove(hash, place, path, *parties, units, "trace")
    for number, inner in enumerate(frame.get("calls") or ()):
        yield from _of_frame(inner, hash, place, f"{path}.{number}" if path else str(number))
