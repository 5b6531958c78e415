"""An OpenAPI document as data: parsing within bounds, and following references inside it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final
from urllib.parse import unquote

from dustrun.core.values.exact_json import JsonError, refuse_deep
from dustrun.errors import Invalid, Problem

MOST_BYTES: Final = 50_000_000
_MOST_HOPS: Final = 32
Json = dict[str, Any]


class Broken(Exception):
    """A part of the document cannot be used; the text says why."""


def refuse(message: str, field: str = "document") -> Invalid:
    """The error of a document that cannot be imported at all."""
    return Invalid(message, details=[Problem(field, message)])


def parse(content: bytes) -> Json:
    """Parses JSON or YAML; raises `Invalid`. It may take many seconds: never on the event loop."""
    if len(content) > MOST_BYTES:
        raise refuse(f"The document has {len(content):,} bytes; at most {MOST_BYTES:,} are accepted.")
    try:
        text = content.decode("utf-8-sig")
        is_json = text.lstrip()[:1] in ("{", "[")
        value = _json(text) if is_json else _yaml(text)
        refuse_deep(value)
    except UnicodeDecodeError as error:
        raise refuse(f"The document is not UTF-8 at byte {error.start}.") from None
    except JsonError as error:
        raise refuse(f"The document is neither JSON nor YAML that can be read: {error}.") from None
    if not isinstance(value, dict):
        raise refuse("The document must be an object with `openapi` or `swagger`.")
    return value


def _yaml(text: str) -> Any:
    from dustrun.core.values import exact_yaml  # slow import: only YAML documents need it

    return exact_yaml.loads(text)


def _json(text: str) -> Any:
    try:
        return json.loads(text, parse_float=Decimal)
    except RecursionError:
        raise JsonError("it is nested too deeply") from None
    except ValueError as error:
        raise JsonError(str(error)) from None


class Document:
    """A document of a version that can be read."""

    def __init__(self, root: Json) -> None:
        self.root = root
        self.version = _version_of(root)
        info = root.get("info")
        self.info: Mapping[str, Any] = info if isinstance(info, dict) else {}

    @property
    def is_swagger(self) -> bool:
        """Whether it is of version 2.0."""
        return self.version == "2.0"

    @property
    def has_null_types(self) -> bool:
        """Whether its schemas are of JSON Schema 2020-12, as from 3.1 on."""
        return not self.is_swagger and not self.version.startswith("3.0")

    def resolve(self, value: Any) -> Any:
        """The value, or what its reference leads to. Raises `Broken` if that is outside, missing or circular."""
        for _ in range(_MOST_HOPS):
            if not isinstance(value, dict) or not isinstance(value.get("$ref"), str):
                return value
            value = self.at(value["$ref"])
        raise Broken("it has a circular reference")

    def mapping(self, value: Any) -> Json:
        """Like `resolve`, of what must be an object."""
        found = self.resolve(value)
        if not isinstance(found, dict):
            raise Broken("it has something else where an object belongs")
        return found

    def at(self, reference: str) -> Any:
        """The target of a reference within this document."""
        if not reference.startswith("#"):
            raise Broken(f'it refers to another document, "{reference[:120]}"')
        found: Any = self.root
        for step in unquote(reference[1:]).split("/")[1:]:
            name = step.replace("~1", "/").replace("~0", "~")
            if isinstance(found, dict) and name in found:
                found = found[name]
            elif isinstance(found, list) and name.isdecimal() and int(name) < len(found):
                found = found[int(name)]
            else:
                raise Broken(f'it refers to "{reference[:120]}", which the document does not have')
        return found


def _version_of(root: Json) -> str:
    swagger, openapi = root.get("swagger"), root.get("openapi")
    if str(swagger) == "2.0":
        return "2.0"
    version = str(openapi)
    if version.startswith(("3.0", "3.1", "3.2")):
        return version
    if swagger is None and openapi is None:
        raise refuse("The document has neither `openapi` nor `swagger`, so it is no OpenAPI document.")
    given = str(openapi if openapi is not None else swagger)[:40]
    raise refuse(f'The document is of version "{given}"; versions 2.0, 3.0 and 3.1 can be imported.')
