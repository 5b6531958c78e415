"""`eth_simulateV1`: every request replays the earlier transactions, each in its block, and then the new one."""

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
from dustrun.chain.simulate.result import Looked, Measured, Ran, Survey, Wanted
from dustrun.chain.simulate.strategies.asking import ask_all, simulation_error
from dustrun.chain.simulate.strategies.codes import CODE_STATE, Codes, Plan, code_call
from dustrun.core.money.intent import Log
from dustrun.core.values.addresses import address_of_word
from dustrun.sdk.chain import CallResult, ChainCall

NATIVE: Final = "0xEeeeeEeeeEeEeeEeEeEeeEEEeeeeEeeeeeeeEEeE"  # logs of native transfers have this address
_PROBER_STATE: Final = {prober.PROBER: {"code": prober.PROBER_CODE}}
Json = dict[str, Any]


class SimulateV1:
    """On endpoints that offer it. `creates`: they create contracts in a simulation; otherwise a contract's init code
    is put at its future address and called."""

    def __init__(self, endpoints: Endpoints, among: Sequence[Endpoint], creates: bool) -> None:
        self.creates = creates
        self._endpoints = endpoints
        self._among = among
        self._is_legacy = endpoints.network.fee_model == "legacy"
        self._codes = Codes()
        self._prefix: list[Json] = []  # the blocks of the fork's steps, made once

    async def read(self, fork: Fork, calls: Sequence[ChainCall]) -> list[CallResult]:
        """Calls in the newest block, after its transaction."""
        if not fork.steps and not fork.waited_s:
            return await self._read_pinned(fork, calls)
        found: list[CallResult] = []
        for start in range(0, len(calls), 25):  # the gas of a block is shared
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
        """Words on the newest state."""
        answers = await self._at_head(fork, [_probe(asks)], _PROBER_STATE)
        return prober.decode(_ran(answers[0]).data, len(asks))

    async def code(self, fork: Fork, address: str) -> bytes:
        """The code of an address: that of a contract which the run created, else the chain's."""
        runtime = _runtime_of(fork, address)
        if runtime is not None:
            return runtime
        answers = await self._at_head(fork, [code_call(address)], CODE_STATE)
        return _ran(answers[0]).data

    async def survey(self, fork: Fork, wanted: Wanted) -> Survey:
        """Calls, words and codes in the newest block, after its transaction, by one request."""
        plan = self._codes.plan(wanted.addresses)
        answers = await self._at_head(fork, _survey_calls(fork, wanted, plan), _PROBER_STATE | CODE_STATE)
        return self._surveyed(fork, wanted, plan, answers)

    async def look(self, fork: Fork, step: Step) -> Looked:
        """The step free of charge, after a look at the balance."""
        asks = [prober.native(step.sender)]
        fields = self._bare_call(step)
        fields.pop("gas", None)
        if step.gas:
            fields["gas"] = hex(step.gas)
        block = self._block(step, [_probe(asks), fields], _PROBER_STATE)
        probed, ran = (await self._run(fork, [block], traces=True))[0]
        units = prober.decode(_ran(probed).data, 1)[0]
        return Looked(_ran(ran), units or 0)

    async def measure(
        self, fork: Fork, step: Step, looked: Looked, before: Sequence[Ask], after: Sequence[Ask], wanted: Wanted
    ) -> Measured:
        """The step between two reads of balances, and what is wanted after them, in the block that it is read in
        later too; those of a contract that it creates in our way need a block more, in which its code stands."""
        calls = [_probe(before), self._call(step), _probe(after)]
        more: list[Json] = []
        plan = self._codes.plan(wanted.addresses)
        if step.runtime is None:
            asked = _survey_calls(fork, wanted, plan) if wanted and _has_room(fork, step, before, after, wanted) else []
            state = _PROBER_STATE | CODE_STATE if asked else _PROBER_STATE
            answers = (await self._run(fork, [self._block(step, [*calls, *asked], state)]))[0]
            first, ran, last, *more = answers
        else:
            later = _header(step.number + 1, step.time + 1)
            later |= {"calls": calls[2:], "stateOverrides": _runtime_state(step)}
            blocks = [self._block(step, calls[:2], _PROBER_STATE), later]
            (first, ran), (last,) = await self._run(fork, blocks)
        return Measured(
            _ran(ran),
            prober.decode(_ran(first).data, len(before)),
            prober.decode(_ran(last).data, len(after)),
            self._surveyed(fork, wanted, plan, more) if more else None,
        )

    async def keep(self, fork: Fork, step: Step, measured: Measured, owner_units: int | None) -> None:
        """Nothing to do: the step is in the fork and runs again with the next request."""

    async def close(self) -> None:
        """Nothing to give back."""

    def _call(self, step: Step) -> Json:
        """The step with its price: base fee and tip together, as the block has no base fee."""
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
        """The block of a step; with `calls` of one's own around it."""
        block = _header(step.number, step.time) | {"calls": list(calls)}
        overrides = dict(state)
        if step.to is None and not self.creates and step.creates is not None:
            overrides[step.creates] = {"code": wire.hexed(step.data), "nonce": "0x1"}
        if overrides:
            block["stateOverrides"] = overrides
        return block

    def _blocks(self, fork: Fork) -> list[Json]:
        """The blocks of all steps so far."""
        for step in fork.steps[len(self._prefix) :]:
            self._prefix.append(self._block(step, [self._call(step)], {}))
        return [dict(block) for block in self._prefix]

    async def _at_head(self, fork: Fork, calls: list[Json], state: Mapping[str, Any]) -> list[Json]:
        """Calls in the newest block after its transaction, or in one of their own when the clock was moved on."""
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
        """What the calls of each block come to; `traces`: with logs of whom native coin passed through."""
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

    def _surveyed(self, fork: Fork, wanted: Wanted, plan: Plan, answers: Sequence[Json]) -> Survey:
        count = len(wanted.calls)
        results = [_call_result(answer) for answer in answers[:count]]
        words = prober.decode(_ran(answers[count]).data, len(wanted.asks))
        read = self._codes.read(plan, [_ran(answer).data for answer in answers[count + 1 :]])
        runtimes = [_runtime_of(fork, address) for address in wanted.addresses]
        return Survey(results, words, [runtime or code for runtime, code in zip(runtimes, read, strict=True)])


def _survey_calls(fork: Fork, wanted: Wanted, plan: Plan) -> list[Json]:
    share = hex(fork.gas_limit // 2 // max(1, len(wanted.calls)))
    fields = [{**wire.call_fields(call), "gas": share} for call in wanted.calls]
    return [*fields, _probe(wanted.asks), *plan.calls]


def _has_room(fork: Fork, step: Step, before: Sequence[Ask], after: Sequence[Ask], wanted: Wanted) -> bool:
    """Whether the block bears it all, so that reads which may wait never cost the transaction its answer."""
    probes = sum(prober.gas_of(len(asks)) for asks in (before, after, wanted.asks))
    return step.gas + probes + fork.gas_limit // 2 <= fork.gas_limit


def _runtime_of(fork: Fork, address: str) -> bytes | None:
    """The code of a contract that the run created where the node creates nothing."""
    return next((step.runtime for step in fork.steps if step.creates == address and step.runtime is not None), None)


def _header(number: int, time: int) -> Json:
    """A block without base fee: the price of a step is all that it pays."""
    return {"blockOverrides": {"number": hex(number), "time": hex(time), "baseFeePerGas": "0x0"}}


def _runtime_state(step: Step) -> Json:
    return {str(step.creates): {"code": wire.hexed(step.runtime or b"")}}


def _with_runtimes(fork: Fork, blocks: list[Json], creates: bool) -> list[Json]:
    """Puts the code of each created contract into the block after the one that ran its init code."""
    if creates:
        return blocks
    for place, step in enumerate(fork.steps):
        if step.runtime is not None and place + 1 < len(blocks):
            state = {**_runtime_state(step), **blocks[place + 1].get("stateOverrides", {})}
            blocks[place + 1] = {**blocks[place + 1], "stateOverrides": state}
    return blocks


def _probe(asks: Sequence[Ask]) -> Json:
    return {
        "from": prober.PROBER_SENDER,
        "to": prober.PROBER,
        "input": wire.hexed(prober.encode(asks)),
        "gas": hex(prober.gas_of(len(asks))),
    }


def _ran(answer: Mapping[str, Any]) -> Ran:
    """One call of a simulation; native transfers, which stand among the logs, apart."""
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
    return Ran(is_success, gas, returned, found if is_success else (), tuple(moved) if is_success else (), message)


def _hex(value: Any) -> str:
    return value if isinstance(value, str) and value.startswith("0x") else "0x"


def _call_result(answer: Mapping[str, Any]) -> CallResult:
    ran = _ran(answer)
    return CallResult(ran.is_success, ran.data)


def read_result(answer: Any) -> CallResult:
    """What an `eth_call` came to."""
    if not isinstance(answer, RpcError):
        return CallResult(True, wire.data(answer))
    if kind_of(answer) in (Kind.REVERTED, Kind.GAS):
        return CallResult(False, answer.data or b"")
    raise to_error(answer, "A read")
