"""The HTTP client for all requests of nodes; every hop of a redirect chain is checked, and each host gets a
limited number of requests at once."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from dustrun import clock, metrics
from dustrun.errors import DustrunError, Invalid, Permanent, Temporary
from dustrun.outbound.configured import guard_of
from dustrun.outbound.guard import is_name, parse_address, refuse
from dustrun.outbound.progress import Progress
from dustrun.outbound.redirect import Hop, follow, location
from dustrun.outbound.resolver import GuardedResolver, Resolver, SystemResolver, Target, parse
from dustrun.records import dataclass
from dustrun.sdk.context import HttpRequest, HttpResponse, NoConnection

if TYPE_CHECKING:
    import aiohttp

    from dustrun.outbound.streams import Incoming, Socket

_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_METHODS: Final = _SAFE | {"POST", "PUT", "PATCH", "DELETE"}
_LOOKUP_S: Final = 2.0
_CHECK_HOLDS_S: Final = 10.0
_MOST_CHECKED: Final = 1000
MAX_BODY_BYTES: Final = 5_242_880
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_NOT_IN_VALUE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
# Framing and routing headers, which the client sets itself.
_OURS: Final = frozenset(
    {"host", "content-length", "transfer-encoding", "connection", "upgrade", "te", "trailer", "expect", "keep-alive"}
)


_WATCH = metrics.Watch(
    metrics.counter("dustrun_outbound_requests", "Outgoing requests, sent or refused.", "method", "outcome"),
    metrics.histogram("dustrun_outbound_seconds", "Duration of outgoing requests, including redirects."),
)


class OutboundClient:
    """The `ctx.http` of every node, and the client of the price source. `allow` are exceptions of the guard, `named`
    the settings' URLs that this client is for, `max_bytes` limits a decoded response body, `max_body_bytes` the body
    of a request, `per_host` concurrent requests to one host. `resolver` defaults to the operating system's."""

    def __init__(
        self,
        allow: Sequence[str],
        max_bytes: int,
        per_host: int,
        *,
        max_body_bytes: int = MAX_BODY_BYTES,
        named: Sequence[str] = (),
        resolver: Resolver | None = None,
    ) -> None:
        self.guard = guard_of(allow, named)
        self._names = GuardedResolver(resolver or SystemResolver(), self.guard)
        self._checked: dict[tuple[str, int], tuple[float, str | None]] = {}
        self._max_bytes = max_bytes
        self._max_body_bytes = max_body_bytes
        self._turns = HostLimits(per_host)
        self._is_started = False
        self._sessions: dict[bool, aiohttp.ClientSession] = {}
        """The connection pools, made for the first request: by whether they reuse connections."""

    async def start(self) -> None:
        """Lets requests through."""
        self._is_started = True

    async def close(self) -> None:
        """Closes all connections."""
        self._is_started = False
        sessions, self._sessions = self._sessions, {}
        for session in sessions.values():
            await session.close()

    async def request(self, request: HttpRequest) -> HttpResponse:
        """Sends a request once and follows redirects; raises like `sdk.context.Http`."""
        with _WATCH.of(request.method.upper() if request.method.upper() in _METHODS else "other") as seen:
            answer = await self._request(request)
            seen.outcome = f"{answer.status // 100}xx"
            return answer

    async def check(self, request: HttpRequest) -> None:
        """Raises what `request` would raise before it sends: about its method, headers, address and credential. A name
        that cannot be resolved now passes."""
        hop = self._first_hop(request)
        await self._authorized(hop, request)
        if hop.target.address is None:
            await self._check_name(hop.target)

    @asynccontextmanager
    async def stream(self, request: HttpRequest) -> AsyncIterator[Incoming]:
        """Sends a request that changes nothing, and reads the answer as it comes. Redirects are not followed. Raises
        like `request`."""
        hop = await self._authorized(self._first_hop(request), request)
        session, progress = await self._session(True), Progress(hop.method, True, hop.target.host)
        from dustrun.outbound.exchange import exchange  # slow import
        from dustrun.outbound.streams import Incoming  # slow import

        async with contextlib.AsyncExitStack() as stack:
            async with asyncio.timeout(request.timeout_s):
                opening = exchange(session, hop.target, hop.method, hop.headers, hop.body, progress)
                response = await stack.enter_async_context(opening)
            incoming = Incoming(response, _joined(response))
            stack.push_async_callback(incoming.stop)
            stack.callback(response.close)
            yield incoming

    @asynccontextmanager
    async def websocket(
        self, request: HttpRequest, protocols: tuple[str, ...] = (), heartbeat_s: float | None = None
    ) -> AsyncIterator[Socket]:
        """Opens a WebSocket to an http(s) URL. Redirects are not followed. Raises `Invalid` for a forbidden address,
        `Temporary` and `Permanent`."""
        hop = await self._authorized(self._first_hop(request), request)
        exchanges = await asyncio.to_thread(importlib.import_module, "dustrun.outbound.exchange")
        from dustrun.outbound.streams import open_socket, refuse_redirect  # slow import

        async with contextlib.AsyncExitStack() as stack:
            session = exchanges.make_session(self._names, reuse=False, instead=(refuse_redirect,))
            await stack.enter_async_context(session)
            opening = open_socket(
                session,
                hop.target,
                hop.headers,
                protocols=protocols,
                max_bytes=request.max_bytes or self._max_bytes,
                heartbeat_s=heartbeat_s,
            )
            try:
                async with asyncio.timeout(request.timeout_s):
                    socket = await stack.enter_async_context(opening)
            except TimeoutError:
                message = f'"{hop.target.host}" did not answer within {request.timeout_s:g} s.'
                raise NoConnection(message) from None
            yield socket

    async def addresses(self, host: str, port: int) -> list[str]:
        """The addresses to which a connection of another protocol may be made. Raises `Invalid` for a forbidden or
        malformed host, `Temporary` for a name that has none."""
        name = host.lower().removesuffix(".")
        address = parse_address(name)
        if address is not None:
            self.guard.check(name, address, port)
            return [str(address)]
        if not is_name(name):
            raise refuse(f'The host "{host[:100]}" is not valid.')
        try:
            return [one["host"] for one in await self._names.resolve(name, port)]
        except OSError:
            raise Temporary(f'The name "{name}" cannot be resolved.') from None

    async def _check_name(self, target: Target) -> None:
        """Sends ask the resolver at each new connection; checks of one name soon after each other ask it once."""
        now, place = clock.monotonic_s(), (target.host, target.port)
        until, refusal = self._checked.get(place, (0.0, None))
        if until <= now:
            refusal = await self._refusal_of(target)
            if len(self._checked) >= _MOST_CHECKED:
                self._checked.clear()
            self._checked[place] = (now + _CHECK_HOLDS_S, refusal)
        if refusal is not None:
            raise refuse(refusal)

    async def _refusal_of(self, target: Target) -> str | None:
        try:
            async with asyncio.timeout(_LOOKUP_S):
                await self._names.resolve(target.host, target.port)
        except Invalid as error:
            return error.message
        except (OSError, TimeoutError):
            pass  # it may resolve when the run is live
        return None

    def _first_hop(self, request: HttpRequest) -> Hop:
        size = len(request.body or b"")
        if size > self._max_body_bytes:
            raise refuse(
                f"The body of the request has {size} bytes; at most {self._max_body_bytes} are sent "
                "(outbound_max_body_bytes)."
            )
        return _hop_of(request)

    async def _request(self, request: HttpRequest) -> HttpResponse:
        hop = self._first_hop(request)
        safe = request.safe if request.safe is not None else hop.method in _SAFE
        progress = Progress(hop.method, safe, hop.target.host, transmission=request.transmission)
        try:
            async with asyncio.timeout(request.timeout_s):
                return await self._follow(request, hop, progress)
        except TimeoutError:
            raise progress.failure(f"no answer within {request.timeout_s:g} s") from None
        except DustrunError as error:
            raise progress.of_redirect(error) from error.__cause__

    async def _follow(self, request: HttpRequest, hop: Hop, progress: Progress) -> HttpResponse:
        for remaining in range(request.max_redirects, -1, -1):
            answer = await self._send(hop, request, progress)
            where = location(answer.status, answer.headers)
            if where is None or request.max_redirects == 0:
                return answer
            progress.redirected(hop.method, answer.status)
            if remaining:
                hop = follow(hop, answer.status, where)
                progress.host = hop.target.host
        raise Permanent(f'"{progress.host}" redirected more than {request.max_redirects} times (maxRedirects).')

    async def _send(self, hop: Hop, request: HttpRequest, progress: Progress) -> HttpResponse:
        target = hop.target
        sent = await self._authorized(hop, request)
        session = await self._session(progress.safe)
        from dustrun.outbound.exchange import exchange, read_body  # slow import

        limit = min(request.max_bytes or self._max_bytes, self._max_bytes)
        async with (
            self._turns.of(target.host),
            exchange(session, sent.target, sent.method, sent.headers, sent.body, progress) as response,
        ):
            headers = _joined(response)
            progress.answered(response.status)
            is_followed = request.max_redirects > 0 and location(response.status, headers) is not None
            body = b""
            if not is_followed:
                body = await read_body(response, limit, target.host, cuts=request.cuts, heard=request.heard)
            return HttpResponse(response.status, headers, body, str(target.url), progress.taken)

    async def _authorized(self, hop: Hop, request: HttpRequest) -> Hop:
        """The hop with the credential added; `hop` itself stays without, so that the next hop does not inherit it.
        Addresses are checked here, names when they are resolved."""
        target = hop.target
        if target.address is not None:
            self.guard.check(target.host, target.address, target.port)
        if request.authorize is None:
            return hop
        sent = await request.authorize(HttpRequest(hop.method, str(target.url), hop.headers, hop.body))
        for name, value in sent.headers.items():
            _check_header(name, value)
        goes_to = parse(sent.url)
        if goes_to.origin != target.origin:
            raise refuse("A credential may not change where a request goes.")
        return replace(hop, target=goes_to, headers=dict(sent.headers))

    async def _session(self, safe: bool) -> aiohttp.ClientSession:
        """Requests that are not `safe` use a new connection: a reused one may be closed by the peer at that moment,
        which would make the outcome of the request uncertain without need."""
        if not self._sessions:
            # in a thread, since it takes a tenth of a second; a server that sends nothing saves 5 MiB
            exchanges = await asyncio.to_thread(importlib.import_module, "dustrun.outbound.exchange")
            if self._is_started and not self._sessions:
                self._sessions = {reuse: exchanges.make_session(self._names, reuse=reuse) for reuse in (True, False)}
        if not self._is_started:
            raise RuntimeError("the client is not started")
        return self._sessions[safe]


def _hop_of(request: HttpRequest) -> Hop:
    method = request.method.upper()
    if method not in _METHODS:
        raise refuse(f'The method "{request.method[:20]}" is not one of {", ".join(sorted(_METHODS))}.')
    for name, value in request.headers.items():
        _check_header(name, value)
    return Hop(method, parse(request.url), dict(request.headers), request.body)


def _check_header(name: str, value: str) -> None:
    if _TOKEN.fullmatch(name) is None:
        raise refuse(f"The header name {name[:100]!r} is not valid.")
    if name.lower() in _OURS or name.lower().startswith("proxy-con"):
        raise refuse(f'The header "{name}" is set by the server and cannot be given.')
    if _NOT_IN_VALUE.search(value):
        raise refuse(f'The value of the header "{name}" contains a control character.')


def _joined(response: aiohttp.ClientResponse) -> Mapping[str, str]:
    headers: dict[str, str] = {}
    for name, raw in response.headers.items():
        key, value = name.lower(), _storable(raw)
        headers[key] = f"{headers[key]}, {value}" if key in headers else value
    return headers


def _storable(value: str) -> str:
    """Replaces lone surrogates, by which aiohttp represents invalid UTF-8: they cannot be stored as JSON."""
    return value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


@dataclass(slots=True)
class _Queue:
    semaphore: asyncio.Semaphore
    users: int = 0


class HostLimits:
    """One semaphore per host, removed when unused."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._queues: dict[str, _Queue] = {}

    @asynccontextmanager
    async def of(self, host: str) -> AsyncIterator[None]:
        """Waits for a free slot of the host and holds it inside the context."""
        queue = self._queues.setdefault(host, _Queue(asyncio.Semaphore(self._limit)))
        queue.users += 1
        try:
            async with queue.semaphore:
                yield
        finally:
            queue.users -= 1
            if queue.users == 0:
                del self._queues[host]
