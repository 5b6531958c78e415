"""`ctx.commands`: programs of this machine that its operator has named, spoken to line by line."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import field
from typing import Protocol

from dustrun.records import dataclass


@dataclass(frozen=True, slots=True)
class CommandLine:
    """A program to start. `env`: variables that it gets beside PATH, HOME and LANG; secret."""

    command: str
    args: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict, repr=False)


class Program(Protocol):
    """A started program."""

    async def send(self, line: bytes, *, only_reads: bool) -> None:
        """Writes a line to its standard input. `only_reads`: it makes the program change nothing, so that a simulation
        sends it too. Raises `Temporary` if the program has ended."""
        ...

    async def receive(self) -> bytes | None:
        """The next line of its standard output, None when it has ended; raises `Permanent` for a line that is too
        long."""
        ...


class Commands(Protocol):
    """Starts programs."""

    def check(self, line: CommandLine) -> None:
        """Raises `Refused` unless the operator has named the command."""
        ...

    def start(self, line: CommandLine) -> AbstractAsyncContextManager[Program]:
        """Starts a program, and ends it with all that it started when the context ends. Raises `Refused` as `check`
        does, and `Permanent` if it cannot be started."""
        ...
