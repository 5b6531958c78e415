"""Declares a route once: path, permission, body, answer and error codes.

Before the handler runs, the caller is authenticated, permission and rate are checked, the body is read within its limit
and decoded exactly, and a repeated Idempotency-Key is answered. Afterwards the result is put into the envelope.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from dataclasses import field
from typing import Annotated, Any, TypeVar, cast, get_type_hints

import fastapi.utils
from fastapi import APIRouter, Depends, Request
from fastapi._compat import ModelField
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from pydantic import TypeAdapter, ValidationError
from starlette.responses import JSONResponse, Response
from starlette.routing import Match
from starlette.routing import Route as StarletteRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from dustrun.api import idempotency
from dustrun.api.auth import PUBLIC, admit
from dustrun.api.envelope import Answered, Reading, Unread, request_id, success_body
from dustrun.api.limits import read_json
from dustrun.api.openapi import envelope_of, responses_of
from dustrun.api.parts import Parts, parts_of
from dustrun.api.shapes.findings import with_warnings
from dustrun.core.validate import suggest
from dustrun.core.validate.ignored import ignored_fields
from dustrun.core.values.fields import Fields
from dustrun.core.values.weight import is_large
from dustrun.errors import Code, DustrunError, Invalid, Problem
from dustrun.records import dataclass
from dustrun.sdk.threads import run_beside, run_sized
from dustrun.services.access.idempotency import Answer, Duplicate, Pending, current, once
from dustrun.services.access.principal import Principal
from dustrun.services.problems import errors_in, problems_of

# FastAPI asks of each annotation whether it is one of pydantic 1's, and loads all of that to know: 1.5 MiB. None is.
fastapi.utils.annotation_is_pydantic_v1 = lambda annotation: False  # type: ignore[attr-defined]
Handler = TypeVar("Handler", bound=Callable[..., Awaitable[Any]])
Shape = Callable[[Any], Any]
# The caller behind a signed link in the request, or None when it bears none; raises `Unauthenticated` for a bad one.
AdmitByLink = Callable[[Request], Principal | None]
_CALL = "dustrun.call"
_METHODS_WITH_BODY = frozenset({"POST", "PUT", "PATCH", "DELETE"})
_MOST_NAMED = 20
_NOBODY = Principal(key_id="", org_id="", permissions=frozenset())


@dataclass(slots=True)
class Calling:
    """One request, as its handler sees it."""

    parts: Parts
    principal: Principal
    request_id: str
    headers: Sequence[tuple[bytes, bytes]] = ()
    pending: Pending | None = None
    ignored: list[Problem] = field(default_factory=list)
    """Fields of the request that mean nothing here; the answer names them."""

    def answer_around(self, wrap: Callable[[Any], Any]) -> None:
        """For a handler whose answer is more than the result of its write: the answer stored for replay is shaped from
        `wrap(result)`."""
        if self.pending is not None and self.pending.answer is not None:
            shape = self.pending.answer
            self.pending.answer = lambda result: shape(wrap(result))


async def _calling(request: Request) -> Calling:
    return cast(Calling, request.scope[_CALL])


Call = Annotated[Calling, Depends(_calling)]


class _ReadRequest(Request):
    """A request whose body was read and decoded before FastAPI uses it."""

    def __init__(self, request: Request, body: bytes, document: Any) -> None:
        super().__init__(request.scope, request.receive)
        self._read = body
        self._document = document

    async def body(self) -> bytes:
        """The bytes of the body."""
        return self._read

    async def json(self) -> Any:
        """The document, decoded without floats."""
        return self._document


@dataclass(frozen=True, slots=True)
class _Admission:
    """Who may call a route, and whether its body is secret."""

    permission: str = PUBLIC
    or_else: str | None = None
    by_link: AdmitByLink | None = None
    secret_body: bool = False


class Route(StarletteRoute):
    """A route that knows its permission. FastAPI reads its handler's signature at the first request: to read all of
    them takes a seventh of a start and 5 MiB, and most servers are never asked for most routes."""

    # The same route with all that only the OpenAPI document needs: the models of its answers, examples, refusals.
    documented: Callable[[], APIRoute]

    def __init__(self, path: str, endpoint: Callable[..., Any], method: str, admission: _Admission) -> None:
        super().__init__(path, endpoint, methods=[method])
        self.methods = {method}  # Starlette would add HEAD
        self._admission = admission
        self.permission, self.or_else = admission.permission, admission.or_else

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """As FastAPI's: what comes after it finds the route in the scope."""
        match, found = super().matches(scope)
        if match is not Match.NONE:
            found["route"] = self
        return match, found

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        await self.framed.handle(scope, receive, send)

    @property
    def body_field(self) -> ModelField | None:
        """The body, as FastAPI knows it."""
        return self.framed.body_field

    @functools.cached_property
    def framed(self) -> _Framed:
        """The route as FastAPI knows it."""
        _build_bodies(self.endpoint)
        framed = _Framed(self.path, self.endpoint, methods=[*(self.methods or ())], response_model=None)
        framed.admission = self._admission
        return framed


class _Framed(APIRoute):
    """FastAPI's route of ours."""

    admission: _Admission

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """FastAPI's handler, with ours around it."""
        inner = super().get_route_handler()

        async def handle(request: Request) -> Response:
            parts = parts_of(request.scope)
            principal, may = _NOBODY, self.admission
            if may.permission != PUBLIC:
                by_link = may.by_link(request) if may.by_link is not None else None
                principal = by_link or await admit(parts, request.scope, may.permission, or_else=may.or_else)
            self._check_query(request)
            body, document = b"", None
            if request.method in _METHODS_WITH_BODY:
                body, document = await read_json(request.scope, request.receive, parts.settings.max_body_bytes)
                document = await self._validated(body, document)
            call = Calling(parts, principal, request_id(request.scope), request.scope["headers"])
            if request.method == "POST" and may.permission != PUBLIC:
                call.pending = idempotency.pending(parts, request.scope, principal, body, secret=may.secret_body)
            request.scope[_CALL] = call
            return await _answer_once(call, functools.partial(inner, _ReadRequest(request, body, document)))

        return handle

    async def _validated(self, body: bytes, document: Any) -> Any:
        """A large body as its model, validated in a thread; FastAPI takes the model as it is. It validates a small one
        itself."""
        if self._model is None or not is_large(body):
            return document
        return await run_beside(self._validate, document)

    def _validate(self, document: Any) -> Any:
        try:
            return self._body.validate_python(document, from_attributes=True)
        except ValidationError as error:
            found = errors_in(error, document, self._body.validate_python)
            raise Invalid("The request body is not valid.", details=problems_of(found, model=self._model)) from None

    @functools.cached_property
    def _model(self) -> Any:
        """The model of the body; None without one."""
        return None if self.body_field is None else self.body_field.field_info.annotation

    @functools.cached_property
    def _body(self) -> TypeAdapter[Any]:
        return TypeAdapter(self._model)

    @functools.cached_property
    def _known_query(self) -> list[str]:
        return list(_query_of(self.dependant))

    def _check_query(self, request: Request) -> None:
        """Rejects unknown query parameters, since a misspelt filter would not filter. Signed links are exempt: mail
        programs may add parameters."""
        if not request.scope["query_string"] or self.admission.by_link is not None or not self.path.startswith("/v1/"):
            return
        unknown = [name for name in request.query_params if name not in self._known_query]
        if unknown:
            problems = [
                Problem(name[:80], f"There is no such parameter.{_meant(name, self._known_query)}")
                for name in unknown[:_MOST_NAMED]  # to look for a similar name takes its time
            ]
            raise Invalid("A parameter is not valid.", code=Code.PARAMETER_INVALID, details=problems)


def _query_of(dependant: Dependant) -> Iterator[str]:
    yield from (field.alias for field in dependant.query_params)
    for one in dependant.dependencies:
        yield from _query_of(one)


def _meant(name: str, known: Sequence[str]) -> str:
    return suggest(name[:80], known) or (
        f" Known parameters: {', '.join(known)}." if known else " This route has no parameters."
    )


async def _answer_once(call: Calling, answer: Callable[[], Awaitable[Response]]) -> Response:
    pending = call.pending
    if pending is None:
        return await answer()
    replayed = await idempotency.find(call.parts, pending)
    if replayed is not None:
        return replayed
    token = current.set(pending)
    try:
        response = await answer()
        if pending.recorded is None and response.status_code < 300:
            await _record_alone(call, pending, response)
        return response
    except Duplicate:
        return await idempotency.replay(call.parts, pending)
    except DustrunError:
        # refused perhaps only because the first request with this key has just done it
        replayed = await idempotency.find(call.parts, pending)
        if replayed is None:
            raise
        return replayed
    finally:
        current.reset(token)


async def _record_alone(call: Calling, pending: Pending, response: Response) -> None:
    """For a call that wrote nothing: stores its answer for replay as well."""
    pending.answer = lambda _: Answer(status=response.status_code, body=bytes(response.body))
    await call.parts.writer.write(once(lambda _: None, pending))


def _build_bodies(handler: Callable[..., Any]) -> None:
    """Builds body models before FastAPI makes their adapters; only then does it suppress pydantic's warning about
    aliases. All other models are built at first use."""
    for annotation in get_type_hints(handler).values():
        if isinstance(annotation, type) and issubclass(annotation, Fields):
            annotation.model_config["defer_build"] = False


def _as_it_is(result: Any) -> Any:
    return result


@dataclass(frozen=True, slots=True)
class _Answering:
    """How a route's result becomes its answer."""

    shape: Shape
    secret: bool
    reading: Reading | None


def _shaped(result: Any, call: Calling, how: _Answering, body: Any) -> Answer:
    data = how.shape(result)
    if how.reading is not None:
        data = how.reading.shown(data, call.principal, body)
    data = with_warnings(data, call.ignored)
    found = data.get("id") if isinstance(data, dict) else None
    return Answer(
        status=200,
        body=success_body(data, call.request_id),
        resource_id=found if isinstance(found, str) else None,
        secret=how.secret,
    )


def _enveloping(handler: Callable[..., Awaitable[Any]], how: _Answering) -> Callable[..., Any]:
    """Wraps the handler: puts its result into the envelope, or sends the answer that its transaction stored."""

    @functools.wraps(handler)
    async def endpoint(*args: Any, **values: Any) -> Response:
        call: Calling = values["call"]
        body = values.get("body")
        call.ignored += ignored_fields(body)
        if call.pending is not None:
            call.pending.answer = functools.partial(_shaped, call=call, how=how, body=body)
        result = await handler(*args, **values)
        if isinstance(result, Response):
            return result
        stored = call.pending.recorded if call.pending is not None else None
        if stored is not None:
            return Answered(stored.body, stored.status)
        answer = await run_sized(result, _shaped, result, call, how, body)
        return Answered(answer.body, answer.status)

    return endpoint


class _Bare:
    """An ASGI function that Starlette calls directly, without a `Request`."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)


class BareRoute(StarletteRoute):
    """A route that bypasses FastAPI; its endpoint calls `auth.admit` itself."""

    def __init__(self, path: str, app: ASGIApp, methods: Sequence[str], permission: str, or_else: str | None) -> None:
        super().__init__(path, _Bare(app), methods=methods)
        self.permission = permission
        self.or_else = or_else
        self.handler = app


class RawRoute(BareRoute):
    """A bare route for speed; its endpoint reads the body by `limits.read_json`."""

    def __init__(
        self,
        path: str,
        app: ASGIApp,
        *,
        method: str = "GET",
        permission: str,
        or_else: str | None = None,
        also: Sequence[str] = (),
    ) -> None:
        """`or_else`: a permission that is enough for some requests; `also`: further methods that the document does not
        list."""
        super().__init__(path, app, [method, *also], permission, or_else)
        self.method = method


class ForeignRoute(BareRoute):
    """A bare route of another protocol, which describes itself: the OpenAPI document leaves it out."""

    def __init__(self, path: str, app: ASGIApp, *, method: str = "GET", permission: str) -> None:
        super().__init__(path, app, [method], permission, None)


class Routes:
    """The routes of one file. The server collects `router`."""

    def __init__(self, tag: str) -> None:
        self.router = APIRouter()
        self._tag = tag

    def _add(
        self,
        method: str,
        path: str,
        *,
        permission: str,
        or_else: str | None = None,
        answers: Any,
        shape: Shape = _as_it_is,
        refusals: Sequence[Code] = (),
        secret: bool = False,
        secret_body: bool = False,
        raw: type[JSONResponse] | None = None,
        admit_by_link: AdmitByLink | None = None,
        accepted: str | None = None,
        unchanged: str | None = None,
        reads: str | None = None,
        needed: Sequence[str] = (),
    ) -> Callable[[Handler], Handler]:
        reading = None if reads is None else Reading(reads, frozenset(needed))

        def declare(handler: Handler) -> Handler:
            endpoint = _enveloping(handler, _Answering(shape, secret, reading))
            known = [*refusals, Code.IDEMPOTENCY_NOT_STORED] if secret else refusals

            def document() -> APIRoute:
                _build_bodies(handler)
                text = (inspect.getdoc(handler) or "").split("\n\n", 1)
                responses = responses_of(method, permission, known)
                extra = {"x-permission": permission}
                shown = answers
                if reading is not None:
                    extra["x-read-permission"] = reading.permission
                    shown = answers | Unread
                    responses[200]["description"] = f"Success; `Unread` for a key without `{reading.permission}`."
                if accepted is not None:
                    responses[202] = {**responses[200], "description": accepted, "model": envelope_of(answers)}
                if unchanged is not None:
                    responses[304] = {"description": unchanged}
                return APIRoute(
                    path,
                    endpoint,
                    methods=[method],
                    tags=[self._tag],
                    summary=text[0].replace("\n", " "),
                    description=text[-1],
                    operation_id=handler.__name__,
                    response_model=answers if raw else envelope_of(shown),
                    response_class=raw or JSONResponse,
                    responses=cast(dict[int | str, dict[str, Any]], responses),
                    openapi_extra=extra,
                )

            route = Route(path, endpoint, method, _Admission(permission, or_else, admit_by_link, secret_body))
            route.documented = document
            self.router.routes.append(route)
            return handler

        return declare

    def get(self, path: str, **options: Any) -> Callable[[Handler], Handler]:
        """Declares a GET route; see `_add` for the options."""
        return self._add("GET", path, **options)

    def post(self, path: str, **options: Any) -> Callable[[Handler], Handler]:
        """Declares a POST route. With `secret`, its answer is never stored for replay; with `secret_body`, the stored
        hash of the request does not allow guessing the body. `accepted` says when it answers 202 instead of 200;
        `or_else` is a lesser permission that is enough for some requests, as its service decides. `reads`: the
        permission to read what it answers with; a key without it gets a part (`Reading`), with the fields `needed`."""
        return self._add("POST", path, **options)

    def put(self, path: str, **options: Any) -> Callable[[Handler], Handler]:
        """Declares a PUT route."""
        return self._add("PUT", path, **options)

    def patch(self, path: str, **options: Any) -> Callable[[Handler], Handler]:
        """Declares a PATCH route."""
        return self._add("PATCH", path, **options)

    def delete(self, path: str, **options: Any) -> Callable[[Handler], Handler]:
        """Declares a DELETE route."""
        return self._add("DELETE", path, **options)
