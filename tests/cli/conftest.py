"""A small real HTTP server whose answers a test writes down beforehand."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from dustrun.cli.http.client import Client


@dataclass
class Asked:
    """One request as it arrived."""

    method: str
    path: str
    headers: dict[str, str]
    body: Any


@dataclass
class Answer:
    """What is sent back; a stream is cut off where its text ends."""

    status: int = 200
    body: str = ""
    content_type: str = "application/json"


Answering = Callable[[Asked], Answer]


@dataclass
class Peer:
    """The server: `answer` decides, `asked` remembers."""

    url: str = ""
    asked: list[Asked] = field(default_factory=list)
    answer: Answering = lambda _: Answer(404, "{}")

    def client(self, key: str | None = "sk_test") -> Client:
        return Client(self.url, key, timeout_s=60)


def envelope(data: Any) -> Answer:
    return Answer(200, json.dumps({"code": 200, "message": "success", "data": data, "requestId": "req_1"}))


def failure(code: int, message: str, details: list[dict[str, Any]] | None = None) -> Answer:
    body = {"code": code, "message": message, "details": details or [], "requestId": "req_1"}
    return Answer(code // 1000, json.dumps(body))


@pytest.fixture
def peer() -> Iterator[Peer]:
    peer = Peer()

    class Handler(BaseHTTPRequestHandler):
        def _handle(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            asked = Asked(self.command, self.path, {k.lower(): v for k, v in self.headers.items()}, body)
            peer.asked.append(asked)
            answer = peer.answer(asked)
            self.send_response(answer.status)
            self.send_header("Content-Type", answer.content_type)
            self.end_headers()
            self.wfile.write(answer.body.encode())

        do_GET = do_POST = do_PUT = _handle

        def log_message(self, format: str, *args: Any) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    peer.url = f"http://127.0.0.1:{server.server_address[1]}"
    yield peer
    server.shutdown()
    thread.join()
    server.server_close()
