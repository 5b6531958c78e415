"""What is no HTTP, or too much of it, over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import json
import resource
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from dustrun.api.serving.connections import ConnectionHandling, Connections
from dustrun.settings import Settings
from served import served
from testkit.server_process import ServerProcess

HOST = b"Host: x\r\n"
_UNAVAILABLE = "HTTP/1.1 503 Service Unavailable"


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    folder: Path = tmp_path_factory.mktemp("http")
    with served(folder / "data") as server:
        yield int(server.url.rpartition(":")[2])


def _exchange(port: int, *pieces: bytes) -> tuple[str, dict[str, str], bytes]:
    """Sends the pieces, until the other side hangs up: status line, headers and body of its answer."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        answer = b""
        try:
            for piece in pieces:
                connection.sendall(piece)
            while chunk := connection.recv(65_536):
                answer += chunk
        except ConnectionError:
            pass
    head, _, body = answer.partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    return status, dict(line.lower().split(": ", 1) for line in lines), body


@pytest.mark.parametrize(
    "pieces",
    [
        (b"nonsense\r\n\r\n",),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",),
        (b"\x16\x03\x01\x02\x00\x01\x00",),
        (b"GET /healthz HTTP/1.1\r\nHost x\r\n\r\n",),
        (b"GET /healthz?a=" + b"a" * 70_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n",),
        (b"GET /healthz HTTP/1.1\r\n\r\n",),
        (b"GET /healthz HTTP/1.1\r\n" + HOST + b"Host: y\r\n\r\n",),
        (b"GET /healthz HTTP/1.0\r\n" + HOST + HOST + b"\r\n",),
        (b"GET /healthz HTTP/1.1\r\n" + HOST + b"X: " + b"a" * 70_000 + b"\r\n\r\n",),
        (b"GET /healthz HTTP/1.1\r\n" + HOST, b"X: " + b"a" * 40_000, b"a" * 30_000, b"\r\n\r\n"),
        (b"GET /healthz HTTP/1.1\r\n" + HOST + b"X: a\r\n" * 12_000 + b"\r\n",),
        (b"GET /?" + b"a" * 20_000, b"a" * 50_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n"),
        (b"POST /v1/workflows HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n" + HOST + b"\r\n",),
        (b"POST /v1/workflows HTTP/1.1\r\nTransfer-Encoding: chunked\r\n" + HOST + b"\r\nz\r\n",),
    ],
    ids=[
        "words",
        "HTTP/2",
        "TLS",
        "a header without a colon",
        "a long address",
        "no host",
        "two hosts",
        "two old hosts",
        "a long header",
        "a long header in pieces",
        "many headers",
        "a long address in pieces",
        "two lengths",
        "a bad chunk",
    ],
)
def test_what_cannot_be_read_is_told_in_an_envelope(port: int, pieces: tuple[bytes, ...]) -> None:
    status, headers, body = _exchange(port, *pieces)
    found = json.loads(body)
    assert (status, found["code"], found["details"]) == ("HTTP/1.1 400 Bad Request", 400003, [])
    assert (headers["x-request-id"], headers["content-type"]) == (found["requestId"], "application/json")


@pytest.mark.parametrize("line", [b"X: " + b"a" * 1_000_000, b"X: a\r\n" * 100_000], ids=["one", "many"])
def test_a_head_without_end_is_not_kept(port: int, line: bytes) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\n")
        with pytest.raises(ConnectionError):
            connection.sendall(line * 50)


def test_trailers_without_end_are_not_kept(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(b"POST /v1/workflows HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n")
        with pytest.raises(ConnectionError):
            connection.sendall(b"X: a\r\n" * 5_000_000)


def test_requests_in_one_piece_are_all_answered(port: int) -> None:
    request = b"GET /healthz HTTP/1.1\r\n" + HOST
    one, last = request + b"X: " + b"a" * 30_000 + b"\r\n\r\n", request + b"Connection: close\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(one * 5 + last)
        answer = b""
        while chunk := connection.recv(65_536):
            answer += chunk
    assert answer.count(b"HTTP/1.1 200 OK") == 6


@pytest.mark.parametrize("path", ["/healthz", "/v1/keys", "/v1/nothing", "/openapi.json"])
def test_no_cache_keeps_an_answer_and_no_browser_guesses_its_kind(port: int, path: str) -> None:
    with httpx.Client(timeout=60) as client:  # keeps the connection open, so that a success is sent whole
        headers = client.get(f"http://127.0.0.1:{port}{path}").headers
    kept = [headers.get_list(name) for name in ("cache-control", "x-content-type-options", "x-request-id")]
    assert (kept[0], kept[1], len(kept[2])) == (["no-store"], ["nosniff"], 1)


def test_an_offer_of_another_protocol_is_declined(port: int) -> None:
    upgrade = (
        b"Connection: Upgrade, close\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: a\r\n"
    )
    status, _, body = _exchange(port, b"GET /healthz HTTP/1.1\r\n" + HOST + upgrade + b"\r\n")
    assert (status, json.loads(body)["code"]) == ("HTTP/1.1 200 OK", 200)


def test_head_is_answered_without_a_body_and_the_connection_goes_on(port: int) -> None:
    ask = b"HEAD /healthz HTTP/1.1\r\n" + HOST + b"\r\n"
    last = b"GET /healthz HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(ask)
        head = connection.recv(65_536)
        connection.sendall(last)
        answer = b""
        while chunk := connection.recv(65_536):
            answer += chunk
    assert head.startswith(b"HTTP/1.1 405 Method Not Allowed\r\n")
    assert head.endswith(b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")


def test_the_head_of_an_answer_comes_in_one_piece_with_its_body(port: int) -> None:
    request = b"GET /v1/workflows HTTP/1.1\r\n" + HOST + b"\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(request)
        answer = connection.recv(65_536)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert (head.split(b"\r\n")[0], json.loads(body)["details"]) == (b"HTTP/1.1 401 Unauthorized", [])


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A server that waits briefly and allows four connections of an address."""
    limits: dict[str, Any] = {"head_timeout_s": "1", "idle_timeout_s": "4", "max_connections_per_address": "4"}
    with served(tmp_path_factory.mktemp("strict") / "data", **limits) as server:
        yield int(server.url.rpartition(":")[2])


def _seconds_until_closed(port: int, first: bytes, drop: bytes = b"") -> float:
    """Sends `first`, then `drop` ten times a second, until the server hangs up."""
    started = time.monotonic()
    with socket.create_connection(("127.0.0.1", port), timeout=0.1) as connection:
        connection.sendall(first)
        while time.monotonic() - started < 60:
            try:
                if not connection.recv(65_536):
                    break
            except TimeoutError:
                if drop:
                    connection.sendall(drop)
            except ConnectionError:
                break
    return time.monotonic() - started


@pytest.mark.parametrize(
    ("first", "drop", "least", "most"),
    [
        (b"GET /healthz HTTP/1.1\r\n" + HOST, b"X: a\r\n", 0.9, 3.9),
        (b"GET /heal", b"", 0.9, 3.9),
        (b"", b"", 3.9, 30),
        (b"", b"\r\n", 3.9, 30),
        (b"GET /healthz HTTP/1.1\r\n" + HOST + b"\r\n", b"", 3.9, 30),
        (b"POST /v1/workflows/validate HTTP/1.1\r\nContent-Length: 9\r\n" + HOST + b"\r\n{", b"", 0, 30),
    ],
    ids=["dropping headers", "half a line", "nothing", "empty lines", "after an answer", "half a body"],
)
def test_silent_or_dropping_connection_is_closed(
    strict: int, first: bytes, drop: bytes, least: float, most: float
) -> None:
    assert least <= _seconds_until_closed(strict, first, drop) < most


def test_address_with_too_many_connections_gets_only_health_checks(strict: int) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(4):
            stack.enter_context(socket.create_connection(("127.0.0.1", strict), timeout=60))
        last = HOST + b"Connection: close\r\n\r\n"
        status, headers, body = _exchange(strict, b"GET /v1/workflows HTTP/1.1\r\n" + last)
        assert (status, json.loads(body)["code"]) == ("HTTP/1.1 503 Service Unavailable", 503001)
        assert headers["retry-after"] == "1"
        assert _exchange(strict, b"GET /healthz HTTP/1.1\r\n" + last)[0] == "HTTP/1.1 200 OK"
    assert _exchange(strict, b"GET /v1/workflows HTTP/1.1\r\n" + last)[0] == "HTTP/1.1 401 Unauthorized"


def test_descriptors_are_kept_for_health_checks() -> None:
    found = Connections.of(Settings(reserved_descriptors=20))
    assert (found.most, found.most_beyond) == (resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 20, 5)
    full = Connections(most=2, most_beyond=2, most_per_address=0, head_s=1, idle_s=1)
    made = [_Cut() for _ in range(5)]
    admitted = [full.admit(one, f"10.0.0.{number}") for number, one in enumerate(made)]
    assert admitted == [ConnectionHandling.FULL, ConnectionHandling.FULL, *[ConnectionHandling.HEALTH_ONLY] * 3]
    assert [one.is_cut for one in made] == [False, False, True, False, False]
    for number, one in enumerate(made):
        full.leave(one, f"10.0.0.{number}", admitted[number])
    assert full.admit(_Cut(), "10.0.0.9") is ConnectionHandling.FULL


class _Cut:
    """A connection that says whether it was cut."""

    is_cut = False

    def abort(self) -> None:
        self.is_cut = True


@pytest.fixture(scope="module")
def cramped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server process that may open 256 files, and allows 100 connections of an address."""
    server = ServerProcess(tmp_path_factory.mktemp("cramped") / "data", {"max_connections_per_address": "100"})
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, before[1]))
    try:
        server.start()  # it inherits the limit
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    try:
        asyncio.run(server.wait_ready())
        yield server
    finally:
        asyncio.run(server.stop())


def _status(port: int, address: str, path: bytes) -> str:
    """How a request of this address is answered; empty if the server hangs up."""
    request = b"GET " + path + b" HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n"
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=60, source_address=(address, 0)) as connection:
            connection.sendall(request)
            return connection.recv(65_536).partition(b"\r\n")[0].decode()
    except ConnectionError:
        return ""


def test_process_with_few_descriptors_answers_health_checks_and_runs_on(cramped: ServerProcess) -> None:
    port, api, health = cramped.port, b"/v1/workflows", b"/healthz"
    nodes = {
        "root": {"type": "manual", "children": ["work"]},
        "work": {"type": "code-transform", "payload": {"code": "return 6 * 7"}},
    }
    headers = {"Authorization": f"Bearer {cramped.owner_key}"}
    with contextlib.ExitStack() as stack:

        def idle(address: str, count: int) -> None:
            for _ in range(count):
                place = ("127.0.0.1", port)
                stack.enter_context(socket.create_connection(place, timeout=60, source_address=(address, 0)))

        client = stack.enter_context(httpx.Client(base_url=cramped.base, headers=headers, timeout=60))
        assert client.get("/v1/workflows").status_code == 200
        idle("127.0.0.2", 200)  # more than an address may have
        assert [_status(port, "127.0.0.2", path) for path in (health, api)] == ["HTTP/1.1 200 OK", _UNAVAILABLE]
        assert _status(port, "127.0.0.3", api) == "HTTP/1.1 401 Unauthorized"
        for address in ("127.0.0.4", "127.0.0.5", "127.0.0.6"):  # more than the process may have
            idle(address, 100)
        for address in ("127.0.0.2", "127.0.0.7", "127.0.0.8"):
            assert [_status(port, address, path) for path in (health, api)] == ["HTTP/1.1 200 OK", _UNAVAILABLE]
        run_id = client.post("/v1/runs", json={"definition": {"nodes": nodes}}).json()["data"]["runId"]
        assert client.get(f"/v1/runs/{run_id}/stream").text.endswith("event: end\ndata: {}\n\n")
        ended = client.get(f"/v1/runs/{run_id}").json()["data"]
        assert ended["executionState"]["work"]["result"]["value"] == 42
    assert _status(port, "127.0.0.2", api) == "HTTP/1.1 401 Unauthorized"
    assert '"level": "error"' not in cramped.log_tail(10_000)
