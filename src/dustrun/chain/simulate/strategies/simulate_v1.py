"""`eth_simulateV1`: every request replays all earlier transactions, one block each, before the new one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from dustrun.chain import wire
from dustrun.chain.endpoints import Endpoint, Endpoints
from dustrun.chain.failures import Kind, kind_of, to_error
from dustrun.chain.rpc import Request, RpcError
from dustrun.chain.simulate import prober
from dustrun.chain.simulate.fork import Fork, Step
from dustrun.chain.simulate.prober import Ask
from dustrun.chain.simulate.result import BatchResult, CallOutcome, DryRun, Measured, ReadBatch
from dustrun.chain.simulate.strategies.asking import ask_all, simulation_error
from dustrun.chain.simulate.strategies.codes import CODE_STATE, Codes, Plan, code_call
from dustrun.core.money.intent import Log
from dustrun.core.values.addresses import address_of_word
from dustrun.sdk.chain import CallResult, ChainCall

NATIVE: Final = "0xEeeeeEeeeEeEeeEeEeEeeEEEeeeeEeeeeeeeEEeE"  # pseudo address of native transfers in logs
PROBER_STATE: Final = {prober.PROBER: {"code": prober.PROBER_CODE}}
Json = dict[str, Any]


class SimulateV1:
    """Simulates on the endpoints `among`. `creates`: they can create contracts; otherwise a creation is emulated by
    placing the init code at the contract's future address and calling it."""

    def __init__(self, endpoints: Endpoints, among: Sequence[Endpoint], creates: bool) -> None:
        self.creates = creates
        self._endpoints = endpoints
        self._among = among
        self._is_legacy = endpoints.network.fee_model == "legacy"
        self._codes = Codes()
        self._prefix: list[Json] = []  # request blocks of the fork's steps

    async def read(self, fork: Fork, calls: Sequence[ChainCall]) -> list[CallResult]:
        """Results of calls in the newest block, after its transaction."""
        if not fork.steps and not fork.waited_s:
            return await self._read_pinned(fork, calls)
        found: list[CallResult] = []
        for start in range(0, len(calls), 25):  # the calls share the block gas limit
            part = calls[start : start + 25]
            share = hex(fork.gas_limit // 2 // len(part))
            fields = [{**wire.call_fields(call), "gas": share} for call in part]
            found += [_call_result(answer) for answer in await self._at_head(fork, fields, {})]
        return found

    async def _read_pinned(self, fork: Fork, calls: Sequence[ChainCall]) -> list[CallResult]:
        at = {"blockHash": fork.hash}
        requests = [Request("eth_call", (wire.call_fields(call), at)) for call in calls]
        answers = await ask_all(self._endpoints, requests, fork, self._among)
        return [read_result(answer) for answer in answers]

    async def probe(self, fork: Fork, asks: Sequence[Ask]) -> list[int | None]:
        """One-word reads at the newest state; None where no single word was returned."""
        answers = await self._at_head(fork, [probe_call(asks)], PROBER_STATE)
        return prober.decode(outcome_of(answers[0]).data, len(asks))

    async def code(self, fork: Fork, address: str) -> bytes:
        """The code of an address, including contracts created by emulation."""
        runtime = _runtime_of(fork, address)
        if runtime is not None:
            return runtime
        answers = await self._at_head(fork, [code_call(address)], CODE_STATE)
        return outcome_of(answers[0]).data

    async def read_batch(self, fork: Fork, reads: ReadBatch) -> BatchResult:
        """All reads in the newest block, after its transaction, in one request."""
        plan = self._codes.plan(reads.addresses)
        answers = await self._at_head(fork, _batch_calls(fork, reads, plan), PROBER_STATE | CODE_STATE)
        return self._batch_result(fork, reads, plan, answers)

    async def dry_run(self, fork: Fork, step: Step) -> DryRun:
        """The step without fees, after a read of its sender's balance. Raises `Rejected`."""
        asks = [prober.native(step.sender)]
        fields = self._bare_call(step)
        fields.pop("gas", None)
        if step.gas:
            fields["gas"] = hex(step.gas)
        block = self._block(step, [probe_call(asks), fields], PROBER_STATE)
        probed, outcome = (await self._run(fork, [block], traces=True))[0]
        units = prober.decode(outcome_of(probed).data, 1)[0]
        return DryRun(outcome_of(outcome), units or 0)

    async def measure(
        self, fork: Fork, step: Step, dry_run: DryRun, before: Sequence[Ask], after: Sequence[Ask], reads: ReadBatch
    ) -> Measured:
        """The step between two probes, followed by `reads` in the same block if its gas allows. After an emulated
        creation the second probe needs another block, in which the created code is in place. Raises `Rejected`."""
        calls = [probe_call(before), self._call(step), probe_call(after)]
        more: list[Json] = []
        plan = self._codes.plan(reads.addresses)
        if step.runtime is None:
            asked = _batch_calls(fork, reads, plan) if reads and _has_room(fork, step, before, after, reads) else []
            state = PROBER_STATE | CODE_STATE if asked else PROBER_STATE
            answers = (await self._run(fork, [self._block(step, [*calls, *asked], state)]))[0]
            first, outcome, last, *more = answers
        else:
            later = _header(step.number + 1, step.time + 1)
            later |= {"calls": calls[2:], "stateOverrides": _runtime_state(step)}
            blocks = [self._block(step, calls[:2], PROBER_STATE), later]
            (first, outcome), (last,) = await self._run(fork, blocks)
        return Measured(
            outcome_of(outcome),
            prober.decode(outcome_of(first).data, len(before)),
            prober.decode(outcome_of(last).data, len(after)),
            self._batch_result(fork, reads, plan, more) if more else None,
        )

    async def keep(self, fork: Fork, step: Step, measured: Measured, owner_units: int | None) -> None:
        """Does nothing: every request replays the fork's steps."""

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
        block = _header(step.number, step.time) | {"calls": list(calls)}
        overrides = dict(state)
        if step.to is None and not self.creates and step.creates is not None:
            overrides[step.creates] = {"code": wire.hexed(step.data), "nonce": "0x1"}
        if overrides:
            block["stateOverrides"] = overrides
        return block

    def _blocks(self, fork: Fork) -> list[Json]:
        """The blocks of all committed steps."""
        for step in fork.steps[len(self._prefix) :]:
            self._prefix.append(self._block(step, [self._call(step)], {}))
        return [dict(block) for block in self._prefix]

    async def _at_head(self, fork: Fork, calls: list[Json], state: Mapping[str, Any]) -> list[Json]:
        """Calls in the newest block after its transaction, or in a new block if the clock was advanced."""
        blocks = self._blocks(fork)
        last = fork.steps[-1] if fork.steps else None
        if last is None or fork.waited_s or last.runtime is not None:
            extra = _header(fork.head_number + 1, fork.now + (0 if fork.waited_s else 1)) | {"calls": calls}
            if state:
                extra["stateOverrides"] = dict(state)
            return (await self._request(fork, _with_runtimes(fork, [*blocks, extra], self.creates)))[-1]
        blocks[-1]["calls"] = [*blocks[-1]["calls"], *calls]
        if state:
            blocks[-1]["stateOverrides"] = {**blocks[-1].get("stateOverrides", {}), **state}
        return (await self._request(fork, _with_runtimes(fork, blocks, self.creates)))[-1][1:]

    async def _run(self, fork: Fork, new: Sequence[Json], *, traces: bool = False) -> list[list[Json]]:
        blocks = _with_runtimes(fork, [*self._blocks(fork), *new], self.creates)
        return (await self._request(fork, blocks, traces=traces))[-len(new) :]

    async def _request(self, fork: Fork, blocks: Sequence[Json], *, traces: bool = False) -> list[list[Json]]:
        """The call results of each block; `traces` adds native transfers to the logs."""
        asked = {"blockStateCalls": blocks, "traceTransfers": traces, "validation": False}
        request = Request("eth_simulateV1", (asked, {"blockHash": fork.hash}))
        try:
            answer = await self._endpoints.read(lambda rpc: rpc.call(request), request.method, self._among)
        except RpcError as error:
            raise simulation_error(error, fork, self._endpoints, self._among) from None
        try:
            return [block["calls"] for block in answer]
        except (TypeError, KeyError):
            raise wire.malformed("simulated blocks") from None

    def _batch_result(self, fork: Fork, reads: ReadBatch, plan: Plan, answers: Sequence[Json]) -> BatchResult:
        count = len(reads.calls)
        results = [_call_result(answer) for answer in answers[:count]]
        words = prober.decode(outcome_of(answers[count]).data, len(reads.asks))
        read = self._codes.read(plan, [outcome_of(answer).data for answer in answers[count + 1 :]])
        runtimes = [_runtime_of(fork, address) for address in reads.addresses]
        return BatchResult(results, words, [runtime or code for runtime, code in zip(runtimes, read, strict=True)])


def _batch_calls(fork: Fork, reads: ReadBatch, plan: Plan) -> list[Json]:
    share = hex(fork.gas_limit // 2 // max(1, len(reads.calls)))
    fields = [{**wire.call_fields(call), "gas": share} for call in reads.calls]
    return [*fields, probe_call(reads.asks), *plan.calls]


def _has_room(fork: Fork, step: Step, before: Sequence[Ask], after: Sequence[Ask], reads: ReadBatch) -> bool:
    """Whether the optional reads fit into the block's gas limit together with the transaction."""
    probes = sum(prober.gas_of(len(asks)) for asks in (before, after, reads.asks))
    return step.gas + probes + fork.gas_limit // 2 <= fork.gas_limit


def _runtime_of(fork: Fork, address: str) -> bytes | None:
    """The code of a contract that was created by emulation; None for any other address."""
    return next((step.runtime for step in fork.steps if step.creates == address and step.runtime is not None), None)


def _header(number: int, time: int) -> Json:
    """Block overrides with base fee 0, so that a step pays exactly its own gas price."""
    return {"blockOverrides": {"number": hex(number), "time": hex(time), "baseFeePerGas": "0x0"}}


def _runtime_state(step: Step) -> Json:
    return {str(step.creates): {"code": wire.hexed(step.runtime or b"")}}


def _with_runtimes(fork: Fork, blocks: list[Json], creates: bool) -> list[Json]:
    """Adds the code of each emulated creation to the overrides of the following block."""
    if creates:
        return blocks
    for place, step in enumerate(fork.steps):
        if step.runtime is not None and place + 1 < len(blocks):
            state = {**_runtime_state(step), **blocks[place + 1].get("stateOverrides", {})}
            blocks[place + 1] = {**blocks[place + 1], "stateOverrides": state}
    return blocks


def probe_call(asks: Sequence[Ask]) -> Json:
    """The call that reads words."""
    return {
        "from": prober.PROBER_SENDER,
        "to": prober.PROBER,
        "input": wire.hexed(prober.encode(asks)),
        "gas": hex(prober.gas_of(len(asks))),
    }


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


def _call_result(answer: Mapping[str, Any]) -> CallResult:
    outcome = outcome_of(answer)
    return CallResult(outcome.is_success, outcome.data)


def read_result(answer: Any) -> CallResult:
    """The result of an `eth_call`; raises for errors other than a revert or a lack of gas."""
    if not isinstance(answer, RpcError):
        return CallResult(True, wire.data(answer))
    if kind_of(answer) in (Kind.REVERTED, Kind.GAS):
        return CallResult(False, answer.data or b"")
    raise to_error(answer, "A read")
