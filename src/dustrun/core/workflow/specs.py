"""What validation and the planner need to know of a node type, whichever registry it comes from."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel


@dataclass(frozen=True, slots=True)
class NodeSpec:
    """`kind` is `trigger`, `action` or `control`; `branches(payload)` lists the branches its children may name, None
    when it does not branch; `result_fields` are the known names of its result, None when open; `connectors` are the
    accepted connector types.
    """

    type: str
    kind: str
    effect: str
    payload: builtins.type[BaseModel]
    branches: Callable[[Mapping[str, Any]], tuple[str, ...]] | None = None
    result_fields: frozenset[str] | None = None
    raw_fields: frozenset[str] = frozenset()
    connectors: tuple[str, ...] = ()
    connector_required: bool = False


Specs = Mapping[str, NodeSpec]
