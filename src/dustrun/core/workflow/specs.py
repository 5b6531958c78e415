"""Facts about a node type that validation and the planner need, whichever registry it comes from."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pydantic import BaseModel

from dustrun.core.money.intent import FundsMovement
from dustrun.records import dataclass


@dataclass(frozen=True, slots=True)
class Origin:
    """An outside system whose answer an action's result holds. `kind`: `chain`, `contract`, `price`, `http`, `model`,
    `mcp` or `table`. `field`: the input that says which one; None: the node's connector."""

    kind: str
    field: str | None = None


@dataclass(frozen=True, slots=True)
class NodeSpec:
    """`kind` is `trigger`, `action` or `control`; `branches(payload)` lists the branches its children may name, None
    when it does not branch; `result_fields` are the known names of its result, None when open; `connectors` are the
    accepted connector types; `connector_instead_of` is the field that a node without one gives; `url_fields` hold the
    addresses to which a connector's credential is sent, `server_fields` servers of another protocol than HTTP, which a
    connector does not say that has `allowedHosts`; `narrows`: one resolved input can have a weaker `effect`, which
    `effect_fields` declare; `result` is the model of an action's result. `movements`: what a spend moves. `origins`:
    whose answers the result holds; without any, an action with an effect is a system of its own.
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
    connector_instead_of: str | None = None
    url_fields: frozenset[str] = frozenset()
    server_fields: frozenset[str] = frozenset()
    narrows: bool = False
    effect_fields: frozenset[str] = frozenset()
    result: builtins.type[BaseModel] | None = None
    movements: tuple[FundsMovement, ...] = ()
    origins: tuple[Origin, ...] = ()


Specs = Mapping[str, NodeSpec]


class OrgSpecs(dict[str, NodeSpec]):
    """The node types that one organisation has. `similar`: for types of imported documents that it lacks, those that
    may be meant; there may be too many to compare with each."""

    def __init__(self, specs: Specs, similar: Mapping[str, tuple[str, ...]]) -> None:
        super().__init__(specs)
        self.similar = similar


def comparable(kind: str, specs: Specs) -> Iterable[str]:
    """The node types with which one that does not exist is to be compared."""
    return (*(specs.similar.get(kind, ()) if isinstance(specs, OrgSpecs) else ()), *specs)


def api_of(kind: str) -> str | None:
    """The API of a node type `<api>.<operation>`, which an imported document has; None of any other type."""
    api, dot, _ = kind.partition(".")
    return api if dot else None
