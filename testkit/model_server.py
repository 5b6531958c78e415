"""A model server on loopback that speaks the protocols of OpenAI and Anthropic, and answers as a script says."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

Json = dict[str, Any]
Script = Callable[["Asked"], "Reply"]


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer. `calls`: (tool, arguments); `raw`: a body instead of the protocol's; `cuts`: the connection breaks in
    the middle of it."""

    text: str = ""
    calls: tuple[tuple[str, Any], ...] = ()
    tokens: tuple[int, int] | None = (100, 20)
    status: int = 200
    raw: bytes | None = None
    cuts: bool = False
    delay_s: float = 0.0
    headers: dict[str, str] = field(default_factory=dict)
    stopped_by: str = "stop"


@dataclass(frozen=True, slots=True)
class Asked:
    """One request as it came in."""

    path: str
    headers: dict[str, str]
    raw: bytes

    @property
    def body(self) -> Json:
        """The request."""
        found: Json = json.loads(self.raw)
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


@asynccontextmanager
async def serving_model(*replies: Reply, script: Script | None = None) -> AsyncIterator[ModelServer]:
    """A model server on a free port."""
    server = ModelServer(replies=list(replies), script=script)

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        headers = {name.lower(): text for name, text in request.headers.items()}
        server.asked.append(Asked(request.path, headers, await request.read()))
        number = len(server.asked)
        reply = server.answer(server.asked[-1])
        await asyncio.sleep(reply.delay_s)
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
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield server
    finally:
        await runner.cleanup()


def texts(*answers: str) -> Sequence[Reply]:
    """Replies of one text each."""
    return [Reply(one) for one in answers]
