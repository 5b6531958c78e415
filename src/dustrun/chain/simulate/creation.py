"""Contract creation: addresses, gas, and creations that nodes reject."""

from __future__ import annotations

from typing import Final

from dustrun.chain.reverts import CODE_RESERVED, CODE_TOO_LARGE
from dustrun.core.values.addresses import checksum, keccak256

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
