"""Warns of secrets in the headers of a definition, which everybody who may read the workflow sees."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final

from dustrun.core.validate.words import problem
from dustrun.core.workflow.definition import Node
from dustrun.core.workflow.specs import NodeSpec
from dustrun.errors import Problem
from dustrun.secret_names import WORDS

_OF_HEADERS: Final = "auth|authorisation|token|passwd|(auth|access|session|subscription)-key"
_SECRET: Final = re.compile(f"(^|-)({WORDS}|{_OF_HEADERS})$", re.I)
_NO_SECRET: Final = frozenset({"x-csrf-token", "x-xsrf-token"})


def check_headers(node_id: str, node: Node, spec: NodeSpec) -> Iterator[Problem]:
    """A warning for each constant header that looks like a credential, where a connector could hold it."""
    headers = node.payload.get("headers")
    if not spec.connectors or not isinstance(headers, Mapping):
        return
    for name, value in headers.items():
        if isinstance(value, str) and value and _looks_secret(str(name)) and _is_constant(spec, value):
            message = (
                f'The header "{str(name)[:100]}" is part of the definition, which everybody with workflow:read sees. '
                f"Keep its secret in a connector, and name that in the node's `connector`: types {_types(spec)}."
            )
            yield problem("secret_in_header", node_id, f"payload.headers.{name}", message, "warning")


def _looks_secret(name: str) -> bool:
    return _SECRET.search(name) is not None and name.lower() not in _NO_SECRET


def _is_constant(spec: NodeSpec, value: str) -> bool:
    """Whether it is sent as it is written; a trigger resolves no templates."""
    return spec.kind == "trigger" or "{{" not in value


def _types(spec: NodeSpec) -> str:
    first = [name for name in spec.connectors if name.startswith("http-")] or list(spec.connectors)
    return ", ".join(first)
