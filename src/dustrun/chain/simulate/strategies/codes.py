"""Reads contract code in a simulated block: in full once, afterwards only its hash, to detect changes. Code has up to
24 KB and is read after every transaction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from dustrun.chain import wire
from dustrun.chain.simulate.creation import word_of
from dustrun.core.values.addresses import keccak256
from dustrun.records import dataclass

Json = dict[str, Any]
_ZERO: Final = f"0x{'0' * 40}"
_READER: Final = "0x00000000000000000000000000000000D0570012"
_READS: Final = "0x600035803b8060006000843c6000f3"  # returns the code of the address in its calldata
_HASHER: Final = "0x00000000000000000000000000000000D0570013"
_HASHES: Final = (
    "0x60005b3681101560155780353f81526020016002565b6000f3"  # returns EXTCODEHASH of each address in its calldata
)
CODE_STATE: Final = {_READER: {"code": _READS}, _HASHER: {"code": _HASHES}}
_NO_ACCOUNT: Final = bytes(32)


@dataclass(frozen=True, slots=True)
class Plan:
    """Calls that read the code of addresses: one call per unknown address, then one for the hashes of all known ones
    (`known`: hash and code by address)."""

    addresses: Sequence[str]
    known: dict[str, tuple[bytes, bytes]]

    @property
    def new(self) -> list[str]:
        """Addresses whose code is read in full."""
        return [address for address in dict.fromkeys(self.addresses) if address not in self.known]

    @property
    def calls(self) -> list[Json]:
        """The calls, for a block with the overrides `CODE_STATE`."""
        whole = [code_call(address) for address in self.new]
        if not self.known:
            return whole
        asked = b"".join(word_of(address) for address in self.known)
        return [*whole, {"from": _ZERO, "to": _HASHER, "data": wire.hexed(asked)}]


class Codes:
    """Cache of code and its hash by address."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[bytes, bytes]] = {}

    def plan(self, addresses: Sequence[str]) -> Plan:
        """Calls that read the code of `addresses`."""
        return Plan(addresses, {address: self._seen[address] for address in addresses if address in self._seen})

    def read(self, plan: Plan, answers: Sequence[bytes]) -> list[bytes | None]:
        """The code per address from the return data of a plan's calls; None where it changed and must be read again."""
        found: dict[str, bytes] = dict(zip(plan.new, answers, strict=False))
        self._seen |= {address: (keccak256(code), code) for address, code in found.items()}
        hashes = answers[-1] if plan.known else b""
        for place, (address, (hash, code)) in enumerate(plan.known.items()):
            answered = hashes[32 * place : 32 * place + 32]
            if answered == hash or (not code and answered == _NO_ACCOUNT):
                found[address] = code
        return [found.get(address) for address in plan.addresses]


def code_call(address: str) -> Json:
    """A call that returns the code of an address, for a block with `CODE_STATE`."""
    return {"from": _ZERO, "to": _READER, "data": wire.hexed(word_of(address))}
