"""Reads of contracts' code in a simulated block: whole the first time, from then on its hash, which is enough to know
that it is the same. A code has up to 24 KB, and is looked at after every transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from dustrun.chain import wire
from dustrun.chain.simulate.prober import word_of
from dustrun.core.values.addresses import keccak256

Json = dict[str, Any]
_ZERO: Final = f"0x{'0' * 40}"
_READER: Final = "0x00000000000000000000000000000000D0570012"
_READS: Final = "0x600035803b8060006000843c6000f3"  # returns the code of the address in its calldata
_HASHER: Final = "0x00000000000000000000000000000000D0570013"
_HASHES: Final = "0x60005b3681101560155780353f81526020016002565b6000f3"  # EXTCODEHASH of each word of its calldata
CODE_STATE: Final = {_READER: {"code": _READS}, _HASHER: {"code": _HASHES}}
_NO_ACCOUNT: Final = bytes(32)


@dataclass(frozen=True, slots=True)
class Plan:
    """How the codes of some addresses are asked: those seen for the first time whole, one call each; then the hashes
    of the others by one call."""

    addresses: Sequence[str]
    known: dict[str, tuple[bytes, bytes]]

    @property
    def new(self) -> list[str]:
        """Those that are read whole."""
        return [address for address in dict.fromkeys(self.addresses) if address not in self.known]

    @property
    def calls(self) -> list[Json]:
        """The calls of a block with `CODE_STATE`."""
        whole = [code_call(address) for address in self.new]
        if not self.known:
            return whole
        asked = b"".join(word_of(address) for address in self.known)
        return [*whole, {"from": _ZERO, "to": _HASHER, "data": wire.hexed(asked)}]


class Codes:
    """The codes that were read, by address, each with its hash."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[bytes, bytes]] = {}

    def plan(self, addresses: Sequence[str]) -> Plan:
        """How to ask for some codes."""
        return Plan(addresses, {address: self._seen[address] for address in addresses if address in self._seen})

    def read(self, plan: Plan, answers: Sequence[bytes]) -> list[bytes | None]:
        """The codes from what the calls of a plan returned; None where one is no longer what it was."""
        found: dict[str, bytes] = dict(zip(plan.new, answers, strict=False))
        self._seen |= {address: (keccak256(code), code) for address, code in found.items()}
        hashes = answers[-1] if plan.known else b""
        for place, (address, (hash, code)) in enumerate(plan.known.items()):
            answered = hashes[32 * place : 32 * place + 32]
            if answered == hash or (not code and answered == _NO_ACCOUNT):
                found[address] = code
        return [found.get(address) for address in plan.addresses]


def code_call(address: str) -> Json:
    """The call that returns the whole code of an address."""
    return {"from": _ZERO, "to": _READER, "data": wire.hexed(word_of(address))}
