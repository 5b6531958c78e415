"""Builds the request of an operation from its arguments, which must have passed its schema."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import field
from typing import Any, Final

from dustrun.core.openapi.operation import FieldStyle, ImportedOperation, Parameter
from dustrun.core.openapi.parameters import TEMPLATE
from dustrun.core.openapi.reader import BODY
from dustrun.core.openapi.styles import Style, form_pairs, header_text, path_text, query_pairs, usual_style
from dustrun.core.openapi.unwritten import Path, find_unwritten, is_unwritten
from dustrun.errors import Code, Invalid, Problem
from dustrun.records import dataclass

_UNWRITTEN: Final = (
    "The receiver needs it, and a form or query cannot carry an empty list, an empty object or null. Give it a value; "
    "some receivers take an empty text for it."
)


@dataclass(slots=True)
class BuiltRequest:
    """`url` is complete. `json` is the body if `has_json`; `form` one that is sent like an HTML form."""

    url: str
    headers: dict[str, str] = field(default_factory=dict)
    json: Any = None
    has_json: bool = False
    form: dict[str, list[str]] | None = None


def build_request(operation: ImportedOperation, args: Mapping[str, Any]) -> BuiltRequest:
    """The request; raises `Invalid` for a value that would lead to another path, and for one that the receiver needs
    and that its notation cannot carry."""
    request = BuiltRequest(_url(operation, args))
    cookies = []
    for one in operation.parameters:
        value = args.get(one.field)
        if value is None:
            continue
        if one.place == "header":
            request.headers[one.name] = header_text(value, _style(one))
        elif one.place == "cookie":
            cookies += [f"{name}={text}" for name, text in query_pairs(one.name, value, _style(one))]
    if cookies:
        request.headers["Cookie"] = "; ".join(cookies)
    if operation.accept is not None:
        request.headers["Accept"] = operation.accept
    _add_body(request, operation, args)
    return request


def _style(one: Parameter) -> Style:
    return Style(name=one.style, explode=one.explode, reserved=one.reserved, as_json=one.as_json)


def _url(operation: ImportedOperation, args: Mapping[str, Any]) -> str:
    in_path = {one.name: one for one in operation.parameters if one.place == "path"}

    def fill(found: re.Match[str]) -> str:
        one = in_path[found[2]]
        text = path_text(one.name, args[one.field], _style(one))
        if not text:
            raise _refused(one, "It may not be empty: the request would go to another path.")
        return text

    path = TEMPLATE.sub(fill, operation.path)
    for one in in_path.values():
        if any(step in (".", "..") for step in path.partition("?")[0].split("/")):
            raise _refused(one, 'A step of the path may not be "." or "..": the request would go to another path.')
    in_query = [one for one in operation.parameters if one.place == "query"]
    _refuse_unwritten(operation, args, {one.field: _style(one) for one in in_query}, operation.args, ())
    pairs = [
        f"{name}={text}" for one in in_query for name, text in query_pairs(one.name, args.get(one.field), _style(one))
    ]
    url = f"{operation.server}{path if path.startswith('/') else f'/{path}'}"
    return f"{url}{'&' if '?' in url else '?'}{'&'.join(pairs)}" if pairs else url


def _refused(one: Parameter, message: str) -> Invalid:
    return _invalid(one.field, message)


def _invalid(name: str, message: str) -> Invalid:
    problem = Problem(f"payload.args.{name}", message)
    return Invalid(f'The argument "{name}" is not valid: {message}', code=Code.ACTION_INPUT_INVALID, details=[problem])


def _refuse_unwritten(
    operation: ImportedOperation, values: Mapping[str, Any], styles: Mapping[str, Style], schema: Any, at: Path
) -> None:
    """Raises `Invalid` for a value that is needed and of which nothing would be written; one that is JSON always is."""
    written = {name: value for name, value in values.items() if name in styles and not styles[name].as_json}
    nested = {name: value for name, value in written.items() if styles[name].name == "deepObject"}
    shallow = {name: None for name, value in written.items() if name not in nested and is_unwritten(value)}
    found = find_unwritten({**nested, **shallow}, schema, operation.args.get("$defs", {}))
    if found is not None:
        name = "".join(f"[{one}]" if isinstance(one, int) else f".{one}" for one in (*at, *found))[1:]
        raise _invalid(name, _UNWRITTEN)


def _add_body(request: BuiltRequest, operation: ImportedOperation, args: Mapping[str, Any]) -> None:
    if operation.body is None or BODY not in args:
        return
    value = args[BODY]
    if operation.body.kind == "json":
        request.json, request.has_json = value, True
        request.headers["Content-Type"] = operation.body.media_type
        return
    request.form = {}
    fields = value if isinstance(value, dict) else {"value": value}
    styles = {name: _form_style(operation.body.fields.get(name), inner) for name, inner in fields.items()}
    _refuse_unwritten(operation, fields, styles, operation.args.get("properties", {}).get(BODY), (BODY,))
    for name, inner in fields.items():
        for key, text in form_pairs(name, inner, styles[name]):
            request.form.setdefault(key, []).append(text)


def _form_style(one: FieldStyle | None, value: Any) -> Style:
    """The document's, or the usual one for such a value."""
    if one is None:
        return usual_style(value)
    return Style(name=one.style, explode=one.explode, as_json=one.as_json)
