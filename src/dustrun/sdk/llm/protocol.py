"""The protocols of model servers, by pydantic-ai over our guarded client. Slow import: only `asking` imports it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final, Literal
from urllib.parse import urlsplit

import anthropic
import httpx2
import openai
from pydantic_ai.direct import model_request
from pydantic_ai.messages import (
    ModelMessage,
    ModelRequest,
    ModelRequestPart,
    ModelResponse,
    ModelResponsePart,
    SystemPromptPart,
    TextPart,
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
from dustrun.core.values.retry_after import retry_after_s
from dustrun.errors import DustrunError, Permanent, Temporary
from dustrun.sdk.context import Connection, Http, HttpRequest, HttpResponse
from dustrun.sdk.llm.messages import Answer, Ask, Called, Part, Returned
from dustrun.sdk.threads import run_sized

_MOST_BYTES: Final = 1_048_576
_PLACEHOLDER: Final = "set-when-sent"
_SENT_HEADERS: Final = frozenset({"accept", "content-type", "anthropic-version", "anthropic-beta"})
_PASSING: Final = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
_STOPS: Final[dict[str | None, Literal["end", "length", "tools", "filter"]]] = {
    "length": "length",
    "tool_call": "tools",
    "content_filter": "filter",
}


async def request(http: Http, connection: Connection, asked: Ask) -> Answer:
    """Sends one request, and reads its answer."""
    wire = _Wire(http, asked.timeout_s)
    settings = ModelSettings(max_tokens=asked.most_output, timeout=asked.timeout_s)
    tools = [
        ToolDefinition(name=one.name, parameters_json_schema=one.schema, description=one.about) for one in asked.tools
    ]
    parameters = ModelRequestParameters(function_tools=tools, allow_text_output=True)
    async with httpx2.AsyncClient(transport=wire) as client:
        model = _MODELS[connection.type](client, connection.data.base_url, asked.model)
        try:
            found = await model_request(
                model, list(_history(asked)), model_settings=settings, model_request_parameters=parameters
            )
        except Exception as error:
            if wire.failure is not None:
                raise wire.failure from None
            raise _unreadable(error) from error
    return await run_sized(wire.body, partial(_answer, found, wire.body))


class _Wire(httpx2.AsyncBaseTransport):
    """Sends requests by our client, which guards addresses and adds the connector's key. Statuses of failures become
    our errors here, so that no library repeats a request."""

    def __init__(self, http: Http, timeout_s: float) -> None:
        self._http = http
        self._timeout_s = timeout_s
        self.failure: DustrunError | None = None
        self.body = b""

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """One exchange."""
        try:
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
                )
            )
            if answer.status >= 300:
                raise _refusal(answer)
            self.body = answer.body
        except DustrunError as error:
            self.failure = error
            raise
        return httpx2.Response(answer.status, headers={"content-type": "application/json"}, content=answer.body)


def _openai(client: httpx2.AsyncClient, base_url: str, model: str) -> Model:
    maker = openai.AsyncOpenAI(base_url=base_url, api_key=_PLACEHOLDER, http_client=client, max_retries=0)
    # servers of others know only the older name of the limit, which keeps the cost within its bounds
    is_vendor = urlsplit(base_url).hostname == "api.openai.com"
    profile = OpenAIModelProfile(openai_chat_supports_max_completion_tokens=is_vendor)
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
    """Arguments that the protocol gives as JSON, by their calls: a library has read their numbers as floats."""
    document = loads(body)
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


def _refusal(answer: HttpResponse) -> DustrunError:
    """A status as an error; what the server says is cut, since it may be long."""
    said = answer.body[:300].decode("utf-8", "replace").strip()
    message = f"The model server answers {answer.status}{f': {said}' if said else '.'}"
    if answer.status in _PASSING:
        return Temporary(message, retry_after_s=retry_after_s(answer.headers.get("retry-after", ""), 0))
    if answer.status in (401, 403):
        message = f"The model server refuses the connector's key ({answer.status})."
    return Permanent(message)


def _unreadable(error: Exception) -> DustrunError:
    return Temporary(f"The model server's answer cannot be read ({type(error).__name__}).")
