from __future__ import annotations

from typing import Any

from dustrun.cli.render.tree import RunView, nest


def view_of(*events: dict[str, Any]) -> RunView:
    view = RunView()
    for number, event in enumerate(events):
        view.apply({"at": f"2026-01-31T12:00:{number:02d}.000Z", "runId": "run_1", **event})
    return view


def started(path: str, attempt: int = 1) -> dict[str, Any]:
    return {"type": "node_started", "nodeId": path, "path": path, "attempt": attempt, "nodeType": "log"}


def became(kind: str, path: str, **more: Any) -> dict[str, Any]:
    return {"type": kind, "nodeId": path, "path": path, "attempt": 1, **more}


def test_a_run_from_start_to_end() -> None:
    view = view_of(
        {"type": "run_started", "mode": "simulate", "workflowId": "wf_1", "version": 3},
        started("a"),
        became("node_succeeded", "a", status="success", result={"x": 1}),
        {"type": "run_finished", "status": "success", "passed": True},
    )
    assert (view.run_id, view.mode, view.version, view.status, view.passed) == ("run_1", "simulate", 3, "success", True)
    node = view.nodes["a"]
    assert (node.status, node.type, node.result, node.seconds) == ("success", "log", {"x": 1}, 1.0)


def test_a_retry_shows_its_error_until_it_succeeds() -> None:
    error = {"code": "TIMEOUT", "message": "too slow"}
    retrying = became("node_retrying", "a", error=error, wakeAt="2026-01-31T12:00:09.000Z")
    view = view_of(started("a"), retrying)
    assert (view.nodes["a"].status, view.nodes["a"].error) == ("retrying", error)
    view = view_of(started("a"), retrying, started("a", 2), became("node_succeeded", "a", status="success"))
    assert (view.nodes["a"].status, view.nodes["a"].error) == ("success", None)


def test_waiting_and_going_on() -> None:
    waiting = (
        started("w"),
        became("node_waiting", "w", wakeAt="2026-01-31T12:05:00.000Z"),
        {"type": "run_waiting", "until": "2026-01-31T12:05:00.000Z", "nodes": ["w"]},
    )
    assert (view_of(*waiting).status, view_of(*waiting).until) == ("waiting", "2026-01-31T12:05:00.000Z")
    assert view_of(*waiting, {"type": "run_resumed"}).status == "running"


def test_uncertain_nodes_are_known() -> None:
    error = {"code": "UNCERTAIN", "message": "no answer"}
    assert view_of(started("a"), became("node_uncertain", "a", error=error)).uncertain == ["a"]


def test_progress_logs_and_unknown_events() -> None:
    view = view_of(
        started("a"),
        became("node_progress", "a", message="half", percent=50),
        became("log", "a", message="hello"),
        {"type": "something_new", "path": "b"},
    )
    assert (view.nodes["a"].progress, view.nodes["a"].logs) == ("half (50 %)", ["hello"])
    assert list(view.nodes) == ["a"]


def test_remarks_say_where_a_result_comes_from() -> None:
    view = view_of(
        became("node_succeeded", "a", pinned=True),
        became("node_succeeded", "b", assumed=True),
        became("node_succeeded", "c", dust="skipped"),
    )
    assert [node.remark for node in view.nodes.values()] == ["pinned", "assumed", "dust: skipped"]


def test_nodes_in_loops_nest_by_their_paths() -> None:
    view = view_of(started("each"), started("each[0].pay"), started("each[1].inner[2].pay"))
    root = nest(view.nodes)
    each = root.inside["each"]
    assert each.node is view.nodes["each"]
    assert each.inside["[0]"].node is None
    assert each.inside["[1]"].inside["inner"].inside["[2]"].inside["pay"].node is view.nodes["each[1].inner[2].pay"]
