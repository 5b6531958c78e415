"""Watches one run to its end as a live tree, lines or JSON lines, then prints its effects report."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from dustrun.cli.http.client import Client, segment
from dustrun.cli.http.failures import OF_RUN_STATUS, CliError, Exit
from dustrun.cli.http.sse import Stream
from dustrun.cli.render import output
from dustrun.cli.render.output import Plain
from dustrun.cli.render.tree import RunView
from dustrun.core.stream_events import RUN_WAITING

if TYPE_CHECKING:
    from rich.console import RenderableType

Show = Callable[[dict[str, Any], RunView], None]


def open_stream(client: Client, run_id: str) -> Stream:
    """Opens the event stream of a run, which need not exist yet."""
    stream = Stream(client, f"/v1/runs/{segment(run_id)}/stream", _tell_break)
    stream.open()
    return stream


def _tell_break(reason: str) -> None:
    output.note(f"Connection lost ({reason}); reconnecting …")


def follow(client: Client, run_id: str, stream: Stream, *, as_json: bool, detach_on_wait: bool = False) -> Exit:
    """Shows the run until it ends and returns the exit status."""
    view = RunView(run_id=run_id)
    try:
        with _showing(as_json, view) as show:
            for event in stream:
                view.apply(event)
                show(event, view)
                if detach_on_wait and event["type"] == RUN_WAITING:
                    break
    except KeyboardInterrupt:
        output.note(
            f"\nThe run continues. Watch it: dustrun runs watch {run_id}\nStop it:  dustrun runs cancel {run_id}"
        )
        return Exit.INTERRUPTED
    finally:
        stream.close()
    if view.status == "waiting":
        return _tell_wait(view, as_json)
    return _tell_end(client, view, as_json)


@contextlib.contextmanager
def _showing(as_json: bool, view: RunView) -> Iterator[Show]:
    if as_json:
        yield lambda event, _: output.write_json(event)
    elif output.console().is_terminal:
        with _live(view) as show:
            yield show
    else:
        yield _show_line


@contextlib.contextmanager
def _live(view: RunView) -> Iterator[Show]:
    from rich.live import Live  # slow import

    from dustrun.cli.render import live  # slow import

    def picture() -> RenderableType:
        return Plain(live.draw(view))

    with Live(console=output.console(), refresh_per_second=10, get_renderable=picture, vertical_overflow="visible"):
        yield _tell_uncertain


def _show_line(event: dict[str, Any], view: RunView) -> None:
    from dustrun.cli.render import live  # slow import

    line = live.event_line(event, view)
    if line is not None:
        output.console().print(line)
    _tell_uncertain(event, view)


def _tell_uncertain(event: dict[str, Any], view: RunView) -> None:
    if event["type"] == RUN_WAITING and view.uncertain:
        output.say(how_to_resolve(view.run_id, view.uncertain))


def how_to_resolve(run_id: str, paths: list[str]) -> str:
    """How a person resolves nodes whose outcome is unknown."""
    lines = ["The outcome of these nodes is unknown. Check the external system, then run:"]
    for path in paths:
        lines.append(f"  dustrun runs resolve {run_id} '{path}' --happened       (or --not-happened)")
    return "\n".join(lines)


def _tell_wait(view: RunView, as_json: bool) -> Exit:
    if as_json:
        output.write_json({"type": "detached", "runId": view.run_id, "status": "waiting", "until": view.until})
    else:
        until = f" until {view.until}" if view.until else ""
        output.say(f"The run is waiting{until}. Watch it again: dustrun runs watch {view.run_id}")
    return Exit.WAITING


def _tell_end(client: Client, view: RunView, as_json: bool) -> Exit:
    exit = OF_RUN_STATUS.get(view.status, Exit.FAILURE)
    effects = _effects(client, view.run_id)
    if as_json:
        output.write_json({"type": "effects", "runId": view.run_id, "status": view.status, "effects": effects})
        return exit
    output.say("")
    output.say(_summary(view))
    if effects is not None:
        from dustrun.cli.render import report  # slow import

        output.draw(report.draw({name: value for name, value in effects.items() if name != "runId"}))
    return exit


def _effects(client: Client, run_id: str) -> Any:
    try:
        return client.get(f"/v1/runs/{segment(run_id)}/effects")
    except CliError as error:
        output.note(f"The effects report is not available. {error.as_text()}")
        return None


def _summary(view: RunView) -> str:
    took = ""
    if view.started_at and view.ended_at:
        took = f" in {(view.ended_at - view.started_at).total_seconds():.2f} s"
    lines = [f"{view.status}{took}, {len(view.nodes)} node{'' if len(view.nodes) == 1 else 's'}, {view.run_id}"]
    if view.error:
        where = view.error.get("path") or view.error.get("nodeId")
        lines.append(f"{where or 'run'}: {view.error.get('code')}: {view.error.get('message')}")
    if view.passed is not None:
        verdict = "passed" if view.passed else "not passed: a result that mattered was assumed, or a node failed"
        lines.append(f"As a rehearsal: {verdict}.")
    return "\n".join(lines)
