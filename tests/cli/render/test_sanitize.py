"""What others wrote commands no terminal, however it is shown; colours of ours stay."""

from __future__ import annotations

import io
from typing import cast

import pytest
from rich.console import Console, RenderHook
from rich.text import Text
from rich.tree import Tree

from dustrun.cli.render import output
from dustrun.cli.render.output import Plain, PlainOnly, plain, plain_cell
from dustrun.cli.render.tables import draw_table, table

EVIL = "pay\x1b[1A\x1b[2K\x9b2J\x07\r\u202emoc.live\u2066"


def terminal() -> Console:
    console = Console(file=io.StringIO(), width=80, force_terminal=True, color_system="standard", highlight=False)
    console.push_render_hook(cast(RenderHook, PlainOnly()))
    return console


def shown(console: Console) -> str:
    return cast(io.StringIO, console.file).getvalue()


@pytest.mark.parametrize("text", ["", "a\tb\nc", "Zürich – 東京 🌍 'x' \u200d"])
def test_texts_stay_what_they_are(text: str) -> None:
    assert plain(text) == text


def test_a_cell_is_one_line() -> None:
    assert plain_cell("a\tb\nc\u2028d\x1b") == "a b c d\ufffd"


def test_a_table_and_a_tree_keep_their_colours_alone() -> None:
    console = terminal()
    draw_table(console, ["name", "status"], [[EVIL, "success"]], ())
    tree = Tree(Text("run", style="green"))
    tree.add(Text(EVIL))
    console.print(Plain(tree))
    told = shown(console)
    assert "\x1b[32msuccess" in told
    assert "\x1b[32mrun" in told
    for command in ("\x1b[1A", "\x1b[2K", "\x9b", "\x07", "\r", "\u202e", "\u2066"):
        assert command not in told
    assert told.count("pay\ufffd[1A") == 2


def test_lines_are_plain_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    output.say(EVIL)
    output.note(EVIL)
    table(["name"], [[f"{EVIL}\n\t"]])
    told = capsys.readouterr()
    assert told.out == f"{plain(EVIL)}\n{plain(EVIL)}  \n"
    assert told.err == f"{plain(EVIL)}\n"
    assert "\x1b" not in told.out
