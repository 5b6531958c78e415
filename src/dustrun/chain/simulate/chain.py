"""A simulated chain: reads like a live one, and transactions that each see the effects of earlier ones.

The base block is pinned on first use. Every transaction gets its own block, at least a second after the previous one.
Nothing is signed or broadcast, and no nonce is used up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dustrun.chain.endpoints import Endpoint
from dustrun.chain.evm import LiveChain
from dustrun.chain.failures import reverted
from dustrun.chain.simulate.creation import creation_gas
from dustrun.chain.simulate.fork import MAX_STEPS, Fork
from dustrun.chain.simulate.pinning import pin
from dustrun.chain.simulate.reads import Reads
from dustrun.chain.simulate.result import RejectedTransaction, SimResult
from dustrun.chain.simulate.sending import DryRunCache, KeepIf, Sending
from dustrun.chain.simulate.strategies.local_fork import LocalFork
from dustrun.chain.simulate.strategies.simulate_v1 import SimulateV1
from dustrun.chain.simulate.strategies.trace_call import TraceCall
from dustrun.chain.simulate.strategy import Simulator, Strategy, choose
from dustrun.chain.simulate.touched import Approval
from dustrun.core.evm.network import Network
from dustrun.core.money.allowances import Allowance
from dustrun.core.money.intent import Intent
from dustrun.core.run.as_of import AsOf
from dustrun.core.values.addresses import checksum
from dustrun.errors import Code, Invalid, Permanent, Temporary
from dustrun.sdk.chain import Block, CallResult, ChainCall, ChainTransaction, Fees


class SimChain:
    """The simulated counterpart of a live chain. `strategy` None selects the best one that the endpoints support;
    `fork_binary` is the anvil binary of `local-fork`; `state` (from `to_json`) resumes a simulation. It is pinned at
    the head, or at the past moment `as_of`.
    """

    def __init__(
        self,
        live: LiveChain,
        *,
        strategy: Strategy | None = None,
        fork_binary: Path | None = None,
        state: Mapping[str, Any] | None = None,
        as_of: AsOf | None = None,
    ) -> None:
        self._live = live
        self._wanted = strategy
        self._binary = None if fork_binary is None else fork_binary.expanduser()
        self._fork = None if state is None else Fork.of(state)
        self._as_of = as_of
        self._simulator: Simulator | None = None
        self._opening: asyncio.Task[None] | None = None
        self._send_lock = asyncio.Lock()
        self._reads = Reads()
        self._dry_runs = DryRunCache()

    @property
    def network(self) -> Network:
        """The definition of the network."""
        return self._live.network

    @property
    def changes(self) -> int:
        """Version of the state: increases whenever `to_json` changes; 0 before first use."""
        return 0 if self._fork is None else self._fork.changes

    @property
    def strategy(self) -> str | None:
        """The simulation strategy; None before first use."""
        return None if self._fork is None else self._fork.strategy

    def to_json(self) -> dict[str, Any] | None:
        """The whole state as JSON; None before first use."""
        return None if self._fork is None else self._fork.public()

    def to_text(self) -> str:
        """`to_json` as text; must not be called before first use."""
        assert self._fork is not None
        return self._fork.text()

    async def mark(self) -> dict[str, Any]:
        """The present state, as long as the later one is kept that it is a part of; see `before`."""
        return (await self._opened())[0].mark()

    def before(self, mark: Mapping[str, Any]) -> dict[str, Any]:
        """The state at a mark, as a new version of this one."""
        assert self._fork is not None
        steps = [step.public() for step in self._fork.steps[: mark["steps"]]]
        return {**mark, "steps": steps, "changes": self._fork.changes + 1}

    def describe(self) -> dict[str, Any] | None:
        """Chain, block and strategy, for the run's `simulationForks`; None before first use."""
        if self._fork is None:
            return None
        return {
            "chainId": self.network.chain_id,
            "blockNumber": self._fork.number,
            "blockHash": self._fork.hash,
            "strategy": self._fork.strategy,
        }

    def granted(self, owner: str) -> list[Allowance]:
        """What the simulation's transactions have allowed others to take from a wallet, whether it stands or not."""
        found = [] if self._fork is None else map(Approval.of, self._fork.approved)
        return [
            Allowance(self.network.chain_id, "collection" if one.is_all else "erc20", one.token, one.spender)
            for one in found
            if one.owner == owner and one.id is None
        ]

    def advance(self, seconds: int) -> None:
        """Advances the simulated clock; does nothing before first use."""
        if self._fork is not None and seconds > 0:
            self._fork.waited_s += seconds
            self._fork.changes += 1

    async def close(self) -> None:
        """Stops child processes and pending reads; `to_json` still works."""
        self._reads.close()
        if self._opening is not None and not self._opening.done():
            self._opening.cancel()
            await asyncio.wait([self._opening])
        if self._simulator is not None:
            await self._simulator.close()
            self._simulator = None

    async def block(self) -> Block:
        """The newest simulated block; its hash is that of the pinned block."""
        fork, _ = await self._opened()
        base = None if fork.fees.is_legacy else fork.base_fee_units
        return Block(fork.head_number, fork.hash, fork.now, base)

    async def call(self, call: ChainCall) -> bytes:
        """The return data of a call; raises `Permanent` with the decoded reason when it reverts."""
        result = (await self.call_many([call]))[0]
        if not result.is_success:
            raise reverted(result.data, f"The call of {call.to}")
        return result.data

    async def call_many(self, calls: Sequence[ChainCall]) -> list[CallResult]:
        """Many calls at the newest state. A single call with a sender runs as the transaction that usually follows, so
        that its result can be reused; if it fails, it is repeated as a plain read, which reports the reason.
        """
        fork, simulator = await self._opened()
        if len(calls) == 1 and calls[0].sender is not None and not calls[0].is_view:
            tried = await self._try(fork, simulator, calls[0], calls[0].sender)
            if tried is not None:
                return [tried]
        return await self._reads.calls(fork, simulator, calls) if calls else []

    async def _try(self, fork: Fork, simulator: Simulator, call: ChainCall, sender: str) -> CallResult | None:
        """The result of a call run as the next transaction; None if that would fail."""
        intent = Intent("", self.network.chain_id, call.to, call.value_units, call.data, (), "")
        self._reads.use(fork, simulator)
        version = fork.changes
        try:
            dry_run = (await self._sending(fork, simulator, sender, intent).dry_run(self._dry_runs))[1]
        except RejectedTransaction:
            return None
        if fork.changes == version:
            self._reads.note_native(fork, simulator, checksum(sender), dry_run.units)
        return CallResult(True, dry_run.outcome.data) if dry_run.outcome.is_success else None

    def _sending(
        self,
        fork: Fork,
        simulator: Simulator,
        sender: str,
        intent: Intent,
        events: Sequence[Mapping[str, Any]] = (),
        reverts_stay: bool = False,
    ) -> Sending:
        return Sending(self._live, fork, simulator, checksum(sender), intent, events, reverts_stay)

    async def balance(self, address: str) -> int:
        """Native balance in base units, minus the data fees that an L2 would have charged."""
        fork, simulator = await self._opened()
        units = await self._reads.native(fork, simulator, checksum(address))
        return max(0, units - fork.owed.get(checksum(address), 0))

    async def code(self, address: str) -> bytes:
        """The contract's code; empty for a plain account."""
        fork, simulator = await self._opened()
        return await self._reads.code(fork, simulator, checksum(address))

    async def fees(self) -> Fees:
        """Fees to bid, as of the pinned block."""
        fork, _ = await self._opened()
        return fork.fees

    async def block_gas_limit(self) -> int | None:
        """The gas that a block of the real chain has room for."""
        return await self._live.block_gas_limit()

    async def data_fee(self, to: str | None, data: bytes) -> int:
        """The L2's data fee of a transaction in base units; 0 on other chains."""
        return await self._live.data_fee(to, data)

    async def estimate_gas(
        self,
        sender: str,
        to: str | None,
        value_units: int,
        data: bytes,
        errors: Sequence[Mapping[str, Any]] = (),
        gas_limit: int | None = None,
    ) -> int:
        """The gas estimate at the newest state, capped by `gas_limit`; raises `Permanent` with the decoded reason when
        it would revert, `Invalid` when the sender lacks the value.
        """
        intent = Intent(
            "", self.network.chain_id, to, value_units, data, (), "", errors=tuple(errors), gas_limit=gas_limit
        )
        async with self._send_lock:
            fork, simulator = await self._opened()
            try:
                step, dry_run = await self._sending(fork, simulator, sender, intent).dry_run(self._dry_runs)
            except RejectedTransaction as rejected:
                message = f"The transaction: {rejected.message}"
                if rejected.code is Code.FUNDS_INSUFFICIENT:
                    raise Invalid(message, code=Code.FUNDS_INSUFFICIENT) from None
                raise Permanent(message) from None  # as the chain's own estimate says it
            self._reads.note_native(fork, simulator, checksum(sender), dry_run.units)
        outcome = dry_run.outcome
        if not outcome.is_success:
            raise reverted(outcome.data, "The transaction", errors, outcome.message)
        if step.creates is not None and not simulator.creates:
            return creation_gas(outcome.gas_used, data, outcome.data)
        return outcome.gas_used

    async def find_transaction(self, hash: str) -> ChainTransaction | None:
        """A real transaction by its hash; simulated ones have none."""
        return await self._live.find_transaction(hash)

    async def send(
        self,
        sender: str,
        intent: Intent,
        *,
        events: Sequence[Mapping[str, Any]] = (),
        reverts_stay: bool = False,
        keep_if: KeepIf | None = None,
        gas_limit: int | None = None,
    ) -> SimResult:
        """Executes an intent. A reverting one has no effect, because its estimate would prevent it from being sent;
        with `reverts_stay` it uses its nonce and gas, like one that was sent. `gas_limit` is the one that it was priced
        with. `events` are ABI entries of the
        contracts' events. What `keep_if` refuses has no effect either. Raises `Temporary` and, when the pinned block is
        gone, `Permanent`.
        """
        async with self._send_lock:
            fork, simulator = await self._opened()
            if len(fork.steps) >= MAX_STEPS:
                raise Invalid(f"A simulation is limited to {MAX_STEPS} transactions per chain.")
            sending = self._sending(fork, simulator, sender, intent, events, reverts_stay)
            prefetch = self._reads.plan_prefetch(_called(intent))
            result, batch_result = await sending.run(self._dry_runs, prefetch.batch, keep_if, gas_limit)
            self._reads.advance(fork, simulator, None if batch_result is None else prefetch.answers(batch_result))
            return result

    async def _opened(self) -> tuple[Fork, Simulator]:
        while self._fork is None or self._simulator is None:
            if self._opening is None or self._opening.done():
                self._opening = asyncio.create_task(self._open())
            opening = self._opening
            try:
                await asyncio.shield(opening)  # all waiters resume in the same tick, so that their reads coalesce
            except asyncio.CancelledError:
                if not opening.cancelled():
                    raise
                raise Temporary("The simulation was closed before it started.") from None
        return self._fork, self._simulator

    async def _open(self) -> None:
        """Pins the block and, concurrently, probes what the endpoints support."""
        wanted: Any = self._wanted if self._fork is None else self._fork.strategy
        choosing = choose(self._live.endpoints, wanted, self._binary is not None)
        if self._fork is None:
            (strategy, among, creates), fork = await asyncio.gather(choosing, pin(self._live, self._as_of))
            fork.strategy = strategy
        else:
            fork, (strategy, among, creates) = self._fork, await choosing
        self._simulator = await self._simulator_of(strategy, among, creates, fork)
        self._fork = fork

    async def _simulator_of(
        self, strategy: Strategy, among: Sequence[Endpoint], creates: bool, fork: Fork
    ) -> Simulator:
        endpoints = self._live.endpoints
        if strategy == "simulate-v1":
            return SimulateV1(endpoints, among, creates and not any(step.runtime is not None for step in fork.steps))
        if strategy == "trace-call":
            return TraceCall(endpoints, among)
        if self._binary is None:
            raise Invalid("The strategy local-fork needs an anvil binary in `fork_binary`.", code=Code.SIM_UNAVAILABLE)
        return await LocalFork.open(self._binary, endpoints, fork)


def _called(intent: Intent) -> list[str]:
    """The contract that an intent calls, and the spenders that it approves."""
    if intent.to is None or not intent.data:
        return []
    spenders = [movement.counterparty for movement in intent.movements if movement.kind == "approve"]
    return [checksum(address) for address in (intent.to, *spenders)]
