"""What a subscription scans next."""

from __future__ import annotations

import pytest

from dustrun.core.triggers.chain.cursor import NEAR, Cursor, Scan, Skip, Wait, plan


@pytest.mark.parametrize(
    ("cursor", "target", "most", "ranges", "expected"),
    [
        (Cursor(10, "h"), 10, 100, True, Wait()),
        (Cursor(10, "h"), 3, 100, True, Wait()),
        (Cursor(10, "h"), 11, 100, True, Scan(11, 11, by_range=False)),
        (Cursor(10, "h", done=4), 10, 100, True, Scan(10, 10, by_range=False)),
        (Cursor(0, "h"), 1000, 5000, True, Scan(1, 1000 - NEAR, by_range=True)),
        (Cursor(0, "h"), 1000, 5000, False, Scan(1, 1000, by_range=False)),
        (Cursor(0, "h", done=3), 1000, 5000, True, Scan(0, 1000, by_range=False)),
        (Cursor(0, "h"), 2 * NEAR, 5000, True, Scan(1, 2 * NEAR, by_range=False)),
        (Cursor(0, "h"), 1000, 1000, False, Scan(1, 1000, by_range=False)),
        (Cursor(0, "h"), 1000, 999, False, Skip(1, 1)),
        (Cursor(0, "h"), 1000, 100, True, Skip(1, 900)),
    ],
)
def test_plan(cursor: Cursor, target: int, most: int, ranges: bool, expected: object) -> None:
    assert plan(cursor, target, most, ranges) == expected


@pytest.mark.parametrize("cursor", [Cursor(3, "0xab"), Cursor(3, "0xab", done=0)])
def test_cursor_is_read_back(cursor: Cursor) -> None:
    assert Cursor.of(cursor.public()) == cursor


def test_no_cursor_is_none() -> None:
    assert Cursor.of(None) is None
    assert Cursor.of({}) is None
