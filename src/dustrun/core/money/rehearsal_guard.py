"""The guard `enforceRehearsal`: a live spend may do only what its rehearsal showed.

Intents are matched by item within their node path. Pure: the rehearsal's intents come as JSON from its report.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from fractions import Fraction
from typing import Any

from dustrun.core.money.intent import Intent
from dustrun.core.values.addresses import keccak256

Json = Mapping[str, Any]
_Moved = dict[tuple[str, str, str], int]


def data_hash(data: bytes) -> str:
    """The hash that replaces calldata in a report."""
    return f"0x{keccak256(data).hex()}"


def differences(
    wallet_id: str, intents: Iterable[Intent], rehearsed: Iterable[Json], tolerance_percent: Decimal
) -> list[str]:
    """How the intents of a wallet exceed what was rehearsed for the same node: from another wallet, more, elsewhere,
    another asset, unmatched. A call that declares no amounts, or whose calldata a person wrote, is compared byte for
    byte, since its arguments cannot be interpreted.
    """
    known = {shown["item"]: shown for shown in rehearsed if shown["status"] == "simulated"}
    found: list[str] = []
    for intent in intents:
        shown = known.get(intent.item)
        if shown is None:
            found.append(f"{intent.item}: the rehearsal had no such transaction")
        elif shown["walletId"] != wallet_id:
            found.append(f"{intent.item}: from the wallet {wallet_id}, rehearsed from {shown['walletId']}")
        else:
            found += [f"{intent.item}: {text}" for text in _beyond(intent, shown, tolerance_percent)]
    return found


def _beyond(intent: Intent, shown: Json, tolerance_percent: Decimal) -> Iterable[str]:
    if intent.chain_id != shown["chainId"]:
        yield f"on chain {intent.chain_id}, rehearsed on {shown['chainId']}"
    if (intent.to or "").lower() != (shown["to"] or "").lower():
        yield f"to {intent.to or 'a new contract'}, rehearsed to {shown['to'] or 'a new contract'}"
    if intent.method != shown.get("method"):
        yield f"calls {intent.method}, rehearsed {shown.get('method')}"
    is_whole = intent.as_written or not intent.movements
    if intent.data and is_whole and data_hash(intent.data) != shown.get("dataHash"):
        yield "its calldata differs from the rehearsal, and may affect more than amounts"
    factor = 1 + Fraction(tolerance_percent) / 100
    if intent.value_units > int(shown["value"]) * factor:
        yield f"sends {intent.value_units} base units of native coin, rehearsed {shown['value']}"
    yield from _moves_beyond(_moved(m.public() for m in intent.movements), _moved(shown["movements"]), factor)


def _moved(movements: Iterable[Json]) -> _Moved:
    """Amounts by kind, asset and counterparty, summed."""
    moved: _Moved = {}
    for movement in movements:
        key = (movement["kind"], movement["asset"].lower(), movement["counterparty"].lower())
        moved[key] = moved.get(key, 0) + int(movement["amount"])
    return moved


def _moves_beyond(intended: _Moved, rehearsed: _Moved, factor: Fraction) -> Iterable[str]:
    for key, units in intended.items():
        kind, asset, counterparty = key
        what = f"{kind} of {units} base units of {asset} to {counterparty}"
        if key not in rehearsed:
            yield f"{what}, which was not rehearsed"
        elif units > rehearsed[key] * factor:
            yield f"{what}, rehearsed {rehearsed[key]}"
