"""Parses the results of simulated calls and reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from dustrun.chain import wire
from dustrun.chain.failures import Kind, kind_of, to_error
from dustrun.chain.rpc import RpcError
from dustrun.chain.simulate.result import CallOutcome
from dustrun.core.money.intent import Log
from dustrun.core.values.addresses import address_of_word
from dustrun.sdk.chain import CallResult

NATIVE: Final = "0xEeeeeEeeeEeEeeEeEeEeeEEEeeeeEeeeeeeeEEeE"  # pseudo address of native transfers in logs


def outcome_of(answer: Mapping[str, Any]) -> CallOutcome:
    """Parses one simulated call; native transfers are separated from the logs. Raises `Temporary` if malformed."""
    try:
        entries = answer.get("logs") or ()
        logs = [entry for entry in entries if str(entry["address"]).lower() != NATIVE.lower()]
        moved = [
            address_of_word(wire.data(topic))
            for entry in entries
            if str(entry["address"]).lower() == NATIVE.lower()
            for topic in entry["topics"][1:3]
        ]
        error = answer.get("error") or {}
        returned = wire.data(answer.get("returnData") or "0x") or wire.data(_hex(error.get("data")))
        is_success = wire.quantity(answer["status"]) == 1
        found: tuple[Log, ...] = tuple(wire.log(entry, place) for place, entry in enumerate(logs))
        gas = wire.quantity(answer["gasUsed"])
    except (KeyError, TypeError, AttributeError):
        raise wire.malformed("a simulated call") from None
    message = None if is_success else str(error.get("message") or "")
    return CallOutcome(
        is_success, gas, returned, found if is_success else (), tuple(moved) if is_success else (), message
    )


def _hex(value: Any) -> str:
    return value if isinstance(value, str) and value.startswith("0x") else "0x"


def call_result(answer: Mapping[str, Any]) -> CallResult:
    """Parses one simulated read."""
    outcome = outcome_of(answer)
    return CallResult(outcome.is_success, outcome.data)


def read_result(answer: Any) -> CallResult:
    """The result of an `eth_call`; raises for errors other than a revert or a lack of gas."""
    if not isinstance(answer, RpcError):
        return CallResult(True, wire.data(answer))
    if kind_of(answer) in (Kind.REVERTED, Kind.GAS):
        return CallResult(False, answer.data or b"")
    raise to_error(answer, "A read")
