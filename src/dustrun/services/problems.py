"""Converts pydantic errors to problems with field paths in wire names."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from dustrun.core.text.wording import explain
from dustrun.core.validate import suggest
from dustrun.errors import Problem

_PLAIN_NAME = re.compile(r"^[A-Za-z_$][A-Za-z0-9_$-]*$")
_MAX_PROBLEMS = 100
_MOST_ERRORS = 1000
_OF_THE_CUT = frozenset({"missing", "value_error"})
"""Errors that a document may have only because it was cut."""
_NOT_OF_PATH = ("[key]", "[text]", "[rule]")
_MAX_NAME = 80


def field_path(location: Sequence[Any]) -> str:
    """Formats a location like `("nodes", "a", "children", 0)` as `nodes.a.children[0]`."""
    path = ""
    for part in location:
        if part in _NOT_OF_PATH:
            continue
        if isinstance(part, int):
            path += f"[{part}]"
        elif _PLAIN_NAME.match(str(part)):
            path += f".{part}" if path else str(part)
        else:
            path += f"[{str(part)[:_MAX_NAME]!r}]"
    return path


def problems_of(errors: Sequence[Any], *, skip: int = 0, whole: str = "body", model: Any = None) -> list[Problem]:
    """The problems, at most 100; `skip` drops the first parts of each location, `whole` names the root.

    With `model`, an unknown field gets a suggestion of a similar name."""
    return [_problem(error, error["loc"][skip:], whole, model) for error in errors[:_MAX_PROBLEMS]]


def errors_in(error: ValidationError, document: Any, validate: Callable[[Any], Any]) -> Sequence[Any]:
    """The errors to describe. Of very many only those within the first parts of each list and object: to describe one
    takes ten times as long as to find it. `validate` is what raised the error for the document."""
    count = error.error_count()
    if count <= _MOST_ERRORS:
        return error.errors(include_url=False)
    found: list[Any] = []
    try:
        validate(_cut(document))
    except ValidationError as of_cut:
        found = [one for one in of_cut.errors(include_url=False) if one["type"] not in _OF_THE_CUT]
    message = f"There are {count} problems, all of them beyond the first {_MAX_PROBLEMS} items of a list or object."
    return found or [{"type": "too_many", "loc": (), "msg": message}]


def _cut(document: Any) -> Any:
    """The document with the first parts of each list and object."""
    if isinstance(document, list):
        return [_cut(item) for item in document[:_MAX_PROBLEMS]]
    if isinstance(document, dict):
        return {name: _cut(document[name]) for name in list(document)[:_MAX_PROBLEMS]}
    return document


def _problem(error: Any, location: Sequence[Any], whole: str, model: Any) -> Problem:
    message = explain(error["type"], error["msg"])
    if error["type"] == "extra_forbidden" and location:
        message += suggest(str(location[-1])[:_MAX_NAME], _names_beside(model, location))
    return Problem(field_path(location) or whole, message, code=str(error["type"]), node_id=_node_of(location))


def _node_of(location: Sequence[Any]) -> str | None:
    """The definition's node that contains the location."""
    inside = location[1:] if location[:1] == ("definition",) else location
    is_node = len(inside) > 1 and inside[0] == "nodes" and isinstance(inside[1], str)
    return inside[1] if is_node else None


def _names_beside(model: Any, location: Sequence[Any]) -> list[str]:
    """The field names that are valid at the location's last part."""
    models = list(_models_in(model))
    for part in location[:-1]:
        fields = (info for found in models for name, info in found.model_fields.items() if part in (info.alias, name))
        models = [inner for info in fields for inner in _models_in(info.annotation)] or models
    return [info.alias or name for found in models for name, info in found.model_fields.items()]


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models within a type: itself, a list's items, a union's members."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
        return
    for part in get_args(annotation):
        yield from _models_in(part)
