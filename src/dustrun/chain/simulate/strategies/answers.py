"""Parses the results of simulated calls and reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from dustrun.chain import wire
from dustrun.chain.endpoints import Endpoint, Endpoints
from dustrun.chain.failures import Kind, kind_of, may_pass, to_error
from dustrun.chain.rpc import Rpc, RpcError, RpcRequest
from dustrun.chain.simulate.fork import Fork
from dustrun.chain.simulate.result import CallOutcome, RejectedTransaction
from dustrun.core.money.intent import Log
from dustrun.core.values.addresses import address_of_word
from dustrun.errors import Code, Permanent, Temporary
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


# Batched reads of a simulation, sent to an endpoint that has the pinned block.


async def ask_all(
    endpoints: Endpoints,
    requests: Sequence[RpcRequest],
    fork: Fork,
    among: Sequence[Endpoint] | None = None,
    optional: Sequence[RpcRequest] = (),
) -> list[Any]:
    """The results of many reads from one endpoint, an `RpcError` for a failed one, followed by those of `optional`
    ones. Tries the next endpoint if one lacks the block or a method, except for the optional ones."""

    async def ask(rpc: Rpc) -> list[Any]:
        answers = await rpc.batch([*requests, *optional])
        for answer in answers[: len(requests)]:
            if isinstance(answer, RpcError) and may_pass(answer):
                raise answer
        return answers

    try:
        return await endpoints.read(ask, "batch", among)
    except RpcError as error:
        raise simulation_error(error, fork, endpoints, among) from None


def simulation_error(
    error: RpcError, fork: Fork, endpoints: Endpoints, among: Sequence[Endpoint] | None = None
) -> Exception:
    """Converts a node's error. Missing funds or gas fail the whole request, so they become `RejectedTransaction`. A
    missing block is `Permanent`, or `Temporary` while an endpoint that may have it does not answer."""
    kind, name = kind_of(error), endpoints.network.name
    if kind is Kind.FUNDS:
        message = f"the sender has too little native coin for value and gas ({error.message})"
        return RejectedTransaction(message, code=Code.FUNDS_INSUFFICIENT)
    if kind is Kind.GAS:
        return RejectedTransaction(f"the gas limit is too low ({error.message})")
    if kind is Kind.NO_STATE:
        resting = [endpoint.host for endpoint in (endpoints.all if among is None else among) if endpoint.is_resting]
        if resting:
            message = f"No endpoint of {name} that answers has block {fork.number} ({fork.hash})"
            return Temporary(f"{message}; {', '.join(resting)} does not answer.", code=Code.CHAIN_UNREACHABLE)
        return fork_lost(fork, name)
    return to_error(error, f"Simulating on {name}")


def fork_lost(fork: Fork, name: str) -> Permanent:
    """The error if no endpoint still has the pinned block."""
    return Permanent(
        f"The simulation is based on block {fork.number} ({fork.hash}) of {name}, which no endpoint has any more (a "
        "reorganisation, or a restarted or pruned node): start a new one, or add an endpoint that keeps old state.",
        code=Code.SIM_FORK_LOST,
    )
