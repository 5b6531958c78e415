"""How messages reach an MCP server: by HTTP through the guarded client, or through the pipes of a program."""

from __future__ import annotations

import asyncio
import base64
from contextlib import suppress
from typing import Any, Final, NoReturn, Protocol

from dustrun.core.values.exact_json import JsonError, dumps, loads
from dustrun.errors import DustrunError, Permanent, Temporary, Uncertain
from dustrun.sdk.context import Http, HttpRequest, HttpResponse
from dustrun.sdk.programs import Program
from dustrun.sdk.threads import run_sized

Json = dict[str, Any]
_ACCEPT: Final = "application/json, text/event-stream"
_EXCERPT_CHARS: Final = 300
_END_S: Final = 5.0
_MOST_LINES: Final = 10_000
_UNKNOWN_METHOD: Final = -32601


class Refusal(Permanent):
    """The server answered with an error of the protocol; `told` is its code."""

    told: int = 0


class Wire(Protocol):
    """Carries messages."""

    async def ask(self, method: str, params: Json, timeout_s: float, *, only_reads: bool) -> Json:
        """The result of a request. Raises `Refusal`; `Temporary` if nothing was done, `Uncertain` if something may have
        been, and `TimeoutError` in the place of both."""
        ...

    async def tell(self, method: str, timeout_s: float) -> None:
        """Sends a notification."""
        ...

    def speak(self, version: str, *, is_stateless: bool = False) -> None:
        """Sets the revision that both sides speak."""
        ...


class HttpWire:
    """Streamable HTTP. Each answer is read whole, within the limits of the client."""

    def __init__(self, http: Http, url: str) -> None:
        self._http = http
        self._url = url
        self._headers = {"Content-Type": "application/json", "Accept": _ACCEPT}
        self._is_stateless = False
        self._number = 0

    def speak(self, version: str, *, is_stateless: bool = False) -> None:
        """Each further request names the revision."""
        if version.isascii() and version.isprintable():
            self._headers["MCP-Protocol-Version"] = version
        self._is_stateless = is_stateless

    async def ask(self, method: str, params: Json, timeout_s: float, *, only_reads: bool) -> Json:
        """Posts a request."""
        self._number += 1
        message = {"jsonrpc": "2.0", "id": self._number, "method": method, "params": params}
        named = self._routing(method, params) if self._is_stateless else {}
        request = self._request(message, timeout_s, only_reads=only_reads, headers=named)
        response = await self._http.request(request)
        answer = await run_sized(response.body, _answer_in, response, self._number)
        if answer is None or response.status >= 500:
            _raise_unanswered(response, method, only_reads=only_reads)
        session = response.headers.get("mcp-session-id")
        if session is not None:
            self._headers["Mcp-Session-Id"] = session
        return _result_of(answer, method)

    async def tell(self, method: str, timeout_s: float) -> None:
        """Posts a notification."""
        note = {"jsonrpc": "2.0", "method": method}
        await self._http.request(self._request(note, timeout_s, only_reads=True))

    async def end(self) -> None:
        """Ends the session, if the server has made one; whether it could is of no interest."""
        if "Mcp-Session-Id" in self._headers:
            with suppress(DustrunError):
                headers = {name: text for name, text in self._headers.items() if name != "Content-Type"}
                await self._http.request(
                    HttpRequest("DELETE", self._url, headers, timeout_s=_END_S, max_redirects=0, only_reads=True)
                )

    def _routing(self, method: str, params: Json) -> dict[str, str]:
        name = params.get("name")
        return {"Mcp-Method": method} if name is None else {"Mcp-Method": method, "Mcp-Name": _header_text(str(name))}

    def _request(
        self, message: Json, timeout_s: float, *, only_reads: bool, headers: dict[str, str] | None = None
    ) -> HttpRequest:
        return HttpRequest(
            "POST",
            self._url,
            {**self._headers, **(headers or {})},
            dumps(message),
            timeout_s,
            max_redirects=0,
            safe=only_reads,
            only_reads=only_reads,
        )


class ProgramWire:
    """The pipes of a program: a message a line."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self._number = 0

    def speak(self, version: str, *, is_stateless: bool = False) -> None:
        """Nothing to set: messages say it themselves."""

    async def ask(self, method: str, params: Json, timeout_s: float, *, only_reads: bool) -> Json:
        """Writes a request, and reads until its answer."""
        self._number += 1
        message = {"jsonrpc": "2.0", "id": self._number, "method": method, "params": params}
        async with asyncio.timeout(timeout_s):
            await self._program.send(dumps(message), only_reads=only_reads)
            for _ in range(_MOST_LINES):
                line = await self._program.receive()
                if line is None:
                    break
                found = await run_sized(line, _message_in, line)
                if found is None:
                    continue
                if _answers(found, self._number):
                    return _result_of(found, method)
                await self._reply(found)
        lost = f"The MCP server has ended without an answer to {method}"
        raise Temporary(f"{lost}.") if only_reads else Uncertain(f"{lost}; the tool may have done its work.")

    async def tell(self, method: str, timeout_s: float) -> None:
        """Writes a notification."""
        async with asyncio.timeout(timeout_s):
            await self._program.send(dumps({"jsonrpc": "2.0", "method": method}), only_reads=True)

    async def _reply(self, asked: Json) -> None:
        """Answers what the server asks: a ping; it may ask for nothing else."""
        if "id" not in asked or "method" not in asked:
            return
        refused = {"error": {"code": _UNKNOWN_METHOD, "message": "This client does not answer that."}}
        answer: Json = {"result": {}} if asked["method"] == "ping" else refused
        with suppress(Temporary):  # it listens no more, but has been asked, and may still answer
            await self._program.send(dumps({"jsonrpc": "2.0", "id": asked["id"], **answer}), only_reads=True)


def excerpt(text: Any) -> str:
    """The beginning of what a server says, if that is text."""
    if not isinstance(text, str):
        return ""
    return text if len(text) <= _EXCERPT_CHARS else f"{text[:_EXCERPT_CHARS]}…"


def _header_text(text: str) -> str:
    if text.isascii() and text.isprintable() and not text.startswith("=?base64?"):
        return text
    return f"=?base64?{base64.b64encode(text.encode()).decode()}?="


def _raise_unanswered(response: HttpResponse, method: str, *, only_reads: bool) -> NoReturn:
    status = response.status
    if status in (401, 403):
        raise Permanent(f"The MCP server refuses the connector's credential ({status}).")
    if status == 429:
        raise Temporary("The MCP server limits the rate of requests (429).")
    if 300 <= status < 500:
        raise Permanent(f"The MCP server answered {method} with status {status}.")
    what = f"status {status}" if status >= 500 else "something that is no message of the protocol"
    message = f"The MCP server answered {method} with {what}"
    raise Temporary(f"{message}.") if only_reads else Uncertain(f"{message}; the tool may have done its work.")


def _result_of(answer: Json, method: str) -> Json:
    if "error" in answer:
        told = answer["error"] if isinstance(answer["error"], dict) else {"message": answer["error"]}
        refusal = Refusal(f"The MCP server refused {method}: {excerpt(told.get('message'))}")
        code = told.get("code")
        refusal.told = code if isinstance(code, int) else 0
        raise refusal
    result = answer["result"]
    return result if isinstance(result, dict) else {}


def _answer_in(response: HttpResponse, number: int) -> Json | None:
    """The message that answers a request: of a JSON body, or of a stream of events."""
    is_stream = response.headers.get("content-type", "").lower().startswith("text/event-stream")
    for text in _events(response.body) if is_stream else [response.body]:
        found = _message_in(text)
        if found is not None and _answers(found, number):
            return found
    return None


def _message_in(text: bytes) -> Json | None:
    try:
        message = loads(text)
    except JsonError:
        return None
    return message if isinstance(message, dict) else None


def _answers(message: Json, number: int) -> bool:
    is_ours = message.get("id") == number and not isinstance(message.get("id"), bool)
    return is_ours and ("result" in message or "error" in message)


def _events(body: bytes) -> list[bytes]:
    found = []
    for event in body.replace(b"\r\n", b"\n").split(b"\n\n"):
        lines = [line[5:].removeprefix(b" ") for line in event.split(b"\n") if line.startswith(b"data:")]
        if lines:
            found.append(b"\n".join(lines))
    return found
