"""Counts the operations of OpenAPI documents by means of its own: what `bench/soak_catalog.py` holds an import against.

None of the product's readers is used, so that what they overlook is noticed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

Json = dict[str, Any]
_METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")
_ABSOLUTE = re.compile(r"(https?:)?//[^/{}\s]+(/[^{}\s]*)?$")
_JSON = re.compile(r"^[a-z]+/([a-z0-9.+_-]+\+)?json\b|^\*/\*|^application/\*", re.IGNORECASE)
_FORM = "application/x-www-form-urlencoded"


@dataclass(frozen=True, slots=True)
class Counted:
    """`operations`: all; `servers`: those with an absolute server; `plain`: those of them whose body is JSON, a form or
    none."""

    operations: int
    servers: int
    plain: int


def count(path: Path) -> Counted:
    """The counts of one document."""
    root = json.loads(path.read_bytes())
    found = list(_operations(root))
    served = [(item, one) for item, one in found if _is_served(root, item, one)]
    return Counted(len(found), len(served), sum(_is_plain(root, item, one) for item, one in served))


def _target(root: Json, value: Any) -> Any:
    for _ in range(20):
        if not isinstance(value, dict) or not isinstance(value.get("$ref"), str):
            break
        found: Any = root
        for step in unquote(value["$ref"].partition("#")[2]).split("/")[1:]:
            step = step.replace("~1", "/").replace("~0", "~")
            found = found.get(step) if isinstance(found, dict) else None
        value = found
    return value


def _operations(root: Json) -> Iterator[tuple[Json, Json]]:
    for value in (root.get("paths") or {}).values():
        item = _target(root, value)
        for method, one in item.items() if isinstance(item, dict) else ():
            if method.lower() in _METHODS and isinstance(one, dict):
                yield item, one


def _is_served(root: Json, item: Json, one: Json) -> bool:
    if "swagger" in root:
        return bool(root.get("host"))
    servers = one.get("servers") or item.get("servers") or root.get("servers") or []
    return any(_ABSOLUTE.match(_filled(server)) for server in servers if isinstance(server, dict))


def _filled(server: Json) -> str:
    url = str(server.get("url", ""))
    for name, variable in (server.get("variables") or {}).items():
        if isinstance(variable, dict) and variable.get("default") not in (None, ""):
            url = url.replace(f"{{{name}}}", str(variable["default"]))
    return url


def _is_plain(root: Json, item: Json, one: Json) -> bool:
    if "swagger" not in root:
        body = _target(root, one.get("requestBody"))
        kinds = list((body or {}).get("content") or {})
        return not kinds or any(_is_plain_kind(kind) for kind in kinds)
    given = [_target(root, each) for level in (item, one) for each in level.get("parameters") or ()]
    loose = [each for each in given if isinstance(each, dict) and each.get("in") in ("body", "formData")]
    if any(each.get("type") == "file" and each.get("required") for each in loose):
        return False
    kinds = one.get("consumes", root.get("consumes")) or []
    return not loose or not kinds or any(_is_plain_kind(kind) for kind in kinds)


def _is_plain_kind(kind: str) -> bool:
    return bool(_JSON.match(kind.strip())) or kind.partition(";")[0].strip().lower() == _FORM
