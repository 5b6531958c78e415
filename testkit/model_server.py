"""A model server on loopback that speaks the protocols of OpenAI and Anthropic, and answers as a script says."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from testkit.listening import listening

Json = dict[str, Any]
Script = Callable[["Asked"], "Reply"]


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer. `calls`: (tool, arguments); `raw`: a body instead of the protocol's; `cuts`: the connection breaks in
    the middle of it. To who asks for a stream it comes in pieces with `pause_s` between them, unless it is `whole`;
    `ends_early`: the stream ends properly in the middle of the answer; `goes_on`: the second half waits for this."""

    text: str = ""
    calls: tuple[tuple[str, Any], ...] = ()
    tokens: tuple[int, int] | None = (100, 20)
    status: int = 200
    raw: bytes | None = None
    cuts: bool = False
    delay_s: float = 0.0
    headers: dict[str, str] = field(default_factory=dict)
    stopped_by: str = "stop"
    whole: bool = False
    pause_s: float = 0.0
    ends_early: bool = False
    goes_on: threading.Event | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """One request as it came in."""

    path: str
    headers: dict[str, str]
    raw: bytes

    @property
    def body(self) -> Json:
        """The request; one without a body says nothing."""
        found: Json = json.loads(self.raw or b"{}")
        return found

    @property
    def messages(self) -> list[Json]:
        """What was said so far."""
        found: list[Json] = self.body["messages"]
        return found


@dataclass(slots=True)
class ModelServer:
    """What was asked, and how to answer it: with the next of `replies`, the last one again and again, or as `script`
    says."""

    url: str = ""
    replies: list[Reply] = field(default_factory=list)
    script: Script | None = None
    asked: list[Asked] = field(default_factory=list)

    def answer(self, asked: Asked) -> Reply:
        """The reply to one request."""
        if self.script is not None:
            return self.script(asked)
        return self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]

    def connector(self, type_: str = "llm-openai", **data: Any) -> Json:
        """The body that creates a connector to it."""
        price = {"inputUsd": "1", "outputUsd": "10"}
        base = f"{self.url}/v1" if type_ == "llm-openai" else self.url
        given = {"baseUrl": base, "apiKey": "sk-model-0123456789", "model": "small", "prices": {"*": price}, **data}
        return {"type": type_, "name": f"model {type_}", "data": given, "allowedHosts": [self.url]}


def _openai(reply: Reply, number: int) -> Json:
    calls = [
        {
            "id": f"call_{number}_{at}",
            "type": "function",
            "function": {"name": tool, "arguments": args if isinstance(args, str) else json.dumps(args)},
        }
        for at, (tool, args) in enumerate(reply.calls)
    ]
    message: Json = {"role": "assistant", "content": reply.text or None}
    if calls:
        message["tool_calls"] = calls
    found: Json = {"id": f"c{number}", "object": "chat.completion", "created": 1, "model": "small"}
    found["choices"] = [{"index": 0, "message": message, "finish_reason": "tool_calls" if calls else reply.stopped_by}]
    if reply.tokens is not None:
        read, wrote = reply.tokens
        found["usage"] = {"prompt_tokens": read, "completion_tokens": wrote, "total_tokens": read + wrote}
    return found


def _anthropic(reply: Reply, number: int) -> Json:
    content: list[Json] = [{"type": "text", "text": reply.text}] if reply.text else []
    content += [
        {"type": "tool_use", "id": f"call_{number}_{at}", "name": tool, "input": args}
        for at, (tool, args) in enumerate(reply.calls)
    ]
    read, wrote = reply.tokens or (0, 0)
    return {
        "id": f"m{number}",
        "type": "message",
        "role": "assistant",
        "model": "small",
        "content": content,
        "stop_reason": "tool_use" if reply.calls else {"stop": "end_turn", "length": "max_tokens"}[reply.stopped_by],
        "usage": {"input_tokens": read, "output_tokens": wrote},
    }


def _pieces(text: str) -> list[str]:
    """A text in words, as a model writes it."""
    return re.findall(r"\S*\s*", text)[:-1] or [text]


def _openai_events(reply: Reply, number: int) -> list[str]:
    whole = _openai(reply, number)
    head = {name: whole[name] for name in ("id", "created", "model")} | {"object": "chat.completion.chunk"}
    message, reason = whole["choices"][0]["message"], whole["choices"][0]["finish_reason"]
    deltas: list[Json] = [{"content": piece} for piece in _pieces(reply.text)] if reply.text else []
    for at, call in enumerate(message.get("tool_calls", ())):
        name, args = call["function"]["name"], call["function"]["arguments"]
        deltas.append({"tool_calls": [{**call, "index": at, "function": {"name": name, "arguments": ""}}]})
        for begin in range(0, len(args), 4_000):
            piece = {"arguments": args[begin : begin + 4_000]}
            deltas.append({"tool_calls": [{"index": at, "function": piece}]})
    chunks: list[Json] = [{**head, "choices": [{"index": 0, "delta": one, "finish_reason": None}]} for one in deltas]
    chunks.append({**head, "choices": [{"index": 0, "delta": {}, "finish_reason": reason}]})
    if "usage" in whole:
        chunks.append({**head, "choices": [], "usage": whole["usage"]})
    return [*(f"data: {json.dumps(one)}\n\n" for one in chunks), "data: [DONE]\n\n"]


def _anthropic_events(reply: Reply, number: int) -> list[str]:
    whole = _anthropic(reply, number)
    usage = whole["usage"]
    found: list[Json] = [{"type": "message_start", "message": {**whole, "content": [], "stop_reason": None}}]
    for index, block in enumerate(whole["content"]):
        is_text = block["type"] == "text"
        empty = {**block, "text": ""} if is_text else {**block, "input": {}}
        found.append({"type": "content_block_start", "index": index, "content_block": empty})
        deltas: list[Json] = (
            [{"type": "text_delta", "text": piece} for piece in _pieces(block["text"])]
            if is_text
            else [{"type": "input_json_delta", "partial_json": json.dumps(block["input"])}]
        )
        found += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
        found.append({"type": "content_block_stop", "index": index})
    end = {"stop_reason": whole["stop_reason"], "stop_sequence": None}
    found.append({"type": "message_delta", "delta": end, "usage": {"output_tokens": usage["output_tokens"]}})
    found.append({"type": "message_stop"})
    return [f"event: {one['type']}\ndata: {json.dumps(one)}\n\n" for one in found]


async def _stream(request: web.BaseRequest, reply: Reply, number: int) -> web.StreamResponse:
    events = (_anthropic_events if request.path.endswith("/messages") else _openai_events)(reply, number)
    response = web.StreamResponse(headers={"content-type": "text/event-stream", **reply.headers})
    await response.prepare(request)
    kept = events[: len(events) // 2] if reply.cuts or reply.ends_early else events
    with contextlib.suppress(ConnectionResetError):  # whoever asked may be gone
        for at, event in enumerate(kept):
            if reply.goes_on is not None and at == len(kept) // 2:
                await asyncio.to_thread(reply.goes_on.wait, 60)
            await response.write(event.encode())
            await asyncio.sleep(reply.pause_s)
    if reply.cuts:
        assert request.transport is not None
        request.transport.abort()
    return response


@asynccontextmanager
async def serving_model(*replies: Reply, script: Script | None = None) -> AsyncIterator[ModelServer]:
    """A model server on a free port."""
    server = ModelServer(replies=list(replies), script=script)

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        headers = {name.lower(): text for name, text in request.headers.items()}
        asked = Asked(request.path, headers, await request.read())
        server.asked.append(asked)
        number = len(server.asked)
        reply = server.answer(asked)
        await asyncio.sleep(reply.delay_s)
        if asked.body.get("stream") and reply.raw is None and reply.status == 200 and not reply.whole:
            return await _stream(request, reply, number)
        shape = _anthropic if request.path.endswith("/messages") else _openai
        body = reply.raw if reply.raw is not None else json.dumps(shape(reply, number)).encode()
        if not reply.cuts:
            head = {"content-type": "application/json", **reply.headers}
            return web.Response(body=body, status=reply.status, headers=head)
        response = web.StreamResponse(status=reply.status, headers={"content-length": str(len(body))})
        await response.prepare(request)
        await response.write(body[: len(body) // 2])
        assert request.transport is not None
        request.transport.abort()
        return response

    runner = web.ServerRunner(web.Server(handle), shutdown_timeout=0.1)
    async with listening(runner) as server.url:
        yield server


def texts(*answers: str) -> Sequence[Reply]:
    """Replies of one text each."""
    return [Reply(one) for one in answers]


@contextmanager
def model_beside(script: Script) -> Iterator[ModelServer]:
    """A model server on a loop of its own, for tests that have none."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    serving = serving_model(script=script)
    try:
        yield asyncio.run_coroutine_threadsafe(serving.__aenter__(), loop).result(30)
    finally:
        asyncio.run_coroutine_threadsafe(serving.__aexit__(None, None, None), loop).result(30)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(30)
        loop.close()
