"""Functions, events and errors of ERC-20 and WETH, tolerating non-standard tokens."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from dustrun.core.evm.abi_signatures import error_entry, parse_event, parse_function
from dustrun.core.money import tokens
from dustrun.core.money.intent import Log
from dustrun.sdk.chain import CallResult

NAME: Final = parse_function("name() view returns (string)")
SYMBOL: Final = parse_function("symbol() view returns (string)")
DECIMALS: Final = parse_function("decimals() view returns (uint8)")
TOTAL_SUPPLY: Final = parse_function("totalSupply() view returns (uint256)")
BALANCE_OF: Final = parse_function("balanceOf(address owner) view returns (uint256)")
ALLOWANCE: Final = parse_function("allowance(address owner, address spender) view returns (uint256)")
TRANSFER: Final = parse_function("transfer(address to, uint256 amount) returns (bool)")
TRANSFER_FROM: Final = parse_function("transferFrom(address from, address to, uint256 amount) returns (bool)")
APPROVE: Final = parse_function("approve(address spender, uint256 amount) returns (bool)")
DEPOSIT: Final = parse_function("deposit() payable")
WITHDRAW: Final = parse_function("withdraw(uint256 amount)")

TRANSFERRED: Final = parse_event("Transfer(address indexed from, address indexed to, uint256 value)")
APPROVED: Final = parse_event("Approval(address indexed owner, address indexed spender, uint256 value)")
DEPOSITED: Final = parse_event("Deposit(address indexed to, uint256 value)")
WITHDRAWN: Final = parse_event("Withdrawal(address indexed from, uint256 value)")

ERRORS: Final = tuple(
    error_entry(text)
    for text in (
        "ERC20InsufficientBalance(address sender, uint256 balance, uint256 needed)",
        "ERC20InvalidSender(address sender)",
        "ERC20InvalidReceiver(address receiver)",
        "ERC20InsufficientAllowance(address spender, uint256 allowance, uint256 needed)",
        "ERC20InvalidApprover(address approver)",
        "ERC20InvalidSpender(address spender)",
        "EnforcedPause()",
    )
)
"""Error names of ERC-6093 and OpenZeppelin."""


def is_accepted(data: bytes) -> bool:
    """Whether the return data of transfer or approve means success: empty (as USDT) or true, never false."""
    return not data or any(data[:32])


def read_decimals(result: CallResult) -> int | None:
    """The decimals of an ERC-20, None if it is not one."""
    if not result.is_success or len(result.data) < 32:
        return None
    found = int.from_bytes(result.data[:32], "big")
    return found if found <= 77 else None


def read_text(result: CallResult) -> str | None:
    """A name or symbol; None if it has no printable text."""
    return tokens.read_text(result.data) if result.is_success else None


def transfers(logs: Iterable[Log], token: str) -> list[dict[str, Any]]:
    """The Transfer events of one token: `from`, `to`, `value`."""
    found = [TRANSFERRED.find(log.topics, log.data) for log in logs if log.address == token]
    return [transfer for transfer in found if transfer is not None]


def total(logs: Iterable[Log], token: str, *, sender: str | None = None, recipient: str | None = None) -> int:
    """The sum of a token's Transfer events from or to an address."""
    return sum(
        transfer["value"]
        for transfer in transfers(logs, token)
        if sender in (None, transfer["from"]) and recipient in (None, transfer["to"])
    )
