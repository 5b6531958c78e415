"""Checks the constant chains and token symbols of a definition against the chains that this server knows."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from typing import Any, Final

from pydantic import BaseModel

from dustrun.chain.networks import get_network
from dustrun.core.evm.network import Network
from dustrun.core.money.tokens import read_asset_text
from dustrun.core.workflow.definition import Definition, Node
from dustrun.core.workflow.model_tools import tool_nodes
from dustrun.core.workflow.specs import Specs
from dustrun.errors import Invalid, Problem

_CHAIN: Final = "chainId"


def find_problems(definition: Definition, specs: Specs, networks: Mapping[int, Network]) -> Iterator[Problem]:
    """Yields a problem for every constant chain that is unknown, and for every constant token that its chain does not
    have. An expression is judged when the node runs, and a trigger when it is armed."""
    for node_id, node in definition.nodes.items():
        place = f"nodes.{node_id}"
        parts = ((place, node), *((f"{place}.{tool_place}", tool) for tool_place, tool in tool_nodes(node)))
        for where, part in parts:
            spec = specs.get(part.type)
            if spec is not None and spec.kind == "action":
                yield from _check(node_id, f"{where}.payload", part, spec.payload, networks)


def _check(
    node_id: str, place: str, node: Node, payload: type[BaseModel], networks: Mapping[int, Network]
) -> Iterator[Problem]:
    needs_chain, tokens = _fields_of(payload)
    chain_id = _constant_chain(node.payload.get(_CHAIN))
    if not needs_chain or chain_id is None:
        return
    try:
        network = get_network(networks, chain_id)
    except Invalid as error:
        yield Problem(f"{place}.{_CHAIN}", error.message, "unknown_chain", node_id)
        return
    for field in sorted(tokens & node.payload.keys()):
        token = node.payload[field]
        if not isinstance(token, str) or "{{" in token:
            continue
        try:
            read_asset_text(network, token)
        except ValueError as error:
            yield Problem(f"{place}.{field}", str(error), "unknown_token", node_id)


@functools.cache
def _fields_of(payload: type[BaseModel]) -> tuple[bool, frozenset[str]]:
    """Whether an input needs a chain, and its fields that name a token there."""
    chain = next((info for name, info in payload.model_fields.items() if (info.alias or name) == _CHAIN), None)
    widgets = {
        info.alias or name: info.json_schema_extra.get("x-widget")
        for name, info in payload.model_fields.items()
        if isinstance(info.json_schema_extra, dict)
    }
    tokens = frozenset(name for name, widget in widgets.items() if widget == "token")
    return chain is not None and chain.is_required() and widgets.get(_CHAIN) == "chain", tokens


def _constant_chain(value: Any) -> int | None:
    """The chain that is written out; None for an expression, and for what is no chain's id at all."""
    if isinstance(value, str) and value.isascii() and value.isdigit():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None
