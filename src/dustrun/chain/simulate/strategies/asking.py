"""Batched reads of a simulation, sent to an endpoint that has the pinned block."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dustrun.chain.endpoints import Endpoint, Endpoints
from dustrun.chain.failures import Kind, kind_of, may_pass, to_error
from dustrun.chain.rpc import Request, Rpc, RpcError
from dustrun.chain.simulate.fork import Fork
from dustrun.chain.simulate.result import Rejected
from dustrun.errors import Code, Permanent, Temporary


async def ask_all(
    endpoints: Endpoints,
    requests: Sequence[Request],
    fork: Fork,
    among: Sequence[Endpoint] | None = None,
    optional: Sequence[Request] = (),
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
    """Converts a node's error. Missing funds or gas fail the whole request, so they become `Rejected`. A missing block
    is `Permanent`, or `Temporary` while an endpoint that may have it does not answer."""
    kind, name = kind_of(error), endpoints.network.name
    if kind is Kind.FUNDS:
        message = f"the sender has too little native coin for value and gas ({error.message})"
        return Rejected(message, code=Code.FUNDS_INSUFFICIENT)
    if kind is Kind.GAS:
        return Rejected(f"the gas limit is too low ({error.message})")
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
