"""The OpenAPI 3.1 document: FastAPI's, plus our envelopes, error codes, security scheme and bare routes."""

from __future__ import annotations

import copy
import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Generic, Protocol, TypeVar, cast

from fastapi import FastAPI, Path, Query
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict, Field
from pydantic.fields import FieldInfo
from starlette.responses import JSONResponse, Response

import dustrun
from dustrun.api.description.about import INFO, SERVERS, TAGS
from dustrun.api.description.answer_examples import examples
from dustrun.api.description.generators import adapt
from dustrun.api.description.sharing import share
from dustrun.api.envelope import Unread
from dustrun.core.values import exact_json
from dustrun.errors import Code
from dustrun.operations.declaration.answers import Answer
from dustrun.operations.declaration.operation import PUBLIC, Operation, Parameter

T = TypeVar("T")
_ALWAYS = (Code.PARAMETER_INVALID, Code.REQUEST_UNREADABLE, Code.INTERNAL, Code.UNAVAILABLE)
_WITH_KEY = (Code.KEY_INVALID, Code.RATE_LIMITED)
_WITH_BODY = (Code.BODY_INVALID, Code.BODY_TOO_LARGE, Code.CONTENT_TYPE_UNSUPPORTED)
_WRITTEN = (Code.OUTCOME_UNKNOWN,)
_REQUEST_ID = {"X-Request-ID": {"description": "The same as `requestId`.", "schema": {"type": "string"}}}
_RETRY_AFTER = {
    "Retry-After": {
        "description": "Seconds to wait before the next request.",
        "schema": {"type": "integer", "minimum": 1},
    }
}
_IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": (
        "The same key and body within 24 hours return the first answer again. A different body, or an API key "
        "with other rights, is answered 409."
    ),
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
}


class Envelope(BaseModel, Generic[T]):
    """The envelope of a successful answer."""

    model_config = ConfigDict(defer_build=True)

    code: int = Field(description="200", examples=[200])
    message: str = Field(description="`success`", examples=["success"])
    data: T
    request_id: str = Field(alias="requestId", description="Also in the header `X-Request-ID`.", examples=["req_01"])


class Detail(BaseModel):
    """One problem of one field."""

    model_config = ConfigDict(extra="allow", defer_build=True)

    field: str = Field(description="Path of the field, like `definition.nodes.a.children[0]`.")
    message: str = Field(description="What is wrong with it.")


class Failure(BaseModel):
    """The envelope of an error."""

    model_config = ConfigDict(defer_build=True)

    code: int = Field(description="The HTTP status followed by a three-digit serial.", examples=[400001])
    message: str = Field(description="What went wrong.")
    details: list[Detail] = Field(description="Problems by field.")
    request_id: str = Field(alias="requestId", description="Also in the header `X-Request-ID`.", examples=["req_01"])


def envelope_of(answers: Any) -> Any:
    """The envelope around a model."""
    return Envelope.__class_getitem__(answers)


def codes_of(method: str, permission: str, refusals: Sequence[Code]) -> list[Code]:
    """Every error code of a route."""
    found = {*refusals, *_ALWAYS}
    if permission != PUBLIC:
        found |= {*_WITH_KEY, Code.PERMISSION_MISSING, Code.CROSS_SITE}
    if method in ("POST", "PUT", "PATCH"):
        found |= set(_WITH_BODY)
    if method != "GET":
        found |= set(_WRITTEN)
    if method != "GET" and permission != PUBLIC:
        found.add(Code.CSRF_TOKEN_MISSING)
    if method == "POST" and permission != PUBLIC:
        found.add(Code.IDEMPOTENCY_KEY_REUSED)
    return sorted(found)


def enveloped(model: type[BaseModel | Answer]) -> dict[str, Any]:
    """The `content` of a bare route's success envelope around a model; some other route must answer with it too."""
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/Envelope_{model.__name__}_"}}}


def responses_of(method: str, permission: str, refusals: Sequence[Code]) -> dict[int, Any]:
    """The `responses` of an operation: one entry per status, naming its codes."""
    responses: dict[int, Any] = {200: {"description": "Success.", "headers": _REQUEST_ID}}
    by_status: dict[int, list[Code]] = {}
    for code in codes_of(method, permission, refusals):
        by_status.setdefault(code.status, []).append(code)
    for status, codes in by_status.items():
        responses[status] = _failure_response(status, codes)
    return responses


def _failure_response(status: int, codes: Sequence[Code]) -> dict[str, Any]:
    headers = {**_REQUEST_ID, **_RETRY_AFTER} if status in (429, 503) else _REQUEST_ID
    examples = {
        str(int(code)): {
            "summary": code.meaning,
            "value": {"code": int(code), "message": code.meaning, "details": [], "requestId": "req_01"},
        }
        for code in codes
    }
    return {
        "description": " ".join(f"{int(code)}: {code.meaning}" for code in codes),
        "headers": headers,
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Failure"}, "examples": examples}},
    }


def documented(operation: Operation) -> APIRoute:
    """FastAPI's route of an operation, for the document only."""
    known = [*operation.refusals, Code.IDEMPOTENCY_NOT_STORED] if operation.secret else operation.refusals
    responses = responses_of(operation.method, operation.permission, known)
    extra = {"x-permission": operation.permission}
    shown, answers = operation.answers, envelope_of(operation.answers)
    if operation.reads is not None:
        extra["x-read-permission"] = operation.reads
        shown = shown | Unread
        responses[200]["description"] = f"Success; `Unread` for a key without `{operation.reads}`."
    if operation.accepted is not None:
        responses[202] = {**responses[200], "description": operation.accepted, "model": answers}
    if operation.unchanged is not None:
        responses[304] = {"description": operation.unchanged}
    summary, description = operation.text
    return APIRoute(
        operation.path,
        _endpoint_of(operation),
        methods=[operation.method],
        tags=[operation.tag],
        summary=summary,
        description=description,
        operation_id=operation.name,
        response_model=operation.answers if operation.media_type else envelope_of(shown),
        response_class=_response_class(operation.media_type),
        responses=cast(dict[int | str, dict[str, Any]], responses),
        openapi_extra=extra,
    )


def _response_class(media: str | None) -> type[JSONResponse]:
    return JSONResponse if media is None else type("Document", (JSONResponse,), {"media_type": media})


def _endpoint_of(operation: Operation) -> Callable[..., Any]:
    """A function whose signature says to FastAPI what the operation takes."""

    async def endpoint(**given: Any) -> None:
        """Never called."""

    parameters = [_parameter(one.to, _described(one), one.default) for one in operation.parameters]
    if operation.body is not None:
        if operation.body_model is not None:  # built first: then pydantic is silent about aliases
            operation.body_model.model_config["defer_build"] = False
        parameters.append(_parameter("body", operation.body, ... if operation.must_have_body else None))
    endpoint.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return endpoint


def _parameter(name: str, kind: Any, default: Any) -> inspect.Parameter:
    given = inspect.Parameter.empty if default is ... else default
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=given, annotation=kind)


def _described(parameter: Parameter) -> Any:
    kind = Path if parameter.is_in_path else Query
    marks = [one for one in getattr(parameter.kind, "__metadata__", ()) if isinstance(one, FieldInfo)]
    words = {name: getattr(mark, name) for name in ("description", "examples") for mark in marks if getattr(mark, name)}
    return Annotated[parameter.kind, kind(alias=parameter.name, **words)]


class Bare(Protocol):
    """A route that bypasses FastAPI."""

    path: str
    method: str
    permission: str
    handler: Callable[..., Any]


class Document:
    """Collects what FastAPI cannot know, and builds the complete document."""

    def __init__(self) -> None:
        self._operations: list[tuple[str, str, dict[str, Any]]] = []
        self._schemas: dict[str, Any] = {}
        self._describing: list[Callable[[], None]] = []

    def later(self, describe: Callable[[], None]) -> None:
        """Registers a function that adds to the document when it is first built, so that start-up need not wait for
        it."""
        self._describing.append(describe)

    def add(
        self,
        route: Bare,
        tag: str,
        answers: Mapping[int, Mapping[str, Any]],
        refusals: Sequence[Code] = (),
        parameters: Sequence[Any] = (),
        **more: Any,
    ) -> None:
        """Adds a bare route. Its function's name and docstring describe it; `answers` says of each success what differs
        from the usual; `more` are further fields of the operation, as OpenAPI has them."""
        told = (inspect.getdoc(route.handler) or "").split("\n\n", 1)
        responses = responses_of(route.method, route.permission, refusals)
        for status, answer in answers.items():
            responses[status] = {**responses.get(status, {}), **answer}
        operation = {
            "tags": [tag],
            "operationId": route.handler.__name__,
            "summary": told[0].replace("\n", " "),
            "description": told[-1].replace("\n", " "),
            "x-permission": route.permission,
            "parameters": [*map(_path_parameter, re.findall(r"\{(\w+)\}", route.path)), *parameters],
            "responses": {str(status): response for status, response in responses.items()},
            **more,
        }
        self._operations.append((route.path, route.method.lower(), operation))

    def add_schema(self, name: str, schema: Mapping[str, Any]) -> None:
        """Adds a schema under `#/components/schemas/<name>`."""
        self._schemas[name] = dict(schema)

    def build(self, app: FastAPI) -> dict[str, Any]:
        """Builds the complete document. Not safe for concurrent calls."""
        while self._describing:
            self._describing.pop(0)()
        declared = [route.operation for route in app.routes if hasattr(route, "operation")]
        routes = [documented(operation) for operation in declared]
        head: dict[str, Any] = {"title": "Dustrun", "version": dustrun.__version__, "servers": SERVERS, "tags": TAGS}
        document = get_openapi(**head, **INFO, routes=routes)
        for path, method, operation in self._operations:
            document["paths"].setdefault(path, {})[method] = copy.deepcopy(operation)
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        schemas.update(copy.deepcopy(self._schemas))
        schemas.update(_definitions_of(Failure))
        document["components"]["securitySchemes"] = {
            "bearer": {"type": "http", "scheme": "bearer", "description": "An API key, `sk_…`."}
        }
        answers, bodies = examples(), {one.name: one.example for one in declared}
        for operations in document["paths"].values():
            for method, operation in operations.items():
                _finish(method, operation, bodies.get(operation["operationId"]))
                _show(operation, answers)
        for unwanted in ("HTTPValidationError", "ValidationError"):
            schemas.pop(unwanted, None)
        adapt(schemas)
        share(document)
        return document


def _path_parameter(name: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}


def _definitions_of(model: type[BaseModel]) -> dict[str, Any]:
    schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
    return {**schema.pop("$defs", {}), model.__name__: schema}


def _finish(method: str, operation: dict[str, Any], example: Any) -> None:
    """Adds to an operation what all have: security, the example of its body, the replay header. Removes 422, which is
    never answered."""
    operation.get("responses", {}).pop("422", None)
    is_public = operation.get("x-permission", PUBLIC) == PUBLIC
    operation["security"] = [] if is_public else [{"bearer": []}]
    if example is not None:
        operation["requestBody"]["content"]["application/json"]["example"] = example
    if method == "post" and not is_public:
        operation.setdefault("parameters", []).append(copy.deepcopy(_IDEMPOTENCY_KEY))


def _show(operation: dict[str, Any], answers: Mapping[str, Any]) -> None:
    """Adds the example of a successful answer."""
    name = operation.get("operationId", "")
    if name in answers:
        whole = {"code": 200, "message": "success", "data": answers[name], "requestId": "req_01"}
        operation["responses"]["200"]["content"]["application/json"]["example"] = whole


document = Document()
later = document.later
add = document.add
add_schema = document.add_schema


def add_model(model: type[BaseModel]) -> None:
    """Adds a model's schema, so that a bare route can refer to it."""
    for name, schema in _definitions_of(model).items():
        add_schema(name, schema)


def add_enveloped(model: type[BaseModel | Answer]) -> None:
    """Adds a model's schema and that of its envelope, for a bare route whose answer no other route gives."""
    found = _definitions_of(envelope_of(model))
    whole = found.pop(envelope_of(model).__name__)
    for name, schema in {**found, f"Envelope_{model.__name__}_": whole}.items():
        add_schema(name, schema)


def as_response(built: Mapping[str, Any]) -> Response:
    """The document itself, without an envelope."""
    return Response(exact_json.dumps(built), media_type="application/json")
