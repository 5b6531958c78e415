"""The parameters of an operation: those of its path and its own, in the notations of all versions."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from dustrun.core.openapi.document import Broken, Document
from dustrun.core.openapi.operation import Parameter
from dustrun.core.openapi.schemas import Json
from dustrun.core.openapi.styles import COLLECTIONS, STYLES
from dustrun.records import dataclass

TEMPLATE: Final = re.compile(r"\{([+.;?&/#]?)([^{}*]+)\*?\}")
_SET_BY_CONNECTORS: Final = frozenset({"authorization", "proxy-authorization"})
_SET_BY_THE_CLIENT: Final = frozenset(
    {"accept", "content-type", "content-length", "host", "connection", "transfer-encoding", "te", "upgrade", "expect"}
)
_CREDENTIALS: Final = frozenset({"token", "access_token", "accesstoken", "api_key", "apikey", "api-key", "x-api-key"})
_OF_SCHEMA: Final = (
    "type", "format", "enum", "default", "items", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum",
    "minLength", "maxLength", "pattern", "minItems", "maxItems", "uniqueItems", "multipleOf", "x-nullable",
)  # fmt: skip
"""Keys of a parameter that are its schema in version 2.0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ParameterSchema:
    """A parameter with its schema."""

    parameter: Parameter
    schema: Any
    is_required: bool


def read_parameters(
    document: Document, path: str, item: Json, operation: Json
) -> tuple[list[ParameterSchema], list[Json]]:
    """The parameters, and what version 2.0 has among them of a body. Raises `Broken` if one of the path is not
    declared."""
    found: dict[tuple[str, str], Json] = {}
    for level in (item, operation):
        for one in level["parameters"] if isinstance(level.get("parameters"), list) else ():
            parameter = document.mapping(one)
            found[str(parameter.get("in")), str(parameter.get("name"))] = parameter
    body = [one for (place, _), one in found.items() if place in ("body", "formData")]
    takes_credential = bool(operation.get("security", document.root.get("security")))
    given = [
        _read(document, one, path, is_left_to_connector=takes_credential and name.lower() in _CREDENTIALS)
        for (place, name), one in found.items()
        if place in STYLES and not _is_ours(place, name)
    ]
    given += _undeclared(path, given)
    return given, body


def _is_ours(place: str, name: str) -> bool:
    return place == "header" and name.lower() in _SET_BY_CONNECTORS | _SET_BY_THE_CLIENT


def _undeclared(path: str, given: list[ParameterSchema]) -> Iterator[ParameterSchema]:
    """Variables of the path that nothing declares: texts that are required."""
    declared = {one.parameter.name for one in given if one.parameter.place == "path"}
    for operator, name in TEMPLATE.findall(path):
        if operator not in ("", "+", ".", ";"):
            raise Broken(f'its path has the template "{{{operator}{name}}}", which is not supported')
        if name not in declared:
            declared.add(name)
            one = Parameter(name=name, field=name, place="path", style="simple", explode=False)
            yield ParameterSchema(parameter=one, schema={"type": "string"}, is_required=True)


def _read(document: Document, one: Json, path: str, *, is_left_to_connector: bool) -> ParameterSchema:
    name, place = str(one["name"]) if one.get("name") is not None else "", str(one["in"])
    if not name or len(name) > 200:
        raise Broken("one of its parameters has no usable name")
    style, explode, as_json = STYLES[place][0], place in ("query", "cookie"), False
    if document.is_swagger:
        schema: Any = schema_of_swagger(one)
        chosen, explode = COLLECTIONS.get(str(one.get("collectionFormat", "csv")), (None, False))
        style = chosen or style
    else:
        content = one.get("content")
        if isinstance(content, dict) and content:
            media = next(iter(content.values()))
            schema, as_json = (media.get("schema", True) if isinstance(media, dict) else True), True
        else:
            schema = one.get("schema", True)
        style = str(one.get("style", style))
        explode = bool(one.get("explode", style == "form"))
        if style not in STYLES[place]:
            raise Broken(f'its parameter "{name[:80]}" in the {place} has the style "{style[:40]}"')
    parameter = Parameter(
        name=name,
        field=name,
        place=place,
        style=style,
        explode=explode,
        reserved=(one.get("allowReserved") is True and place == "query") or f"{{+{name}}}" in path,
        as_json=as_json,
    )
    is_required = place == "path" or (one.get("required") is True and not is_left_to_connector)
    return ParameterSchema(parameter=parameter, schema=_described(one, schema), is_required=is_required)


def _described(one: Json, schema: Any) -> Any:
    about = one.get("description")
    if not isinstance(about, str) or not isinstance(schema, dict) or "description" in schema:
        return schema
    return {"allOf": [schema], "description": about} if "$ref" in schema else {**schema, "description": about}


def schema_of_swagger(one: Json) -> Json:
    """The schema that a parameter of version 2.0 is."""
    return {key: one[key] for key in _OF_SCHEMA if key in one}
