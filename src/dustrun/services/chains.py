"""The server's chains: which are known, which have endpoints, and the endpoints' health."""

from __future__ import annotations

import asyncio
from typing import Any

from dustrun.chain.chains import Chains
from dustrun.chain.endpoints import Endpoint
from dustrun.chain.evm import LiveChain
from dustrun.chain.probe import Abilities, abilities_of
from dustrun.chain.rpc import EndpointDown
from dustrun.core.evm.network import Network
from dustrun.errors import DustrunError
from dustrun.records import dataclass
from dustrun.sdk.chain import Block, Fees


@dataclass(frozen=True, slots=True)
class ChainView:
    """A chain's description, and whether it has an endpoint configured."""

    network: Network
    is_served: bool


@dataclass(frozen=True, slots=True)
class EndpointStatus:
    """The health of one endpoint; `abilities` is None if it did not answer."""

    facts: dict[str, Any]
    chain_id: int | None
    abilities: Abilities | None


@dataclass(frozen=True, slots=True)
class ChainStatus:
    """The health of a chain. `problem` says why nothing can be signed on it; None if all is well."""

    network: Network
    endpoints: tuple[EndpointStatus, ...]
    block: Block | None
    fees: Fees | None
    strategies: tuple[str, ...]
    problem: str | None


def list_chains(chains: Chains) -> list[ChainView]:
    """Lists all known chains by id."""
    return [ChainView(network, bool(network.endpoints)) for network in chains.networks.values()]


def get_chain(chains: Chains, chain_id: int) -> ChainView:
    """Reads a chain; raises `Invalid` if it is unknown."""
    network = chains.network(chain_id)
    return ChainView(network, bool(network.endpoints))


async def get_status(chains: Chains, chain_id: int, has_fork_binary: bool) -> ChainStatus:
    """Checks every endpoint of a chain now; raises `Invalid` if the chain is unknown or has no endpoint."""
    live = chains.get(chain_id)
    problem, block, fees = None, None, None
    try:
        await live.verify()
        block, fees = await live.block(), await live.fees()
    except DustrunError as error:
        problem = error.message
    found = await asyncio.gather(*(_status_of(endpoint) for endpoint in live.endpoints.all))
    return ChainStatus(live.network, tuple(found), block, fees, _strategies(found, has_fork_binary, live), problem)


async def _status_of(endpoint: Endpoint) -> EndpointStatus:
    abilities = None
    try:
        abilities = await abilities_of(endpoint)
    except EndpointDown as down:
        endpoint.failed(down)
    return EndpointStatus(endpoint.public(), endpoint.chain_id, abilities)


def _strategies(found: list[EndpointStatus], has_fork_binary: bool, live: LiveChain) -> tuple[str, ...]:
    """The simulation strategies that this chain supports, best first."""
    offered = [status.abilities for status in found if status.abilities is not None]
    possible = []
    if any(abilities.trace_call and abilities.call_overrides for abilities in offered):
        possible.append("trace-call")
    if any(abilities.simulate_v1 and abilities.trace_transfers for abilities in offered):
        possible.append("simulate-v1")
    if has_fork_binary and offered:
        possible.append("local-fork")
    return tuple(possible)
