"""The bodies of requests and answers: JSON and forms; others are named as what cannot be sent."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from dustrun.core.openapi.document import Broken, Document
from dustrun.core.openapi.operation import Body, FieldStyle
from dustrun.core.openapi.parameters import schema_of_swagger
from dustrun.core.openapi.schemas import Json
from dustrun.core.openapi.styles import COLLECTIONS

_JSON: Final = re.compile(r"(application|text)/([a-z0-9.!#$&^_-]+\+)?json|\*/\*|application/\*")
_FORM: Final = "application/x-www-form-urlencoded"
_GOOD: Final[tuple[str, ...]] = ("200", "201", "202", "203", "2xx", "default")
_STYLES: Final = frozenset({"form", "spaceDelimited", "pipeDelimited", "deepObject"})


class Unsupported(Broken):
    """The document's demand that cannot be met. `reason`: the kind."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def media_type(text: Any) -> str:
    """A media type without parameters, in lower case."""
    return str(text).partition(";")[0].strip().lower()


def _is_json(text: Any) -> bool:
    return _JSON.fullmatch(media_type(text)) is not None


def read_body(document: Document, operation: Json, loose: Sequence[Json]) -> tuple[Body | None, Any, bool]:
    """The body, its schema, and whether it is required. `loose`: what version 2.0 has among the parameters. Raises
    `Unsupported` if it can only be sent in another form."""
    if document.is_swagger:
        return _of_swagger(document, operation, loose)
    request = operation.get("requestBody")
    request = document.mapping(request) if request is not None else None
    content = request.get("content") if request is not None else None
    if request is None or not isinstance(content, dict) or not content:
        return None, None, False
    is_required = request.get("required") is True
    kind = next((one for one in content if _is_json(one)), None)
    if kind is not None:
        sent = "application/json" if "*" in kind else kind.strip()
        return Body(kind="json", media_type=sent, fields={}), _schema(content[kind]), is_required
    kind = next((one for one in content if media_type(one) == _FORM), None)
    if kind is not None:
        media = content[kind] if isinstance(content[kind], dict) else {}
        return Body(kind="form", media_type=_FORM, fields=_encodings(media)), _schema(media), is_required
    raise _unsupported(list(content))


def _unsupported(kinds: Sequence[Any]) -> Unsupported:
    shown = ", ".join(media_type(one)[:60] for one in kinds[:4])
    if any(media_type(one).startswith(("multipart/", "application/octet-stream", "image/")) for one in kinds):
        return Unsupported("upload", f"its body is an upload ({shown}), which cannot be sent yet")
    if any("xml" in media_type(one) for one in kinds):
        return Unsupported("xml", f"its body is XML ({shown}), which cannot be built")
    return Unsupported("media_type", f"its body is of {shown or 'no known type'}; only JSON and forms can be sent")


def _schema(media: Any) -> Any:
    return media.get("schema", {}) if isinstance(media, dict) else {}


def _encodings(media: Mapping[str, Any]) -> dict[str, FieldStyle]:
    found = {}
    given = media.get("encoding")
    for name, one in given.items() if isinstance(given, dict) else ():
        if not isinstance(one, dict):
            continue
        style = one.get("style")
        if style in _STYLES:
            found[str(name)] = FieldStyle(style=style, explode=bool(one.get("explode", style == "form")))
        elif isinstance(one.get("explode"), bool):
            found[str(name)] = FieldStyle(explode=one["explode"])
        elif "contentType" in one and _is_json(one["contentType"]):
            found[str(name)] = FieldStyle(as_json=True)
    return found


def _of_swagger(document: Document, operation: Json, loose: Sequence[Json]) -> tuple[Body | None, Any, bool]:
    if not loose:
        return None, None, False
    consumed = operation.get("consumes", document.root.get("consumes"))
    kinds = [one for one in consumed if isinstance(one, str)] if isinstance(consumed, list) else []
    whole = next((one for one in loose if one.get("in") == "body"), None)
    if whole is not None:
        kind = next((one for one in kinds if _is_json(one)), None if kinds else "application/json")
        if kind is None:
            if _FORM in map(media_type, kinds):
                return Body(kind="form", media_type=_FORM, fields={}), whole.get("schema", {}), _is_needed(whole)
            raise _unsupported(kinds)
        sent = "application/json" if "*" in kind else kind.strip()
        return Body(kind="json", media_type=sent, fields={}), whole.get("schema", {}), _is_needed(whole)
    if any(one.get("type") == "file" for one in loose if _is_needed(one)):
        raise Unsupported("upload", "it needs a file, which cannot be sent yet")
    if not any(media_type(one) in (_FORM, "*/*") or _is_json(one) for one in kinds or (_FORM,)):
        raise _unsupported(kinds)
    return _form_of(loose)


def _form_of(loose: Sequence[Json]) -> tuple[Body, Json, bool]:
    fields, schemas, required = {}, {}, []
    for one in loose:
        name = str(one.get("name"))
        if one.get("type") == "file":
            continue
        style, explode = COLLECTIONS.get(str(one.get("collectionFormat", "csv")), (None, False))
        if one.get("type") == "array":
            fields[name] = FieldStyle(style=style or "form", explode=explode)
        schemas[name] = schema_of_swagger(one)
        if isinstance(one.get("description"), str):
            schemas[name]["description"] = one["description"]
        required += [name] if _is_needed(one) else []
    schema = {"type": "object", "properties": schemas, "required": required, "additionalProperties": False}
    return Body(kind="form", media_type=_FORM, fields=fields), schema, bool(required)


def _is_needed(one: Json) -> bool:
    return one.get("required") is True


def read_answer(document: Document, operation: Json) -> tuple[str | None, Any]:
    """The media types that the request accepts, and the schema of the body of an answer that succeeds; None where the
    document does not say."""
    answers = operation.get("responses")
    if not isinstance(answers, dict):
        return None, None
    given = {str(code).lower(): one for code, one in answers.items()}
    good = [one for one in _GOOD if one in given] or sorted(one for one in given if one.startswith("2"))
    for code in good:
        try:
            answer = document.mapping(given[code])
        except Broken:
            continue
        if document.is_swagger:
            produced = operation.get("produces", document.root.get("produces"))
            kinds = [one for one in produced if isinstance(one, str)] if isinstance(produced, list) else []
            kind = next((one for one in kinds if _is_json(one)), None if kinds else "application/json")
            return _accepted(kind), answer.get("schema")
        content = answer.get("content")
        kind = next((one for one in content if _is_json(one)), None) if isinstance(content, dict) else None
        if kind is not None and isinstance(content, dict):
            return _accepted(kind), _schema(content[kind]) or None
    return None, None


def _accepted(kind: str | None) -> str | None:
    if kind is None:
        return None
    return "application/json" if "*" in kind else kind.strip()
