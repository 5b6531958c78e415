"""`debug_traceCall`: the state after earlier transactions is passed as overrides, built from state diffs."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final

from dustrun.chain import wire
from dustrun.chain.endpoints import Endpoint, Endpoints
from dustrun.chain.rpc import RpcError, RpcRequest
from dustrun.chain.simulate import creation
from dustrun.chain.simulate.creation import Ask
from dustrun.chain.simulate.fork import Fork, Step
from dustrun.chain.simulate.result import BatchResult, CallOutcome, DryRun, MeasuredTransaction, ReadBatch
from dustrun.chain.simulate.strategies.answers import ask_all, read_result, simulation_error
from dustrun.chain.simulate.strategies.folding import DIFF_TRACER, layered, merged
from dustrun.core.money.intent import Log
from dustrun.core.values.addresses import checksum
from dustrun.errors import DustrunError
from dustrun.sdk.chain import CallResult, ChainCall

Json = dict[str, Any]
_CALL_TRACER: Final = {"tracer": "callTracer", "tracerConfig": {"withLog": True}}


class TraceCall:
    """Simulates on the endpoints `among`. A transaction takes two requests: its traces, then the balances around it."""

    creates = True

    def __init__(self, endpoints: Endpoints, among: Sequence[Endpoint]) -> None:
        self._endpoints = endpoints
        self._among = among
        self._state: Json = {}  # state overrides with the effects of all committed steps
        self._pinned: dict[str, bytes] = {}  # code at the pinned block, by address
        self._kept = 0
        self._catching_up = asyncio.Lock()

    async def read(self, fork: Fork, calls: Sequence[ChainCall]) -> list[CallResult]:
        """Results of calls at the newest state."""
        await self._catch_up(fork)
        at = _block_overrides(fork.head_number, fork.now) if fork.steps or fork.waited_s else None
        fields = [wire.call_fields(call) for call in calls]
        answers = await self._batch(fork, [_eth_call(fork, each, self._state, at) for each in fields])
        return [read_result(answer) for answer in answers]

    async def probe(self, fork: Fork, asks: Sequence[Ask]) -> list[int | None]:
        """One-word reads at the newest state; None where no single word was returned."""
        await self._catch_up(fork)
        at = _block_overrides(fork.head_number, fork.now)
        answer = (await self._batch(fork, [self._probe(fork, asks, self._state, at)]))[0]
        return _words(answer, len(asks))

    async def code(self, fork: Fork, address: str) -> bytes:
        """The code of an address at the newest state."""
        return (await self.read_batch(fork, ReadBatch(addresses=(address,)))).codes[0] or b""

    async def read_batch(self, fork: Fork, reads: ReadBatch) -> BatchResult:
        """All reads at the newest state in one batch."""
        await self._catch_up(fork)
        at, state = _block_overrides(fork.head_number, fork.now), self._state
        new = self._unknown_codes(reads, state)
        requests = self._batch_requests(fork, reads, new, state, at if fork.steps or fork.waited_s else None)
        answers = await self._batch(fork, requests) if requests else []
        return self._batch_result(fork, reads, new, state, answers)

    def _unknown_codes(self, reads: ReadBatch, state: Json) -> list[str]:
        """Addresses whose code is neither in the overrides nor cached from the pinned block."""
        return [each for each in reads.addresses if _code_in(state, each) is None and each not in self._pinned]

    def _batch_requests(
        self, fork: Fork, reads: ReadBatch, new: Sequence[str], state: Json, at: Json | None
    ) -> list[RpcRequest]:
        """`new` are the addresses whose code is read; with `at` None, calls run in the pinned block itself."""
        requests = [_eth_call(fork, wire.call_fields(call), state, at) for call in reads.calls]
        now = at or _block_overrides(fork.head_number, fork.now)
        requests += [self._probe(fork, reads.asks, state, now)] if reads.asks else []
        return [*requests, *(RpcRequest("eth_getCode", (address, {"blockHash": fork.hash})) for address in new)]

    def _batch_result(
        self, fork: Fork, reads: ReadBatch, new: Sequence[str], state: Json, answers: Sequence[Any]
    ) -> BatchResult:
        count = len(reads.calls)
        results = [read_result(answer) for answer in answers[:count]]
        words = _words(answers[count], len(reads.asks)) if reads.asks else []
        for address, answer in zip(new, answers[count + bool(reads.asks) :], strict=True):
            if isinstance(answer, RpcError):
                raise simulation_error(answer, fork, self._endpoints, self._among)
            self._pinned[address] = wire.data(answer)
        changed = [(address, _code_in(state, address)) for address in reads.addresses]
        codes = [self._pinned[address] if code is None else wire.data(code) for address, code in changed]
        return BatchResult(results, words, codes)

    async def dry_run(self, fork: Fork, step: Step) -> DryRun:
        """The step's outcome with its state diff, and its sender's balance before it. Raises `Rejected`."""
        await self._catch_up(fork)
        return await self._dry_run(fork, step)

    async def _dry_run(self, fork: Fork, step: Step) -> DryRun:
        at = _block_overrides(step.number, step.time)
        fields = _fields(step)
        options = {"stateOverrides": self._state, "blockOverrides": {**at, "baseFeePerGas": hex(fork.base_fee_units)}}
        block = {"blockHash": fork.hash}
        requests = [
            RpcRequest("debug_traceCall", (fields, block, {**_CALL_TRACER, **options})),
            RpcRequest("debug_traceCall", (fields, block, {**DIFF_TRACER, **options})),
            self._probe(fork, [creation.native(step.sender)], self._state, at),
        ]
        traced, changed, probed = await self._batch(fork, requests)
        for answer in (traced, changed):
            if isinstance(answer, RpcError):
                raise simulation_error(answer, fork, self._endpoints, self._among)
        outcome = _outcome(traced)
        return DryRun(replace(outcome, diff=changed) if outcome.is_success else outcome, _words(probed, 1)[0] or 0)

    async def measure(
        self, fork: Fork, step: Step, dry_run: DryRun, before: Sequence[Ask], after: Sequence[Ask], reads: ReadBatch
    ) -> MeasuredTransaction:
        """Probes the state before and after the step that `dry_run` traced; `reads` see the state after its fee."""
        at = _block_overrides(step.number, step.time)
        then = merged(self._state, dry_run.outcome.diff)
        requests = [self._probe(fork, before, self._state, at), self._probe(fork, after, then, at)]
        more: list[RpcRequest] = []
        if reads and dry_run.outcome.is_success and step.runtime is None:
            owner = step.sender.lower()
            left = _balance_in(then, owner, dry_run.units)
            paid = {**then, owner: {**then.get(owner, {}), "balance": hex(_after_fee(left, dry_run.outcome, step))}}
            new = self._unknown_codes(reads, paid)
            more = self._batch_requests(fork, reads, new, paid, at)
        first, last, *answers = await self._batch(fork, [*requests, *more])
        measured = MeasuredTransaction(dry_run.outcome, _words(first, len(before)), _words(last, len(after)))
        if more and measured.after and measured.after[0] == left:
            with suppress(DustrunError):  # the read is repeated on demand, which reports the error
                measured.batch_result = self._batch_result(fork, reads, new, paid, answers)
        return measured

    async def keep(self, fork: Fork, step: Step, measured: MeasuredTransaction, owner_units: int | None) -> None:
        """Merges the state diff into the overrides, increases the nonce, and charges the fee to the sender."""
        paid: Json = {"nonce": hex(fork.nonces[step.sender] + fork.sent_by(step.sender) + 1)}
        if owner_units is not None:
            paid["balance"] = hex(_after_fee(owner_units, measured.outcome, step))
        self._state = layered(merged(self._state, measured.outcome.diff), {step.sender: paid})
        self._kept += 1

    async def close(self) -> None:
        """Does nothing: the endpoints belong to the live chain."""

    async def _catch_up(self, fork: Fork) -> None:
        """Replays the steps that the overrides do not contain yet, after the fork was restored from JSON."""
        if self._kept == len(fork.steps):
            return
        async with self._catching_up:  # concurrent requests replay the steps once
            await self._replay(fork)

    async def _replay(self, fork: Fork) -> None:
        for place in range(self._kept, len(fork.steps)):
            step = fork.steps[place]
            so_far = Fork(fork.number, fork.hash, fork.time, fork.gas_limit, fork.fees, steps=fork.steps[:place])
            so_far.nonces = fork.nonces
            asks = [creation.native(step.sender)]
            dry_run = await self._dry_run(so_far, step)
            measured = await self.measure(so_far, step, dry_run, asks, asks, ReadBatch())
            await self.keep(so_far, step, measured, measured.after[0])

    def _probe(self, fork: Fork, asks: Sequence[Ask], state: Mapping[str, Any], at: Json) -> RpcRequest:
        fields = {
            "from": creation.PROBER_SENDER,
            "to": creation.PROBER,
            "input": wire.hexed(creation.encode(asks)),
            "gas": hex(creation.gas_of(len(asks))),
        }
        overrides = {**state, creation.PROBER.lower(): {"code": creation.PROBER_CODE}}
        return RpcRequest("eth_call", (fields, {"blockHash": fork.hash}, overrides, at))

    async def _batch(self, fork: Fork, requests: Sequence[RpcRequest]) -> list[Any]:
        return await ask_all(self._endpoints, requests, fork, self._among)


def _eth_call(fork: Fork, fields: Json, state: Json, at: Json | None) -> RpcRequest:
    params: list[Any] = [fields, {"blockHash": fork.hash}]
    if state or at is not None:
        params.append(state)
    if at is not None:
        params.append(at)
    return RpcRequest("eth_call", tuple(params))


def _code_in(state: Json, address: str) -> Any:
    return state.get(address.lower(), {}).get("code")


def _balance_in(state: Json, owner: str, units: int) -> int:
    """An account's native balance in the overrides; `units` if they do not contain it."""
    changed = state.get(owner, {}).get("balance")
    return units if changed is None else int(changed, 16)


def _after_fee(units: int, outcome: CallOutcome, step: Step) -> int:
    return max(0, units - outcome.gas_used * step.price_units)


def _block_overrides(number: int, time: int) -> Json:
    return {"number": hex(number), "time": hex(time)}


def _fields(step: Step) -> Json:
    fields: Json = {"from": step.sender, "value": hex(step.value_units), "input": wire.hexed(step.data)}
    if step.to is not None:
        fields["to"] = step.to
    if step.gas:
        fields["gas"] = hex(step.gas)
    return fields


def _words(answer: Any, count: int) -> list[int | None]:
    return [None] * count if isinstance(answer, RpcError) else creation.decode(wire.data(answer), count)


def _outcome(trace: Mapping[str, Any]) -> CallOutcome:
    """Converts a call trace: logs in order of emission, without those of reverted calls."""
    logs: list[tuple[int, Mapping[str, Any]]] = []
    moved: list[str] = []
    try:
        is_success = not trace.get("error")
        if is_success:
            _walk(trace, logs, moved)
        ordered = [entry for _, entry in sorted(logs, key=lambda pair: pair[0])]
        found: tuple[Log, ...] = tuple(wire.log(entry, place) for place, entry in enumerate(ordered))
        gas = wire.quantity(trace["gasUsed"])
        message = None if is_success else str(trace.get("error"))
        return CallOutcome(is_success, gas, wire.data(trace.get("output") or "0x"), found, tuple(moved), message)
    except (KeyError, TypeError, AttributeError):
        raise wire.malformed("a trace") from None


def _walk(frame: Mapping[str, Any], logs: list[tuple[int, Mapping[str, Any]]], moved: list[str]) -> None:
    if frame.get("error"):
        return
    if frame.get("type") != "DELEGATECALL" and int(frame.get("value") or "0x0", 16):
        moved += [checksum(frame[side]) for side in ("from", "to") if frame.get(side)]
    for entry in frame.get("logs") or ():
        index = entry.get("index", len(logs))
        logs.append((int(index, 16) if isinstance(index, str) else index, entry))
    for inner in frame.get("calls") or ():
        _walk(inner, logs, moved)
