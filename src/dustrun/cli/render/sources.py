"""What shaped spends, in the terminal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from dustrun.cli.render import output
from dustrun.cli.render.tables import gap

Json = dict[str, Any]


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
    for approval in one["approvals"]:
        yield f"`{approval['nodeId']}` must be approved before, and shows {', '.join(approval['shows'])}"
    stops = one.get("stops")
    if stops is not None and stops["total"]:
        yield f"what can only prevent it: {stops['total']} more sources"
