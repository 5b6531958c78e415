"""The interface of simulation strategies, and the choice between them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, Protocol

from dustrun.chain.endpoints import Endpoint, Endpoints
from dustrun.chain.probe import Abilities, able
from dustrun.chain.simulate.fork import Fork, Step
from dustrun.chain.simulate.prober import Ask
from dustrun.chain.simulate.result import Looked, Measured, Survey, Wanted
from dustrun.errors import Code, Permanent
from dustrun.sdk.chain import CallResult, ChainCall

Strategy = Literal["simulate-v1", "trace-call", "local-fork"]
STRATEGIES: Final[tuple[Strategy, ...]] = ("simulate-v1", "trace-call", "local-fork")


class Simulator(Protocol):
    """One way to carry transactions out on the state that a fork's earlier ones left. Raises `Temporary` when no
    endpoint answers, `Permanent` (`SIM_FORK_LOST`) when none has the pinned block."""

    creates: bool
    """Whether the node creates contracts by itself."""

    async def read(self, fork: Fork, calls: Sequence[ChainCall]) -> list[CallResult]:
        """Calls on the newest state, in its block."""
        ...

    async def probe(self, fork: Fork, asks: Sequence[Ask]) -> list[int | None]:
        """Words on the newest state."""
        ...

    async def code(self, fork: Fork, address: str) -> bytes:
        """The code of an address on the newest state."""
        ...

    async def survey(self, fork: Fork, wanted: Wanted) -> Survey:
        """Calls, words and codes on the newest state by one request."""
        ...

    async def look(self, fork: Fork, step: Step) -> Looked:
        """The first round: the step free of charge, and its sender's balance before it. Raises `Rejected`."""
        ...

    async def measure(
        self, fork: Fork, step: Step, looked: Looked, before: Sequence[Ask], after: Sequence[Ask], wanted: Wanted
    ) -> Measured:
        """The second round: the step as it will stand, and words before and after it. What is `wanted` of the state
        that the step leaves may come along. Raises `Rejected`."""
        ...

    async def keep(self, fork: Fork, step: Step, measured: Measured, owner_units: int | None) -> None:
        """The step stays: it is appended to the fork by the caller. `owner_units` is the sender's native balance
        after it, fee not charged."""
        ...

    async def close(self) -> None:
        """Releases its resources."""
        ...


def _offers(strategy: Strategy, abilities: Abilities) -> bool:
    if strategy == "simulate-v1":
        return abilities.simulate_v1 and abilities.trace_transfers
    return abilities.trace_call and abilities.call_overrides


async def choose(
    endpoints: Endpoints, wanted: Strategy | None, has_binary: bool
) -> tuple[Strategy, list[Endpoint], bool]:
    """The best strategy that an endpoint supports (or the wanted one), those endpoints, and whether their nodes create
    contracts in a simulation. Raises `Permanent` (`SIM_UNAVAILABLE`) that says how to make one possible.
    """
    for strategy in STRATEGIES if wanted is None else (wanted,):
        if strategy == "local-fork":
            if has_binary:
                return strategy, list(endpoints.all), False
            continue
        offering = strategy
        found = await able(endpoints, lambda abilities, which=offering: _offers(which, abilities))  # type: ignore[misc]
        if found:
            creating = [endpoint for endpoint in found if endpoint.abilities.simulate_creation]
            return strategy, creating or found, bool(creating)
    await endpoints.call("eth_chainId")  # nothing answers at all: that is what is to be told
    which = "This simulation" if wanted is None else f"The strategy {wanted}"
    raise Permanent(
        f"{which} is not possible on {endpoints.network.name}: no endpoint supports eth_simulateV1 with transfers, "
        "nor debug_traceCall and eth_call with state overrides. Add an endpoint that does, or set an anvil binary in "
        "`fork_binary`, which forks the chain on this machine.",
        code=Code.SIM_UNAVAILABLE,
    )
