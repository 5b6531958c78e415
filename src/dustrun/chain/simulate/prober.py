"""Reads many balances in one call, by code placed at a scratch address through a state override (`Prober.sol`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from dustrun.records import dataclass

PROBER: Final = "0x00000000000000000000000000000000D0570010"
PROBER_SENDER: Final = "0x00000000000000000000000000000000d0570011"
PROBER_CODE: Final = (
    "0x6080604052348015600f57600080fd5b5061100060005b3681101560745780356020820135806040840160003791820160400191600182"
    "80156053576020600084600087620493e0fa3d602014169150605b565b600051316000525b50808552600051026020850152505060409091"
    "01906016565b50610fff198101611000f3"
)
_GAS: Final = 100_000
_GAS_EACH: Final = 100_000
_MOST_GAS: Final = 10_000_000


@dataclass(frozen=True, slots=True)
class Ask:
    """A one-word read: a call of `target`, or with `target` None the native balance of the address in the last 20 bytes
    of `data`."""

    target: str | None
    data: bytes


def native(address: str) -> Ask:
    """A read of an address's native balance in base units."""
    return Ask(None, word_of(address))


def word_of(address: str) -> bytes:
    """An address as a left-padded 32-byte word."""
    return bytes(12) + bytes.fromhex(address[2:])


def encode(asks: Sequence[Ask]) -> bytes:
    """The calldata of the prober."""
    parts = []
    for ask in asks:
        parts += [bytes(32) if ask.target is None else word_of(ask.target), len(ask.data).to_bytes(32), ask.data]
    return b"".join(parts)


def decode(answer: bytes, count: int) -> list[int | None]:
    """The words in order; None where the call failed or did not return exactly one word."""
    if len(answer) != 64 * count:
        return [None] * count
    words = [int.from_bytes(answer[place : place + 32]) for place in range(0, len(answer), 32)]
    return [words[2 * place + 1] if words[2 * place] else None for place in range(count)]


def gas_of(count: int) -> int:
    """Gas limit for a call with `count` reads."""
    return min(_GAS + _GAS_EACH * count, _MOST_GAS)
