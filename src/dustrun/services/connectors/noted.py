"""Programs and messaging services of a connector: how they answer is noted of it, as it is of calls over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from dustrun.errors import Permanent, Refused, Temporary, Uncertain
from dustrun.sdk.context import NoConnection
from dustrun.sdk.notice import CheckingNotifier, NotAccepted, Notice
from dustrun.sdk.programs import CommandLine, Commands, Program
from dustrun.services.connectors.connections import OpenConnector

_GONE: Final = (404, 410)
"""The address of a service is its credential: where nothing is at it any more, it was revoked."""
_FORBIDDEN: Final = 403


class NotedCommands:
    """`ctx.commands`: a program that cannot be started, or says nothing, does not answer."""

    def __init__(self, commands: Commands, opened: OpenConnector) -> None:
        self._commands = commands
        self._opened = opened

    def check(self, line: CommandLine) -> None:
        """As without notes."""
        self._commands.check(line)

    @asynccontextmanager
    async def start(self, line: CommandLine) -> AsyncIterator[Program]:
        """Starts a program."""
        noted: NotedProgram | None = None
        silence = NoConnection(f'The command "{line.command[:200]}" does not answer')
        try:
            async with self._commands.start(line) as program:
                noted = NotedProgram(program, self._opened)
                yield noted
        except Refused:
            raise
        except Permanent as error:
            if noted is None:
                await self._opened.connected(NoConnection(error.message))
            raise
        except (Temporary, Uncertain, TimeoutError):
            if noted is not None and not noted.has_answered:
                await self._opened.connected(silence)
            raise


class NotedProgram:
    """A started program; `has_answered`: whether it has said anything."""

    def __init__(self, program: Program, opened: OpenConnector) -> None:
        self._program = program
        self._opened = opened
        self.has_answered = False

    async def send(self, line: bytes, *, only_reads: bool) -> None:
        """Writes a line."""
        await self._program.send(line, only_reads=only_reads)

    async def receive(self) -> bytes | None:
        """The next line."""
        line = await self._program.receive()
        if line is not None and not self.has_answered:
            self.has_answered = True
            await self._opened.connected(None)
        return line


class NotedNotifier:
    """`ctx.notify`: a service that does not answer, or refuses its address or login."""

    def __init__(self, notifier: CheckingNotifier, opened: OpenConnector) -> None:
        self._notifier = notifier
        self._opened = opened

    async def check(self, address: str, notice: Notice) -> None:
        """As without notes."""
        await self._notifier.check(address, notice)

    async def send(self, address: str, notice: Notice) -> str:
        """Sends one message."""
        try:
            service = await self._notifier.send(address, notice)
        except NotAccepted as error:
            status = _FORBIDDEN if error.status in _GONE else error.status
            await self._opened.connected(NoConnection(error.message, status))
            raise
        except NoConnection as error:
            await self._opened.connected(error)
            raise
        except Uncertain as error:
            await self._opened.connected(NoConnection(error.message))
            raise
        await self._opened.connected(None)
        return service
