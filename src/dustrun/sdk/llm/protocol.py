"""The protocols of model servers, by pydantic-ai over our guarded client. Slow import: only `asking` imports it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final, Literal
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

from dustrun.core.values.exact_json import dumps_text, loads
from dustrun.errors import DustrunError, Temporary
from dustrun.sdk.context import Connection, Http
from dustrun.sdk.llm.messages import Answer, Ask, Called, OnText, Part, Returned
from dustrun.sdk.llm.wire import StreamWire, Whole, Wire
from dustrun.sdk.threads import run_sized

_PLACEHOLDER: Final = "set-when-sent"
_STOPS: Final[dict[str | None, Literal["end", "length", "tools", "filter"]]] = {
    "length": "length",
    "tool_call": "tools",
    "content_filter": "filter",
}


async def request(http: Http, connection: Connection, asked: Ask, on_text: OnText | None = None) -> Answer:
    """Sends one request, and reads its answer; `on_text` gets its text while it comes, if the server sends it so."""
    wire = Wire(http, asked.timeout_s)
    try:
        found = await (_whole if on_text is None else partial(_streamed, on_text=on_text))(wire, connection, asked)
    except Exception as error:
        if wire.failure is not None:
            raise wire.failure from None
        raise _unreadable(error) from error
    return await run_sized(wire.body, partial(_answer, found, wire.body))


async def _whole(wire: Wire, connection: Connection, asked: Ask) -> ModelResponse:
    async with httpx2.AsyncClient(transport=wire) as client:
        model = _MODELS[connection.type](client, connection.data.base_url, asked.model)
        return await model_request(model, list(_history(asked)), **_options(asked))


async def _streamed(wire: Wire, connection: Connection, asked: Ask, on_text: OnText) -> ModelResponse:
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


def _options(asked: Ask) -> Any:
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


def _history(asked: Ask) -> Iterator[ModelMessage]:
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
    if isinstance(part, Called):
        args = part.args if isinstance(part.args, str) else dumps_text(part.args)
        return ToolCallPart(part.tool, args, tool_call_id=part.call_id)
    if isinstance(part, Returned):
        return ToolReturnPart(part.tool, part.text, tool_call_id=part.call_id)
    return UserPromptPart(part.text) if part.role == "user" else TextPart(part.text)


def _answer(found: ModelResponse, body: bytes) -> Answer:
    exact = _exact_args(body)
    texts = [one.content for one in found.parts if isinstance(one, TextPart)]
    calls = tuple(_called(one, exact) for one in found.parts if isinstance(one, ToolCallPart))
    stopped = "tools" if calls else _STOPS.get(found.finish_reason, "end")
    usage = found.usage
    return Answer("".join(texts), calls, stopped, max(0, usage.input_tokens), max(0, usage.output_tokens))


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


def _called(part: ToolCallPart, exact: dict[str, Any]) -> Called:
    if part.tool_call_id in exact:
        return Called(part.tool_call_id, part.tool_name, exact[part.tool_call_id])
    text = part.args if isinstance(part.args, str) else "{}"
    try:
        return Called(part.tool_call_id, part.tool_name, loads(text) if text.strip() else {})
    except (ValueError, RecursionError):
        return Called(part.tool_call_id, part.tool_name, text)


def _unreadable(error: Exception) -> DustrunError:
    return Temporary(f"The model server's answer cannot be read ({type(error).__name__}).")
