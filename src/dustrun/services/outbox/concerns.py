"""What a person has to look at before a transaction is signed, whatever the policy allows: a proxy whose implementation
has changed since it was first called or last accepted, and a second endpoint that sees the chain otherwise."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Final

from dustrun.chain.evm import LiveChain
from dustrun.chain.simulate.taking import OutflowForecast, forecast_outflow
from dustrun.core.money.policy import Reason
from dustrun.core.money.policy.counting import canonical
from dustrun.core.money.policy.outflow import Taken
from dustrun.core.money.prices import DISAGREE
from dustrun.core.values.addresses import checksum
from dustrun.errors import Code, DustrunError, Permanent
from dustrun.services.outbox.deps import OutboxDeps
from dustrun.services.outbox.preflight import Ready
from dustrun.services.wallets.contracts import names_of
from dustrun.storage.db.statement import Tx
from dustrun.storage.money import contracts as rows

PROXY, SECOND, MISSING = "proxyChanged", "secondOpinion", "secondOpinionMissing"
_ON_CHAIN: Final = frozenset({"feed", "uniswap-v2", "uniswap-v3"})
_BLOCKS_APART: Final = Fraction(1, 100)
"""By how much outflows may differ because the two endpoints are a block apart."""


async def look(deps: OutboxDeps, ready: Sequence[Ready]) -> list[Ready]:
    """The same transactions of one node with names of known contracts, and what was noticed, in the same order. Raises
    `Temporary` if no endpoint answers."""
    found: dict[str, Ready] = {}
    for chain_id in dict.fromkeys(one.row.chain_id for one in ready):
        seen = [await _look_at_proxy(deps, one) for one in ready if one.row.chain_id == chain_id]
        second = deps.chains.second(chain_id)
        asked = seen if second is None else await _ask_second(deps, second, seen)
        found |= {one.row.id: one for one in asked}
    return [found[one.row.id] for one in ready]


async def _look_at_proxy(deps: OutboxDeps, ready: Ready) -> Ready:
    row, to = ready.row, ready.intent.to
    chain = deps.chains.get(row.chain_id)
    addresses = {checksum(one.counterparty) for one in ready.intent.movements}
    addresses |= {checksum(to)} if to is not None else set()

    def query(tx: Tx) -> tuple[dict[str, str], str | None]:
        names = names_of(tx, row.org_id, chain.network, addresses)
        known = rows.find(tx, row.org_id, row.chain_id, checksum(to)) if to is not None else None
        return names, known.implementation if known is not None else None

    names, accepted = await deps.database.look_up(query)
    if to is None or not ready.intent.data:
        return replace(ready, names=names)
    now = await chain.find_implementation(to)
    reasons = () if accepted is None or now == accepted else (_changed(to, names.get(checksum(to)), accepted, now),)
    return replace(ready, names=names, implementation=now or accepted, concerns=(*ready.concerns, *reasons))


def _changed(to: str, name: str | None, accepted: str, now: str | None) -> Reason:
    shown = f'{to} ("{name}")' if name else to
    what = f"its calls are now carried out by {now}" if now else "it names no implementation any more"
    message = f"{shown} is a proxy, and has changed: {what}, and before by {accepted}. A person must approve it."
    return Reason(PROXY, message)


# --- the second opinion ---


async def _ask_second(deps: OutboxDeps, second: LiveChain, ready: Sequence[Ready]) -> list[Ready]:
    """What the second endpoint says of the same transactions in the same order, held against the first."""
    try:
        first = await _forecast(deps, deps.chains.get(ready[0].row.chain_id), ready)
    except Permanent as error:
        if error.code is not Code.SIM_UNAVAILABLE:
            raise
        return _without_opinion(deps, ready, f"There is nothing to compare a second opinion with: {error.message}")
    try:
        await second.verify()
        other = await _forecast(deps, second, ready)
        prices = await _price_doubts(deps, ready)
    except DustrunError as error:
        return _without_opinion(deps, ready, f"The second endpoint gives no opinion: {error.message}")
    found = []
    for place, one in enumerate(ready):
        here, there = (seen[place] if place < len(seen) else None for seen in (first, other))
        its_prices = [prices[key] for key in sorted(map(canonical, one.request.assets)) if key in prices]
        doubts = [*_differences(here, there), *its_prices]
        message = f"The second endpoint disagrees: {'; '.join(doubts)}. A person must approve it."
        found.append(_with(one, Reason(SECOND, message)) if doubts else one)
    return found


def _without_opinion(deps: OutboxDeps, ready: Sequence[Ready], why: str) -> list[Ready]:
    if deps.settings.second_opinion_missing == "go-on":
        return list(ready)
    return [_with(one, Reason(MISSING, f"{why} A person must approve it.")) for one in ready]


def _with(ready: Ready, reason: Reason) -> Ready:
    return replace(ready, concerns=(*ready.concerns, reason))


async def _forecast(deps: OutboxDeps, chain: LiveChain, ready: Sequence[Ready]) -> list[OutflowForecast]:
    intents = [replace(one.intent, gas_limit=one.gas_limit) for one in ready]
    tokens = [token.address for token in chain.network.tokens]
    return await forecast_outflow(chain, ready[0].row.sender, intents, tokens, deps.settings.fork_binary)


def _differences(here: OutflowForecast | None, there: OutflowForecast | None) -> Iterator[str]:
    mine, other = (None if seen is None else seen.taken for seen in (here, there))
    if mine is None or other is None:
        if mine is not None:
            failure = there.failure if there is not None else None
            yield f"it would fail ({'after one before it' if failure is None else failure.message})"
        return
    yield from _of_taken(mine, other)


def _of_taken(mine: Taken, other: Taken) -> Iterator[str]:
    for key in sorted({*mine.units, *other.units}):
        one, two = mine.units.get(key, 0), other.units.get(key, 0)
        if abs(one - two) > _BLOCKS_APART * max(one, two):
            yield f"it takes {two} base units of {key}, by the first endpoint {one}"
    given = [{(one.token, one.spender): one.after for one in taken.raised} for taken in (mine, other)]
    for pair in sorted({*given[0], *given[1]}):
        one, two = (side.get(pair, 0) for side in given)
        if one != two:
            yield f"it lets {pair[1]} take {two} base units of {pair[0]}, by the first endpoint {one}"


async def _price_doubts(deps: OutboxDeps, ready: Sequence[Ready]) -> dict[str, str]:
    """Where the second endpoint's price of a feed or pool differs too much, by asset key."""
    assets = {canonical(asset): asset for one in ready for asset in one.request.assets}
    found: dict[str, str] = {}
    for key, asset in assets.items():
        value = ready[0].values.get(key)  # all of a node have the same values
        if value is None or value.price.source not in _ON_CHAIN or deps.chains.second(asset.chain_id) is None:
            continue
        assert deps.second_prices is not None, "there are second prices where there are second endpoints"
        other = await deps.second_prices.value(asset)
        low, high = sorted((Fraction(value.price.usd), Fraction(other.price.usd)))
        if high - low > DISAGREE * low:
            found[key] = f"{key} is worth ${other.price.usd:f}, by the first endpoint ${value.price.usd:f}"
    return found
