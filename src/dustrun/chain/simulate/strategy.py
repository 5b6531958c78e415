"""The interface of simulation strategies, and the choice between them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, Protocol

from dustrun.chain.endpoints import Endpoint, Endpoints
from dustrun.chain.probe import Abilities, able
from dustrun.chain.simulate.creation import Ask
from dustrun.chain.simulate.fork import Fork, Step
from dustrun.chain.simulate.result import BatchResult, DryRun, MeasuredTransaction, ReadBatch
from dustrun.errors import Code, Permanent
from dustrun.sdk.chain import CallResult, ChainCall

Strategy = Literal["simulate-v1", "trace-call", "local-fork"]
STRATEGIES: Final[tuple[Strategy, ...]] = ("trace-call", "simulate-v1", "local-fork")


class Simulator(Protocol):
    """Executes transactions on the state after a fork's earlier ones. Every method raises `Temporary` when no endpoint
    answers, `Permanent` (`SIM_FORK_LOST`) when none has the pinned block."""

    creates: bool
    """Whether the node can create contracts; otherwise creations are emulated by calling the init code."""

    async def read(self, fork: Fork, calls: Sequence[ChainCall]) -> list[CallResult]:
        """Results of calls at the newest block."""
        ...

    async def probe(self, fork: Fork, asks: Sequence[Ask]) -> list[int | None]:
        """One-word reads at the newest block; None where no single word was returned."""
        ...

    async def code(self, fork: Fork, address: str) -> bytes:
        """The code of an address at the newest block."""
        ...

    async def read_batch(self, fork: Fork, reads: ReadBatch) -> BatchResult:
        """All reads at the newest block in one request."""
        ...

    async def dry_run(self, fork: Fork, step: Step) -> DryRun:
        """The step without fees, and its sender's balance before it. Raises `Rejected`."""
        ...

    async def measure(
        self, fork: Fork, step: Step, dry_run: DryRun, before: Sequence[Ask], after: Sequence[Ask], reads: ReadBatch
    ) -> MeasuredTransaction:
        """The step with its gas limit and fee, and words `before` and `after` it. `reads` at the state after it are
        optional: the simulator may leave them out. Raises `Rejected`."""
        ...

    async def keep(self, fork: Fork, step: Step, measured: MeasuredTransaction, owner_units: int | None) -> None:
        """Commits the step, which the caller appends to the fork. `owner_units`: the sender's native balance after it,
        before its fee."""
        ...

    async def close(self) -> None:
        """Releases its resources."""
        ...


def _offers(strategy: Strategy, abilities: Abilities) -> bool:
    if strategy == "simulate-v1":
        return abilities.simulate_v1 and abilities.trace_transfers
    return abilities.trace_call and abilities.call_overrides


async def choose(
    endpoints: Endpoints, wanted: Strategy | None, has_binary: bool, order: Sequence[Strategy] = STRATEGIES
) -> tuple[Strategy, list[Endpoint], bool]:
    """The first strategy of `order` that an endpoint supports (or the `wanted` one), the endpoints that support it, and
    whether they can create contracts. Raises `Permanent` (`SIM_UNAVAILABLE`), which says how to enable one.
    """
    for strategy in order if wanted is None else (wanted,):
        if strategy == "local-fork":
            if has_binary:
                return strategy, list(endpoints.all), False
            continue
        offering = strategy
        found = await able(endpoints, lambda abilities, which=offering: _offers(which, abilities))  # type: ignore[misc]
        if found:
            creating = [endpoint for endpoint in found if endpoint.abilities.simulate_creation]
            return strategy, creating or found, bool(creating)
    await endpoints.call("eth_chainId")  # if no endpoint answers at all, report that instead
    which = "This simulation" if wanted is None else f"The strategy {wanted}"
    raise Permanent(
        f"{which} is not possible on {endpoints.network.name}: no endpoint supports eth_simulateV1 with transfers, "
        "nor debug_traceCall and eth_call with state overrides. Add an endpoint that does, or set an anvil binary in "
        "`fork_binary`, which forks the chain on this machine.",
        code=Code.SIM_UNAVAILABLE,
    )
