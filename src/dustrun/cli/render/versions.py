"""The difference between two definitions in the terminal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from dustrun.cli.render import output
from dustrun.cli.render.tables import gap, table
from dustrun.core.values import exact_json

# A version's ladder and acceptance in the terminal.


Json = dict[str, Any]
_MODES = ("simulate", "dust", "live")


def show_ladder(found: Json) -> None:
    """Every spending node with its last rehearsals, then the acceptance."""
    required = found["requireRehearsal"]
    rehearsed = "" if required == "none" else f" ({'all' if found['rehearsed'] else 'not all'} carried out)"
    output.say(f"Version {found['version']}: requireRehearsal {required}{rehearsed}")
    if found["nodes"]:
        table(["workflow", "version", "node", "type", *_MODES], [_row(node) for node in found["nodes"]])
    else:
        output.say("No node spends.")
    if found["callsAny"]:
        output.say("A call computes its workflow; what it calls is judged at the call.")
    gap()
    show_status(found["acceptance"])


def _row(node: Json) -> list[Any]:
    rungs = [f"{node[mode]['at']} {node[mode]['runId']}" if node[mode] else None for mode in _MODES]
    return [node["workflowName"], node["version"], node["nodeId"], node["type"], *rungs]


def show_status(status: Json) -> None:
    """Whether a version is accepted, and by whom."""
    by = ", ".join(one["keyId"] for one in status["acceptedBy"])
    lacking = status["needed"] - len(status["acceptedBy"])
    told = "accepted" if status["accepted"] else f"not accepted, {lacking} missing"
    output.say(f"Version {status['version']}: {told}{f' (by {by})' if by else ''}")


def show_differences(status: Json) -> None:
    """The spends that a version can make and the last accepted one could not."""
    found, against = status["differences"], status["againstVersion"]
    since = "no earlier version is accepted" if against is None else f"compared with accepted version {against}"
    output.say(f"What version {status['version']} can spend, {since}:")
    for sign, nodes in (("+", found["added"]), ("-", found["removed"])):
        for node in nodes:
            wallet = _wallet(node)
            payload = exact_json.dumps_text(node["payload"])
            output.say(f"{sign} {node['workflowId']} {node['nodeId']} ({node['type']}, {wallet}): {payload}")
    for node in found["changed"]:
        output.say(f"~ {node['workflowId']} {node['nodeId']}")
        show_changes(node["changes"])
    for node in found["otherNodes"]:
        output.say(f"~ {node['workflowId']} {node['nodeId']} (does not spend, may decide what is spent)")
    if not any(found.values()):
        output.say("  no difference")


def _wallet(node: Json) -> str:
    listed = f", one of {', '.join(node['oneOf'])}" if node["oneOf"] else ""
    return f"{node['walletId'] or 'default wallet'}{listed}"


def show_changes(changes: list[Json]) -> None:
    """Values that differ, by path."""
    for change in changes:
        before, after = (exact_json.dumps_text(change[side]) if side in change else "–" for side in ("before", "after"))
        output.say(f"    {change['path']}: {before} → {after}")


def show_definition(found: dict[str, Any]) -> None:
    """Nodes added, removed and changed, and what differs beside them."""
    for sign, node_ids in (("+", found["nodesAdded"]), ("-", found["nodesRemoved"])):
        for node_id in node_ids:
            output.say(f"{sign} {node_id}")
    for node in found["nodesChanged"]:
        output.say(f"~ {node['nodeId']}")
        show_changes(node["changes"])
    if found["otherChanges"]:
        output.say("~ beside the nodes")
        show_changes(found["otherChanges"])


# What shaped spends, in the terminal.


def draw_sources(spends: list[Json]) -> None:
    """Each spend with a line for each question and its answer."""
    if not spends:
        output.say("No node spends.")
    for at, one in enumerate(spends):
        if at:
            gap()
        where = ", ".join(one.get("paths") or ()) or one["nodeId"]
        output.say(f"{where} ({one['type']}), version {one['version']} of {one['workflowId'] or 'no saved workflow'}")
        for line in _lines(one):
            output.say(f"  {line}")


def _lines(one: Json) -> Iterator[str]:
    for level in (*one["fields"], one["decides"]):
        outside = [each["says"] for each in level["sources"] if each["kind"] != "definition"]
        left = level["total"] - len(level["sources"])
        more = f"; and {left} more" if left else ""
        yield f"{level['question']}: {'; '.join(outside) or 'as written'}{more}"
    for store in one["stores"]:
        outside = [each["says"] for each in store["sources"] if each["kind"] != "definition"]
        shaped = f"hangs on {'; '.join(outside)}" if outside else "is what keys wrote"
        by = [f"`{each['nodeId']}` of {each['workflowId']}" for each in store["writers"]] + store["keys"]
        yield f"{store['says'].partition(',')[0]} {shaped}; written by {', '.join(by) or 'nobody yet'}"
    for approval in one["approvals"]:
        yield f"`{approval['nodeId']}` must be approved before, and shows {', '.join(approval['shows'])}"
    stops = one.get("stops")
    if stops is not None and stops["total"]:
        yield f"what can only prevent it: {stops['total']} more sources"
