"""The protocols of model servers, by pydantic-ai over our guarded client. Slow import: only `asking` imports it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import partial
from types import TracebackType
from typing import Any, Final, Literal, TypeVar
from urllib.parse import urlsplit

import anthropic
import httpx2
import openai
from pydantic_ai.direct import model_request, model_request_stream
from pydantic_ai.messages import (
    ModelMessage,
    ModelRequest,
    ModelRequestPart,
    ModelResponse,
    ModelResponsePart,
    PartDeltaEvent,
    PartStartEvent,
    SystemPromptPart,
    TextPart,
    TextPartDelta,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)
from pydantic_ai.models import Model, ModelRequestParameters
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.profiles.openai import OpenAIModelProfile
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.providers.openai import OpenAIProvider
from pydantic_ai.settings import ModelSettings
from pydantic_ai.tools import ToolDefinition

from dustrun.core.values.exact_json import JsonError, dumps_text, loads
from dustrun.core.values.retry_after import retry_after_s
from dustrun.errors import DustrunError, Permanent, Temporary
from dustrun.sdk.context import Connection, Http, HttpRequest, HttpResponse
from dustrun.sdk.llm.messages import ModelAnswer, ModelQuestion, ModelToolCall, OnText, Part, ToolReturn
from dustrun.sdk.threads import run_beside, run_sized

# How a model library reaches our guarded client. Slow import: only `protocol` imports it.


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


_PLACEHOLDER: Final = "set-when-sent"
_STOPS: Final[dict[str | None, Literal["end", "length", "tools", "filter"]]] = {
    "length": "length",
    "tool_call": "tools",
    "content_filter": "filter",
}


async def request(
    http: Http, connection: Connection, asked: ModelQuestion, on_text: OnText | None = None
) -> ModelAnswer:
    """Sends one request, and reads its answer; `on_text` gets its text while it comes, if the server sends it so."""
    wire = Wire(http, asked.timeout_s)
    try:
        found = await (_whole if on_text is None else partial(_streamed, on_text=on_text))(wire, connection, asked)
    except Exception as error:
        if wire.failure is not None:
            raise wire.failure from None
        raise _unreadable(error) from error
    return await run_sized(wire.body, partial(_answer, found, wire.body))


async def _whole(wire: Wire, connection: Connection, asked: ModelQuestion) -> ModelResponse:
    async with httpx2.AsyncClient(transport=wire) as client:
        model = _MODELS[connection.type](client, connection.data.base_url, asked.model)
        return await model_request(model, list(_history(asked)), **_options(asked))


async def _streamed(wire: Wire, connection: Connection, asked: ModelQuestion, on_text: OnText) -> ModelResponse:
    """The answer piece by piece. A server that does not stream has sent it whole: it is read, not asked for again."""
    async with StreamWire(wire) as streamed, httpx2.AsyncClient(transport=streamed) as client:
        model = _MODELS[connection.type](client, connection.data.base_url, asked.model)
        try:
            async with model_request_stream(model, list(_history(asked)), **_options(asked)) as stream:
                async for event in stream:
                    text = _text_of(event)
                    if text:
                        await wire.guarded(on_text(text))
                found = stream.get()
        except Exception:
            if streamed.whole is None:
                raise
        else:
            if found.finish_reason is None:
                raise ValueError("the stream ended before the answer did")
            return found
    replayed = Wire(Whole(streamed.whole), asked.timeout_s)
    found = await _whole(replayed, connection, asked)
    wire.body = replayed.body
    return found


def _text_of(event: object) -> str:
    if isinstance(event, PartStartEvent) and isinstance(event.part, TextPart):
        return event.part.content
    if isinstance(event, PartDeltaEvent) and isinstance(event.delta, TextPartDelta):
        return event.delta.content_delta
    return ""


def _options(asked: ModelQuestion) -> Any:
    tools = [
        ToolDefinition(name=one.name, parameters_json_schema=_plain(one.schema), description=one.about)
        for one in asked.tools
    ]
    settings = ModelSettings(max_tokens=asked.most_output, timeout=asked.timeout_s)
    if asked.answer_schema is not None:
        held = {"name": "answer", "strict": False, "schema": _plain(asked.answer_schema)}
        settings["extra_body"] = {"response_format": {"type": "json_schema", "json_schema": held}}
    return {
        "model_settings": settings,
        "model_request_parameters": ModelRequestParameters(function_tools=tools, allow_text_output=True),
    }


def _plain(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema with numbers that a library can write; what a model answers is checked against the exact ones."""
    found: dict[str, Any] = json.loads(dumps_text(schema))
    return found


def _openai(client: httpx2.AsyncClient, base_url: str, model: str) -> Model:
    maker = openai.AsyncOpenAI(base_url=base_url, api_key=_PLACEHOLDER, http_client=client, max_retries=0)
    # servers of others know only the older name of the limit, which keeps the cost within its bounds
    is_vendor = urlsplit(base_url).hostname == "api.openai.com"
    profile = OpenAIModelProfile(
        openai_chat_supports_max_completion_tokens=is_vendor, openai_chat_streaming_requires_finish_reason=True
    )
    return OpenAIChatModel(model, provider=OpenAIProvider(openai_client=maker), profile=profile)


def _anthropic(client: httpx2.AsyncClient, base_url: str, model: str) -> Model:
    maker = anthropic.AsyncAnthropic(base_url=base_url, api_key=_PLACEHOLDER, http_client=client, max_retries=0)
    return AnthropicModel(model, provider=AnthropicProvider(anthropic_client=maker))


_MODELS: Final[dict[str, Callable[[httpx2.AsyncClient, str, str], Model]]] = {
    "llm-openai": _openai,
    "llm-anthropic": _anthropic,
}


def _history(asked: ModelQuestion) -> Iterator[ModelMessage]:
    """The parts as messages of alternating sides."""
    mine: list[ModelRequestPart] = [SystemPromptPart(asked.system)]
    theirs: list[ModelResponsePart] = []
    for part in asked.parts:
        found = _part(part)
        if isinstance(found, TextPart | ToolCallPart):
            if mine:
                yield ModelRequest(parts=mine)
                mine = []
            theirs.append(found)
        else:
            if theirs:
                yield ModelResponse(parts=theirs)
                theirs = []
            mine.append(found)
    if theirs:
        yield ModelResponse(parts=theirs)
    if mine:
        yield ModelRequest(parts=mine)


def _part(part: Part) -> TextPart | ToolCallPart | ToolReturnPart | UserPromptPart:
    if isinstance(part, ModelToolCall):
        args = part.args if isinstance(part.args, str) else dumps_text(part.args)
        return ToolCallPart(part.tool, args, tool_call_id=part.call_id)
    if isinstance(part, ToolReturn):
        return ToolReturnPart(part.tool, part.text, tool_call_id=part.call_id)
    return UserPromptPart(part.text) if part.role == "user" else TextPart(part.text)


def _answer(found: ModelResponse, body: bytes) -> ModelAnswer:
    exact = _exact_args(body)
    texts = [one.content for one in found.parts if isinstance(one, TextPart)]
    calls = tuple(_called(one, exact) for one in found.parts if isinstance(one, ToolCallPart))
    stopped = "tools" if calls else _STOPS.get(found.finish_reason, "end")
    usage = found.usage
    return ModelAnswer("".join(texts), calls, stopped, max(0, usage.input_tokens), max(0, usage.output_tokens))


def _exact_args(body: bytes) -> dict[str, Any]:
    """Arguments that the protocol gives as JSON, by their calls: a library has read their numbers as floats. A stream
    gives them as text."""
    document = loads(body) if body.lstrip().startswith(b"{") else None
    content = document.get("content") if isinstance(document, dict) else None
    return {
        one["id"]: one.get("input")
        for one in (content if isinstance(content, list) else ())
        if isinstance(one, dict) and one.get("type") == "tool_use" and isinstance(one.get("id"), str)
    }


def _called(part: ToolCallPart, exact: dict[str, Any]) -> ModelToolCall:
    if part.tool_call_id in exact:
        return ModelToolCall(part.tool_call_id, part.tool_name, exact[part.tool_call_id])
    text = part.args if isinstance(part.args, str) else "{}"
    try:
        return ModelToolCall(part.tool_call_id, part.tool_name, loads(text) if text.strip() else {})
    except (ValueError, RecursionError):
        return ModelToolCall(part.tool_call_id, part.tool_name, text)


def _unreadable(error: Exception) -> DustrunError:
    return Temporary(f"The model server's answer cannot be read ({type(error).__name__}).")
