"""How a model library reaches our guarded client. Slow import: only `protocol` imports it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from types import TracebackType
from typing import Any, Final, TypeVar

import httpx2

from dustrun.core.values.exact_json import JsonError, loads
from dustrun.core.values.retry_after import retry_after_s
from dustrun.errors import DustrunError, Permanent, Temporary
from dustrun.sdk.context import Http, HttpRequest, HttpResponse
from dustrun.sdk.threads import run_beside, run_sized

T = TypeVar("T")
_MOST_BYTES: Final = 1_048_576
_SENT_HEADERS: Final = frozenset({"accept", "content-type", "anthropic-version", "anthropic-beta"})
_MOST_PARTS: Final = 3_000
_FEW_PARTS: Final = 1_000
_AT_ONCE: Final = 4_096
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
        answer = await self.guarded(self._checked(request))
        return httpx2.Response(answer.status, headers={"content-type": "application/json"}, content=answer.body)

    async def _checked(self, request: httpx2.Request) -> HttpResponse:
        answer = await self.send(request)
        await run_sized(answer.body, check_parts, answer.body)
        return answer

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
        events, begun = Events(), bytearray()
        while piece is not None:
            begun += piece
            if b"\n" in piece:
                end = begun.rindex(b"\n") + 1
                async for part in events.pass_on(bytes(begun[:end]), self._wire.guarded):
                    yield part
                del begun[:end]
            piece = await self._pieces.get()
        async for part in events.pass_on(bytes(begun), self._wire.guarded):
            yield part
        assert self._task is not None
        await self._task  # raises what cut it off


class Events:
    """Passes lines of an event stream on to a library, which reads what it gets at once: few in each turn of the event
    loop, and no event of too many parts."""

    def __init__(self) -> None:
        self._data = bytearray()

    async def pass_on(self, text: bytes, guarded: Callable[[Awaitable[None]], Awaitable[None]]) -> AsyncIterator[bytes]:
        """The lines in small pieces."""
        group = b""
        for line in text.splitlines(keepends=True):
            if line.startswith(b"data:"):
                self._data += line[5:]
            elif not line.strip():
                await guarded(self._check())
            group += line
            if len(group) >= _AT_ONCE:
                yield group
                group = b""
                await asyncio.sleep(0)
        if group:
            yield group

    async def _check(self) -> None:
        data, self._data = self._data, bytearray()
        if data.count(b",") + data.count(b"{") + data.count(b"[") > _FEW_PARTS:
            await run_beside(check_parts, bytes(data))


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


def check_parts(document: bytes) -> None:
    """Raises `Permanent` for an answer that a library would read for long, since it makes an object of each part;
    arguments of tools may have many, which it takes as they are. Raises `Temporary` for what is no JSON."""
    try:
        found = loads(document)
    except JsonError as error:
        raise Temporary(f"The model server's answer cannot be read: {error}.") from None
    content = found.get("content") if isinstance(found, dict) else None
    if isinstance(found, dict) and isinstance(content, list):
        found["content"] = [_without_input(one) for one in content]
    if _count(found) > _MOST_PARTS:
        raise Permanent(f"The model server's answer has over {_MOST_PARTS} parts.")


def _without_input(block: Any) -> Any:
    return {**block, "input": None} if isinstance(block, dict) else block


def _count(value: Any) -> int:
    """How many items its lists and objects have, up to the limit."""
    count, seen = 0, [value]
    for one in seen:  # which grows meanwhile
        if isinstance(one, dict | list):
            count += len(one)
            if count > _MOST_PARTS:
                break
            seen += one.values() if isinstance(one, dict) else one
    return count


def _refusal(answer: HttpResponse) -> DustrunError:
    """A status as an error; what the server says is cut, since it may be long."""
    said = answer.body[:300].decode("utf-8", "replace").strip()
    message = f"The model server answers {answer.status}{f': {said}' if said else '.'}"
    if answer.status in _PASSING:
        return Temporary(message, retry_after_s=retry_after_s(answer.headers.get("retry-after", ""), 0))
    if answer.status in (401, 403):
        message = f"The model server refuses the connector's key ({answer.status})."
    return Permanent(message)
