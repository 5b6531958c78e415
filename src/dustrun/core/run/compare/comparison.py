"""Compares two runs of a workflow by node and item.

Values that no two transactions share (hash, block, nonce, gas, gas price), and who answered a wait or an approval and
when, are not differences; gas and fees are reported as estimates. A value assumed in one of the runs cannot be compared
and is reported as a note.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from dustrun.core.run.compare.compared_transactions import compare_balances, compare_transactions
from dustrun.core.run.compare.findings import Findings, Side, short_text
from dustrun.core.run.compare.value_differences import Own, differences_of, roles_in
from dustrun.core.run.journal import Execution

Json = dict[str, Any]
_OF_ANSWER = ("source", "by", "decidedAt")  # in the results of `wait` and `approve`: who answered, and when


def compare(left: Side, right: Side) -> Json:
    """`verdict` is `same` or `differs`; `differences` have one sentence each; `estimates` are gas and fees by
    transaction; `notes` say what was not compared, and why.
    """
    found = Findings.of(left, right)
    own = _own(left), _own(right)
    _about_runs(left, right, own, found)
    triggers = left.triggers | right.triggers
    for path in _paths(left, right):
        if path not in triggers:  # trigger results differ by time and by the payload, which is reported
            one, other = left.executions.get(path), right.executions.get(path)
            _node(path, one, other, own, found)
            if one is not None and other is not None and path not in left.delays | right.delays:
                _results(path, one, other, own, found)  # the result of a delay is only its time
    pairs = compare_transactions(left, right, found)
    compare_balances(left, right, pairs, found)
    return {
        "verdict": "differs" if found.differences else "same",
        "equal": not found.differences,
        "differences": found.differences,
        "estimates": found.estimates,
        "notes": found.notes,
    }


def _about_runs(left: Side, right: Side, own: tuple[Own, Own], found: Findings) -> None:
    if left.version != right.version:
        versions = f"{left.version or 'inline'} and {right.version or 'inline'}"
        found.note("VERSIONS", f"The runs are of different versions of the workflow: {versions}.")
    if left.mode != right.mode and "dust" in (left.mode, right.mode):
        found.note("DUST", "One of the runs spent dust: its amounts are smaller by design.")
    for where, was, now in differences_of(left.payload, right.payload, own, of_spend=False):
        name = where.lstrip(".") or "payload"
        shown = f"{short_text(was)} in {found.labels[0]}, {short_text(now)} in {found.labels[1]}"
        found.note("PAYLOAD", f"The runs were started with different payloads: {name} is {shown}.")


def _paths(left: Side, right: Side) -> list[str]:
    """All paths in the order in which their nodes started."""
    at: dict[str, int] = {}
    for side in (right, left):
        at |= {path: execution.started_at or 0 for path, execution in side.executions.items()}
    return sorted(at, key=lambda path: (at[path], path))


def _own(side: Side) -> Own:
    hashes = {str(facts[name]) for facts in side.facts for name in ("hash", "blockHash") if facts.get(name)}
    roles: dict[Any, set[str]] = {}
    for path, execution in side.executions.items():
        is_spend = "transactions" in (execution.facts or {})
        found: Iterable[tuple[Any, str]] = ()
        if is_spend or path in side.delays:
            found = roles_in(path, execution.result, of_spend=is_spend)
        elif path in side.answers and isinstance(execution.result, dict):
            found = [(execution.result.get(name), f"{path}.{name}") for name in _OF_ANSWER]
        for value, place in found:
            roles.setdefault(value, set()).add(place)
    return Own(
        frozenset(hashes) | side.ids,
        side.mode == "simulate",
        {value: frozenset(places) for value, places in roles.items()},
    )


def _node(path: str, one: Execution | None, other: Execution | None, own: tuple[Own, Own], found: Findings) -> None:
    if one is None or other is None:
        states = [None if side is None else side.status.value for side in (one, other)]
        shown = (states[0] or "did not run", states[1] or "did not run")
        found.differ(path, "status", "status", (states[0], states[1]), kind="course", texts=shown)
        return
    if one.status is not other.status:
        found.differ(path, "status", "status", (one.status.value, other.status.value), kind="course")
    if one.branch != other.branch:
        found.differ(path, "branch", "branch taken", (one.branch, other.branch), kind="course")
    errors = (one.error or {}), (other.error or {})
    if errors[0].get("code") != errors[1].get("code"):
        shown = (_shown_error(errors[0]), _shown_error(errors[1]))
        found.differ(path, "error", "error", (one.error, other.error), kind="course", texts=shown)
    _requests(path, one, other, own, found)


def _results(path: str, one: Execution, other: Execution, own: tuple[Own, Own], found: Findings) -> None:
    if one.status is not other.status:
        return
    if one.assumed or other.assumed:
        if one.result != other.result:
            label = found.labels[0 if one.assumed else 1]
            found.note("ASSUMED", f"Its result was assumed in {label}, so results were not compared.", path)
        return
    spends = any("transactions" in (side.facts or {}) for side in (one, other))
    for where, before, after in differences_of(one.result, other.result, own, of_spend=spends):
        found.differ(path, f"result{where}", f"result {where.lstrip('.')}".rstrip(), (before, after))


def _requests(path: str, one: Execution, other: Execution, own: tuple[Own, Own], found: Findings) -> None:
    before, after = ((side.facts or {}).get("request") for side in (one, other))
    if before is None or after is None:
        return
    for where, was, now in differences_of(before, after, own, of_spend=False):
        found.differ(path, f"request{where}", f"request {where.lstrip('.')}".rstrip(), (was, now))


def _shown_error(error: Json) -> str:
    return f"{error.get('code')}: {error.get('message')}" if error else "none"
