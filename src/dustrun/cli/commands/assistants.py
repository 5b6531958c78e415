"""`dustrun chat`: ask the assistant, follow what it does, and decide about what it proposes."""

from __future__ import annotations

import base64
import contextlib
import http.client
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any, BinaryIO, Final

import typer

from dustrun.cli.http.client import Client, segment
from dustrun.cli.http.failures import CliError, Exit
from dustrun.cli.http.options import SERVER, AsJson, Key, Limit, Offset, Server, client_of
from dustrun.cli.http.sse import Stream
from dustrun.cli.render import output
from dustrun.cli.render.tables import show_page
from dustrun.core.stream_events import (
    APPROVAL_DECIDED,
    APPROVAL_REQUESTED,
    RUN_LINKED,
    TEXT_DELTA,
    TOOL_FINISHED,
    TOOL_STARTED,
    TURN_FAILED,
    TURN_FINISHED,
)
from dustrun.core.values import exact_json

app = typer.Typer(no_args_is_help=True, help="Ask the assistant, and decide on its proposals.")
Conversation = Annotated[str, typer.Argument(metavar="CONVERSATION", help="Id of the conversation.")]
_OVER: Final = (TURN_FINISHED, TURN_FAILED)
_MOST_TITLE: Final = 60
_COLUMNS: Final = ["conversation", "title", "created"]


@app.command()
def ask(
    text: Annotated[str, typer.Argument(metavar="TEXT", help="What you want; - reads it from the standard input.")],
    conversation: Annotated[str | None, typer.Option("--in", help="Continue this conversation.")] = None,
    connector: Annotated[str | None, typer.Option("--connector", help="Connector of the model, conn_….")] = None,
    model: Annotated[str | None, typer.Option("--model", help="Model; default: that of the connector.")] = None,
    workflow: Annotated[str | None, typer.Option("--workflow", help="Workflow that you ask about, wf_….")] = None,
    as_json: AsJson = False,
    server: Server = SERVER,
    key: Key = None,
) -> None:
    """Ask the assistant, and show its answer, tool calls and proposals as they arrive. Ctrl-C stops the turn."""
    client = client_of(server, key)
    said = sys.stdin.read() if text == "-" else text
    chat = conversation or client.post("/v1/conversations", {"title": said.strip()[:_MOST_TITLE]})["id"]
    given = {"connectorId": connector, "model": model, "workflowId": workflow}
    body = {"text": said, **{name: value for name, value in given.items() if value is not None}}
    message = client.post(f"/v1/conversations/{segment(chat)}/turns", body)["messageId"]
    turn = _Turn(client, chat, message, as_json=as_json)
    try:
        failed = turn.follow()
    except KeyboardInterrupt:
        client.post(f"/v1/conversations/{segment(chat)}/turns/{segment(message)}/stop")
        output.note("Stopped. What it had started goes on.")
        raise
    if not as_json:
        output.note(f"Go on: dustrun chat ask --in {chat} …")
    if failed:
        raise typer.Exit(Exit.FAILURE)


class _Turn:
    """The view of one turn."""

    def __init__(self, client: Client, chat: str, message: str, *, as_json: bool) -> None:
        self._client = client
        self._path = f"/v1/conversations/{segment(chat)}/stream"
        self._message = message
        self._as_json = as_json
        self._is_in_line = False

    def follow(self) -> bool:
        """Shows the turn until it ends, or waits for somebody else; True if it failed."""
        stream = Stream(self._client, self._path, on_break=lambda why: output.note(f"The stream broke: {why}"))
        try:
            for event in stream:
                if event.get("messageId") != self._message:
                    continue
                if self._as_json:
                    output.write_json(event)
                else:
                    self._show(event)
                if event["type"] in _OVER:
                    return bool(event["type"] == TURN_FAILED)
                if event["type"] == APPROVAL_REQUESTED and not self._decide(event):
                    return False
        finally:
            stream.close()
        return False

    def _show(self, event: dict[str, Any]) -> None:
        kind = event["type"]
        if kind == TEXT_DELTA:
            output.write(event["text"])
            self._is_in_line = True
            return
        if self._is_in_line:
            output.say("")
            self._is_in_line = False
        if kind == TOOL_STARTED:
            output.note(f"→ {event['tool']} {output.compact(event['args'])}")
        elif kind == TOOL_FINISHED and not event["ok"]:
            output.note("  refused")
        elif kind == RUN_LINKED:
            output.note(f"  run {event['runId']} ({event['mode']})")
        elif kind == APPROVAL_DECIDED:
            output.note(f"  {event['decision']}")
        elif kind == TURN_FAILED:
            output.note(f"It ended ({event['code']}): {event['message']}")
        elif kind == TURN_FINISHED:
            usage = event["usage"]
            output.note(f"{usage['requests']} requests, {usage['calls']} calls, {usage['costUsd']} USD")

    def _decide(self, event: dict[str, Any]) -> bool:
        """Shows what a launch would do, and asks the person; False if nobody is there to be asked."""
        approval = segment(event["approvalId"])
        if not (sys.stdin.isatty() and sys.stderr.isatty()) or self._as_json:
            output.note(f"It waits for a decision: dustrun approvals show {event['approvalId']}")
            return False
        from dustrun.cli.render import report  # slow import

        output.draw(report.draw(self._client.get(f"/v1/runs/{segment(event['rehearsalRunId'])}/effects")))
        does = typer.confirm(f"Run this now ({event['mode']})?", default=False, err=True)
        body = {"binding": event["binding"]} if does else {}
        self._client.post(f"/v1/approvals/{approval}/{'approve' if does else 'reject'}", body)
        return True


def _messages(client: Client, chat: str) -> Iterator[dict[str, Any]]:
    """All messages of a conversation, oldest first."""
    read = 0
    while True:
        page = client.get(f"/v1/conversations/{chat}/messages", limit=100, offset=read)
        yield from page["items"]
        read += len(page["items"])
        if not page["hasMore"]:
            return


@app.command("list")
def list_conversations(
    limit: Limit = 20, offset: Offset = 0, as_json: AsJson = False, server: Server = SERVER, key: Key = None
) -> None:
    """List conversations, newest first."""
    page = client_of(server, key).get("/v1/conversations", limit=limit, offset=offset)
    show_page(page, _COLUMNS, lambda one: [one["id"], one["title"], one["createdAt"]], as_json, spare=("created",))


@app.command()
def show(conversation: Conversation, as_json: AsJson = False, server: Server = SERVER, key: Key = None) -> None:
    """Show the messages of a conversation."""
    for one in _messages(client_of(server, key), segment(conversation)):
        if as_json:
            output.write_json(one)
            continue
        posted = " (posted)" if one.get("isPosted") else ""
        output.say(f"{one['role']}{posted}: {one['content']}")
        for part in one.get("parts") or ():
            if part["type"] == "tool_call":
                output.note(f"→ {part['tool']} {output.compact(part['args'])}")
        if one.get("failure"):
            output.note(f"It ended ({one['failure']}).")


@app.command()
def stop(conversation: Conversation, as_json: AsJson = False, server: Server = SERVER, key: Key = None) -> None:
    """Stop the assistant's turn in a conversation, and withdraw its proposals."""
    client, chat = client_of(server, key), segment(conversation)
    for one in _messages(client, chat):
        if one.get("status") in ("streaming", "waiting"):
            ended = client.post(f"/v1/conversations/{chat}/turns/{segment(one['id'])}/stop")
            if as_json:
                output.write_json(ended)
            else:
                output.say(f"{ended['messageId']}  {ended['failure'] or ended['status']}")
            return
    output.note("No turn of the conversation is under way.")


# `dustrun mcp`: MCP over standard input and output, for clients that start a program instead of asking a server.


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
