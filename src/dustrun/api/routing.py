"""Routes: those of declared operations, and bare ones; and how the one of a request is found."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from starlette.routing import Route as StarletteRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from dustrun.api.endpoint import Endpoint
from dustrun.operations.declaration.operation import Operation


class _Bare:
    """An ASGI function that Starlette calls directly, without a `Request`."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)


class BareRoute(StarletteRoute):
    """A route that knows its permission; its endpoint calls `auth.admit` itself."""

    def __init__(self, path: str, app: ASGIApp, methods: Sequence[str], permission: str, or_else: str | None) -> None:
        super().__init__(path, _Bare(app), methods=methods)
        self.permission = permission
        self.or_else = or_else
        self.handler = app


class RawRoute(BareRoute):
    """A route by hand, for speed; its endpoint reads the body by `limits.read_json`."""

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


class OperationRoute(BareRoute):
    """The route of a declared operation."""

    def __init__(self, operation: Operation) -> None:
        answer = Endpoint(operation)
        super().__init__(operation.path, answer, [operation.method], operation.permission, operation.or_else)
        self.methods = {operation.method}  # Starlette would add HEAD
        self.operation = operation


class _Branch:
    """The continuations of one part of a path: fixed parts, a parameter, or the end of it, by method."""

    __slots__ = ("ends", "fixed", "parameter")

    def __init__(self) -> None:
        self.fixed: dict[str, _Branch] = {}
        self.parameter: _Branch | None = None
        self.ends: dict[str, tuple[BareRoute, list[str]]] = {}

    def after(self, part: str) -> _Branch:
        """The branch after a part of a route's path."""
        if not part.startswith("{"):
            return self.fixed.setdefault(part, _Branch())
        self.parameter = self.parameter or _Branch()
        return self.parameter

    def find(self, parts: Sequence[str], at: int, method: str, values: list[str]) -> tuple[BareRoute, list[str]] | None:
        """The route of the parts from `at` on; the values of its parameters are added, the last one first."""
        if at == len(parts):
            return self.ends.get(method)
        part, at = parts[at], at + 1
        if (branch := self.fixed.get(part)) is not None and (found := branch.find(parts, at, method, values)):
            return found
        if not part or self.parameter is None or (found := self.parameter.find(parts, at, method, values)) is None:
            return None
        values.append(part)
        return found


class Paths:
    """Routes by path, as a tree: their number does not matter to a request."""

    def __init__(self, routes: Iterable[BareRoute]) -> None:
        self._root = _Branch()
        for route in routes:
            parts = route.path.split("/")[1:]
            branch = self._root
            for part in parts:
                branch = branch.after(part)
            names = [part[1:-1] for part in reversed(parts) if part.startswith("{")]
            for method in route.methods or ():
                branch.ends.setdefault(method, (route, names))

    def find(self, method: str, path: str) -> tuple[BareRoute, dict[str, str]] | None:
        """The route, with the parameters of the path. A fixed part of a path goes before a parameter."""
        values: list[str] = []
        found = self._root.find(path.split("/"), 1, method, values)
        return None if found is None else (found[0], dict(zip(found[1], values, strict=True)))
