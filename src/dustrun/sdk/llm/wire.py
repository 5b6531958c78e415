"""How a model library reaches our guarded client. Slow import: only `protocol` imports it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from types import TracebackType
from typing import Final, TypeVar

import httpx2

from dustrun.core.values.retry_after import retry_after_s
from dustrun.errors import DustrunError, Permanent, Temporary
from dustrun.sdk.context import Http, HttpRequest, HttpResponse

T = TypeVar("T")
_MOST_BYTES: Final = 1_048_576
_SENT_HEADERS: Final = frozenset({"accept", "content-type", "anthropic-version", "anthropic-beta"})
_PASSING: Final = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})


class Wire(httpx2.AsyncBaseTransport):
    """Sends requests by our client, which guards addresses and adds the connector's key. Statuses of failures become
    our errors here, so that no library repeats a request. `failure`: what the caller is to be told."""

    def __init__(self, http: Http, timeout_s: float) -> None:
        self._http = http
        self._timeout_s = timeout_s
        self.failure: Exception | None = None
        self.body = b""

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """One exchange."""
        answer = await self.guarded(self.send(request))
        return httpx2.Response(answer.status, headers={"content-type": "application/json"}, content=answer.body)

    async def send(self, request: httpx2.Request, heard: Callable[[bytes], None] | None = None) -> HttpResponse:
        """One exchange; raises for every status that is no success."""
        answer = await self._http.request(
            HttpRequest(
                method=request.method,
                url=str(request.url),
                headers={name: text for name, text in request.headers.items() if name in _SENT_HEADERS},
                body=await request.aread(),
                timeout_s=self._timeout_s,
                max_redirects=0,
                max_bytes=_MOST_BYTES,
                safe=True,
                is_prompt=True,
                heard=heard,
            )
        )
        if answer.status >= 300:
            raise _refusal(answer)
        self.body = answer.body
        return answer

    async def guarded(self, work: Awaitable[T]) -> T:
        """The work's result; keeps its failure, which a library would wrap."""
        try:
            return await work
        except Exception as error:
            self.failure = error
            raise


class StreamWire(httpx2.AsyncBaseTransport):
    """Passes an event stream on as it comes. `whole`: the answer of a server that sent none."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._pieces: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._task: asyncio.Task[HttpResponse] | None = None
        self.whole: HttpResponse | None = None

    async def __aenter__(self) -> StreamWire:
        """Nothing is sent yet."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        trace: TracebackType | None = None,
    ) -> None:
        """Ends an exchange that nobody reads any more."""
        if self._task is not None and not self._task.done():
            self._task.cancel()
            await asyncio.wait([self._task])

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Begins one exchange; its body is read while it comes."""
        self._task = asyncio.ensure_future(self._wire.guarded(self._wire.send(request, self._pieces.put_nowait)))
        self._task.add_done_callback(self._end)
        first = await self._pieces.get()
        if first is None:
            self.whole = await self._task
            raise Permanent("The server does not stream.")
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, stream=_Pieces(self._read(first)))

    def _end(self, task: asyncio.Task[HttpResponse]) -> None:
        self._pieces.put_nowait(None)
        if not task.cancelled():
            task.exception()  # whoever reads to the end is told of it; nobody else need be

    async def _read(self, first: bytes) -> AsyncIterator[bytes]:
        piece: bytes | None = first
        while piece is not None:
            yield piece
            piece = await self._pieces.get()
        assert self._task is not None
        await self._task  # raises what cut it off


class _Pieces(httpx2.AsyncByteStream):
    """A body that is still coming."""

    def __init__(self, pieces: AsyncIterator[bytes]) -> None:
        self._pieces = pieces

    def __aiter__(self) -> AsyncIterator[bytes]:
        """Its pieces."""
        return self._pieces


class Whole(Http):
    """A client that has the answer already."""

    def __init__(self, answer: HttpResponse) -> None:
        self._answer = answer

    async def request(self, request: HttpRequest) -> HttpResponse:
        """The answer; nothing is sent."""
        return self._answer


def _refusal(answer: HttpResponse) -> DustrunError:
    """A status as an error; what the server says is cut, since it may be long."""
    said = answer.body[:300].decode("utf-8", "replace").strip()
    message = f"The model server answers {answer.status}{f': {said}' if said else '.'}"
    if answer.status in _PASSING:
        return Temporary(message, retry_after_s=retry_after_s(answer.headers.get("retry-after", ""), 0))
    if answer.status in (401, 403):
        message = f"The model server refuses the connector's key ({answer.status})."
    return Permanent(message)
