"""`dustrun mcp`: MCP over standard input and output, for clients that start a program instead of asking a server."""

from __future__ import annotations

import base64
import contextlib
import http.client
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any, BinaryIO, Final

from dustrun.cli.http.client import Client
from dustrun.cli.http.failures import CliError
from dustrun.cli.http.options import SERVER, Key, Server, client_of
from dustrun.core.values import exact_json

Json = dict[str, Any]
_AT_ONCE: Final = 8
_MOST_LINE: Final = 1_048_576
_VERSION_OF: Final = "io.modelcontextprotocol/protocolVersion"
_NAMED_BY: Final = {"tools/call": "name", "prompts/get": "name", "resources/read": "uri"}
_PARSE_ERROR: Final = -32700
_TOO_LARGE: Final = -32600
_NO_ANSWER: Final = -32000


class Bridge:
    """Passes messages on to `/mcp` of a server, several at once, and writes the answers, a line each."""

    def __init__(self, client: Client, out: BinaryIO) -> None:
        self._client = client
        self._out = out
        self._writing = threading.Lock()
        self._version: str | None = None

    def carry(self, source: BinaryIO) -> None:
        """Until the source ends; answers that are still awaited are written."""
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            while line := source.readline(_MOST_LINE + 1):
                if len(line) > _MOST_LINE:
                    self._skip(source, line)
                elif line.strip():
                    self._take(pool, line)

    def _skip(self, source: BinaryIO, line: bytes) -> None:
        while line and not line.endswith(b"\n"):
            line = source.readline(_MOST_LINE)
        self._write(_error(None, _TOO_LARGE, f"A message has at most {_MOST_LINE} bytes."))

    def _take(self, pool: ThreadPoolExecutor, line: bytes) -> None:
        try:
            message = exact_json.loads(line)
        except ValueError:
            message = None
        if not isinstance(message, dict):
            self._write(_error(None, _PARSE_ERROR, "A line must be one JSON-RPC message."))
        elif message.get("method") == "initialize":
            self._pass_on(message)  # what follows depends on it
        else:
            pool.submit(self._pass_on, message)

    def _pass_on(self, message: Json) -> None:
        try:
            answer = self._ask(message)
        except (CliError, OSError, http.client.HTTPException, ValueError) as error:
            answer = _error(message.get("id"), _NO_ANSWER, str(error))
        if answer is not None and "id" in message:
            self._write(answer)

    def _ask(self, message: Json) -> Json | None:
        response, connection = self._client.open("POST", "/mcp", message, self._headers(message))
        try:
            text = response.read()
        finally:
            connection.close()
        if response.status == 202:
            return None
        answer = exact_json.loads(text)
        if not isinstance(answer, dict) or "jsonrpc" not in answer:
            told = answer.get("message") if isinstance(answer, dict) else None
            return _error(message.get("id"), _NO_ANSWER, str(told or f"The server answered {response.status}."))
        result = answer.get("result")
        if message.get("method") == "initialize" and isinstance(result, dict):
            self._version = result.get("protocolVersion")
        return {**answer, "id": message.get("id")}

    def _headers(self, message: Json) -> dict[str, str]:
        headers = {"Accept": "application/json"}
        params = message.get("params")
        params = params if isinstance(params, dict) else {}
        meta = params.get("_meta")
        stateless = meta.get(_VERSION_OF) if isinstance(meta, dict) else None
        if isinstance(stateless, str):
            method = str(message.get("method"))
            headers |= {"MCP-Protocol-Version": _header(stateless), "Mcp-Method": _header(method)}
            name = params.get(_NAMED_BY.get(method, ""))
            if isinstance(name, str):
                headers["Mcp-Name"] = _header(name)
        elif self._version is not None and message.get("method") != "initialize":
            headers["MCP-Protocol-Version"] = _header(self._version)
        return headers

    def _write(self, answer: Json) -> None:
        with self._writing:
            self._out.write(exact_json.dumps(answer) + b"\n")
            self._out.flush()


def _header(text: str) -> str:
    if text.isascii() and text.isprintable() and text == text.strip() and not text.startswith("=?base64?"):
        return text
    return f"=?base64?{base64.b64encode(text.encode()).decode()}?="


def _error(number: Any, code: int, message: str) -> Json:
    return {"jsonrpc": "2.0", "id": number, "error": {"code": code, "message": message}}


def mcp(server: Server = SERVER, key: Key = None) -> None:
    """Speak MCP over standard input and output (stdio), and forward every message to the server.

    Give the client a key of the scope mcp: `dustrun keys create NAME --scope mcp`, in DUSTRUN_API_KEY.
    """
    with contextlib.suppress(BrokenPipeError):  # the client has left
        Bridge(client_of(server, key), sys.stdout.buffer).carry(sys.stdin.buffer)
