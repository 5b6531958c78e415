"""One transaction through a simulation: dry run, checks, measurement, commit."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from dustrun.chain import fees as bids
from dustrun.chain import wire
from dustrun.chain.evm import LiveChain
from dustrun.chain.reverts import decode as decode_revert
from dustrun.chain.rpc import Request, RpcError
from dustrun.chain.simulate.creation import contract_address, creation_gas, fault_of, refusal_of
from dustrun.chain.simulate.events import decode_events, decode_returned
from dustrun.chain.simulate.fork import Fork, Step
from dustrun.chain.simulate.read_cache import ReadCache
from dustrun.chain.simulate.result import Looked, Measured, Ran, Rejected, SimResult, Survey, Wanted
from dustrun.chain.simulate.strategies.asking import ask_all, simulation_error
from dustrun.chain.simulate.strategies.trace_call import TraceCall
from dustrun.chain.simulate.strategy import Simulator
from dustrun.chain.simulate.touched import Touched, changes_of, touched
from dustrun.core.money.intent import Intent, Receipt
from dustrun.core.values.addresses import checksum
from dustrun.core.values.amounts import Asset
from dustrun.sdk.chain import ChainCall

_PLAIN_GAS: Final = 21_000


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

    async def look(self, looks: ReadCache) -> tuple[Step, Looked]:
        """The step without a price and what it comes to; from `looks` when somebody looked at it on the same state.
        With a gas limit it may come to something else."""
        step = await self._first_step()
        moment, looked = self._fork.changes, looks.find(self._fork, step)
        if looked is None:
            looked = await self._with_less_gas(step, await self._simulator.look(self._fork, step))
            looked = replace(looked, ran=self._as_node(step, looked.ran))
            looks.keep(moment, step, looked)
        return step, looked

    def _as_node(self, step: Step, ran: Ran) -> Ran:
        """Init code that was called in place of a creation may return what no node takes for a contract's code."""
        if step.creates is None or self._simulator.creates or not ran.is_success:
            return ran
        fault = fault_of(ran.data)
        return ran if fault is None else Ran(False, ran.gas_used, b"", message=fault)

    async def _with_less_gas(self, step: Step, looked: Looked) -> Looked:
        """What burns all that it gets, as a failing inner call may, is looked at with a limit as an estimate would
        find it: the least that does, and a quarter more."""
        ran = looked.ran
        if step.gas or step.creates is not None or not ran.is_success or 2 * ran.gas_used < self._fork.gas_limit:
            return looked
        too_low, enough = _PLAIN_GAS, ran.gas_used
        while enough - too_low > enough // 64:
            middle = (too_low + enough) // 2
            if (await self._simulator.look(self._fork, replace(step, gas=middle))).ran.is_success:
                enough = middle
            else:
                too_low = middle
        return await self._simulator.look(self._fork, replace(step, gas=enough + enough // 4))

    async def run(self, looks: ReadCache, wanted: Wanted) -> tuple[SimResult, Survey | None]:
        """Looks at it free of charge, checks that its sender can pay, then measures and keeps it. What is `wanted` of
        the state that it leaves may come along; None when it did not, or when nothing was kept."""
        try:
            step, looked = await self.look(looks)
            step = self._bounded(step, looked.ran)
            data_fee = await self._data_fee()
            await self._check_funds(step, looked.units, data_fee)
            found = self._touched(step, looked.ran)
            measured = await self._measure(step, looked, found, wanted)
        except Rejected as rejected:
            gas = self._intent.gas_limit or 0
            return SimResult(self._sender, "rejected", None, gas, rejected=rejected.message), None
        measured = self._as_created(step, measured)
        result = self._result(step, measured, found, data_fee)
        if result.is_success or self._reverts_stay:
            await self._keep(step, measured, found, result, data_fee)
            return result, measured.survey
        return result, None

    async def _measure(self, step: Step, looked: Looked, found: Touched, wanted: Wanted) -> Measured:
        before, after = found.asks_before(), found.asks_after()
        measuring = self._simulator.measure(self._fork, step, looked, before, after, wanted)
        is_known = self._sender in self._fork.nonces
        if is_known or not isinstance(self._simulator, TraceCall) or not looked.ran.is_success:
            return await measuring
        return (await asyncio.gather(measuring, self._nonce()))[0]  # which what is kept counts on from

    async def _first_step(self) -> Step:
        network, fork = self._live.network, self._fork
        creates = None
        if self._intent.to is None:
            creates = contract_address(self._sender, await self._nonce())
            refusal = refusal_of(self._intent.data)
            if refusal is not None:
                raise Rejected(refusal)
        gas = self._intent.gas_limit or 0
        if creates is not None and gas and not self._simulator.creates:
            gas -= creation_gas(0, self._intent.data, b"")
            if gas < _PLAIN_GAS:
                raise Rejected("the gas does not do for a creation")
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
        """The sender's nonce: that of the pinned block and what was simulated since."""
        known = self._fork.nonces.get(self._sender)
        if known is None:
            asked = Request("eth_getTransactionCount", (self._sender, {"blockHash": self._fork.hash}))
            answer = (await ask_all(self._live.endpoints, [asked], self._fork))[0]
            if isinstance(answer, RpcError):
                raise simulation_error(answer, self._fork, self._live.endpoints)
            known = wire.quantity(answer)
            self._fork.nonces[self._sender] = known
        return known + self._fork.sent_by(self._sender)

    def _bounded(self, step: Step, looked: Ran) -> Step:
        """The step with a gas limit: without one a node takes the whole block's, which few can pay. Refunds are a
        fifth at most, so a quarter more than what was used always does."""
        runtime = None
        if step.creates is not None and not self._simulator.creates and looked.is_success:
            runtime = looked.data
        is_plain = not step.data and step.to is not None and looked.gas_used == _PLAIN_GAS
        gas = step.gas or (_PLAIN_GAS if is_plain else looked.gas_used * 5 // 4 + 30_000)
        if not looked.is_success and not step.gas:
            gas = min(gas, self._fork.gas_limit)
        return replace(step, gas=gas, runtime=runtime)

    async def _data_fee(self) -> int:
        asked = bids.data_fee_call(self._live.network, self._intent.to, self._intent.data)
        if asked is None:
            return 0
        return bids.read_data_fee(self._live.network, await self._live.call(ChainCall(*asked)))

    async def _check_funds(self, step: Step, units: int, data_fee: int) -> None:
        """As a node and the ledger check: value, and the gas limit at the most that is bid, and the L2's fee."""
        fork, gas = self._fork, self._gas_limit(step)
        has = units - fork.owed.get(self._sender, 0)
        needs = step.value_units + gas * fork.fees.max_fee_units + data_fee
        if has < needs:
            raise Rejected(
                f"the sender has {has} base units of {self._live.network.native.symbol} and needs up to {needs}: "
                f"{step.value_units} of value, {gas} gas at {fork.fees.max_fee_units}"
                + (f", {data_fee} for data" if data_fee else "")
            )

    def _gas_limit(self, step: Step) -> int:
        """The limit that the transaction would have: that of a call of init code is less than a creation's."""
        if step.creates is None or self._simulator.creates:
            return step.gas
        return self._intent.gas_limit or creation_gas(step.gas, step.data, step.runtime or b"") * 5 // 4

    def _touched(self, step: Step, looked: Ran) -> Touched:
        fork = self._fork
        return touched(self._intent, self._sender, looked.logs, looked.moved, step.creates, fork.watched, fork.approved)

    def _as_created(self, step: Step, measured: Measured) -> Measured:
        """Where init code was called in place of a creation: the gas that a creation takes."""
        if step.runtime is None:
            return replace(measured, ran=self._as_node(step, measured.ran))
        gas = creation_gas(measured.ran.gas_used, step.data, step.runtime)
        return _with_ran(measured, gas_used=gas)

    def _result(self, step: Step, measured: Measured, found: Touched, data_fee: int) -> SimResult:
        ran, fork, chain_id = measured.ran, self._fork, self._live.network.chain_id
        charged = self._charged(step, ran)
        reason = None if ran.is_success else decode_revert(ran.data, self._intent.errors, ran.message)
        receipt = Receipt(
            item=self._intent.item,
            is_success=ran.is_success,
            block_number=step.number,
            block_hash=None,
            block_time=step.time,
            gas_used=ran.gas_used,
            gas_price_units=step.price_units,
            fee_units=ran.gas_used * step.price_units + data_fee,
            logs=ran.logs,
            contract_address=step.creates if ran.is_success else None,
            return_data=ran.data if ran.is_success else None,
            revert=reason,
        )
        if not ran.is_success:
            return SimResult(
                self._sender, "reverted", receipt, self._gas_limit(step), max_fee_units=fork.fees.max_fee_units
            )
        fees = Counter({self._sender: charged})
        if fork.producer is not None:
            fees[fork.producer] -= charged
        changes = changes_of(found.holdings, measured.before, measured.after, chain_id, fees)
        native = Asset(chain_id).key
        left = measured.after[len(found.holdings) :]
        return SimResult(
            sender=self._sender,
            status="success",
            receipt=receipt,
            gas_limit=self._gas_limit(step),
            changes=changes,
            events=decode_events(ran.logs, self._events),
            returned=decode_returned(ran.data, self._intent.returns),
            approvals=tuple(
                approval.shown(chain_id, word)
                for approval, word in zip(found.approvals, left, strict=False)
                if word is not None
            ),
            unread=found.left_out,
            unseen_units=0 if found.left_out else -sum(each.delta_units for each in changes if each.asset == native),
            max_fee_units=fork.fees.max_fee_units,
        )

    def _charged(self, step: Step, ran: Ran) -> int:
        """What the node took from the sender's balance between the two reads."""
        if isinstance(self._simulator, TraceCall):
            return 0
        gas = ran.gas_used
        if step.runtime is not None:
            gas -= creation_gas(0, step.data, step.runtime)
        return gas * step.price_units

    async def _keep(self, step: Step, measured: Measured, found: Touched, result: SimResult, data_fee: int) -> None:
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


def _with_ran(measured: Measured, **fields: Any) -> Measured:
    """The same with another outcome of the run."""
    return replace(measured, ran=replace(measured.ran, **fields))
