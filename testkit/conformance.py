"""Every answer that a test gets, held against the OpenAPI document: the status is listed, the body has its schema."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import jsonschema_rs

from dustrun.errors import Code

_NOT_OF_AN_OPERATION = {Code.ROUTE_UNKNOWN, Code.METHOD_NOT_ALLOWED}
_DOCUMENT = "urn:openapi"
LISTENERS: list[Callable[[str, dict[str, Any]], None]] = []
"""Called with the operation's id and the body of every successful answer that was checked."""


class DocumentedSchemas:
    """Validators of a document's schemas, which refer to its `components`."""

    def __init__(self, document: dict[str, Any]) -> None:
        self._registry = jsonschema_rs.Registry([(_DOCUMENT, {"components": document["components"]})])

    def validator(self, schema: dict[str, Any]) -> jsonschema_rs.Validator:
        """A validator of one schema of the document."""
        absolute = json.loads(json.dumps(schema).replace('"#/components/', f'"{_DOCUMENT}#/components/'))
        return jsonschema_rs.Draft202012Validator(absolute, registry=self._registry)


class Conformance:
    """The operations of one document, by path pattern."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.document = document
        # the most literal path first, as the router has them
        paths = sorted(document["paths"], key=lambda path: (path.count("{"), path))
        self._patterns = [(re.compile(re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(path)) + "$"), path) for path in paths]
        self._validators: dict[tuple[str, str, str], jsonschema_rs.Validator] = {}
        self._schemas = DocumentedSchemas(document)

    def check(self, method: str, path: str, status: int, body: dict[str, Any]) -> None:
        """Asserts that the operation documents this answer."""
        if body.get("code") in _NOT_OF_AN_OPERATION:
            return
        found = next((known for pattern, known in self._patterns if pattern.match(path)), None)
        assert found is not None, f"{path} is not documented"
        operation = self.document["paths"][found][method.lower()]
        assert str(status) in operation["responses"], f"{method} {found} does not document {status}: {body}"
        response = documented_answer(self.document, operation, status)
        if status >= 400:
            assert str(body["code"]) in response["description"], f"{method} {found} does not document {body['code']}"
        key = (found, method, str(status))
        if key not in self._validators:
            content = response["content"]["application/json"]["schema"]
            self._validators[key] = self._schemas.validator(content)
        self._validators[key].validate(body)
        for listener in LISTENERS if status == 200 else ():
            listener(operation["operationId"], body)


def documented_answer(document: dict[str, Any], operation: dict[str, Any], status: int) -> dict[str, Any]:
    """What the document says of an answer; errors are references to `components`."""
    found: dict[str, Any] = operation["responses"][str(status)]
    name = found.get("$ref", "").removeprefix("#/components/responses/")
    return document["components"]["responses"][name] if name else found
