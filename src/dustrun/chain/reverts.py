"""Decodes reverts: Error(string), Panic(uint256), custom errors by ABI or well-known signature."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

from dustrun.core.evm import abi_signatures
from dustrun.core.evm.abi import AbiFault, Function, show_all
from dustrun.core.evm.abi import decode as decode_values

# Signatures of common contract errors, so that a revert can be named without the contract's ABI.
#
# ERC-6093 (tokens), EIP-2612 and OpenZeppelin Contracts 5 (access, proxies, cryptography, …), Permit2, Uniswap's
# routers and V4. Cryptic short reasons of older contracts are explained in words.


SIGNATURES: Final = """
ERC20InsufficientBalance(address sender, uint256 balance, uint256 needed)
ERC20InvalidSender(address sender)
ERC20InvalidReceiver(address receiver)
ERC20InsufficientAllowance(address spender, uint256 allowance, uint256 needed)
ERC20InvalidApprover(address approver)
ERC20InvalidSpender(address spender)
ERC721InvalidOwner(address owner)
ERC721NonexistentToken(uint256 tokenId)
ERC721IncorrectOwner(address sender, uint256 tokenId, address owner)
ERC721InvalidSender(address sender)
ERC721InvalidReceiver(address receiver)
ERC721InsufficientApproval(address operator, uint256 tokenId)
ERC721InvalidApprover(address approver)
ERC721InvalidOperator(address operator)
ERC1155InsufficientBalance(address sender, uint256 balance, uint256 needed, uint256 tokenId)
ERC1155InvalidSender(address sender)
ERC1155InvalidReceiver(address receiver)
ERC1155MissingApprovalForAll(address operator, address owner)
ERC1155InvalidApprover(address approver)
ERC1155InvalidOperator(address operator)
ERC1155InvalidArrayLength(uint256 idsLength, uint256 valuesLength)
ERC2612ExpiredSignature(uint256 deadline)
ERC2612InvalidSigner(address signer, address owner)
ERC20ExceededSafeSupply(uint256 increasedSupply, uint256 cap)
ERC20ExceededCap(uint256 increasedSupply, uint256 cap)
ERC4626ExceededMaxDeposit(address receiver, uint256 assets, uint256 max)
ERC4626ExceededMaxMint(address receiver, uint256 shares, uint256 max)
ERC4626ExceededMaxWithdraw(address owner, uint256 assets, uint256 max)
ERC4626ExceededMaxRedeem(address owner, uint256 shares, uint256 max)
SafeERC20FailedOperation(address token)
SafeERC20FailedDecreaseAllowance(address spender, uint256 currentAllowance, uint256 requestedDecrease)
OwnableUnauthorizedAccount(address account)
OwnableInvalidOwner(address owner)
AccessControlUnauthorizedAccount(address account, bytes32 neededRole)
AccessControlBadConfirmation()
AccessManagedUnauthorized(address caller)
EnforcedPause()
ExpectedPause()
ReentrancyGuardReentrantCall()
InvalidInitialization()
NotInitializing()
AddressEmptyCode(address target)
AddressInsufficientBalance(address account)
FailedInnerCall()
FailedCall()
FailedDeployment()
InsufficientBalance(uint256 balance, uint256 needed)
ERC1967InvalidImplementation(address implementation)
ERC1967NonPayable()
UUPSUnauthorizedCallContext()
UUPSUnsupportedProxiableUUID(bytes32 slot)
ECDSAInvalidSignature()
ECDSAInvalidSignatureLength(uint256 length)
ECDSAInvalidSignatureS(bytes32 s)
InvalidAccountNonce(address account, uint256 currentNonce)
MathOverflowedMulDiv()
SafeCastOverflowedUintDowncast(uint8 bits, uint256 value)
SafeCastOverflowedIntToUint(int256 value)
SafeCastOverflowedUintToInt(uint256 value)
StringsInsufficientHexLength(uint256 value, uint256 length)
CheckpointUnorderedInsertion()
TimelockUnexpectedOperationState(bytes32 operationId, bytes32 expectedStates)
GovernorUnexpectedProposalState(uint256 proposalId, uint8 current, bytes32 expectedStates)
AllowanceExpired(uint256 deadline)
ExcessiveInvalidation()
InsufficientAllowance(uint256 amount)
InvalidNonce()
SignatureExpired(uint256 signatureDeadline)
InvalidSigner()
InvalidSignature()
InvalidSignatureLength()
InvalidContractSignature()
LengthMismatch()
InvalidAmount(uint256 maxAmount)
V2TooLittleReceived()
V2TooMuchRequested()
V2InvalidPath()
V3TooLittleReceived()
V3TooMuchRequested()
V3InvalidSwap()
V3InvalidAmountOut()
V3InvalidCaller()
V4TooLittleReceived(uint256 minAmountOutReceived, uint256 amountReceived)
V4TooMuchRequested(uint256 maxAmountInRequested, uint256 amountRequested)
TransactionDeadlinePassed()
ExecutionFailed(uint256 commandIndex, bytes message)
InvalidCommandType(uint256 commandType)
InsufficientETH()
InsufficientToken()
PoolNotInitialized()
PoolAlreadyInitialized()
CurrencyNotSettled()
PriceLimitAlreadyExceeded(uint160 sqrtPriceCurrentX96, uint160 sqrtPriceLimitX96)
PriceLimitOutOfBounds(uint160 sqrtPriceLimitX96)
SwapAmountCannotBeZero()
TransferFailed()
TransferFromFailed()
ApproveFailed()
ETHTransferFailed()
"""

REASONS: Final = {
    "K": "the Uniswap V2 pair would lose value (its product K decreases)",
    "LOK": "the Uniswap V3 pool is locked: it was called from within itself, or not initialised",
    "AS": "the amount of the Uniswap V3 swap is zero",
    "SPL": "the Uniswap V3 price limit is on the wrong side of the price",
    "IIA": "the Uniswap V3 pool was not paid what the swap owes (a token with a fee on transfer?)",
    "STF": "transferFrom failed: no balance or no allowance",
    "ST": "transfer failed",
    "SA": "approve failed",
    "STE": "sending native coin failed",
    "TF": "transfer failed",
    "M0": "token0 was not paid to the Uniswap V3 pool",
    "M1": "token1 was not paid to the Uniswap V3 pool",
}


Reason = dict[str, Any]
_ERROR: Final = bytes.fromhex("08c379a0")
_PANIC: Final = bytes.fromhex("4e487b71")
_MAX_SHOWN: Final = 1024
TOO_LARGE: Final = r"max code size|createcontractsizelimit|create_contract_size_limit|code size.*exceed"
RESERVED: Final = r"must not begin with 0xef|startingwithef|starting_with_ef"
CODE_TOO_LARGE: Final = "the contract's code is larger than 24,576 bytes"  # EIP-170
CODE_RESERVED: Final = "the contract's code begins with 0xef, which is reserved"  # EIP-3541
_SAID: Final = ((re.compile(TOO_LARGE, re.I), CODE_TOO_LARGE), (re.compile(RESERVED, re.I), CODE_RESERVED))
# https://docs.soliditylang.org/en/latest/control-structures.html#panic-via-assert-and-error-via-require
_PANICS: Final = {
    0x00: "a compiler-inserted panic",
    0x01: "an assert failed",
    0x11: "an arithmetic overflow or underflow",
    0x12: "a division by zero",
    0x21: "a value outside of its enum",
    0x22: "corrupt bytes in storage",
    0x31: "pop of an empty array",
    0x32: "an array index out of bounds",
    0x41: "too much memory",
    0x51: "a call of an uninitialised function variable",
}


def decode(data: bytes, abi_errors: Sequence[Mapping[str, Any]] = (), message: str | None = None) -> Reason:
    """The reason as JSON: `kind` (`error`, `panic`, `custom`, `unknown`, `empty`) and `text`; a custom error has `name`
    and `args`; all but `empty` have the raw `data`. `message` is the node's message.
    """
    if not data:
        return {"kind": "empty", "text": _said(message)}
    reason = _error(data) or _panic(data) or _custom(data, abi_errors)
    if reason is None:
        reason = {"kind": "unknown", "text": f"an error of an unknown ABI, 0x{data[:4].hex()}"}
    return {**reason, "data": f"0x{data[:_MAX_SHOWN].hex()}"}


def _said(message: str | None) -> str:
    """The node's message, for example "out of gas", unless it only says that the call reverted."""
    text = (message or "").removeprefix("VM Exception while processing transaction: ").strip()
    for words, meaning in _SAID:
        if words.search(text):
            return meaning
    is_plain = not text or text.lower().rstrip(".: ") in (
        "execution reverted",
        "revert",
        "reverted",
        "execution failed",
    )
    return "it gives no reason" if is_plain else text


def _error(data: bytes) -> Reason | None:
    values = _values(data, _ERROR, "f(string)")
    if values is None:
        return None
    text = values[0]
    shown = f"{text} ({REASONS[text]})" if text in REASONS else text
    return {"kind": "error", "text": shown, "reason": text}


def _panic(data: bytes) -> Reason | None:
    values = _values(data, _PANIC, "f(uint256)")
    if values is None:
        return None
    code = values[0]
    return {"kind": "panic", "text": f"{_PANICS.get(code, 'a panic')} (panic 0x{code:02x})", "code": str(code)}


def _values(data: bytes, selector: bytes, signature: str) -> list[Any] | None:
    if data[:4] != selector:
        return None
    try:
        return decode_values(abi_signatures.parse_function(signature).inputs, data[4:])
    except AbiFault:
        return None


def _custom(data: bytes, abi_errors: Sequence[Mapping[str, Any]]) -> Reason | None:
    for error in (*_declared(abi_errors), *_known().get(data[:4], ())):
        if error.selector != data[:4]:
            continue
        try:
            args = show_all(error.inputs, decode_values(error.inputs, data[4:]))
        except AbiFault:
            continue
        shown = ", ".join(f"{name} {_truncate(value)}" for name, value in args.items())
        text = f"{error.name}({shown})"
        return {"kind": "custom", "text": text, "name": error.name, "args": args}
    return None


def _truncate(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 100 else f"{text[:97]}…"


def _declared(abi_errors: Iterable[Mapping[str, Any]]) -> list[Function]:
    """The errors of an ABI; an unparsable one is skipped, since it would hide why the call failed."""
    found = []
    for entry in abi_errors:
        try:
            found.append(abi_signatures.read_json_function(entry))
        except AbiFault:
            continue
    return found


@lru_cache(maxsize=1)
def _known() -> dict[bytes, tuple[Function, ...]]:
    errors = [abi_signatures.parse_function(line) for line in SIGNATURES.split("\n") if line]
    known: dict[bytes, tuple[Function, ...]] = {}
    for error in errors:
        known[error.selector] = (*known.get(error.selector, ()), error)
    return known
