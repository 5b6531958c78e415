"""The transactions of two runs side by side: matched by node path and item, then compared by field, then by
balances.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dustrun.core.run import balances
from dustrun.core.run.balances import Pair, TransactionGroup
from dustrun.core.run.compare.findings import Findings, Side, short_text

Json = dict[str, Any]
Match = tuple[int | None, int | None]
"""Indexes of a transaction in both reports; None where a run lacks it."""
_FIELDS = {"chainId": "chain", "from": "sender", "to": "target", "method": "call", "value": "native coin sent along"}


def compare_transactions(left: Side, right: Side, found: Findings) -> list[Match]:
    """Reports differences to `found`; returns the pairs, including transactions that only one run has."""
    pairs = _pairs(left, right)
    for one, other in pairs:
        before = None if one is None else left.report["transactions"][one]
        after = None if other is None else right.report["transactions"][other]
        if before is None or after is None:
            _lonely(before, after, found)
        else:
            _transaction(before, after, found)
    _signatures(left, right, found)
    return pairs


def _signatures(left: Side, right: Side, found: Findings) -> None:
    """Compares the signatures of both runs by what they let others move."""
    sides = [
        {(signature["path"], signature["item"]): signature for signature in side.report["signatures"]}
        for side in (left, right)
    ]
    for key in sorted({*sides[0]} & {*sides[1]}):
        _movements(sides[0][key], sides[1][key], found)


def _pairs(left: Side, right: Side) -> list[Match]:
    """Pairs transactions of the same node path and item; the newest of a retried node counts."""
    places = [{(t["path"], t["item"]): n for n, t in enumerate(side.report["transactions"])} for side in (left, right)]
    return [(places[0].get(key), places[1].get(key)) for key in dict.fromkeys([*places[0], *places[1]])]


def _lonely(before: Json | None, after: Json | None, found: Findings) -> None:
    only = before or after
    assert only is not None
    sides = (before and before["status"], after and after["status"])
    shown = (sides[0] or "not there", sides[1] or "not there")
    found.differ(only["path"], "transaction", only["about"], sides, kind="course", texts=shown, item=only["item"])


def _transaction(before: Json, after: Json, found: Findings) -> None:
    path, item = before["path"], before["item"]
    states = [_state(transaction) for transaction in (before, after)]
    if states[0] != states[1]:
        shown = (f"{states[0]}{_why(before)}", f"{states[1]}{_why(after)}")
        sides = (before["status"], after["status"])
        found.differ(path, "outcome", before["about"], sides, kind="course", texts=shown, item=item)
    for name, what in _FIELDS.items():
        sides = (before.get(name), after.get(name))
        if _plain(sides[0]) != _plain(sides[1]):
            found.differ(path, name, what, sides, kind="money" if name == "value" else "detail", item=item)
    _movements(before, after, found)
    if balances.happened(before) and balances.happened(after):
        _events(before, after, found)
        _left_approved(before, after, found)
        _gas(before, after, found)


def _state(transaction: Json) -> str:
    if balances.happened(transaction):
        return "carried out"
    status = str(transaction["status"])
    return "refused" if status == "rejected" else status  # what a simulation rejects is refused unsigned in a live run


def _why(transaction: Json) -> str:
    revert, error = transaction.get("revert") or {}, transaction.get("error") or {}
    why = revert.get("text") or error.get("message")
    return f" ({why})" if why else ""


def _plain(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


def _movements(before: Json, after: Json, found: Findings) -> None:
    sides = [_sums(transaction["movements"]) for transaction in (before, after)]
    for key in sorted({*sides[0], *sides[1]}):
        was, now = sides[0].get(key, 0), sides[1].get(key, 0)
        if was != now:
            kind, asset, who = key
            what = f"{'sends' if kind == 'send' else 'approves'} {who}"
            more = {"item": before["item"], "counterparty": who}
            found.differ_amount(before["path"], "movements", what, was, now, asset, **more)


def _sums(movements: Iterable[Json]) -> dict[tuple[str, str, str], int]:
    sums: dict[tuple[str, str, str], int] = {}
    for movement in movements:
        key = (movement["kind"], movement["asset"], movement["counterparty"])
        sums[key] = sums.get(key, 0) + int(movement["amount"])
    return sums


def _events(before: Json, after: Json, found: Findings) -> None:
    if not (_knows_events(before) and _knows_events(after)):
        return
    for place in range(max(len(before["events"]), len(after["events"]))):
        was, now = (side["events"][place] if place < len(side["events"]) else None for side in (before, after))
        where, named = f"events[{place}]", f"event {place + 1}"
        if was is not None and now is not None and _is_of_a_kind(was, now):
            for name, value in was["args"].items():
                if value != now["args"][name]:
                    what = f"{named}, {was['name']} {name}"
                    sides = (value, now["args"][name])
                    found.differ(before["path"], f"{where}.{name}", what, sides, item=before["item"])
        elif was != now:
            shown = (_event(was), _event(now))
            if shown[0] != shown[1]:
                found.differ(before["path"], where, named, (was, now), texts=shown, item=before["item"])


def _is_of_a_kind(one: Json, other: Json) -> bool:
    return "name" in one and all(one.get(name) == other.get(name) for name in ("name", "address"))


def _knows_events(transaction: Json) -> bool:
    return transaction["status"] == "simulated" or "measured" in transaction


def _event(event: Json | None) -> str:
    if event is None:
        return "none"
    if "name" not in event:
        return short_text(f"{event['address']} {' '.join(event['topics'])} {event['data']}")
    shown = ", ".join(f"{name} {value}" for name, value in event["args"].items())
    return f"{event['name']}({shown}) of {event['address']}"


def _left_approved(before: Json, after: Json, found: Findings) -> None:
    sides = [{(a["owner"], a["spender"], a["asset"]): a for a in t["approvals"]} for t in (before, after)]
    for key in sorted({*sides[0]} & {*sides[1]}):
        owner, spender, asset = key
        was, now = (int(side[key]["amount"]) for side in sides)
        if was != now:
            more = {"item": before["item"], "counterparty": spender}
            what = f"{spender} may still spend from {owner}"
            found.differ_amount(before["path"], "approvals", what, was, now, asset, **more)


def _gas(before: Json, after: Json, found: Findings) -> None:
    if before.get("gasUsed") is None or after.get("gasUsed") is None:
        return
    names = ("gasUsed", "fee", "feeUsd")
    both = {name: {"left": before.get(name), "right": after.get(name)} for name in names}
    found.estimates.append({"path": before["path"], "item": before["item"], "chainId": before["chainId"], **both})


# --- balances ---


def compare_balances(left: Side, right: Side, pairs: Sequence[Match], found: Findings) -> None:
    """Compares balance changes, fees excluded, over the smallest sets of transactions that both runs can measure."""
    groups = balances.group(left.facts), balances.group(right.facts)
    partner = {one: other for one, other in pairs if one is not None and other is not None}
    for some, others in _joined(*groups, partner):
        places = [place for group in some for place in group.members]
        if {partner.get(place) for place in places} != {place for group in others for place in group.members}:
            continue  # a transaction that only one run has is reported already
        path = ", ".join(dict.fromkeys(left.report["transactions"][place]["path"] for place in sorted(places)))
        unmeasured = [group.unmeasured for group in (*some, *others) if group.unmeasured]
        if unmeasured:
            found.note("NOT_MEASURED", f"Balances were not compared: {unmeasured[0]}.", path)
        else:
            _changes(path, some, others, found)


def _joined(
    left: Sequence[TransactionGroup], right: Sequence[TransactionGroup], partner: Mapping[int, int]
) -> list[tuple[list[TransactionGroup], list[TransactionGroup]]]:
    """Merges the groups of both runs that share transactions."""
    of_right = {place: group for group in right for place in group.members}
    clusters: list[tuple[list[TransactionGroup], list[TransactionGroup]]] = []
    for group in left:
        own = [of_right[partner[place]] for place in group.members if partner.get(place) in of_right]
        some, others = [group], _once(own)
        for cluster in [c for c in clusters if any(one is g for one in others for g in c[1])]:
            clusters.remove(cluster)
            some, others = [*cluster[0], *some], _once([*cluster[1], *others])
        clusters.append((some, others))
    return clusters


def _once(groups: Iterable[TransactionGroup]) -> list[TransactionGroup]:
    return list({id(group): group for group in groups}.values())


def _changes(path: str, some: Sequence[TransactionGroup], others: Sequence[TransactionGroup], found: Findings) -> None:
    before, after = balances.total(some), balances.total(others)
    disturbed = {pair for group in (*some, *others) for pair in group.others}
    for pair in sorted({*before, *after}):
        who, asset = pair
        was, now = before.get(pair, 0), after.get(pair, 0)
        if not (_is_watched(pair, some) and _is_watched(pair, others)):
            message = f"The balance of {who} in {asset} was read in one of the runs only, so it was not compared."
            found.note("NOT_WATCHED", message, path)
        elif was != now and pair in disturbed:  # another party's transaction or ours: it cannot be known
            shown = found.tell_amounts(f"The balance of {who} changes", was, now, asset)
            found.note("OTHERS_IN_BLOCK", f"{shown} Other transactions of the same block are included.", path)
        elif was != now:
            more = {"address": who, "difference": str(now - was)}
            found.differ_amount(path, "balanceChanges", f"balance of {who}", was, now, asset, **more)


def _is_watched(pair: Pair, groups: Sequence[TransactionGroup]) -> bool:
    return all(group.watched is None for group in groups) or any(pair in (group.watched or ()) for group in groups)
