"""Concerns that a person looks at before a signature, whatever the policy allows: a proxy whose implementation
has changed since it was first called, allowed to take something, or last accepted, and a second endpoint that sees
the chain otherwise."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from fractions import Fraction
from typing import Final

from dustrun import clock
from dustrun.chain.evm import LiveChain
from dustrun.chain.simulate.taking import OutflowForecast, forecast_outflow
from dustrun.core.money.intent import Intent
from dustrun.core.money.policy import PolicyRequest, Reason
from dustrun.core.money.policy.counting import canonical
from dustrun.core.money.policy.outflow import TakenAmounts
from dustrun.core.money.prices import DISAGREE
from dustrun.core.money.token_calls import Unread, implied_movements, inner_calls
from dustrun.core.values.addresses import checksum
from dustrun.core.values.amounts import Asset
from dustrun.errors import Code, DustrunError, Permanent, Temporary
from dustrun.records import dataclass
from dustrun.sdk.chain import Block
from dustrun.services.outbox.deps import OutboxDeps
from dustrun.services.outbox.preflight import Ready
from dustrun.services.wallets.budget import Valuer, Values
from dustrun.services.wallets.contracts import names_of
from dustrun.storage.db.statement import Tx
from dustrun.storage.money import contracts as rows

PROXY, SECOND, MISSING = "proxyChanged", "secondOpinion", "secondOpinionMissing"
_ON_CHAIN: Final = frozenset({"feed", "uniswap-v2", "uniswap-v3"})
_APART: Final = Fraction(1, 100)
"""By how much outflows may differ: the two endpoints may simulate by different means."""
_LAGS_MS, _MOST_LAG_MS, _LOOK_S = 2_000, 10_000, 0.1
"""How long the second endpoint may take to come to the first one's newest block: two blocks, within these bounds."""


async def look(deps: OutboxDeps, ready: Sequence[Ready]) -> list[Ready]:
    """The same transactions of one node with names of known contracts, and what was noticed, in the same order. Raises
    `Temporary` if no endpoint answers."""
    found: dict[str, Ready] = {}
    for chain_id in dict.fromkeys(one.row.chain_id for one in ready):
        proxies = _Proxies(deps, chain_id)
        seen = [await _look_at_proxies(proxies, one) for one in ready if one.row.chain_id == chain_id]
        asked = [replace(one.intent, gas_limit=one.gas_limit) for one in seen]
        doubts = await _ask_second(deps, chain_id, seen[0].row.sender, asked, seen[0].values)
        found |= {one.row.id: _with(one, *more) for one, more in zip(seen, doubts, strict=True)}
    return [found[one.row.id] for one in ready]


async def look_ahead(
    deps: OutboxDeps, org_id: str, sender: str, intents: Sequence[Intent], prices: Valuer, untouched: Collection[int]
) -> list[tuple[Reason, ...]]:
    """The concerns of `look` about the transactions of a simulated node. Nobody else knows a simulated state, so the
    second endpoint is asked only about chains that the simulation has left `untouched`."""
    proxies = {chain_id: _Proxies(deps, chain_id) for chain_id in {intent.chain_id for intent in intents}}
    found = [(await proxies[intent.chain_id].look(org_id, intent)).reasons for intent in intents]
    for chain_id in untouched:
        places = [place for place, intent in enumerate(intents) if intent.chain_id == chain_id]
        if deps.chains.second(chain_id) is None:
            continue
        asked = [intents[place] for place in places]
        values = await deps.budget.values_of([_request_of(intent, sender) for intent in asked], prices, surveys=False)
        for place, more in zip(places, await _ask_second(deps, chain_id, sender, asked, values), strict=True):
            found[place] = (*found[place], *more)
    return found


# --- proxies ---


@dataclass(frozen=True, slots=True)
class _Seen:
    """Names of known contracts among an intent's addresses, what carries out the calls of its proxies now, and why a
    person must look at that."""

    names: Mapping[str, str]
    implementations: Mapping[str, str]
    reasons: tuple[Reason, ...]


class _Proxies:
    """The code behind a chain's contracts, each read once for all transactions of a node."""

    def __init__(self, deps: OutboxDeps, chain_id: int) -> None:
        self._deps = deps
        self._chain = deps.chains.get(chain_id)
        self._now: dict[str, str | None] = {}

    async def look(self, org_id: str, intent: Intent) -> _Seen:
        """Holds what is there now against what the organisation has accepted."""
        await asyncio.sleep(0)  # a loop may have thousands of them
        trusted = _trusted_by(intent)
        named = {*trusted, *(checksum(one.counterparty) for one in intent.movements)}
        named |= {checksum(intent.to)} if intent.to is not None else set()

        def query(tx: Tx) -> tuple[dict[str, str], dict[str, str | None]]:
            known = {address: rows.find(tx, org_id, intent.chain_id, address) for address in trusted}
            accepted = {address: None if row is None else row.implementation for address, row in known.items()}
            return names_of(tx, org_id, self._chain.network, named), accepted

        names, accepted = await self._deps.database.look_up(query)
        new = [address for address in trusted if address not in self._now]
        self._now |= zip(new, await asyncio.gather(*map(self._chain.find_implementation, new)), strict=True)
        found = {address: self._now[address] or accepted[address] for address in trusted}
        reasons = [one for at in trusted for one in _changed(at, names, accepted[at], self._now[at])]
        return _Seen(names, {address: one for address, one in found.items() if one is not None}, tuple(reasons))


def _trusted_by(intent: Intent) -> list[str]:
    """The contracts that a call shows to be trusted with what is in the wallet: the called one, those that its nested
    calls call, and those that it lets take something. Not one from which an allowance is taken away."""
    if intent.to is None or not intent.data:
        return []
    found = [intent.to]
    granted = [*intent.movements]
    with suppress(Unread):  # which the policy denies
        found += [call.to for call in inner_calls(intent.to, intent.data)]
        granted += implied_movements(intent.chain_id, intent.to, intent.data)
    found += [one.counterparty for one in granted if one.kind == "approve" and one.amount_units]
    return [*dict.fromkeys(map(checksum, found))]


async def _look_at_proxies(proxies: _Proxies, ready: Ready) -> Ready:
    seen = await proxies.look(ready.row.org_id, ready.intent)
    return _with(replace(ready, names=seen.names, implementations=seen.implementations), *seen.reasons)


def _changed(to: str, names: Mapping[str, str], accepted: str | None, now: str | None) -> tuple[Reason, ...]:
    if accepted is None or now == accepted:
        return ()
    name = names.get(to)
    shown = f'{to} ("{name}")' if name else to
    what = f"its calls are now carried out by {now}" if now else "it names no implementation any more"
    message = f"{shown} is a proxy, and has changed: {what}, and before by {accepted}. A person must approve it."
    return (Reason(PROXY, message),)


# --- the second opinion ---


async def _ask_second(
    deps: OutboxDeps, chain_id: int, sender: str, intents: Sequence[Intent], values: Values
) -> list[tuple[Reason, ...]]:
    """The second endpoint's view of the same transactions in the same order, after the same block, held against the
    first; nothing without one."""
    chain, second = deps.chains.get(chain_id), deps.chains.second(chain_id)
    if second is None:
        return [() for _ in intents]
    try:
        await second.verify()
        block = await _common_block(chain, second)
    except DustrunError as error:
        return _without_opinion(deps, intents, f"The second endpoint gives no opinion: {error.message}")
    if isinstance(block, Reason):
        return [(block,) for _ in intents]
    try:
        first = await _forecast(deps, chain, sender, intents, block)
    except Permanent as error:
        if error.code is not Code.SIM_UNAVAILABLE:
            raise
        return _without_opinion(deps, intents, f"There is nothing to compare a second opinion with: {error.message}")
    try:
        other = await _forecast(deps, second, sender, intents, block)
        prices = await _price_doubts(deps, intents, values)
    except DustrunError as error:
        return _without_opinion(deps, intents, f"The second endpoint gives no opinion: {error.message}")
    found = list[tuple[Reason, ...]]()
    for place, intent in enumerate(intents):
        here, there = (seen[place] if place < len(seen) else None for seen in (first, other))
        its_prices = [prices[key] for key in sorted(map(canonical, _assets(intent))) if key in prices]
        doubts = [*_differences(here, there), *its_prices]
        message = f"The second endpoint disagrees: {'; '.join(doubts)}. A person must approve it."
        found.append((Reason(SECOND, message),) if doubts else ())
    return found


def _without_opinion(deps: OutboxDeps, intents: Sequence[Intent], why: str) -> list[tuple[Reason, ...]]:
    if deps.settings.second_opinion_missing == "go-on":
        return [() for _ in intents]
    return [(Reason(MISSING, f"{why} A person must approve it."),) for _ in intents]


def _request_of(intent: Intent, sender: str) -> PolicyRequest:
    return PolicyRequest.of_intent(intent, sender, gas_limit=0, max_fee_units=0)


def _assets(intent: Intent) -> frozenset[Asset]:
    return _request_of(intent, "").assets


def _with(ready: Ready, *reasons: Reason) -> Ready:
    return replace(ready, concerns=(*ready.concerns, *reasons))


async def _common_block(chain: LiveChain, second: LiveChain) -> Block | Reason:
    """The first endpoint's newest block, once the second one has it too; it may be a little behind. The reason if it
    has another one there. Raises `Temporary` if it stays behind."""
    most_ms = min(max(_LAGS_MS, 2 * chain.network.block_time_ms), _MOST_LAG_MS)
    until_s = clock.monotonic_s() + most_ms / 1000
    while True:
        block = await chain.block()
        there = await second.find_block(block.number)
        if there is not None and there.hash == block.hash:
            return block
        if clock.monotonic_s() < until_s:  # a block that is there, but is another one, may go with the next
            await asyncio.sleep(_LOOK_S)
            continue
        if there is None:
            head = await second.block()
            raise Temporary(f"it is at block {head.number}, and the first one at {block.number}.")
        message = (
            f"The second endpoint disagrees: it has another block {block.number} ({there.hash}, not {block.hash})."
        )
        return Reason(SECOND, f"{message} A person must approve it.")


async def _forecast(
    deps: OutboxDeps, chain: LiveChain, sender: str, intents: Sequence[Intent], block: Block
) -> list[OutflowForecast]:
    tokens = [token.address for token in chain.network.tokens]
    return await forecast_outflow(chain, sender, intents, tokens, deps.settings.fork_binary, block)


def _differences(here: OutflowForecast | None, there: OutflowForecast | None) -> Iterator[str]:
    mine, other = (None if seen is None else seen.taken for seen in (here, there))
    if mine is None or other is None:
        if mine is not None:
            failure = there.failure if there is not None else None
            yield f"it would fail ({'after one before it' if failure is None else failure.message})"
        return
    yield from _of_taken(mine, other)


def _of_taken(mine: TakenAmounts, other: TakenAmounts) -> Iterator[str]:
    for key in sorted({*mine.units, *other.units}):
        one, two = mine.units.get(key, 0), other.units.get(key, 0)
        if abs(one - two) > _APART * max(one, two):
            yield f"it takes {two} base units of {key}, by the first endpoint {one}"
    given = [{(one.token, one.spender): one.after for one in taken.raised} for taken in (mine, other)]
    for pair in sorted({*given[0], *given[1]}):
        one, two = (side.get(pair, 0) for side in given)
        if one != two:
            yield f"it lets {pair[1]} take {two} base units of {pair[0]}, by the first endpoint {one}"


async def _price_doubts(deps: OutboxDeps, intents: Sequence[Intent], values: Values) -> dict[str, str]:
    """Where the second endpoint's price of a feed or pool differs too much, by asset key."""
    assets = {canonical(asset): asset for intent in intents for asset in _assets(intent)}
    found: dict[str, str] = {}
    for key, asset in assets.items():
        value = values.get(key)
        if value is None or value.price.source not in _ON_CHAIN or deps.chains.second(asset.chain_id) is None:
            continue
        assert deps.second_prices is not None, "there are second prices where there are second endpoints"
        other = await deps.second_prices.value(asset, surveys=False)
        low, high = sorted((Fraction(value.price.usd), Fraction(other.price.usd)))
        if high - low > DISAGREE * low:
            found[key] = f"{key} is worth ${other.price.usd:f}, by the first endpoint ${value.price.usd:f}"
    return found
