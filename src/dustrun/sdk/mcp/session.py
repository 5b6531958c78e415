"""A session with an MCP server: shakes hands, lists tools, calls one.

Listing is a read. A call says itself whether it is one; a write whose answer is lost is `Uncertain`. It begins with the
handshake, which every server knows, and speaks the stateless revision to one that refuses it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

from dustrun.errors import DustrunError, Permanent, Temporary, Uncertain
from dustrun.sdk.context import Http
from dustrun.sdk.mcp.tools import MOST_TOOLS, ListedTool, text_of, tools_of
from dustrun.sdk.mcp.wires import HttpWire, ProgramWire, Refusal, Wire, excerpt
from dustrun.sdk.programs import CommandLine, Commands
from dustrun.sdk.threads import run_sized

# Tools that run as tasks: a call begins one, and its end is asked for until it has come (revision 2025-11-25).


_OVER: Final = frozenset({"completed", "failed"})
_LEAST_MS, _MOST_MS, _USUAL_S = 50, 5_000, 1.0
_CANCEL_S: Final = 5.0


async def end_of(wire: Wire, tool: str, begun: Json, timeout_s: float, *, only_reads: bool) -> Json:
    """The tool's answer, once its task has ended. Raises `TimeoutError` when the time is up, after it has told the
    server to cancel; `Uncertain` when a task that may have written is lost."""
    task = begun.get("task")
    name = task.get("taskId") if isinstance(task, dict) else None
    if not isinstance(task, dict) or not isinstance(name, str):
        raise _lost(f'The tool "{tool}" runs only as a task, and its server began none', only_reads=only_reads)
    is_over = False
    try:
        async with asyncio.timeout(timeout_s):
            while task.get("status") not in _OVER:
                _check(tool, task, only_reads=only_reads)
                await asyncio.sleep(_pause_s(task.get("pollInterval")))
                task = await _ask(wire, "tasks/get", name, timeout_s, only_reads=only_reads)
            is_over = True
            failed = task["status"] == "failed"
            return await _ask(wire, "tasks/result", name, timeout_s, only_reads=only_reads, has_failed=failed)
    finally:
        if not is_over:
            with suppress(DustrunError, TimeoutError):
                await wire.ask("tasks/cancel", {"taskId": name}, _CANCEL_S, only_reads=True)


async def _ask(
    wire: Wire, method: str, task: str, timeout_s: float, *, only_reads: bool, has_failed: bool = False
) -> Json:
    """Asks for a task that has begun. Whatever fails here says nothing of a write: it goes on, or is done."""
    try:
        return await wire.ask(method, {"taskId": task}, timeout_s, only_reads=only_reads)
    except (Temporary, Permanent) as error:
        if only_reads or (has_failed and isinstance(error, Refusal)):
            raise
        raise Uncertain(f"{error.message} The tool had begun, so it may have done its work.") from None


def _check(tool: str, task: Json, *, only_reads: bool) -> None:
    """Raises unless the task goes on."""
    status = task.get("status")
    if status == "input_required":
        raise _lost(f'The tool "{tool}" asks back, and nobody is there', only_reads=only_reads)
    if status != "working":
        raise _lost(f'The task of the tool "{tool}" is {excerpt(status)}', only_reads=only_reads)


def _lost(why: str, *, only_reads: bool) -> DustrunError:
    return Permanent(f"{why}.") if only_reads else Uncertain(f"{why}; it may have done its work.")


def _pause_s(interval: Any) -> float:
    """The interval that the server asks for, in milliseconds, within bounds."""
    if isinstance(interval, bool) or not isinstance(interval, int):
        return _USUAL_S
    return min(max(interval, _LEAST_MS), _MOST_MS) / 1000


Json = dict[str, Any]
_HANDSHAKE: Final = "2025-11-25"
_STATELESS: Final = "2026-07-28"
_CLIENT: Final = {"name": "dustrun", "version": "1"}
_META: Final = {
    "io.modelcontextprotocol/protocolVersion": _STATELESS,
    "io.modelcontextprotocol/clientCapabilities": {},
    "io.modelcontextprotocol/clientInfo": _CLIENT,
}
_WANTS_STATELESS: Final = frozenset({-32022, -32601})
"""Codes by which a server refuses the handshake: an unsupported version, and an unknown method."""
_LOOK_S: Final = 30.0
_MOST_PAGES: Final = 20


class McpSession:
    """A session with one server."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._is_stateless = False

    async def list_tools(self) -> dict[str, ListedTool]:
        """Shakes hands, and reads the server's tools by name. Raises `Temporary` or `Permanent`; nothing was done."""
        try:
            async with asyncio.timeout(_LOOK_S):
                await self._open()
                return await self._list()
        except TimeoutError:
            raise Temporary(f"The MCP server has not told its tools within {_LOOK_S:g} s.") from None

    async def _open(self) -> None:
        params = {"protocolVersion": _HANDSHAKE, "capabilities": {}, "clientInfo": _CLIENT}
        try:
            answer = await self._wire.ask("initialize", params, _LOOK_S, only_reads=True)
        except Refusal as refusal:
            if refusal.told not in _WANTS_STATELESS:
                raise
            self._is_stateless = True
            self._wire.speak(_STATELESS, is_stateless=True)
            return
        version = answer.get("protocolVersion")
        self._wire.speak(version if isinstance(version, str) else _HANDSHAKE)
        await self._wire.tell("notifications/initialized", _LOOK_S)

    async def _list(self) -> dict[str, ListedTool]:
        found: dict[str, ListedTool] = {}
        params: Json = {}
        for _ in range(_MOST_PAGES):
            answer = await self._wire.ask("tools/list", self._with_meta(params), _LOOK_S, only_reads=True)
            for one in tools_of(answer):
                if one.name in found or len(found) >= MOST_TOOLS:
                    why = f"over {MOST_TOOLS} tools" if one.name not in found else f'two tools named "{one.name}"'
                    raise Permanent(f"The MCP server has {why}.")
                found[one.name] = one
            cursor = answer.get("nextCursor")
            if not isinstance(cursor, str):
                return found
            params = {"cursor": cursor}
        raise Permanent(f"The MCP server's list of tools has over {_MOST_PAGES} pages.")

    async def call(
        self, tool: str, args: Mapping[str, Any], timeout_s: float, *, only_reads: bool, as_task: bool = False
    ) -> Json:
        """Calls a tool; raises `Permanent` when the tool itself says that it failed. `as_task`: waits for its task."""
        params = self._with_meta({"name": tool, "arguments": dict(args)})
        if as_task:
            if self._is_stateless:
                raise Permanent(f'The tool "{tool}" runs only as a task, which its revision of MCP does not have.')
            params["task"] = {"ttl": int(timeout_s * 1000)}
        try:
            answer = await self._wire.ask("tools/call", params, timeout_s, only_reads=only_reads)
            if as_task:
                answer = await end_of(self._wire, tool, answer, timeout_s, only_reads=only_reads)
        except TimeoutError:
            late = f'The tool "{tool}" has not answered within {timeout_s:g} s.'
            raise Temporary(late) if only_reads else Uncertain(f"{late} It may have done its work.") from None
        if answer.get("isError") is True:
            raise Permanent(f'The tool "{tool}" failed: {excerpt(await run_sized(answer, text_of, answer))}')
        if answer.get("resultType", "complete") != "complete":
            raise Permanent(f'The tool "{tool}" asks back ({excerpt(answer["resultType"])}), and nobody is there.')
        return answer

    def _with_meta(self, params: Json) -> Json:
        return {**params, "_meta": _META} if self._is_stateless else params


# Opens a session with the server of a connector.


@asynccontextmanager
async def session_with(data: Any, http: Http, commands: Commands) -> AsyncIterator[McpSession]:
    """A session for one look or one call; `data` is that of a connector of type `mcp`."""
    if data.command is not None:
        async with commands.start(command_of(data)) as program:
            yield McpSession(ProgramWire(program))
        return
    wire = HttpWire(http, data.url)
    try:
        yield McpSession(wire)
    finally:
        await wire.end()


def command_of(data: Any) -> CommandLine:
    """The command of a connector that has one."""
    return CommandLine(data.command, tuple(data.args), data.env)
