"""Starts the programs that the operator has named, each for one use, without this server's environment."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

from dustrun.core.text.command_rules import is_allowed_command, parse_command
from dustrun.errors import Code, Permanent, Refused, Temporary
from dustrun.sdk.programs.commands import CommandLine

_AT_ONCE: Final = 8
_LEAVE_S: Final = 0.5
_KEPT: Final = ("PATH", "HOME", "LANG")


class NamedCommands:
    """The `ctx.commands` of every node. `named`: the setting `mcp_commands`; `max_bytes` limits a line of output."""

    def __init__(self, named: Sequence[str], max_bytes: int) -> None:
        self._rules = [parse_command(entry) for entry in named]
        self._max_bytes = max_bytes
        self._turns = asyncio.Semaphore(_AT_ONCE)

    def check(self, line: CommandLine) -> None:
        """Raises `Refused` unless a rule allows the command, its arguments and its variables."""
        if not is_allowed_command(self._rules, (line.command, *line.args), line.env):
            raise Refused(
                f'The operator of this server has not named the command "{line.command[:200]}" with these arguments '
                "and variables in the setting mcp_commands.",
                code=Code.MCP_COMMAND_NOT_ALLOWED,
            )

    @asynccontextmanager
    async def start(self, line: CommandLine) -> AsyncIterator[RunningProgram]:
        """Starts a program, and ends it and all that it started."""
        self.check(line)
        async with self._turns:
            child = await self._start(line)
            try:
                yield RunningProgram(child, self._max_bytes)
            finally:
                await _end(child)

    async def _start(self, line: CommandLine) -> asyncio.subprocess.Process:
        kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
        try:
            return await asyncio.create_subprocess_exec(
                line.command,
                *line.args,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                env={**kept, **line.env},
                cwd="/",
                start_new_session=True,
                limit=self._max_bytes,
            )
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else type(error).__name__
            raise Permanent(f'The command "{line.command[:200]}" cannot be started: {reason}.') from None


class RunningProgram:
    """A started program."""

    def __init__(self, child: asyncio.subprocess.Process, max_bytes: int) -> None:
        assert child.stdin is not None
        assert child.stdout is not None
        self._in, self._out = child.stdin, child.stdout
        self._max_bytes = max_bytes

    async def send(self, line: bytes, *, only_reads: bool) -> None:
        """Writes a line."""
        del only_reads
        try:
            self._in.write(line + b"\n")
            await self._in.drain()
        except (BrokenPipeError, ConnectionResetError):
            raise Temporary("The program has ended before it was asked.") from None

    async def receive(self) -> bytes | None:
        """The next line."""
        try:
            return await self._out.readuntil(b"\n")
        except asyncio.IncompleteReadError:
            return None
        except asyncio.LimitOverrunError:
            raise Permanent(
                f"The program's answer is larger than {self._max_bytes} bytes (setting outbound_max_bytes)."
            ) from None


async def _end(child: asyncio.subprocess.Process) -> None:
    """Closes its input, which tells it to leave; then ends what is left of its group. Its output is closed by hand: the
    end of a pipe that nobody reads is never seen, and waiting would not end either."""
    if child.stdin is not None:
        child.stdin.close()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_LEAVE_S):
            await child.wait()
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child._transport.close()  # type: ignore[attr-defined]  # nothing public does it
    await child.wait()
