"""Answers requests that satisfy an OpenAPI document with 200, and all others with 422 and what `openapi-core` says.

    python server.py DOCUMENT.json

Writes its port to standard output, then a line of JSON for each request. Runs in an environment of its own, without
Dustrun. `openapi-core` knows neither nested forms (`a[b][0]=c`) nor nested `deepObject` parameters: those are decoded
here, and it gets them as JSON, under the schema that the document has for them.
"""

from __future__ import annotations

import json
import re
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from openapi_core import Config, OpenAPI
from openapi_core.datatypes import RequestParameters
from openapi_core.exceptions import OpenAPIError
from werkzeug.datastructures import Headers, ImmutableMultiDict

Json = dict[str, Any]
FORM = "application/x-www-form-urlencoded"
_STEP = re.compile(r"\[([^\]]*)\]")
_METHODS = ("get", "put", "post", "delete", "options", "head", "patch")


def target(root: Json, value: Any) -> Any:
    """What a reference leads to."""
    while isinstance(value, dict) and "$ref" in value:
        found: Any = root
        for step in value["$ref"].split("/")[1:]:
            found = found[step.replace("~1", "/").replace("~0", "~")]
        value = found
    return value


def admit_null(schema: Any) -> None:
    """Lets `nullable` mean null wherever a schema has it.

    By 3.0.3 it only adds to a `type` beside it, and an `enum` without null refuses null; `openapi-core` goes by that.
    GitHub's document has it beside `oneOf` and `enum`, too, and says in words that null is taken there
    (`projects/update-item-for-org`: "To clear the field, set this to null"; `secret-scanning/update-alert`, `validity`:
    "`null` to clear the override"). To refuse null there would be to refuse what the document describes.
    """
    if isinstance(schema, list):
        for one in schema:
            admit_null(one)
    if not isinstance(schema, dict):
        return
    for one in schema.values():
        admit_null(one)
    if schema.get("nullable") is not True:
        return
    if isinstance(schema.get("enum"), list) and None not in schema["enum"]:
        schema["enum"] = [*schema["enum"], None]
    for key in ("anyOf", "oneOf"):
        if "type" not in schema and isinstance(schema.get(key), list):
            schema[key] = [*schema[key], {"enum": [None], "nullable": True}]


def nested(pairs: list[tuple[str, str]]) -> Json:
    """`a[b][0]=c` as `{"a": {"b": {"0": "c"}}}`; a name that comes again makes a list."""
    found: Json = {}
    for key, text in pairs:
        name = key.partition("[")[0]
        steps, inside = [name, *_STEP.findall(key[len(name) :])], found
        for step in steps[:-1]:
            inside = inside.setdefault(step, {})
        if steps[-1] in inside:
            before = inside[steps[-1]]
            inside[steps[-1]] = [*before, text] if isinstance(before, list) else [before, text]
        else:
            inside[steps[-1]] = text
    return found


def cast(root: Json, schema: Any, value: Any) -> Any:
    """The value as its schema means it; raises `ValueError` if it cannot be that."""
    schema = target(root, schema)
    for key in ("anyOf", "oneOf"):
        for one in schema.get(key, ()):
            try:
                return cast(root, one, value)
            except (ValueError, TypeError):
                continue
        if key in schema:
            raise ValueError(f"none of the alternatives in {key} fits {str(value)[:60]!r}")
    if "enum" in schema and value not in map(str, schema["enum"]):
        raise ValueError("not among its choices")
    kind = schema.get("type")
    if kind == "array":
        if isinstance(value, dict):
            if set(value) != {str(at) for at in range(len(value))}:
                raise ValueError("no list: its indices are not 0, 1, 2 …")  # another alternative may be meant
            value = [value[str(at)] for at in range(len(value))]
        items = value if isinstance(value, list) else [value]
        return [cast(root, schema.get("items", {}), one) for one in items]
    if kind == "object" or "properties" in schema:
        if not isinstance(value, dict):
            raise ValueError("no object")
        named, other = schema.get("properties", {}), schema.get("additionalProperties")
        rest = other if isinstance(other, dict) else {}
        return {name: cast(root, named.get(name, rest), one) for name, one in value.items()}
    return _plain(kind, value)


def _plain(kind: Any, value: Any) -> Any:
    if kind == "boolean":
        return {"true": True, "false": False}[value] if value in ("true", "false") else value
    if kind == "integer":
        return int(value)
    if kind == "number":
        return float(value)
    if kind == "string" and not isinstance(value, str):
        raise ValueError("no text")
    return value


class Asked:
    """A request as `openapi-core` takes it."""

    def __init__(self, handler: Handler, body: bytes) -> None:
        parts = urlsplit(handler.path)
        self.path, self.method, self.body = parts.path, handler.command.lower(), body or None
        self.content_type = handler.headers.get("Content-Type", "").lower()
        self.pairs = parse_qsl(parts.query, keep_blank_values=True)
        self.headers = Headers(handler.headers.items())
        self.parameters = RequestParameters(query=ImmutableMultiDict(self.pairs), header=self.headers)

    @property
    def host_url(self) -> str:
        """As the rewritten document names the server."""
        return "http://localhost"


class Checked:
    """A document, rewritten so that JSON stands where decoders are missing."""

    def __init__(self, root: Json) -> None:
        self.root = root
        root["servers"] = [{"url": "http://localhost"}]
        root.pop("security", None)
        admit_null([root["paths"], root.get("components")])
        self._deep: dict[tuple[str, str], tuple[dict[str, Any], Any]] = {}
        self._patterns: list[tuple[re.Pattern[str], str]] = []
        for path, item in root["paths"].items():
            item.pop("servers", None)
            pattern = re.sub(r"\\\{[^/]+?\\\}", "[^/]+", re.escape(path))
            self._patterns.append((re.compile(pattern), path))
            for method in _METHODS:
                if method in item:
                    self._rewrite(method, path, item)
        self._patterns.sort(key=lambda one: one[1].count("{"))
        self._api = OpenAPI.from_dict(root, config=Config(spec_validator_cls=None))

    def _rewrite(self, method: str, path: str, item: Json) -> None:
        operation = item[method]
        operation.pop("servers", None)
        operation.pop("security", None)
        given = [
            dict(target(self.root, one)) for one in (*item.get("parameters", ()), *operation.get("parameters", ()))
        ]
        deep = {}
        for one in given:
            if "schema" in one:  # "readOnly" means something for properties alone (OpenAPI 3.0.3, Schema Object)
                schema = target(self.root, one["schema"])
                one["schema"] = {name: value for name, value in schema.items() if name != "readOnly"}
            if one.get("style") == "deepObject":
                deep[one["name"]] = one["schema"]
                one["content"] = {"application/json": {"schema": one.pop("schema")}}
                del one["style"]
                one.pop("explode", None)
        operation["parameters"] = given
        body = target(self.root, operation.get("requestBody"))
        form = None
        if body and FORM in body.get("content", {}) and "application/json" not in body["content"]:
            form = body["content"][FORM].get("schema", {})
            operation["requestBody"] = {**body, "content": {"application/json": {"schema": form}}}
        self._deep[method, path] = (deep, form)

    def check(self, asked: Asked) -> str | None:
        """What is wrong with a request; None if nothing is."""
        path = next((path for pattern, path in self._patterns if pattern.fullmatch(asked.path)), None)
        deep, form = self._deep.get((asked.method, path or ""), ({}, None))
        try:
            if deep:
                self._decode_query(asked, deep)
            if form is not None and asked.body is not None:
                if not asked.content_type.startswith(FORM):
                    return f"the body is {asked.content_type}, no form"
                found = cast(self.root, form, nested(parse_qsl(asked.body.decode(), keep_blank_values=True)))
                asked.body, asked.content_type = json.dumps(found).encode(), "application/json"
            elif form is not None:
                asked.content_type = "application/json"
            self._api.validate_request(asked)  # type: ignore[arg-type,unused-ignore]
        except (OpenAPIError, ValueError, TypeError, KeyError) as error:
            causes = getattr(error.__cause__, "schema_errors", None) or [error.__cause__]
            return f"{error!r}: {'; '.join(str(one)[:300] for one in list(causes)[:3])}"
        return None

    def _decode_query(self, asked: Asked, deep: Json) -> None:
        own = [pair for pair in asked.pairs if pair[0].partition("[")[0] in deep]
        others = [pair for pair in asked.pairs if pair not in own]
        found = nested(own)
        coded = [(name, json.dumps(cast(self.root, deep[name], one))) for name, one in found.items()]
        asked.parameters = RequestParameters(query=ImmutableMultiDict([*others, *coded]), header=asked.headers)


class Handler(BaseHTTPRequestHandler):
    """Answers one connection."""

    protocol_version = "HTTP/1.1"
    checked: Checked

    def answer(self) -> None:
        """Reads, checks and answers a request."""
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        asked = Asked(self, body)
        problem = self.checked.check(asked)
        told = {"method": self.command, "path": self.path[:300], "problem": problem, "body": body.decode()[:500]}
        print(json.dumps(told), flush=True)
        content = json.dumps({"problem": problem}).encode()
        self.send_response(200 if problem is None else 422)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    do_GET = do_PUT = do_POST = do_DELETE = do_OPTIONS = do_HEAD = do_PATCH = answer

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing of its own."""


def main() -> None:
    """Serves until it is ended."""
    with open(sys.argv[1], encoding="utf-8") as file:
        Handler.checked = Checked(json.load(file))
    server = HTTPServer(("127.0.0.1", 0), Handler)
    print(server.server_port, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
