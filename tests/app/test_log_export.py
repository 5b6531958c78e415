"""The log's lines, as a real receiver of OTLP over HTTP gets them."""

from __future__ import annotations

import gzip
import http.server
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from pydantic import ValidationError

from dustrun import log
from dustrun.settings import Settings
from testkit.composition import composed

KEY = "sk_" + "a" * 40


@dataclass
class Receiver:
    """What came in."""

    url: str = ""
    raw: bytes = b""
    lines: list[Any] = field(default_factory=list)

    def take(self, body: bytes) -> None:
        self.raw += body
        for resource in ExportLogsServiceRequest.FromString(body).resource_logs:
            assert {one.key: one.value.string_value for one in resource.resource.attributes}[
                "service.name"
            ] == "dustrun"
            self.lines += [line for scope in resource.scope_logs for line in scope.log_records]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    found = Receiver()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"] or 0))
            if self.path == "/v1/logs":
                found.take(gzip.decompress(body) if self.headers["Content-Encoding"] == "gzip" else body)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            """Says nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        found.url = f"http://127.0.0.1:{server.server_port}"
        yield found
        server.shutdown()


def _attributes(line: Any) -> dict[str, Any]:
    return {one.key: one.value.string_value or one.value.int_value or one.value.bool_value for one in line.attributes}


async def test_lines_arrive_masked_with_what_they_say(tmp_path: Path, receiver: Receiver) -> None:
    async with composed(tmp_path, otlp_endpoint=receiver.url, otlp_logs=True):
        logger = log.get("dustrun.test")
        logger.debug("below the level of the log")
        try:
            raise ValueError(f"refused with {KEY}")
        except ValueError as error:
            facts: dict[str, Any] = {
                "run_id": "run_1",
                "api_key": "hidden",
                "count": 3,
                "big": 2**70,
                "parts": {"a": 1},
            }
            logger.error("the thing failed", said=f"the key {KEY}", none=None, exc_info=error, **facts)
    logger.error("after the server has stopped")
    (line,) = [one for one in receiver.lines if _attributes(one)["dustrun.module"] == "dustrun.test"]
    assert (line.body.string_value, line.severity_text, line.severity_number) == ("the thing failed", "ERROR", 17)
    assert line.time_unix_nano > 1_700_000_000 * 10**9
    attributes = _attributes(line)
    assert "ValueError: refused with sk_***" in attributes.pop("exception.stacktrace")
    assert attributes == {
        **{"dustrun.module": "dustrun.test", "dustrun.run_id": "run_1", "dustrun.count": 3},
        **{"dustrun.api_key": "***", "dustrun.said": "the key sk_***"},
        **{"dustrun.big": str(2**70), "dustrun.parts": "{'a': 1}"},
    }
    assert KEY.encode() not in receiver.raw


async def test_what_sends_does_not_send_its_own_complaints(tmp_path: Path, receiver: Receiver) -> None:
    async with composed(tmp_path, otlp_endpoint=receiver.url, otlp_logs=True):
        for module in ("opentelemetry.exporter", "urllib3.connectionpool", "dustrun.test"):
            log.get(module).error("the receiver is away")
    assert {_attributes(line)["dustrun.module"] for line in receiver.lines if line.severity_number == 17} == {
        "dustrun.test"
    }


async def test_nothing_is_sent_unless_asked_for(tmp_path: Path, receiver: Receiver) -> None:
    async with composed(tmp_path, otlp_endpoint=receiver.url):
        log.get("dustrun.test").warning("kept")
    assert receiver.lines == []


@pytest.mark.parametrize("name", ["otlp_logs", "otlp_propagate"])
def test_what_needs_a_receiver_is_refused_without_one(name: str) -> None:
    given: Any = {name: True}
    with pytest.raises(ValidationError, match="needs otlp_endpoint, where the receiver is"):
        Settings(**given)
    assert Settings(**given, otlp_endpoint="http://127.0.0.1:4318")
