from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from rich.console import Console

from cli.render.test_tree import became, started, view_of
from dustrun.cli.render import live, report
from dustrun.cli.render.tree import NodeView, RunView


def drawn(view: RunView) -> list[str]:
    console = Console(width=120, force_terminal=False, color_system=None)
    with console.capture() as capture:
        console.print(live.draw(view))
    return [line.rstrip() for line in capture.get().splitlines()]


def test_the_tree_shows_status_type_time_and_result() -> None:
    view = view_of(
        {"type": "run_started", "mode": "simulate", "version": 2},
        started("check"),
        became("node_succeeded", "check", status="success", branch="then"),
        started("tell"),
        became("node_failed", "tell", error={"code": "502001", "message": "gone"}),
        {"type": "run_finished", "status": "failure"},
    )
    assert drawn(view) == [
        "✗ failure  run_1  simulate  version 2",
        "├── ✓ check  log  1.000 s  → then",
        "└── ✗ tell  log  1.000 s  502001: gone",
    ]


def test_a_long_loop_is_shortened_but_failures_stay() -> None:
    view = view_of(started("each"))
    for index in range(100):
        status = "failure" if index == 3 else "success"
        view.nodes[f"each[{index}].a"] = NodeView(f"each[{index}].a", status=status)
    lines = drawn(view)
    assert len(lines) < 25
    assert "│   └── ✗ a" in "\n".join(lines) or "    │   └── ✗ a" in lines
    assert lines[-1].endswith("… and 92 more: 92 success")


def test_one_line_an_event_where_there_is_no_terminal() -> None:
    events: list[dict[str, Any]] = [
        {"type": "run_started", "mode": "live", "version": 1},
        started("a"),
        became("log", "a", message="hello"),
    ]
    view, lines = RunView(), []
    for event in events:
        event = {"at": "2026-01-31T12:00:00.000Z", "runId": "run_1", **event}
        view.apply(event)
        lines.append(str(live.event_line(event, view)))
    assert lines == ["● running  run_1  version 1", "● a  log", "  a: hello"]


def test_the_report_of_a_simulation_says_what_would_go_out() -> None:
    effects = {
        "mode": "simulate",
        "requests": [
            {"path": "tell", "sent": False, "request": {"method": "POST", "url": "http://x/", "body": {"a": 1}}}
        ],
        "assumed": [{"path": "tell", "why": "not sent"}],
        "warnings": [{"path": "check", "message": "look"}],
        "uncertain": [],
    }
    assert [str(line) for line in report.draw(effects)] == [
        "Would be sent",
        '  tell: POST http://x/  {"a":1}',
        "Assumed",
        "  tell: not sent",
        "Warnings",
        "  check: look",
    ]


def test_the_report_of_a_live_run() -> None:
    effects = {"mode": "live", "requests": [{"path": "a", "sent": True, "request": {"row": 1}}], "uncertain": ["b"]}
    assert [str(line) for line in report.draw(effects)] == ["Went out", '  a: {"row":1}', "Uncertain", "  b"]
    assert [str(line) for line in report.draw({"mode": "live"})] == ["Nothing was sent."]


def test_what_became_of_each_request_of_a_live_run() -> None:
    request = {"method": "POST", "url": "http://x/"}
    facts: list[dict[str, Any]] = [
        {"sent": True, "answered": 200, "status": "success"},
        {"sent": True, "answered": 503, "status": "failure"},
        {"sent": True, "status": "failure"},
        {"sent": True, "status": "uncertain"},
        {"sent": False, "status": "failure"},
    ]
    effects = {"mode": "live", "requests": [{"path": "a", "request": request, **one} for one in facts]}
    assert [str(line) for line in report.draw(effects)] == [
        "Went out",
        "  a: POST http://x/",
        "  a: POST http://x/  (sent, answered 503)",
        "  a: POST http://x/  (sent, failed)",
        "  a: POST http://x/  (may have arrived)",
        "Not sent",
        "  a: POST http://x/",
    ]


@pytest.mark.parametrize(
    ("seconds", "told"), [(600, " (in 10 min)"), (86_400, " (in 24 h)"), (604_800, " (in 7 days)")]
)
def test_how_long_a_wait_is_in_a_fitting_unit(seconds: int, told: str) -> None:
    until = datetime.now(UTC) + timedelta(seconds=seconds)
    assert live._in_how_long(until.isoformat()) == told
