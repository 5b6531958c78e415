"""`debug_traceCall`: the state after earlier transactions is passed as overrides, built from state diffs."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final

from dustrun.chain import wire
from dustrun.chain.endpoints import Endpoint, Endpoints
from dustrun.chain.rpc import Request, RpcError
from dustrun.chain.simulate import prober
from dustrun.chain.simulate.fork import Fork, Step
from dustrun.chain.simulate.prober import Ask
from dustrun.chain.simulate.result import Looked, Measured, Ran, Survey, Wanted
from dustrun.chain.simulate.strategies.asking import ask_all, simulation_error
from dustrun.chain.simulate.strategies.simulate_v1 import read_result
from dustrun.core.money.intent import Log
from dustrun.core.values.addresses import checksum
from dustrun.errors import DustrunError
from dustrun.sdk.chain import CallResult, ChainCall

Json = dict[str, Any]
_NOTHING: Final = f"0x{'0' * 64}"
_CALL_TRACER: Final = {"tracer": "callTracer", "tracerConfig": {"withLog": True}}
_DIFF_TRACER: Final = {"tracer": "prestateTracer", "tracerConfig": {"diffMode": True}}


class TraceCall:
    """On endpoints that trace. A transaction takes two requests: its traces, then the balances around it."""

    creates = True

    def __init__(self, endpoints: Endpoints, among: Sequence[Endpoint]) -> None:
        self._endpoints = endpoints
        self._among = among
        self._state: Json = {}  # overrides that stand for all steps kept so far
        self._pinned: dict[str, bytes] = {}  # codes on the pinned block
        self._kept = 0
        self._catching_up = asyncio.Lock()

    async def read(self, fork: Fork, calls: Sequence[ChainCall]) -> list[CallResult]:
        """Calls on the newest state, in its block."""
        await self._catch_up(fork)
        at = _moment(fork.head_number, fork.now) if fork.steps or fork.waited_s else None
        fields = [wire.call_fields(call) for call in calls]
        answers = await self._batch(fork, [_eth_call(fork, each, self._state, at) for each in fields])
        return [read_result(answer) for answer in answers]

    async def probe(self, fork: Fork, asks: Sequence[Ask]) -> list[int | None]:
        """Words on the newest state."""
        await self._catch_up(fork)
        at = _moment(fork.head_number, fork.now)
        answer = (await self._batch(fork, [self._probe(fork, asks, self._state, at)]))[0]
        return _words(answer, len(asks))

    async def code(self, fork: Fork, address: str) -> bytes:
        """The code of an address on the newest state."""
        return (await self.survey(fork, Wanted(addresses=(address,)))).codes[0] or b""

    async def survey(self, fork: Fork, wanted: Wanted) -> Survey:
        """Calls, words and codes on the newest state by one batch."""
        await self._catch_up(fork)
        at, state = _moment(fork.head_number, fork.now), self._state
        new = self._unread(wanted, state)
        requests = self._survey_requests(fork, wanted, new, state, at if fork.steps or fork.waited_s else None)
        answers = await self._batch(fork, requests) if requests else []
        return self._surveyed(fork, wanted, new, state, answers)

    def _unread(self, wanted: Wanted, state: Json) -> list[str]:
        """Addresses whose code neither a transaction has changed nor was read on the pinned block before."""
        return [each for each in wanted.addresses if _code_in(state, each) is None and each not in self._pinned]

    def _survey_requests(
        self, fork: Fork, wanted: Wanted, new: Sequence[str], state: Json, at: Json | None
    ) -> list[Request]:
        """`new` are the addresses whose code is asked; `at` None: calls stand in the pinned block itself."""
        requests = [_eth_call(fork, wire.call_fields(call), state, at) for call in wanted.calls]
        now = at or _moment(fork.head_number, fork.now)
        requests += [self._probe(fork, wanted.asks, state, now)] if wanted.asks else []
        return [*requests, *(Request("eth_getCode", (address, {"blockHash": fork.hash})) for address in new)]

    def _surveyed(self, fork: Fork, wanted: Wanted, new: Sequence[str], state: Json, answers: Sequence[Any]) -> Survey:
        count = len(wanted.calls)
        results = [read_result(answer) for answer in answers[:count]]
        words = _words(answers[count], len(wanted.asks)) if wanted.asks else []
        for address, answer in zip(new, answers[count + bool(wanted.asks) :], strict=True):
            if isinstance(answer, RpcError):
                raise simulation_error(answer, fork, self._endpoints, self._among)
            self._pinned[address] = wire.data(answer)
        changed = [(address, _code_in(state, address)) for address in wanted.addresses]
        codes = [self._pinned[address] if code is None else wire.data(code) for address, code in changed]
        return Survey(results, words, codes)

    async def look(self, fork: Fork, step: Step) -> Looked:
        """The step's calls, logs and state diff, and its sender's balance before it."""
        await self._catch_up(fork)
        return await self._look(fork, step)

    async def _look(self, fork: Fork, step: Step) -> Looked:
        at = _moment(step.number, step.time)
        fields = _fields(step)
        options = {"stateOverrides": self._state, "blockOverrides": {**at, "baseFee": hex(fork.base_fee_units)}}
        block = {"blockHash": fork.hash}
        requests = [
            Request("debug_traceCall", (fields, block, {**_CALL_TRACER, **options})),
            Request("debug_traceCall", (fields, block, {**_DIFF_TRACER, **options})),
            self._probe(fork, [prober.native(step.sender)], self._state, at),
        ]
        traced, changed, probed = await self._batch(fork, requests)
        for answer in (traced, changed):
            if isinstance(answer, RpcError):
                raise simulation_error(answer, fork, self._endpoints, self._among)
        ran = _ran(traced)
        return Looked(replace(ran, diff=changed) if ran.is_success else ran, _words(probed, 1)[0] or 0)

    async def measure(
        self, fork: Fork, step: Step, looked: Looked, before: Sequence[Ask], after: Sequence[Ask], wanted: Wanted
    ) -> Measured:
        """Balances on the state before and on that after the traced step, which `look` has run; and what is wanted of
        the latter once its fee is paid."""
        at = _moment(step.number, step.time)
        then = merged(self._state, looked.ran.diff)
        requests = [self._probe(fork, before, self._state, at), self._probe(fork, after, then, at)]
        more: list[Request] = []
        if wanted and looked.ran.is_success and step.runtime is None:
            owner = step.sender.lower()
            left = _balance_in(then, owner, looked.units)
            paid = {**then, owner: {**then.get(owner, {}), "balance": hex(_after_fee(left, looked.ran, step))}}
            new = self._unread(wanted, paid)
            more = self._survey_requests(fork, wanted, new, paid, at)
        first, last, *answers = await self._batch(fork, [*requests, *more])
        measured = Measured(looked.ran, _words(first, len(before)), _words(last, len(after)))
        if more and measured.after and measured.after[0] == left:
            with suppress(DustrunError):  # whoever wants it asks again and hears why
                measured.survey = self._surveyed(fork, wanted, new, paid, answers)
        return measured

    async def keep(self, fork: Fork, step: Step, measured: Measured, owner_units: int | None) -> None:
        """Merges the diff, counts the nonce on, and takes the fee from the sender."""
        self._state = merged(self._state, measured.ran.diff)
        sender = self._state.setdefault(step.sender.lower(), {})
        sender["nonce"] = hex(fork.nonces[step.sender] + fork.sent_by(step.sender) + 1)
        if owner_units is not None:
            sender["balance"] = hex(_after_fee(owner_units, measured.ran, step))
        self._kept += 1

    async def close(self) -> None:
        """Nothing to give back."""

    async def _catch_up(self, fork: Fork) -> None:
        """Carries the steps out again that the overrides do not hold yet: the fork was read from its JSON."""
        if self._kept == len(fork.steps):
            return
        async with self._catching_up:  # reads and looks that go out at once do not carry them out twice
            await self._carry_out_again(fork)

    async def _carry_out_again(self, fork: Fork) -> None:
        for place in range(self._kept, len(fork.steps)):
            step = fork.steps[place]
            so_far = Fork(fork.number, fork.hash, fork.time, fork.gas_limit, fork.fees, steps=fork.steps[:place])
            so_far.nonces = fork.nonces
            asks = [prober.native(step.sender)]
            looked = await self._look(so_far, step)
            measured = await self.measure(so_far, step, looked, asks, asks, Wanted())
            await self.keep(so_far, step, measured, measured.after[0])

    def _probe(self, fork: Fork, asks: Sequence[Ask], state: Mapping[str, Any], at: Json) -> Request:
        fields = {
            "from": prober.PROBER_SENDER,
            "to": prober.PROBER,
            "input": wire.hexed(prober.encode(asks)),
            "gas": hex(prober.gas_of(len(asks))),
        }
        overrides = {**state, prober.PROBER.lower(): {"code": prober.PROBER_CODE}}
        return Request("eth_call", (fields, {"blockHash": fork.hash}, overrides, at))

    async def _batch(self, fork: Fork, requests: Sequence[Request]) -> list[Any]:
        return await ask_all(self._endpoints, requests, fork, self._among)


def _eth_call(fork: Fork, fields: Json, state: Json, at: Json | None) -> Request:
    params: list[Any] = [fields, {"blockHash": fork.hash}]
    if state or at is not None:
        params.append(state)
    if at is not None:
        params.append(at)
    return Request("eth_call", tuple(params))


def _code_in(state: Json, address: str) -> Any:
    return state.get(address.lower(), {}).get("code")


def _balance_in(state: Json, owner: str, units: int) -> int:
    """An account's native balance; `units` when nothing has changed it."""
    changed = state.get(owner, {}).get("balance")
    return units if changed is None else int(changed, 16)


def _after_fee(units: int, ran: Ran, step: Step) -> int:
    return max(0, units - ran.gas_used * step.price_units)


def _moment(number: int, time: int) -> Json:
    return {"number": hex(number), "time": hex(time)}


def _fields(step: Step) -> Json:
    fields: Json = {"from": step.sender, "value": hex(step.value_units), "input": wire.hexed(step.data)}
    if step.to is not None:
        fields["to"] = step.to
    if step.gas:
        fields["gas"] = hex(step.gas)
    return fields


def _words(answer: Any, count: int) -> list[int | None]:
    return [None] * count if isinstance(answer, RpcError) else prober.decode(wire.data(answer), count)


def _ran(trace: Mapping[str, Any]) -> Ran:
    """A call trace as one outcome: logs in the order in which they were emitted, those of reverted calls left out."""
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
        return Ran(is_success, gas, wire.data(trace.get("output") or "0x"), found, tuple(moved), message)
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


def merged(state: Mapping[str, Any], diff: Mapping[str, Any]) -> Json:
    """Overrides with a state diff on top. A slot that became zero is missing in `post`; an account that is only in
    `pre` was destroyed."""
    pre, post = diff.get("pre") or {}, diff.get("post") or {}
    found = {address: _copied(account) for address, account in state.items()}
    for name in {*pre, *post}:
        address = name.lower()
        if name not in post:
            found[address] = {"balance": "0x0", "nonce": "0x0", "code": "0x", "state": {}}
            continue
        _merge(found.setdefault(address, {}), pre.get(name) or {}, post.get(name) or {})
    return {address: account for address, account in found.items() if account}


def _copied(account: Mapping[str, Any]) -> Json:
    return {name: dict(value) if isinstance(value, dict) else value for name, value in account.items()}


def _merge(account: Json, before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
    for name in ("balance", "code"):
        if name in after:
            account[name] = after[name]
    if "nonce" in after:
        nonce = after["nonce"]
        account["nonce"] = hex(nonce) if isinstance(nonce, int) else nonce
    slots = dict.fromkeys(before.get("storage") or {}, _NOTHING) | dict(after.get("storage") or {})
    if slots:
        kept = "state" if "state" in account else "stateDiff"
        account.setdefault(kept, {}).update(slots)
