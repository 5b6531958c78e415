"""The examples of the help: every command has some, and each is one that the command line takes."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import Any

import pytest
from click.testing import CliRunner

from dustrun.cli.http.examples import OF
from dustrun.cli.main import commands

ROOT: Any = commands()
"""Made once: of all that a help costs, nearly everything is the making of all commands."""


def leaves(command: Any, words: str = "") -> Iterator[tuple[str, Any]]:
    children = getattr(command, "commands", None)
    if not children:
        yield words, command
        return
    for name, child in children.items():
        yield from leaves(child, f"{words} {name}".strip())


COMMANDS = dict(leaves(ROOT))


def test_every_command_has_examples_and_no_other_has() -> None:
    assert set(OF) == {"", *COMMANDS}


@pytest.mark.parametrize("line", [line for lines in OF.values() for line in lines])
def test_each_example_is_taken(line: str) -> None:
    words = shlex.split(line.partition(" > ")[0])[1:]
    name = next(name for size in (2, 1) if (name := " ".join(words[:size])) in COMMANDS)
    command = COMMANDS[name]
    context = command.make_context(name, words[len(name.split()) :], resilient_parsing=False)
    assert name == "doctor" or len(words) == len(name.split()) or any(context.params.values())


@pytest.mark.parametrize("words", [[], *(name.split() for name in COMMANDS)])
def test_help_fits_eighty_columns_and_shows_an_example(words: list[str]) -> None:
    told = CliRunner().invoke(ROOT, [*words, "--help"], env={"COLUMNS": "80"}).output
    assert max(map(len, told.splitlines())) <= 80
    assert "For example:" in told
