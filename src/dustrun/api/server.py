"""The ASGI application: collects the routes, and wraps them.

The wrapper adds the request id and the parts, translates exceptions into our envelope, and writes the access log.
"""

from __future__ import annotations

import asyncio
import functools
import importlib
import inspect
import pkgutil
import re
import time
from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.responses import Response
from starlette.routing import BaseRoute, Match, Route
from starlette.types import ASGIApp, Lifespan, Message, Receive, Scope, Send

from dustrun import ids, log, metrics, operations
from dustrun.api import docs, openapi, routes
from dustrun.api.auth import principal_of
from dustrun.api.envelope import (
    PRIVATE,
    answered_whole,
    encode,
    failure,
    forbid_whole_answer,
    omitting,
    put_request_id,
    read_numbers,
    request_id,
    success,
)
from dustrun.api.errors import as_failure
from dustrun.api.pages import Pages
from dustrun.api.routing import BareRoute, OperationRoute, Paths, RawRoute
from dustrun.errors import Code, DustrunError, Invalid
from dustrun.operations.declaration.parts import Parts, put_parts
from dustrun.services.search import Hit

_logger = log.get("dustrun.access")
_REQUESTS = metrics.counter("dustrun_http_requests", "Answered requests.", "method", "route", "status")
_SECONDS = metrics.histogram("dustrun_http_request_seconds", "Time to answer, without streams.", "method", "route")
_ROUTE = "dustrun.route"
_METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"})
_ALWAYS = ("/healthz", "/readyz", "/metrics")
"""Paths that every process answers, whatever its roles."""
_REQUEST_ID = re.compile(rb"^[A-Za-z0-9_-]{1,128}$")
_SECRET_PATH = re.compile(r"^(/v1/webhooks/|/v1/forms/|/forms/)[^/]+")


@functools.cache
def discover() -> tuple[Sequence[OperationRoute], Sequence[BareRoute]]:
    """The routes of all declared operations, and the bare ones of `api/routes`, in the order of their files. They know
    nothing of a server, so that all servers of a process have the same."""
    declared: list[OperationRoute] = []
    bare: list[BareRoute] = []
    for _, module in _modules():
        if hasattr(module, "noun"):
            declared.extend(map(OperationRoute, module.noun.operations))
        bare.extend(getattr(module, "raw_routes", ()))
    return declared, bare


@functools.cache
def _modules() -> list[tuple[str, Any]]:
    """Every file of `operations` and of `api/routes`, by its name."""
    found = [
        (one.name, importlib.import_module(f"{room.__name__}.{one.name}"))
        for room in (operations, routes)
        for one in pkgutil.iter_modules(room.__path__)
        if not one.ispkg
    ]
    return sorted(found, key=lambda one: one[0])


@functools.cache
def _paths() -> Paths:
    declared, bare = discover()
    return Paths([*bare, *declared])


@functools.cache
def documented() -> list[Hit]:
    """Every operation of the document, as a search finds it."""
    declared, bare = discover()
    found: list[tuple[str, str, str, str, str | None]] = [
        (one.path, one.method, one.name, one.text[0], one.tag) for one in (route.operation for route in declared)
    ]
    for route in bare:
        if isinstance(route, RawRoute):
            told = (inspect.getdoc(route.handler) or "").partition("\n\n")[0].replace("\n", " ")
            found.append((route.path, route.method, route.handler.__name__, told, None))
    return [
        Hit(type="doc", id=name, name=told, description=f"{method} {path}", category=tag)
        for path, method, name, told, tag in found
    ]


@functools.cache
def read_aliases() -> list[tuple[re.Pattern[str], str]]:
    """The other paths that some of these files name for theirs."""
    return [(re.compile(pattern), path) for _, module in _modules() for pattern, path in getattr(module, "aliases", ())]


def create_app(parts: Parts, lifespan: Lifespan[FastAPI] | None = None, pages: Pages | None = None) -> Front:
    """Creates the API from its parts, and serves the web app beside it."""
    pages = pages or Pages()
    declared, bare = discover()
    app = FastAPI(
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        lifespan=lifespan,
        middleware=[Middleware(_Translating)],
    )
    app.state.pages = pages
    for kind in (DustrunError, HTTPException):
        app.add_exception_handler(kind, _answer_failure)
    # once more, so that FastAPI answers their wrong methods with 405
    app.router.routes.extend([*bare, *declared, *_document_routes(app), *_page_routes(pages)])
    return Front(app, _paths(), parts)


async def _answer_failure(request: Request, error: Exception) -> Response:
    if isinstance(error, HTTPException) and error.status_code in (404, 405):
        pages: Pages = request.app.state.pages
        if error.status_code == 404 and pages.is_page(request.method, request.scope["path"], request.headers):
            return pages.page()
        return _misrouted(request, error.status_code)
    return _failure_of(error, request.scope)


def _misrouted(request: Request, status: int) -> Response:
    """Answers an unknown path or method, and names what exists."""
    asked = f"{request.method} {request.scope['path']}"[:200]
    if status == 404:
        message = f"There is no route {asked}; see GET /openapi.json or /docs for all routes."
        return _failure_of(DustrunError(message, code=Code.ROUTE_UNKNOWN), request.scope)
    methods: set[str] = set()
    for route in request.app.router.routes:
        if route.matches(request.scope)[0] is not Match.NONE:
            methods |= route.methods or set()
    allowed = ", ".join(sorted(methods))
    error = DustrunError(f"There is no {asked}; this route accepts {allowed}.", code=Code.METHOD_NOT_ALLOWED)
    return failure(error, request_id(request.scope), {"Allow": allowed})


def _failure_of(error: Exception, scope: Scope) -> Response:
    headers = dict(getattr(error, "headers", None) or {})
    return failure(as_failure(error, request_id(scope)), request_id(scope), headers)


def _document_routes(app: FastAPI) -> list[BaseRoute]:
    built: dict[str, Any] = {}
    building = asyncio.Lock()

    async def document(_request: Request) -> Response:
        async with building:
            if not built:
                built.update(await asyncio.to_thread(openapi.document.build, app))  # half a second of work
        return openapi.as_response(built)

    async def page(_request: Request) -> Response:
        return docs.page()

    async def asset(request: Request) -> Response:
        return docs.asset(request.path_params["name"])

    return [Route("/openapi.json", document), Route("/docs", page), Route("/docs/{name}", asset)]


def _page_routes(pages: Pages) -> list[BaseRoute]:
    async def index(request: Request) -> Response:
        if pages.is_page(request.method, "/", request.headers):
            return pages.page()
        if "text/html" in request.headers.get("accept", ""):
            return HTMLResponse(docs.INDEX)
        return success(docs.PLACES, request_id(request.scope))

    async def asset(request: Request) -> Response:
        return await pages.asset(request.path_params["name"], request.headers)

    return [Route("/", index), Route("/assets/{name}", asset)]


class _Translating:
    """Answers an exception of a route with an error, unless the answer has already started."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = False

        async def note(message: Message) -> None:
            nonlocal begun
            begun = begun or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, note)
        except Exception as error:
            response = _failure_of(error, scope)
            if not begun:
                await response(scope, receive, send)


class Front:
    """The outermost ASGI layer of every request."""

    def __init__(self, app: FastAPI, paths: Paths, parts: Parts) -> None:
        self.app = app
        self._paths = paths
        self._aliases = read_aliases()
        self.parts = parts

    @property
    def routes(self) -> list[BaseRoute]:
        """All routes, each with its `permission`."""
        return list(self.app.router.routes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        put_parts(scope, self.parts)
        found = _request_id_of(scope)
        put_request_id(scope, found)
        header = (b"x-request-id", found.encode())
        started = time.perf_counter()
        status = 0
        log.bind(request_id=found)

        async def stamp(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                given = message["headers"]
                named = {name for name, _ in given}
                message["headers"] = [*given, *(one for one in (header, *PRIVATE) if one[0] not in named)]
            await send(message)

        try:
            read_numbers(scope)
            sent = omitting(scope, stamp, encode)
            if sent is not stamp:
                forbid_whole_answer(scope)
            await self._dispatch(scope, receive, sent)
        except Exception as error:
            response = _failure_of(error, scope)  # logs a defect even if it is too late to say so
            if not status:
                await response(scope, receive, stamp)
        finally:
            status = answered_whole(scope) or status
            forbid_whole_answer(scope)  # it refers to what holds the scope: a reference cycle
            self._note(scope, found, status, time.perf_counter() - started)

    def _note(self, scope: Scope, request_id: str, status: int, seconds: float) -> None:
        """Counts a request, records it for its key, and logs it."""
        route = str(scope.get(_ROUTE) or getattr(scope.get("route"), "path", ""))
        method = scope["method"] if scope["method"] in _METHODS else "other"
        _REQUESTS.add(method, route, str(status))
        if not route.endswith("/stream"):
            _SECONDS.observe(seconds, method, route)
        principal = principal_of(scope)
        if principal is not None:
            self.parts.access.usage.note(principal, method, route, status, request_id)
        _log_access(scope, status, seconds)

    async def _dispatch(self, scope: Scope, receive: Receive, send: Send) -> None:
        if "\x00" in scope["path"] or b"%00" in scope.get("query_string", b""):
            raise Invalid("The URL contains a NUL character.", code=Code.PARAMETER_INVALID)
        if "api" not in self.parts.settings.roles and scope["path"] not in _ALWAYS:
            roles = ", ".join(self.parts.settings.roles)
            message = f"This process answers no calls, only {', '.join(_ALWAYS)}; its roles are: {roles}."
            raise DustrunError(message, code=Code.ROUTE_UNKNOWN)
        for pattern, path in self._aliases:
            if (meant := pattern.fullmatch(scope["path"])) is not None:
                scope["path"] = meant.expand(path)
                break
        found = self._paths.find(scope["method"], scope["path"])
        if found is None:
            await self.app(scope, receive, send)
            return
        route, scope["path_params"] = found
        scope[_ROUTE] = route.path
        await route.handler(scope, receive, send)


def _request_id_of(scope: Scope) -> str:
    """The caller's request id if it is well-formed, otherwise a new one."""
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _REQUEST_ID.fullmatch(value):
            kept: str = value.decode("ascii")
            return kept
    return ids.new_id("req")


def _log_access(scope: Scope, status: int, seconds: float) -> None:
    if not _logger.is_enabled_for(log.INFO):  # a disabled line must cost nothing
        return
    query = scope.get("query_string", b"").decode("latin-1")
    path = _SECRET_PATH.sub(r"\1***", scope["path"])
    principal = principal_of(scope)
    _logger.info(
        "request",
        method=scope["method"],
        path=f"{path}?{query}" if query else path,
        status=status,
        ms=round(seconds * 1000, 2),
        request_id=request_id(scope),
        key_id=principal.key_id if principal else None,
        org_id=principal.org_id if principal else None,
    )
