"""The difference between two definitions in the terminal."""

from __future__ import annotations

from typing import Any

from dustrun.cli.render import output
from dustrun.cli.render.acceptance import show_changes


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
