"""Losses of a sender by transactions on the newest block or a named one, one after the other: gas, and
balances and allowances before and after.

Where an endpoint offers `eth_simulateV1`, all transactions of a node are one request. A second one follows only if the
events name something that the first did not read. Elsewhere each is sent on a fork of the newest block.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field, replace
from itertools import chain
from pathlib import Path
from typing import Any, Final

from dustrun.chain import wire
from dustrun.chain.endpoints import Endpoint
from dustrun.chain.evm import LiveChain
from dustrun.chain.failures import Kind, kind_of, reverted, to_error
from dustrun.chain.rpc import RpcError, RpcRequest
from dustrun.chain.simulate import creation
from dustrun.chain.simulate.chain import SimChain
from dustrun.chain.simulate.creation import Ask
from dustrun.chain.simulate.result import CallOutcome
from dustrun.chain.simulate.strategies.answers import outcome_of
from dustrun.chain.simulate.strategies.blocks import PROBER_STATE, probe_call
from dustrun.chain.simulate.strategy import Strategy, choose
from dustrun.chain.simulate.touched import Approval, TouchedBalance, changes_of, taken_of, touched
from dustrun.core.money.intent import Intent, Log
from dustrun.core.money.policy.outflow import TakenAmounts
from dustrun.core.run.as_of import AsOf
from dustrun.core.values.addresses import checksum
from dustrun.errors import Code, DustrunError, Invalid, Permanent
from dustrun.records import dataclass
from dustrun.sdk.chain import Block

_MOST_BLOCKS: Final = 100
_HEAVY_GAS: Final = 2**23
_MOST_ASKS: Final = 250
# a single request reads everything with simulate-v1, while trace-call takes several for each transaction
_BY_REQUESTS: Final[tuple[Strategy, ...]] = ("simulate-v1", "trace-call", "local-fork")
_FREE: Final = {"baseFeePerGas": "0x0"}
_UNFUNDED: Final = "the sender does not have enough native coin for the values"
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class OutflowForecast:
    """The loss by one transaction, or why it fails after those before it (`taken` is None). `gas_used` is None where a
    figure would mislead: a call that is given half a block may burn what it does not need."""

    taken: TakenAmounts | None
    failure: DustrunError | None = None
    gas_used: int | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class WatchedBalances:
    """The balances and allowances of a sender that are read around each transaction."""

    holdings: tuple[TouchedBalance, ...]
    approvals: tuple[Approval, ...]

    @property
    def asks(self) -> list[Ask]:
        """How they are read."""
        return [*(each.ask() for each in self.holdings), *(each.ask() for each in self.approvals)]

    @property
    def unread(self) -> int:
        """How many are too many to be read."""
        return max(0, len(self.holdings) + len(self.approvals) - _MOST_ASKS)


async def forecast_outflow(
    live: LiveChain,
    sender: str,
    intents: Sequence[Intent],
    tokens: Sequence[str],
    fork_binary: Path | None,
    at: Block | None = None,
) -> list[OutflowForecast]:
    """The loss by each of these transactions, carried out in this order; ends with the first that fails.
    One without a gas limit has the block's; `tokens` are read besides those that they name; `at`: the block that they
    follow, else the newest one. Raises `Permanent`
    (`SIM_UNAVAILABLE`) if no endpoint can simulate, `Temporary` if none answers."""
    strategy, among, creates = await choose(live.endpoints, None, fork_binary is not None, _BY_REQUESTS)
    sender = checksum(sender)
    if strategy == "simulate-v1" and (creates or all(intent.to is not None for intent in intents)):
        asked = _Asked(live, among, sender, intents, at or await live.block(), None if at is None else at.number)
        try:
            return await _by_blocks(asked, tokens)
        except _GasTooLow as error:
            return await _before_low_gas(asked, tokens, error)
    return await _on_a_fork(live, sender, intents, fork_binary, at)


class _GasTooLow(Exception):
    """A gas limit does not even pay for the transaction's data: the node refuses all blocks and does not say which."""


async def _before_low_gas(asked: _Asked, tokens: Sequence[str], error: _GasTooLow) -> list[OutflowForecast]:
    """The transactions before the one with the least gas, and why that one fails."""
    limits = [intent.gas_limit for intent in asked.intents]
    place = limits.index(min(limit for limit in limits if limit is not None))
    before = await _by_blocks(replace(asked, intents=asked.intents[:place]), tokens) if place else []
    if len(before) < place or any(one.failure is not None for one in before):
        return before
    return [*before, OutflowForecast(None, Permanent(f"The transaction: {error}"))]


async def _on_a_fork(
    live: LiveChain, sender: str, intents: Sequence[Intent], fork_binary: Path | None, at: Block | None
) -> list[OutflowForecast]:
    as_of = None if at is None else AsOf(at.time * 1000, {live.network.chain_id: at.number})
    sim, found = SimChain(live, fork_binary=fork_binary, as_of=as_of), list[OutflowForecast]()
    try:
        for intent in intents:
            gas_used = await sim.estimate_gas(
                sender, intent.to, intent.value_units, intent.data, intent.errors, intent.gas_limit
            )
            result = await sim.send(sender, intent)
            if not result.is_success:
                found.append(OutflowForecast(None, Permanent(f"The transaction: {result.reason}")))
                break
            found.append(OutflowForecast(result.taken, None, gas_used))
    except (Invalid, Permanent) as error:
        if error.code.name.startswith("SIM_"):
            raise
        found.append(OutflowForecast(None, error))
    finally:
        await sim.close()
    return found


@dataclass(frozen=True, slots=True)
class _Asked:
    live: LiveChain
    among: Sequence[Endpoint]
    sender: str
    intents: Sequence[Intent]
    head: Block | None
    pinned: int | None = None


async def _by_blocks(asked: _Asked, tokens: Sequence[str]) -> list[OutflowForecast]:
    keys = [TouchedBalance(checksum(token), asked.sender).key() for token in tokens]
    named = _watched(asked, [() for _ in asked.intents], keys)
    runs, words = await _request(asked, named)
    if not runs:
        return [OutflowForecast(None, Invalid(f"The transaction: {_UNFUNDED}", code=Code.FUNDS_INSUFFICIENT))]
    seen = _watched(asked, [run.logs for run in runs], keys)
    if not set(seen.holdings) <= set(named.holdings) or not set(seen.approvals) <= set(named.approvals):
        named = seen
        runs, words = await _request(asked, named)
    found = list[OutflowForecast]()
    for place, run in enumerate(runs):
        if not run.is_success:
            found.append(OutflowForecast(None, _why(run, asked.intents[place])))
            break
        gas_used = run.gas_used if run.gas_used < _HEAVY_GAS else None
        found.append(OutflowForecast(_taken(asked, named, words[place], words[place + 1]), None, gas_used))
    return found


def _watched(asked: _Asked, logs: Sequence[Sequence[Log]], keys: Sequence[str]) -> WatchedBalances:
    """The sender's share of all that the transactions may touch."""
    holdings, approvals = dict[TouchedBalance, None](), dict[Approval, None]()
    for intent, said in zip(asked.intents, logs, strict=False):
        to = None if intent.to is None else checksum(intent.to)
        found = touched(replace(intent, to=to), asked.sender, said, (), None, keys, ())
        mine = (each for each in found.holdings if each.who in (asked.sender, None))
        holdings.update(dict.fromkeys(mine))
        approvals.update(dict.fromkeys(each for each in found.approvals if each.owner == asked.sender))
        sent = {one.asset.token for one in intent.movements if one.asset.token is not None} - {intent.to}
        if to is not None:  # the called contract mostly takes by an allowance, which it then uses up
            approvals.update(dict.fromkeys(Approval(checksum(token), asked.sender, to) for token in sorted(sent)))
    return WatchedBalances(tuple(holdings), tuple(approvals))


async def _request(asked: _Asked, watched: WatchedBalances) -> tuple[list[CallOutcome], list[list[int | None]]]:
    """The transactions, each in a block of its own unless they are very many, with reads before the first and after
    each. Nothing if the sender cannot pay the values."""
    probe = probe_call(watched.asks[:_MOST_ASKS])
    shared = -(-len(asked.intents) // _MOST_BLOCKS)
    calls = [[_call(asked.sender, intent), probe] for intent in asked.intents]
    parts = [calls[place : place + shared] for place in range(0, len(calls), shared)]
    blocks = [_block(asked, place, [*chain.from_iterable(part)]) for place, part in enumerate(parts, 1)]
    blocks[0] |= {"calls": [probe, *blocks[0]["calls"]], "stateOverrides": PROBER_STATE}
    at = "latest" if asked.pinned is None else hex(asked.pinned)
    request = RpcRequest("eth_simulateV1", ({"blockStateCalls": blocks, "validation": False}, at))
    live = asked.live
    try:
        answer = await live.endpoints.read(lambda rpc: rpc.call(request), request.method, asked.among)
    except RpcError as error:
        if kind_of(error) is Kind.FUNDS:
            return [], []
        if kind_of(error) is Kind.GAS and any(intent.gas_limit is not None for intent in asked.intents):
            raise _GasTooLow(error.message) from None
        if (
            kind_of(error) is Kind.OTHER and asked.head is not None and asked.pinned is None
        ):  # a block may have come since, as new as the first
            return await _request(replace(asked, head=None), watched)
        raise to_error(error, f"Simulating on {live.network.name}") from None
    try:
        outcomes = [outcome_of(call) for block in answer for call in block["calls"]]
    except (TypeError, KeyError):
        raise wire.malformed("simulated blocks") from None
    count = min(len(watched.asks), _MOST_ASKS)
    return outcomes[1::2], [creation.decode(probed.data, count) for probed in outcomes[::2]]


def _block(asked: _Asked, place: int, calls: Sequence[Json]) -> Json:
    """A block after the newest one, at the time that it will have: what a contract does once per block or second is
    cheap within the block that did it."""
    if asked.head is None:
        return {"blockOverrides": _FREE, "calls": list(calls)}
    time = asked.head.time + place * max(1, asked.live.network.block_time_ms // 1000)
    return {"blockOverrides": {**_FREE, "time": hex(time)}, "calls": list(calls)}


def _call(sender: str, intent: Intent) -> Json:
    fields: Json = {"from": sender, "value": hex(intent.value_units), "input": wire.hexed(intent.data)}
    if intent.gas_limit is not None:
        fields["gas"] = hex(intent.gas_limit)
    return fields if intent.to is None else fields | {"to": intent.to}


def _taken(
    asked: _Asked, watched: WatchedBalances, before: Sequence[int | None], after: Sequence[int | None]
) -> TakenAmounts:
    changes = changes_of(watched.holdings, before, after, asked.live.network.chain_id, {})
    count = len(watched.holdings)
    taken = taken_of(asked.sender, changes, watched.approvals, before[count:], after[count:])
    return replace(taken, unread=watched.unread)


def _why(run: CallOutcome, intent: Intent) -> DustrunError:
    return reverted(run.data, "The transaction", intent.errors, run.message)
