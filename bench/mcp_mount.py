"""A program: the fixtures of the conformance suite, answered as `/mcp` answers its own tools.

    python -m bench.mcp_mount FOLDER_OF_everything-server

The folder is that of the official Python SDK's server for the suite. It prints its port.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import sys
from typing import Any

import uvicorn
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from dustrun.api.errors import as_failure
from dustrun.api.limits import read_body
from dustrun.api.mcp.protocol import answer
from dustrun.api.routes.mcp import check_origin
from dustrun.api.serving.connections import Connections
from dustrun.api.serving.http import HttpProtocol
from dustrun.api.serving.web_server import listen
from dustrun.errors import DustrunError
from dustrun.services.access.sessions import ProtocolSessions
from dustrun.settings import Settings


def _mounted(server: Any) -> Any:
    book = ProtocolSessions()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            check_origin(scope, "http://127.0.0.1")
            body = await read_body(scope, receive, 524_288)
        except DustrunError as error:
            failure = as_failure(error, "")
            await PlainTextResponse(failure.message, 403)(scope, receive, send)
            return
        await answer(lambda: server, body, scope, receive, send, book=book, key_id="", can_be_asked=bool, streams=True)

    return app


async def _serve(folder: str) -> None:
    sys.path.insert(0, folder)
    fixtures = importlib.import_module("mcp_everything_server.server").mcp
    settings = Settings(port=0)
    listener = listen(settings)
    config = uvicorn.Config(
        _mounted(fixtures._lowlevel_server),
        http=lambda *given, **named: HttpProtocol(Connections.of(settings), *given, **named),  # type: ignore[arg-type]
        lifespan="off",
        log_level="critical",
    )
    print(json.dumps({"port": listener.getsockname()[1]}), flush=True)
    await uvicorn.Server(config).serve([listener])


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1]))
