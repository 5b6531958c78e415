"""The guard `enforceRehearsal`: a live spend may do only what the rehearsal has shown.

Wishes are matched by item within their node path. Pure: the wishes of both runs come in as JSON (`Intent.public`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from fractions import Fraction
from typing import Any

from dustrun.core.intent import Intent, Movement

Json = Mapping[str, Any]


def differences(wishes: Iterable[Intent], rehearsed: Iterable[Json], tolerance_percent: Decimal) -> list[str]:
    """What the wishes do beyond what was rehearsed for the same node: more, elsewhere, another asset, no match."""
    known = {shown["item"]: shown for shown in rehearsed}
    found: list[str] = []
    for wish in wishes:
        shown = known.get(wish.item)
        if shown is None:
            found.append(f"{wish.item}: the rehearsal had no such transaction")
        else:
            found += [f"{wish.item}: {text}" for text in _beyond(wish, shown, tolerance_percent)]
    return found


def _beyond(wish: Intent, shown: Json, tolerance_percent: Decimal) -> Iterable[str]:
    if wish.chain_id != shown["chainId"]:
        yield f"on chain {wish.chain_id}, rehearsed on {shown['chainId']}"
    if (wish.to or "").lower() != (shown["to"] or "").lower():
        yield f"to {wish.to or 'a new contract'}, rehearsed to {shown['to'] or 'a new contract'}"
    if wish.method != shown.get("method"):
        yield f"calls {wish.method}, rehearsed {shown.get('method')}"
    factor = 1 + Fraction(tolerance_percent) / 100
    if wish.value_units > int(shown["value"]) * factor:
        yield f"sends {wish.value_units} base units of native coin, rehearsed {shown['value']}"
    rehearsed = {(m["kind"], m["asset"], m["counterparty"].lower()): int(m["amount"]) for m in shown["movements"]}
    for movement in wish.movements:
        yield from _moves_beyond(movement, rehearsed, factor)


def _moves_beyond(movement: Movement, rehearsed: Mapping[tuple[str, str, str], int], factor: Fraction) -> Iterable[str]:
    most = rehearsed.get((movement.kind, movement.asset.key, movement.counterparty.lower()))
    what = f"{movement.kind} of {movement.amount_units} base units of {movement.asset.key} to {movement.counterparty}"
    if most is None:
        yield f"{what}, which was not rehearsed"
    elif movement.amount_units > most * factor:
        yield f"{what}, rehearsed {most}"
