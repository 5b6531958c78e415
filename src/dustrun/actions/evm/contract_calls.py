"""Calls of any contract: the function by signature or JSON ABI, arguments by field, results as JSON."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pydantic import Field

from dustrun.actions.evm.fields import Address
from dustrun.core.evm import abi_signatures, calls
from dustrun.core.evm.abi import AbiFault, Event, Function, read_args
from dustrun.core.money.intent import Log
from dustrun.sdk import Fields
from dustrun.sdk.action import refuse
from dustrun.sdk.chain import Chain


class CallFields(Fields):
    """The contract, function and arguments."""

    contract: Address = Field(description="Address of the contract.")
    function: str = Field(
        min_length=1,
        max_length=2000,
        description="The function: `balanceOf(address) returns (uint256)`, or its name in `abi`.",
    )
    abi: Any = Field(None, description="The JSON ABI of the contract: a list, a single entry, or a compiler artifact.")
    args: list[Any] | dict[str, Any] = Field(
        [], description="The arguments in order, or by name; large numbers as strings of digits."
    )


def read_function(function: str, abi: Any, at: str = "") -> Function:
    """The function to call; raises `Invalid` with similar names. `at` prefixes the field's name."""
    try:
        return calls.find_function(function, abi)
    except AbiFault as fault:
        raise refuse(fault.message, f"{at}{fault.field}") from None


def read_calldata(function: Function, args: Any, at: str = "") -> bytes:
    """The calldata of a call; raises `Invalid` with the argument's field."""
    try:
        return function.encode(*read_args(function.inputs, args, f"{at}args"))
    except AbiFault as fault:
        raise refuse(f"{function.signature}: {fault.message}", fault.field or f"{at}args") from None


async def check_code(chain: Chain, address: str, field: str = "contract") -> None:
    """Rejects an address without code: a call of it would succeed and do nothing."""
    if not await chain.code(address):
        where = f"{chain.network.name} (chain {chain.network.chain_id})"
        raise refuse(f"there is no contract at {address} on {where}; check the address and the chainId", field)


def show_result(function: Function, data: bytes, field: str = "function") -> tuple[Any, dict[str, Any]]:
    """A function's return data: the single value (or an object by name if there are several), and all by name or
    index.
    """
    try:
        return calls.show_result(function, data)
    except AbiFault as fault:
        text = f"the return data of {function.signature} does not match its signature: {fault.message}"
        raise refuse(text, field) from None


def read_events(texts: Iterable[str], abi: Any) -> list[Event]:
    """Parses events from signatures and a JSON ABI; raises `Invalid`."""
    try:
        known = [abi_signatures.parse_event(text) for text in texts]
    except AbiFault as fault:
        raise refuse(fault.message, "events") from None
    try:
        entries = abi_signatures.entries_of(abi, "event") if abi is not None else []
        return known + [abi_signatures.read_json_event(entry) for entry in entries]
    except AbiFault as fault:
        raise refuse(fault.message, "abi") from None


class EventFields(Fields):
    """One decoded event of a transaction."""

    contract: str = Field(description="The contract that emitted it.")
    name: str = Field(description="The event's name.")
    args: dict[str, Any] = Field(description="Its values by name; unnamed ones by index.")


class LogFields(Fields):
    """One raw event log of a transaction."""

    address: str = Field(description="The contract that emitted it.")
    topics: list[str] = Field(description="Its topics, 0x-hex.")
    data: str = Field(description="Its data, 0x-hex.")


def show_events(logs: Iterable[Log], events: Iterable[Event]) -> list[EventFields]:
    """The logs that match one of the events, decoded."""
    known = list(events)
    shown = []
    for log in logs:
        found = ((event.name, event.show(log.topics, log.data)) for event in known)
        match = next(((name, values) for name, values in found if values is not None), None)
        if match is not None:
            shown.append(EventFields(contract=log.address, name=match[0], args=match[1]))
    return shown


def show_logs(logs: Iterable[Log]) -> list[LogFields]:
    """All logs, undecoded."""
    return [
        LogFields(address=log.address, topics=[f"0x{topic.hex()}" for topic in log.topics], data=f"0x{log.data.hex()}")
        for log in logs
    ]
