"""Classifies node errors by code and message, which differ between implementations."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, Final

from dustrun.chain import reverts
from dustrun.chain.rpc import RpcError
from dustrun.errors import Code, DustrunError, Invalid, Permanent, Temporary


class Kind(StrEnum):
    """The category of a node's error."""

    REVERTED = "reverted"
    FUNDS = "funds"
    ALREADY_KNOWN = "already-known"
    NONCE_TOO_LOW = "nonce-too-low"
    NONCE_TOO_HIGH = "nonce-too-high"
    UNDERPRICED = "underpriced"
    GAS = "gas"
    NO_METHOD = "no-method"
    NO_STATE = "no-state"
    BUSY = "busy"
    OTHER = "other"


# The first match wins. Messages of geth, erigon, Nethermind, Besu, reth and anvil.
_WORDS: Final = (
    (Kind.ALREADY_KNOWN, r"already known|already imported|alreadyknown|known transaction|already exists in|in mempool"),
    (Kind.UNDERPRICED, r"underpriced|replacement.*(gas|fee|price)|fee too low|feetoolow|(max fee|fee cap).*less than"),
    (Kind.NONCE_TOO_LOW, r"nonce too low|nonce is too low|oldnonce|old nonce|nonce.*already (been )?used"),
    (Kind.NONCE_TOO_HIGH, r"nonce too high|nonce too distant|nonce gap|too far in the future"),
    (Kind.FUNDS, r"insufficient (funds|balance|max fee)|insufficientfunds|out ?of ?funds|lack of funds"
     r"|upfront cost exceeds"),
    (Kind.GAS, r"out of gas|intrinsic gas|gas required exceeds|gas limit|gas too low|exceeds.*gas|outofgas|gas uint64"),
    (Kind.NO_STATE, r"header not found|unknown block|block not found|missing trie node|state.*(not|un)available"
     r"|pruned|historical state|no state|blocknotfound|hash is not currently canonical|could not find block"
     r"|resource not found|old data not available|blockoutofrange|block out of range"),
    (Kind.NO_METHOD, r"method.*(not|un) ?(found|supported|available|known)|not implemented|unsupported method"
     r"|does not exist/is not available|not whitelisted|method is not|no such method"),
    (Kind.REVERTED, r"revert|execution failed|vm execution error|invalid opcode|bad instruction|stack underflow"
     rf"|{reverts.TOO_LARGE}|{reverts.RESERVED}"),
    (Kind.BUSY, r"rate limit|too many requests|exceeded.*(quota|capacity|limit)|throttle|timed? ?out|overloaded|busy"
     r"|try again|internal error|service unavailable"),
)  # fmt: skip
_PATTERNS: Final = tuple((kind, re.compile(words, re.IGNORECASE)) for kind, words in _WORDS)
# 3: a revert by geth; -38013 and -38014: intrinsic gas and funds by the specification of eth_simulateV1
_CODES: Final = {
    3: Kind.REVERTED,
    -32601: Kind.NO_METHOD,
    -32004: Kind.NO_METHOD,
    -38010: Kind.NONCE_TOO_LOW,
    -38011: Kind.NONCE_TOO_HIGH,
    -38013: Kind.GAS,
    -38014: Kind.FUNDS,
}


def kind_of(error: RpcError) -> Kind:
    """The category of an error; `Kind.OTHER` if unrecognised."""
    if error.code in _CODES:
        return _CODES[error.code]
    if error.data is not None and len(error.data) >= 4:
        return Kind.REVERTED
    return next((kind for kind, words in _PATTERNS if words.search(error.message)), Kind.OTHER)


def may_pass(error: RpcError) -> bool:
    """Whether a retry, here or at another endpoint, may give another answer to the same read."""
    return kind_of(error) in (Kind.NO_METHOD, Kind.NO_STATE, Kind.BUSY)


def to_error(error: RpcError, what: str, abi_errors: Sequence[Mapping[str, Any]] = ()) -> DustrunError:
    """Converts a node's error; `what` was asked, like `Estimating gas of "swap"`."""
    kind = kind_of(error)
    if kind is Kind.REVERTED:
        return reverted(error.data or b"", what, abi_errors, error.message)
    if kind is Kind.FUNDS:
        message = f"{what}: the sender has too little native coin for the value and the gas ({error.message})."
        return Invalid(message, code=Code.FUNDS_INSUFFICIENT)
    if may_pass(error):
        return Temporary(f"{what}: {error.message}.", code=Code.CHAIN_UNREACHABLE)
    return Permanent(f"{what}: the node answered: {error.message} ({error.code}).")


def reverted(
    data: bytes, what: str, abi_errors: Sequence[Mapping[str, Any]] = (), message: str | None = None
) -> DustrunError:
    """The error for a call that reverted, with its decoded reason in `details`."""
    reason = reverts.decode(data, abi_errors, message)
    shown = {"field": "", "message": reason["text"], "revert": reason}
    return Permanent(f"{what} reverted: {reason['text']}.", code=Code.CALL_REVERTED, details=[shown])
