"""Slices as API objects, with words: what every surface shows as "why this amount, why this recipient"."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from dustrun.core.sources.inputs import MONEY_FIELDS
from dustrun.core.sources.slicer import workflow_of
from dustrun.core.sources.source import ANY, Source
from dustrun.core.sources.spend_slice import SpendSlice
from dustrun.core.sources.words import LEVELS, describe

Json = dict[str, Any]
MayTell = Callable[[str], bool]
MOST_SOURCES: Final = 100
"""Sources that one list shows; `total` says how many there are."""


def report_of(found: SpendSlice, may_tell: MayTell, *, with_stops: bool) -> Json:
    """One spend with its sources. `may_tell`: whether a workflow may be named; the sources of others are one `*`."""
    key, node_id = found.place
    stops = found.stops - found.data - found.decides if with_stops else None
    return {
        "workflowId": workflow_of(key),
        "version": int(key.rpartition("@")[2]),
        "nodeId": node_id,
        "type": found.type,
        "fields": [
            {"field": money, "question": LEVELS[money], **_list(found.fields[money], may_tell)}
            for money in MONEY_FIELDS
            if money in found.fields
        ],
        "decides": {"question": LEVELS["decides"], **_list(found.decides, may_tell)},
        "stops": None if stops is None else {"question": "what can only prevent it", **_list(stops, may_tell)},
        "approvals": [
            {"nodeId": approval.node, "shows": sorted(fields, key=MONEY_FIELDS.index)}
            for approval, fields in found.shown.items()
        ],
    }


def _list(sources: Iterable[Source], may_tell: MayTell) -> Json:
    told = {_visible(one, may_tell) for one in sources}
    ordered = sorted(told, key=lambda one: (one.kind == "definition", str(one)))
    shown: list[Mapping[str, str]] = [
        {"source": str(one), "kind": one.kind, "says": describe(one)} for one in ordered[:MOST_SOURCES]
    ]
    return {"sources": shown, "total": len(ordered)}


def _visible(source: Source, may_tell: MayTell) -> Source:
    workflow = source.workflow
    return source if workflow is None or workflow == ANY or may_tell(workflow) else Source(source.kind, ANY)
