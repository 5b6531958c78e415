"""`dustrun hooks deliveries|retry|replay`: what was sent to hooks."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from dustrun.cli.http.client import segment
from dustrun.cli.http.options import SERVER, AsJson, Key, Limit, Offset, Server, client_of
from dustrun.cli.render.tables import show_one, show_page

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
