"""`ctx.http`, `ctx.notify` and `ctx.commands` of a simulated write: all that live does before it sends, and no more.

What a live run would certainly refuse is so refused by the same code. The action stops at its first request; only what
says that it reads (`only_reads`) is really asked before, as all reads of a simulation are.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import NoReturn

from dustrun.sdk.context import CheckingHttp, Http, HttpRequest, HttpResponse
from dustrun.sdk.notice import CheckingNotifier, Notice
from dustrun.sdk.programs import CommandLine, Commands, Program
from dustrun.services.connectors.connections import OpenConnector


class BeforeSending(Exception):
    """The action is about to send, and nothing that can be known before refuses it."""


class RehearsalHttp:
    """`ctx.http`: checks each request, with the credential that a live run would put on it."""

    def __init__(self, http: CheckingHttp, reads: Http, opened: OpenConnector | None = None) -> None:
        self._http = http
        self._reads = reads
        self._opened = opened if opened is not None and opened.type.attaches else None

    async def request(self, request: HttpRequest) -> HttpResponse:
        """Sends what only reads; else raises what live would, or `BeforeSending`."""
        if request.only_reads:
            return await self._reads.request(request)
        if self._opened is not None:
            request = replace(request, authorize=self._opened.rehearse)
        await self._http.check(request)
        raise BeforeSending


class RehearsalNotifier:
    """`ctx.notify`: checks each message."""

    def __init__(self, notifier: CheckingNotifier) -> None:
        self._notifier = notifier

    async def send(self, address: str, notice: Notice) -> NoReturn:
        """Raises what live would, else `BeforeSending`."""
        await self._notifier.check(address, notice)
        raise BeforeSending


class RehearsalCommands:
    """`ctx.commands`: starts programs, and sends them what only reads."""

    def __init__(self, commands: Commands) -> None:
        self._commands = commands

    def check(self, line: CommandLine) -> None:
        """As live."""
        self._commands.check(line)

    @asynccontextmanager
    async def start(self, line: CommandLine) -> AsyncIterator[Program]:
        """As live."""
        async with self._commands.start(line) as program:
            yield _RehearsalProgram(program)


class _RehearsalProgram:
    def __init__(self, program: Program) -> None:
        self._program = program

    async def send(self, line: bytes, *, only_reads: bool) -> None:
        if not only_reads:
            raise BeforeSending
        await self._program.send(line, only_reads=True)

    async def receive(self) -> bytes | None:
        return await self._program.receive()
