"""`eth_simulateV1`: every request begins with the effects of all earlier transactions, as state overrides where the
endpoint can trace them, otherwise by repeating them, one block each."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from dustrun.chain import wire
from dustrun.chain.endpoints import Endpoint, Endpoints
from dustrun.chain.rpc import RpcError, RpcRequest
from dustrun.chain.simulate import creation
from dustrun.chain.simulate.creation import Ask
from dustrun.chain.simulate.fork import Fork, Step
from dustrun.chain.simulate.result import BatchResult, DryRun, MeasuredTransaction, ReadBatch
from dustrun.chain.simulate.strategies.answers import ask_all, call_result, outcome_of, read_result, simulation_error
from dustrun.chain.simulate.strategies.blocks import (
    PROBER_STATE,
    batch_calls,
    has_room,
    header,
    probe_call,
    runtime_of,
    runtime_state,
    with_runtimes,
    with_state,
)
from dustrun.chain.simulate.strategies.codes import CODE_STATE, Codes, Plan, code_call
from dustrun.chain.simulate.strategies.folding import FoldedState, layered
from dustrun.errors import DustrunError
from dustrun.sdk.chain import CallResult, ChainCall

Json = dict[str, Any]


class SimulateV1:
    """Simulates on the endpoints `among`. `creates`: they can create contracts; otherwise a creation is emulated by
    placing the init code at the contract's future address and calling it."""

    def __init__(self, endpoints: Endpoints, among: Sequence[Endpoint], creates: bool) -> None:
        self.creates = creates
        self._endpoints = endpoints
        self._among = sorted(among, key=lambda endpoint: not can_trace(endpoint))
        self._can_fold = can_trace(self._among[0])
        self._skips_blocks = all(endpoint.abilities.skips_blocks for endpoint in among)
        self._is_legacy = endpoints.network.fee_model == "legacy"
        self._codes = Codes()
        self._folding = FoldedState()
        self._prefix: list[Json] = []  # request blocks of the steps that are not folded
        self._is_current = not self._can_fold  # whether the steps of a restored fork are folded
        self._catching_up = asyncio.Lock()

    async def read(self, fork: Fork, calls: Sequence[ChainCall]) -> list[CallResult]:
        """Results of calls in the newest block, after its transaction."""
        if not fork.steps and not fork.waited_s:
            return await self._read_pinned(fork, calls)
        await self._catch_up(fork)
        found: list[CallResult] = []
        for start in range(0, len(calls), 25):  # the calls share the block gas limit
            part = calls[start : start + 25]
            share = hex(fork.gas_limit // 2 // len(part))
            fields = [{**wire.call_fields(call), "gas": share} for call in part]
            found += [call_result(answer) for answer in await self._at_head(fork, fields, {})]
        return found

    async def _read_pinned(self, fork: Fork, calls: Sequence[ChainCall]) -> list[CallResult]:
        at = {"blockHash": fork.hash}
        requests = [RpcRequest("eth_call", (wire.call_fields(call), at)) for call in calls]
        answers = await ask_all(self._endpoints, requests, fork, self._among)
        return [read_result(answer) for answer in answers]

    async def probe(self, fork: Fork, asks: Sequence[Ask]) -> list[int | None]:
        """One-word reads at the newest state; None where no single word was returned."""
        await self._catch_up(fork)
        return await self._words(fork, probe_call(asks), len(asks))

    async def _words(self, fork: Fork, call: Json, count: int) -> list[int | None]:
        answers = await self._at_head(fork, [call], PROBER_STATE)
        return creation.decode(outcome_of(answers[0]).data, count)

    async def code(self, fork: Fork, address: str) -> bytes:
        """The code of an address, including contracts created by emulation."""
        runtime = runtime_of(fork, address)
        if runtime is not None:
            return runtime
        await self._catch_up(fork)
        answers = await self._at_head(fork, [code_call(address)], CODE_STATE)
        return outcome_of(answers[0]).data

    async def read_batch(self, fork: Fork, reads: ReadBatch) -> BatchResult:
        """All reads in the newest block, after its transaction, in one request."""
        await self._catch_up(fork)
        plan = self._codes.plan(reads.addresses)
        answers = await self._at_head(fork, batch_calls(fork, reads, plan), PROBER_STATE | CODE_STATE)
        return self._batch_result(fork, reads, plan, answers)

    async def dry_run(self, fork: Fork, step: Step) -> DryRun:
        """The step without fees, after a read of its sender's balance. Raises `Rejected`."""
        asks = [creation.native(step.sender)]
        fields = self._bare_call(step)
        fields.pop("gas", None)
        if step.gas:
            fields["gas"] = hex(step.gas)
        block = self._block(step, [probe_call(asks), fields], PROBER_STATE)
        await self._catch_up(fork)
        probed, outcome = (await self._answers(fork, [*self._repeated(fork), block], transfers=True))[-1]
        units = creation.decode(outcome_of(probed).data, 1)[0]
        return DryRun(outcome_of(outcome), units or 0)

    async def measure(
        self, fork: Fork, step: Step, dry_run: DryRun, before: Sequence[Ask], after: Sequence[Ask], reads: ReadBatch
    ) -> MeasuredTransaction:
        """The step between two probes, followed by `reads` in the same block if its gas allows. After an emulated
        creation the second probe needs another block, in which the created code is in place. Raises `Rejected`."""
        await self._catch_up(fork)
        plan = self._codes.plan(reads.addresses)
        asked = batch_calls(fork, reads, plan) if reads and has_room(fork, step, before, after, reads) else []
        new = self._measuring(step, before, after, asked if step.runtime is None else [])
        found, diff = await self._traced(fork, step, new)
        first, outcome, last, *more = [answer for block in found for answer in block]
        return MeasuredTransaction(
            replace(outcome_of(outcome), diff=diff),
            creation.decode(outcome_of(first).data, len(before)),
            creation.decode(outcome_of(last).data, len(after)),
            self._batch_result(fork, reads, plan, more) if more else None,
        )

    def _measuring(self, step: Step, before: Sequence[Ask], after: Sequence[Ask], asked: Sequence[Json]) -> list[Json]:
        calls = [probe_call(before), self._call(step), probe_call(after)]
        if step.runtime is None:
            state = PROBER_STATE | CODE_STATE if asked else PROBER_STATE
            return [self._block(step, [*calls, *asked], state)]
        later = header(step.number + 1, step.time + 1) | {"calls": calls[2:], "stateOverrides": runtime_state(step)}
        return [self._block(step, calls[:2], PROBER_STATE), later]

    async def _traced(self, fork: Fork, step: Step, new: Sequence[Json]) -> tuple[list[list[Json]], Json]:
        """The call results of new blocks, and what the step changes; nothing if it cannot be folded."""
        request = self._request(fork, [*self._repeated(fork), *new])
        is_next = self._can_fold and self._folding.count == len(fork.steps)
        traces = [self._trace(self._folding, fork, step)] if is_next else []
        answer, *traced = await ask_all(self._endpoints, [request], fork, self._among, traces)
        diff = traced[0] if traced and isinstance(traced[0], dict) else {}
        return self._calls_of(fork, answer)[-len(new) :], diff

    async def keep(self, fork: Fork, step: Step, measured: MeasuredTransaction, owner_units: int | None) -> None:
        """Folds the step if its trace agrees; otherwise later requests repeat it."""
        if self._folding.count == len(fork.steps):
            self._folding.add_checked(step, measured.outcome.diff, owner_units)

    async def _catch_up(self, fork: Fork) -> None:
        """Folds the steps of a restored fork. They are repeated instead if one cannot be traced, or if one of their
        senders has another balance then."""
        if self._is_current:
            return
        async with self._catching_up:
            if not self._is_current:
                with suppress(DustrunError):  # the request that repeats them reports it
                    await self._fold_all(fork)
                self._is_current = True

    async def _fold_all(self, fork: Fork) -> None:
        folding = FoldedState()
        for step in fork.steps:
            diff = (await ask_all(self._endpoints, [self._trace(folding, fork, step)], fork, self._among))[0]
            if isinstance(diff, RpcError):
                return
            folding.add(step, diff)
        senders = list(dict.fromkeys(step.sender for step in fork.steps))
        call = probe_call([creation.native(sender) for sender in senders])
        if senders and folding.agrees(senders, await self._words(fork, call, len(senders))):
            self._folding, self._prefix = folding, []

    def _trace(self, folding: FoldedState, fork: Fork, step: Step) -> RpcRequest:
        return folding.trace(fork, step, self._call(step), self._creation(step))

    async def close(self) -> None:
        """Does nothing: the endpoints belong to the live chain."""

    def _call(self, step: Step) -> Json:
        """The step with its gas price: base fee and tip in one, since simulated blocks have no base fee."""
        price = hex(step.price_units)
        if self._is_legacy:
            return self._bare_call(step) | {"gasPrice": price}
        return self._bare_call(step) | {"maxFeePerGas": price, "maxPriorityFeePerGas": price}

    def _bare_call(self, step: Step) -> Json:
        fields: Json = {"from": step.sender, "value": hex(step.value_units)}
        if step.gas:
            fields["gas"] = hex(step.gas)
        if step.to is not None:
            return fields | {"to": step.to, "input": wire.hexed(step.data)}
        if self.creates:
            return fields | {"input": wire.hexed(step.data)}
        return fields | {"to": step.creates}

    def _block(self, step: Step, calls: Sequence[Json], state: Mapping[str, Any]) -> Json:
        """A step's block that contains `calls`, with state overrides."""
        block = header(step.number, step.time) | {"calls": list(calls)}
        return with_state(block, layered(state, self._creation(step)))

    def _creation(self, step: Step) -> Json:
        """The overrides of an emulated creation."""
        if step.to is not None or self.creates or step.creates is None:
            return {}
        return {step.creates: {"code": wire.hexed(step.data), "nonce": "0x1"}}

    def _repeated(self, fork: Fork) -> list[Json]:
        """The blocks of the steps that are not folded."""
        for step in fork.steps[self._folding.count + len(self._prefix) :]:
            self._prefix.append(self._block(step, [self._call(step)], {}))
        return [dict(block) for block in self._prefix]

    async def _at_head(self, fork: Fork, calls: list[Json], state: Mapping[str, Any]) -> list[Json]:
        """Calls in the newest block after its transaction, or in a new block if the clock was advanced."""
        blocks = self._repeated(fork)
        last = fork.steps[-1] if fork.steps else None
        is_new = last is None or bool(fork.waited_s) or (last.runtime is not None and bool(blocks))
        if not is_new and blocks:
            blocks[-1] = with_state(blocks[-1] | {"calls": [*blocks[-1]["calls"], *calls]}, state)
            return (await self._answers(fork, blocks))[-1][1:]
        later = header(fork.head_number + is_new, fork.now + (is_new and not fork.waited_s)) | {"calls": calls}
        return (await self._answers(fork, [*blocks, with_state(later, state)]))[-1]

    async def _answers(self, fork: Fork, blocks: Sequence[Json], *, transfers: bool = False) -> list[list[Json]]:
        """The call results of each block; `transfers` adds native transfers to the logs."""
        request = self._request(fork, blocks, transfers=transfers)
        answers = await ask_all(self._endpoints, [request], fork, self._among)
        return self._calls_of(fork, answers[0])

    def _request(self, fork: Fork, blocks: Sequence[Json], *, transfers: bool = False) -> RpcRequest:
        """Simulates blocks on the folded state."""
        blocks = with_runtimes(fork.steps[self._folding.count :], blocks, self.creates)
        state = layered(self._folding.state, blocks[0].get("stateOverrides", {}))
        blocks[0] = with_state(blocks[0], state)
        if not self._skips_blocks:
            first = int(blocks[0]["blockOverrides"]["number"], 16)
            folded = fork.steps[: self._folding.count]
            blocks[:0] = [header(step.number, step.time) | {"calls": []} for step in folded if step.number < first]
        asked = {"blockStateCalls": blocks, "traceTransfers": transfers, "validation": False}
        return RpcRequest("eth_simulateV1", (asked, {"blockHash": fork.hash}))

    def _calls_of(self, fork: Fork, answer: Any) -> list[list[Json]]:
        if isinstance(answer, RpcError):
            raise simulation_error(answer, fork, self._endpoints, self._among)
        try:
            return [block["calls"] for block in answer]
        except (TypeError, KeyError):
            raise wire.malformed("simulated blocks") from None

    def _batch_result(self, fork: Fork, reads: ReadBatch, plan: Plan, answers: Sequence[Json]) -> BatchResult:
        count = len(reads.calls)
        results = [call_result(answer) for answer in answers[:count]]
        words = creation.decode(outcome_of(answers[count]).data, len(reads.asks))
        read = self._codes.read(plan, [outcome_of(answer).data for answer in answers[count + 1 :]])
        runtimes = [runtime_of(fork, address) for address in reads.addresses]
        return BatchResult(results, words, [runtime or code for runtime, code in zip(runtimes, read, strict=True)])


def can_trace(endpoint: Endpoint) -> bool:
    """Whether an endpoint reports what a simulated transaction changed."""
    return bool(endpoint.abilities is not None and endpoint.abilities.trace_call)
