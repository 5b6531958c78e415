"""One transaction through a simulation: dry run (once for each state), checks, measurement, commit."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from dustrun.chain import fees as bids
from dustrun.chain import wire
from dustrun.chain.evm import LiveChain
from dustrun.chain.reverts import decode as decode_revert
from dustrun.chain.rpc import RpcError, RpcRequest
from dustrun.chain.simulate.creation import contract_address, creation_gas, fault_of, refusal_of
from dustrun.chain.simulate.events import decode_events, decode_returned
from dustrun.chain.simulate.fork import Fork, Step
from dustrun.chain.simulate.result import (
    BatchResult,
    CallOutcome,
    DryRun,
    MeasuredTransaction,
    ReadBatch,
    RejectedTransaction,
    SimResult,
)
from dustrun.chain.simulate.strategies.answers import ask_all, simulation_error
from dustrun.chain.simulate.strategies.trace_call import TraceCall
from dustrun.chain.simulate.strategy import Simulator
from dustrun.chain.simulate.touched import TouchedState, changes_of, taken_of, touched
from dustrun.core.money.intent import Intent, Receipt
from dustrun.core.values.addresses import checksum
from dustrun.core.values.amounts import Asset
from dustrun.errors import Code
from dustrun.sdk.chain import ChainCall

_PLAIN_GAS: Final = 21_000
KeepIf = Callable[[SimResult], Awaitable[bool]]


class Sending:
    """The steps of simulating one transaction."""

    def __init__(
        self,
        live: LiveChain,
        fork: Fork,
        simulator: Simulator,
        sender: str,
        intent: Intent,
        events: Sequence[Mapping[str, Any]],
        reverts_stay: bool,
    ) -> None:
        self._live = live
        self._fork = fork
        self._simulator = simulator
        self._sender = sender
        self._intent = replace(intent, to=None if intent.to is None else checksum(intent.to))
        self._events = events
        self._reverts_stay = reverts_stay
        self._priced_gas: int | None = None

    async def dry_run(self, cache: DryRunCache) -> tuple[Step, DryRun]:
        """Runs the transaction without fees; taken from `cache` if it already ran on the same state. Raises
        `RejectedTransaction`. The outcome may differ once a gas limit is set."""
        step = await self._first_step()
        version, dry_run = self._fork.changes, cache.find(self._fork, step)
        if dry_run is None:
            dry_run = await self._with_gas_limit(step, await self._simulator.dry_run(self._fork, step))
            dry_run = replace(dry_run, outcome=self._as_node_reports(step, dry_run.outcome))
            cache.keep(version, step, dry_run)
        return step, dry_run

    def _as_node_reports(self, step: Step, outcome: CallOutcome) -> CallOutcome:
        """Fails an emulated creation whose returned code nodes would reject."""
        if step.creates is None or self._simulator.creates or not outcome.is_success:
            return outcome
        fault = fault_of(outcome.data)
        return outcome if fault is None else CallOutcome(False, outcome.gas_used, b"", message=fault)

    async def _with_gas_limit(self, step: Step, dry_run: DryRun) -> DryRun:
        """Repeats a run that used most of the block's gas (a failing inner call burns all it gets) with the least gas
        that succeeds, found by bisection, plus a quarter."""
        outcome = dry_run.outcome
        if (
            step.gas
            or step.creates is not None
            or not outcome.is_success
            or 2 * outcome.gas_used < self._fork.gas_limit
        ):
            return dry_run
        too_low, enough = _PLAIN_GAS, outcome.gas_used
        while enough - too_low > enough // 64:
            middle = (too_low + enough) // 2
            if (await self._simulator.dry_run(self._fork, replace(step, gas=middle))).outcome.is_success:
                enough = middle
            else:
                too_low = middle
        return await self._simulator.dry_run(self._fork, replace(step, gas=enough + enough // 4))

    async def run(
        self, cache: DryRunCache, reads: ReadBatch, keep_if: KeepIf | None = None, gas_limit: int | None = None
    ) -> tuple[SimResult, BatchResult | None]:
        """Dry run, check funds, measure with the `gas_limit` that it was priced with, commit. The second value answers
        `reads` at the state after the transaction; None if the simulator did not read them or nothing was committed."""
        self._priced_gas = gas_limit
        try:
            step, dry_run = await self.dry_run(cache)
            step = self._bounded(step, dry_run.outcome)
            data_fee = await self._data_fee()
            await self._check_funds(step, dry_run.units, data_fee)
            found = self._touched(step, dry_run.outcome)
            measured = await self._measure(step, dry_run, found, reads)
        except RejectedTransaction as rejected:
            gas = self._intent.gas_limit or 0
            lacks = rejected.code is Code.FUNDS_INSUFFICIENT
            return SimResult(self._sender, "rejected", None, gas, rejected=rejected.message, lacks_funds=lacks), None
        measured = self._as_created(step, measured)
        result = self._result(step, measured, found, data_fee)
        if result.is_success and keep_if is not None and not await keep_if(result):
            return result, None
        if result.is_success or self._reverts_stay:
            await self._keep(step, measured, found, result, data_fee)
            return result, measured.batch_result
        return result, None

    async def _measure(self, step: Step, dry_run: DryRun, found: TouchedState, reads: ReadBatch) -> MeasuredTransaction:
        asks = found.asks()
        measuring = self._simulator.measure(self._fork, step, dry_run, asks, asks, reads)
        is_known = self._sender in self._fork.nonces
        if is_known or not isinstance(self._simulator, TraceCall) or not dry_run.outcome.is_success:
            return await measuring
        return (await asyncio.gather(measuring, self._nonce()))[0]  # the committed state counts on from it

    async def _first_step(self) -> Step:
        network, fork = self._live.network, self._fork
        creates = None
        if self._intent.to is None:
            creates = contract_address(self._sender, await self._nonce())
            refusal = refusal_of(self._intent.data)
            if refusal is not None:
                raise RejectedTransaction(refusal)
        gas = self._intent.gas_limit or 0
        if creates is not None and gas and not self._simulator.creates:
            gas -= creation_gas(0, self._intent.data, b"")
            if gas < _PLAIN_GAS:
                raise RejectedTransaction("the gas limit is too low for a contract creation")
        slot_s = max(1, network.block_time_ms // 1000)
        return Step(
            sender=self._sender,
            to=self._intent.to,
            value_units=self._intent.value_units,
            data=self._intent.data,
            gas=gas,
            price_units=fork.fees.expected_units,
            number=fork.head_number + 1,
            time=fork.now + slot_s,
            creates=creates,
        )

    async def _nonce(self) -> int:
        """The sender's nonce at the pinned block plus its simulated transactions."""
        known = self._fork.nonces.get(self._sender)
        if known is None:
            asked = RpcRequest("eth_getTransactionCount", (self._sender, {"blockHash": self._fork.hash}))
            answer = (await ask_all(self._live.endpoints, [asked], self._fork))[0]
            if isinstance(answer, RpcError):
                raise simulation_error(answer, self._fork, self._live.endpoints)
            known = wire.quantity(answer)
            self._fork.nonces[self._sender] = known
        return known + self._fork.sent_by(self._sender)

    def _bounded(self, step: Step, dry_run: CallOutcome) -> Step:
        """Sets a gas limit: without one nodes assume the block's, which few senders can pay. Refunds are at most a
        fifth of the gas, so a quarter more than was used is always enough."""
        runtime = None
        if step.creates is not None and not self._simulator.creates and dry_run.is_success:
            runtime = dry_run.data
        is_plain = not step.data and step.to is not None and dry_run.gas_used == _PLAIN_GAS
        priced = self._priced_gas if step.creates is None or self._simulator.creates else None
        gas = step.gas or priced or (_PLAIN_GAS if is_plain else dry_run.gas_used * 5 // 4 + 30_000)
        if not dry_run.is_success and not step.gas:
            gas = min(gas, self._fork.gas_limit)
        return replace(step, gas=gas, runtime=runtime)

    async def _data_fee(self) -> int:
        asked = bids.data_fee_call(self._live.network, self._intent.to, self._intent.data)
        if asked is None:
            return 0
        return bids.read_data_fee(self._live.network, await self._live.call(ChainCall(*asked)))

    async def _check_funds(self, step: Step, units: int, data_fee: int) -> None:
        """Raises `RejectedTransaction` if the balance is below value + gas limit × max fee + L2 data fee, like a
        node."""
        fork, gas = self._fork, self._gas_limit(step)
        has = units - fork.owed.get(self._sender, 0)
        needs = step.value_units + gas * fork.fees.max_fee_units + data_fee
        if has < needs:
            raise RejectedTransaction(
                f"the sender has {has} base units of {self._live.network.native.symbol} and needs up to {needs}: "
                f"{step.value_units} of value, {gas} gas at {fork.fees.max_fee_units}"
                + (f", {data_fee} for data" if data_fee else ""),
                code=Code.FUNDS_INSUFFICIENT,
            )

    def _gas_limit(self, step: Step) -> int:
        """The gas limit of the real transaction; an emulated creation runs with less."""
        if step.creates is None or self._simulator.creates:
            return step.gas
        return (
            self._intent.gas_limit
            or self._priced_gas
            or creation_gas(step.gas, step.data, step.runtime or b"") * 5 // 4
        )

    def _touched(self, step: Step, dry_run: CallOutcome) -> TouchedState:
        fork = self._fork
        return touched(
            self._intent, self._sender, dry_run.logs, dry_run.moved, step.creates, fork.watched, fork.approved
        )

    def _as_created(self, step: Step, measured: MeasuredTransaction) -> MeasuredTransaction:
        """Corrects the gas of an emulated creation to that of a real one."""
        if step.runtime is None:
            return replace(measured, outcome=self._as_node_reports(step, measured.outcome))
        gas = creation_gas(measured.outcome.gas_used, step.data, step.runtime)
        return _with_outcome(measured, gas_used=gas)

    def _result(self, step: Step, measured: MeasuredTransaction, found: TouchedState, data_fee: int) -> SimResult:
        outcome, fork, chain_id = measured.outcome, self._fork, self._live.network.chain_id
        charged = self._charged(step, outcome)
        reason = None if outcome.is_success else decode_revert(outcome.data, self._intent.errors, outcome.message)
        receipt = Receipt(
            item=self._intent.item,
            is_success=outcome.is_success,
            block_number=step.number,
            block_hash=None,
            block_time=step.time,
            gas_used=outcome.gas_used,
            gas_price_units=step.price_units,
            fee_units=outcome.gas_used * step.price_units + data_fee,
            logs=outcome.logs,
            contract_address=step.creates if outcome.is_success else None,
            return_data=outcome.data if outcome.is_success else None,
            revert=reason,
        )
        if not outcome.is_success:
            return SimResult(
                self._sender, "reverted", receipt, self._gas_limit(step), max_fee_units=fork.fees.max_fee_units
            )
        fees = Counter({self._sender: charged})
        if fork.producer is not None:
            fees[fork.producer] -= charged
        changes = changes_of(found.holdings, measured.before, measured.after, chain_id, fees)
        native = Asset(chain_id).key
        was, left = (words[len(found.holdings) :] for words in (measured.before, measured.after))
        taken = taken_of(self._sender, changes, found.approvals, was, left)
        return SimResult(
            sender=self._sender,
            status="success",
            receipt=receipt,
            gas_limit=self._gas_limit(step),
            changes=changes,
            events=decode_events(outcome.logs, self._events),
            returned=decode_returned(outcome.data, self._intent.returns),
            approvals=tuple(
                approval.public(chain_id, word)
                for approval, word in zip(found.approvals, left, strict=False)
                if word is not None
            ),
            unread=found.left_out,
            unseen_units=0 if found.left_out else -sum(each.delta_units for each in changes if each.asset == native),
            max_fee_units=fork.fees.max_fee_units,
            taken=replace(taken, unread=found.left_out),
        )

    def _charged(self, step: Step, outcome: CallOutcome) -> int:
        """Fee in base units that the node charged the sender between the two balance reads."""
        if isinstance(self._simulator, TraceCall):
            return 0
        gas = outcome.gas_used
        if step.runtime is not None:
            gas -= creation_gas(0, step.data, step.runtime)
        return gas * step.price_units

    async def _keep(
        self, step: Step, measured: MeasuredTransaction, found: TouchedState, result: SimResult, data_fee: int
    ) -> None:
        fork = self._fork
        if isinstance(self._simulator, TraceCall):
            await self._nonce()
        await self._simulator.keep(fork, step, measured, measured.after[0])
        receipt = result.receipt
        assert receipt is not None
        unpaid = data_fee
        if step.runtime is not None:
            unpaid += creation_gas(0, step.data, step.runtime) * step.price_units
        if unpaid:
            fork.owed[self._sender] = fork.owed.get(self._sender, 0) + unpaid
        fork.steps.append(step)
        fork.waited_s = 0
        senders = {kept.sender for kept in fork.steps}
        for holding in found.holdings:
            if holding.who in senders and holding.id is None:
                fork.watched[holding.key()] = None
        for approval in found.approvals:
            fork.approved[approval.key()] = None
        fork.changes += 1


def _with_outcome(measured: MeasuredTransaction, **fields: Any) -> MeasuredTransaction:
    """A copy with fields of its outcome replaced."""
    return replace(measured, outcome=replace(measured.outcome, **fields))


class DryRunCache:
    """Dry runs of one state; `Fork.changes` identifies it."""

    def __init__(self) -> None:
        self._version = -1
        self._seen: dict[Step, DryRun] = {}

    def find(self, fork: Fork, step: Step) -> DryRun | None:
        """The dry run of an equal step on the current state; None if there is none."""
        return self._seen.get(step) if self._version == fork.changes else None

    def keep(self, version: int, step: Step, dry_run: DryRun) -> None:
        """Stores a dry run of the state `version`; a newer version replaces all older entries."""
        if version < self._version:
            return
        if version > self._version:
            self._version, self._seen = version, {}
        self._seen[step] = dry_run
