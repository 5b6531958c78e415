"""What contracts of the simulated chain answer."""

from __future__ import annotations

from collections.abc import Callable

from testkit.simulation.chain import Block

Read = Callable[[str, bytes], bytes | None]
"""What a call of a contract returns; None if it reverts, and nothing if there is no contract."""


def probe(state: Block, data: bytes, read: Read) -> bytes:
    """What the product's prober answers, whose code is placed by a state override: of each ask whether it succeeded,
    and its word."""
    answer, at = b"", 0
    while at < len(data):
        target, size = data[at + 12 : at + 32], int.from_bytes(data[at + 32 : at + 64])
        asked, at = data[at + 64 : at + 64 + size], at + 64 + size
        found = read(f"0x{target.hex()}", asked) if any(target) else _balance(state, asked)
        word = found if found is not None and len(found) == 32 else None
        answer += int(word is not None).to_bytes(32) + (word or bytes(32))
    return answer


def _balance(state: Block, asked: bytes) -> bytes:
    return state.balances.get(f"0x{asked[12:].hex()}", 0).to_bytes(32)
