"""Builds the request blocks of `eth_simulateV1`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from dustrun.chain import wire
from dustrun.chain.simulate import creation
from dustrun.chain.simulate.creation import Ask
from dustrun.chain.simulate.fork import Fork, Step
from dustrun.chain.simulate.result import ReadBatch
from dustrun.chain.simulate.strategies.codes import Plan
from dustrun.chain.simulate.strategies.folding import layered

Json = dict[str, Any]
PROBER_STATE: Final = {creation.PROBER: {"code": creation.PROBER_CODE}}


def batch_calls(fork: Fork, reads: ReadBatch, plan: Plan) -> list[Json]:
    """The calls of a batch of reads, which share half of the block's gas."""
    share = hex(fork.gas_limit // 2 // max(1, len(reads.calls)))
    fields = [{**wire.call_fields(call), "gas": share} for call in reads.calls]
    return [*fields, probe_call(reads.asks), *plan.calls]


def has_room(fork: Fork, step: Step, before: Sequence[Ask], after: Sequence[Ask], reads: ReadBatch) -> bool:
    """Whether the optional reads fit into the block's gas limit together with the transaction."""
    probes = sum(creation.gas_of(len(asks)) for asks in (before, after, reads.asks))
    return step.gas + probes + fork.gas_limit // 2 <= fork.gas_limit


def runtime_of(fork: Fork, address: str) -> bytes | None:
    """The code of a contract that was created by emulation; None for any other address."""
    return next((step.runtime for step in fork.steps if step.creates == address and step.runtime is not None), None)


def header(number: int, time: int) -> Json:
    """Block overrides with base fee 0, so that a step pays exactly its own gas price."""
    return {"blockOverrides": {"number": hex(number), "time": hex(time), "baseFeePerGas": "0x0"}}


def runtime_state(step: Step) -> Json:
    """The overrides that put the code of an emulated creation in place."""
    return {str(step.creates): {"code": wire.hexed(step.runtime or b"")}}


def with_state(block: Json, state: Mapping[str, Any]) -> Json:
    """The block with more state overrides."""
    overrides = layered(block.get("stateOverrides", {}), state)
    return block | {"stateOverrides": overrides} if overrides else block


def with_runtimes(steps: Sequence[Step], blocks: Sequence[Json], creates: bool) -> list[Json]:
    """Adds the code of each emulated creation among the repeated steps to the overrides of the following block."""
    found = list(blocks)
    for place, step in enumerate(steps):
        if not creates and step.runtime is not None and place + 1 < len(found):
            state = layered(runtime_state(step), found[place + 1].get("stateOverrides", {}))
            found[place + 1] = found[place + 1] | {"stateOverrides": state}
    return found


def probe_call(asks: Sequence[Ask]) -> Json:
    """The call that reads words."""
    return {
        "from": creation.PROBER_SENDER,
        "to": creation.PROBER,
        "input": wire.hexed(creation.encode(asks)),
        "gas": hex(creation.gas_of(len(asks))),
    }
