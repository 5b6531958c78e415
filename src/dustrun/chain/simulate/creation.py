"""Contract creation: addresses, gas, and creations that nodes reject."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from dustrun.chain.reverts import CODE_RESERVED, CODE_TOO_LARGE
from dustrun.core.values.addresses import checksum, keccak256
from dustrun.records import dataclass

MAX_INIT_CODE: Final = 49_152  # EIP-3860
MAX_CODE: Final = 24_576  # EIP-170
_CREATE_GAS: Final = 32_000
_INIT_WORD_GAS: Final = 2
_CODE_BYTE_GAS: Final = 200
_RESERVED: Final = b"\xef"  # EIP-3541


def contract_address(sender: str, nonce: int) -> str:
    """The address of a created contract: the last 20 bytes of keccak256(RLP([sender, nonce]))."""
    counted = nonce.to_bytes((nonce.bit_length() + 7) // 8)
    if not nonce:
        encoded = b"\x80"
    elif nonce < 0x80:
        encoded = counted
    else:
        encoded = bytes([0x80 + len(counted)]) + counted
    body = b"\x94" + bytes.fromhex(sender[2:]) + encoded
    return checksum("0x" + keccak256(bytes([0xC0 + len(body)]) + body)[12:].hex())


def creation_gas(call_gas: int, init_code: bytes, runtime: bytes) -> int:
    """Gas of a creation; `call_gas` was used by calling its init code at the future address."""
    zeros = init_code.count(0)
    calldata = 4 * zeros + 16 * (len(init_code) - zeros)
    words = (len(init_code) + 31) // 32
    return call_gas + _CREATE_GAS + calldata + _INIT_WORD_GAS * words + _CODE_BYTE_GAS * len(runtime)


def fault_of(runtime: bytes) -> str | None:
    """Why a creation that returns this code fails; None if it does not. Needed only for emulated creations."""
    if len(runtime) > MAX_CODE:
        return CODE_TOO_LARGE
    return CODE_RESERVED if runtime[:1] == _RESERVED else None


def refusal_of(init_code: bytes) -> str | None:
    """Why nodes reject this init code before executing it; None if they accept it."""
    if len(init_code) > MAX_INIT_CODE:
        return f"the init code has {len(init_code)} bytes; at most {MAX_INIT_CODE} are allowed"
    return None


# Reads many balances in one call, by code placed at a scratch address through a state override (`Prober.sol`).


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
