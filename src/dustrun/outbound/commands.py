"""Starts the programs that the operator has named, each for one use, without this server's environment.

The setting `mcp_commands` names them, one command line an entry.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shlex
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final

from dustrun.errors import Code, Permanent, Refused, Temporary
from dustrun.records import dataclass
from dustrun.sdk.programs import CommandLine

_AT_ONCE: Final = 8
_LEAVE_S: Final = 0.5
_KEPT: Final = ("PATH", "HOME", "LANG")
_MORE: Final = "*"
_VARIABLE: Final = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)=\*")


@dataclass(frozen=True, slots=True)
class CommandRule:
    """One command line. `takes_more`: further arguments may follow; `variables`: those that a connector may set."""

    words: tuple[str, ...]
    takes_more: bool
    variables: frozenset[str]

    def allows(self, words: Sequence[str], env: Mapping[str, str]) -> bool:
        """Whether a connector may start this."""
        if not env.keys() <= self.variables:
            return False
        own = len(self.words)
        return tuple(words[:own]) == self.words and (self.takes_more or len(words) == own)


def parse_command(entry: str) -> CommandRule:
    """Reads an entry: `TOKEN=* /usr/bin/server --flag *`. Raises `ValueError`."""
    words = shlex.split(entry)
    variables = []
    while words and (found := _VARIABLE.fullmatch(words[0])):
        variables.append(found[1])
        words = words[1:]
    takes_more = bool(words) and words[-1] == _MORE
    own = tuple(words[:-1] if takes_more else words)
    if not own or _MORE in own:
        raise ValueError(f'"{entry}" is no command line like `/usr/bin/server --flag`, or with ` *` at its end')
    return CommandRule(own, takes_more, frozenset(variables))


class NamedCommands:
    """The `ctx.commands` of every node. `named`: the setting `mcp_commands`; `max_bytes` limits a line of output."""

    def __init__(self, named: Sequence[str], max_bytes: int) -> None:
        self._rules = [parse_command(entry) for entry in named]
        self._max_bytes = max_bytes
        self._turns = asyncio.Semaphore(_AT_ONCE)

    def check(self, line: CommandLine) -> None:
        """Raises `Refused` unless a rule allows the command, its arguments and its variables."""
        words = (line.command, *line.args)
        if not any(rule.allows(words, line.env) for rule in self._rules):
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
