"""Tables within eighty columns: what is left out, what is broken into lines, and what never is."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from dustrun.cli.commands import approvals, connector, keys, runs, wallet, workflow
from dustrun.cli.commands.transactions import tx
from dustrun.cli.render import tables
from dustrun.cli.render.tables import draw_record, draw_table

AT = "2026-11-26T11:07:09.827Z"
HASH = "0x20cfabb4d09109efb92ef0acc4d5458300863cd424de27b8d80f03619ca1de00"
ADDRESS = "0x7Baa3B931D830D166A64A692232DA2DD41d914C6"
ID = "01m8brt9hae4de3w6f0w3c1rmr"
PAID = f"Send 62.354503 USDC to {ADDRESS} on Local development chain"


def lines(columns: list[str], rows: list[list[Any]], spare: tuple[str, ...] = (), width: int = 80) -> list[str]:
    console = Console(file=io.StringIO(), width=width, highlight=False, force_terminal=True, color_system=None)
    draw_table(console, columns, rows, spare)
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


@pytest.mark.parametrize(
    ("columns", "row", "spare"),
    [
        (runs._COLUMNS, [f"run_{ID}", "success", "simulate", AT, "Take profit", 12, AT], ("ended", "version")),
        (
            runs._COLUMNS,
            ["run_98e63271-dd2f-4fe9-89c5-7f86535c1635", "running", "live", AT, "Pay what is open", 1, None],
            ("ended", "version"),
        ),
        (
            tx._COLUMNS,
            [f"tx_{ID}", "displaced", 11155111, 4, PAID, "each[3].pay", f"run_{ID}", HASH],
            ("run", "hash", "node", "nonce"),
        ),
        (
            wallet._COLUMNS,
            [f"wal_{ID}", "treasury of the shop", ADDRESS, "local", "default", AT],
            ("created", "wallet"),
        ),
        (
            keys._COLUMNS,
            [f"key_{ID}", "shop", "run:read run:stream workflow:execute", f"wf_{ID}", AT, AT, None, None],
            ("revoked", "ends", "last used", "made", "limited to"),
        ),
        (
            keys._REQUESTS,
            [AT, f"key_{ID}", "GET", "/v1/runs/{id}/effects", 200, f"req_{ID}"],
            ("request", "key"),
        ),
        (
            connector._COLUMNS,
            [f"conn_{ID}", "Orders", "oauth2-client-credentials", "api.example.com b.example.com", "no", AT],
            ("updated", "moves money", "hosts"),
        ),
        (
            approvals._COLUMNS,
            [
                f"apr_{ID}",
                "pending",
                f"{PAID}?",
                "Pay what is open",
                "each[3].pay",
                f"run_{ID}",
                AT,
                None,
                "The form says who is paid.",
            ],
            ("why", "decided by", "run", "node", "workflow", "ends"),
        ),
        (workflow._COLUMNS, [f"wf_{ID}", "Pay what is open", "active", 12, 11, 40, AT], ("nodes", "updated", "live")),
    ],
)
def test_every_list_fits_eighty_columns(columns: list[str], row: list[Any], spare: tuple[str, ...]) -> None:
    drawn = lines(columns, [row, row], spare)
    assert max(map(len, drawn)) <= 80
    ids = [str(cell) for name, cell in zip(columns, row, strict=True) if str(cell).endswith(ID) and name in drawn[0]]
    assert all(any(each in line for line in drawn) for each in ids)
    assert len(drawn) <= 2 + 2 * 3  # no cell in more than three lines


def test_what_is_left_out_is_named() -> None:
    drawn = lines(["id", "a", "b"], [["x" * 30, "y" * 30, "z" * 30]], ("a",))
    assert drawn == [
        "id" + " " * 30 + "b",
        "x" * 30 + "  " + "z" * 30,
        "Columns that did not fit: a. --json shows all.",
    ]


def test_times_keep_their_seconds_where_there_is_room() -> None:
    assert lines(["at"], [[AT]]) == ["at", "2026-11-26 11:07:09"]
    assert lines(["at"], [[AT]], width=18) == ["at", "2026-11-26 11:07"]


@pytest.mark.parametrize("run", [f"run_{ID}", "run_98e63271-dd2f-4fe9-89c5-7f86535c1635"])
@pytest.mark.parametrize("status", ["success", "cancelled"])
@pytest.mark.parametrize("mode", ["live", "dustTest", "simulate"])
def test_runs_in_eighty_columns_show_when_they_started(run: str, status: str, mode: str) -> None:
    drawn = lines(runs._COLUMNS, [[run, status, mode, AT, "Pay what is open", 12, AT]], ("ended", "version"))
    *first, day, minute = drawn[1].split()[:5]
    assert (first, day.removeprefix("2026-"), minute[:5]) == ([run, status, mode], "11-26", "11:07")


def test_a_text_breaks_at_words_and_its_addresses_are_short() -> None:
    assert lines(["about", "hash"], [[PAID, HASH]], width=50) == [
        "about                                  hash",
        "Send 62.354503 USDC to 0x7Baa…14C6 on  0x20cfabb4…",
        "Local development chain",
    ]


def test_a_single_thing_is_shown_whole(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console(file=io.StringIO(), width=80, highlight=False, force_terminal=True, color_system=None)
    draw_record(console, ["hash", "made", "none"], [HASH, AT, None])
    assert isinstance(console.file, io.StringIO)
    assert [line.rstrip() for line in console.file.getvalue().splitlines()] == [
        f"hash  {HASH}",
        "made  2026-11-26 11:07:09",
        "none  –",
    ]


def test_elsewhere_than_on_a_terminal_there_are_tabs(capsys: pytest.CaptureFixture[str]) -> None:
    tables.table(["a", "b"], [[AT, None], [HASH, 1]], spare=("b",))
    assert capsys.readouterr().out == f"{AT}\t\n{HASH}\t1\n"
