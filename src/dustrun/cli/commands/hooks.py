"""`dustrun hooks`: creates, changes, tests and deletes hooks."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from dustrun.cli.http.client import segment
from dustrun.cli.http.options import SERVER, AsJson, Key, Limit, Offset, Server, client_of
from dustrun.cli.render import output
from dustrun.cli.render.tables import show_one, show_page

# `dustrun hooks deliveries|retry|replay`: what was sent to hooks.


app = typer.Typer(no_args_is_help=True, help="Notify other systems of what happens in runs, and list the deliveries.")
Delivery = Annotated[str, typer.Argument(metavar="DELIVERY", help="Id of the delivery.")]
LOG_COLUMNS = ["delivery", "event", "run", "status", "answer", "ms", "tries", "next try", "error"]


def log_row(item: dict[str, Any]) -> list[Any]:
    """One row of the log."""
    shown = [item["id"], item["eventType"], item["runId"], item["status"], item["responseStatus"], item["durationMs"]]
    return [*shown, len(item["attempts"]), item["nextRetryAt"], item["errorMessage"]]


@app.command()
def deliveries(
    hook: Annotated[str | None, typer.Option("--hook", help="Only deliveries to this hook.")] = None,
    run: Annotated[str | None, typer.Option("--run", help="Only events of this run.")] = None,
    status: Annotated[str | None, typer.Option("--status", help="pending, retrying, success or failure.")] = None,
    limit: Limit = 20,
    offset: Offset = 0,
    as_json: AsJson = False,
    server: Server = SERVER,
    key: Key = None,
) -> None:
    """List deliveries, newest first."""
    asked = {"hookId": hook, "runId": run, "status": status, "limit": limit, "offset": offset}
    page = client_of(server, key).get("/v1/hook-deliveries", **asked)
    show_page(page, LOG_COLUMNS, log_row, as_json, spare=("error", "next try", "run"))


@app.command()
def retry(delivery: Delivery, as_json: AsJson = False, server: Server = SERVER, key: Key = None) -> None:
    """Retry a delivery that has not succeeded, at once."""
    found = client_of(server, key).post(f"/v1/hook-deliveries/{segment(delivery)}/retry")
    show_one(found, LOG_COLUMNS, log_row, as_json)


@app.command()
def replay(delivery: Delivery, as_json: AsJson = False, server: Server = SERVER, key: Key = None) -> None:
    """Send the same event again, as a new delivery."""
    found = client_of(server, key).post(f"/v1/hook-deliveries/{segment(delivery)}/replay")
    show_one(found, LOG_COLUMNS, log_row, as_json)


Hook = Annotated[str, typer.Argument(metavar="HOOK", help="Id of the hook.")]
Events = Annotated[
    list[str] | None,
    typer.Option("--event", help="Event type or pattern, like run.failed or transaction.*; repeatable."),
]
Workflows = Annotated[list[str] | None, typer.Option("--workflow", help="Only runs of this workflow; repeatable.")]
Modes = Annotated[list[str] | None, typer.Option("--mode", help="live, dust or simulate; repeatable.")]

_COLUMNS = ["hook", "name", "status", "events", "url", "reason"]


def _row(item: dict[str, Any]) -> list[Any]:
    events = " ".join(item["subscribedEventTypes"])
    return [item["id"], item["name"], item["status"], events, item["url"], item["disabledReason"]]


def _show_secret(made: dict[str, Any], as_json: bool) -> None:
    if as_json:
        output.write_json(made)
        return
    output.say(made["secret"])
    output.note(f"{made['id']}: store the secret now; it will not be shown again.")


@app.command("list")
def list_hooks(
    limit: Limit = 20, offset: Offset = 0, as_json: AsJson = False, server: Server = SERVER, key: Key = None
) -> None:
    """List hooks, newest first."""
    page = client_of(server, key).get("/v1/hooks", limit=limit, offset=offset)
    show_page(page, _COLUMNS, _row, as_json, spare=("reason", "events"))


@app.command()
def create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the hook.")],
    url: Annotated[str, typer.Argument(metavar="URL", help="Where events are POSTed.")],
    event: Events = None,
    workflow: Workflows = None,
    mode: Modes = None,
    as_json: AsJson = False,
    server: Server = SERVER,
    key: Key = None,
) -> None:
    """Create a hook: `dustrun hooks create Alerts https://hooks.example.com/dustrun --event run.failed`."""
    body = {"name": name, "url": url, "subscribedEventTypes": event, "workflowIds": workflow, "modes": mode}
    given = {field: value for field, value in body.items() if value}
    _show_secret(client_of(server, key).post("/v1/hooks", given), as_json)


@app.command()
def show(hook: Hook, as_json: AsJson = False, server: Server = SERVER, key: Key = None) -> None:
    """Show one hook."""
    show_one(client_of(server, key).get(f"/v1/hooks/{segment(hook)}"), _COLUMNS, _row, as_json)


@app.command()
def enable(hook: Hook, as_json: AsJson = False, server: Server = SERVER, key: Key = None) -> None:
    """Enable a hook: open deliveries continue, and new events are sent."""
    show_one(client_of(server, key).post(f"/v1/hooks/{segment(hook)}/enable"), _COLUMNS, _row, as_json)


@app.command()
def disable(hook: Hook, as_json: AsJson = False, server: Server = SERVER, key: Key = None) -> None:
    """Disable a hook: open deliveries wait, and events in the meantime are not sent."""
    show_one(client_of(server, key).post(f"/v1/hooks/{segment(hook)}/disable"), _COLUMNS, _row, as_json)


@app.command("rotate-secret")
def rotate_secret(
    hook: Hook,
    overlap_hours: Annotated[
        int, typer.Option("--overlap-hours", min=0, max=720, help="Hours for which the old secret signs too.")
    ] = 24,
    as_json: AsJson = False,
    server: Server = SERVER,
    key: Key = None,
) -> None:
    """Create a new signing secret."""
    path = f"/v1/hooks/{segment(hook)}/rotate-secret"
    _show_secret(client_of(server, key).post(path, {"overlapHours": overlap_hours}), as_json)


@app.command()
def delete(hook: Hook, as_json: AsJson = False, server: Server = SERVER, key: Key = None) -> None:
    """Delete a hook."""
    found = client_of(server, key).call("DELETE", f"/v1/hooks/{segment(hook)}")
    if as_json:
        output.write_json(found)
    else:
        output.note(f"Deleted {found['name']} ({found['id']}).")


@app.command("test")
def try_hook(hook: Hook, as_json: AsJson = False, server: Server = SERVER, key: Key = None) -> None:
    """Send a `hook.ping` now, without retries, and show whether it arrived."""
    show_one(client_of(server, key).post(f"/v1/hooks/{segment(hook)}/test"), LOG_COLUMNS, log_row, as_json)
