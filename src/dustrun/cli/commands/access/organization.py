"""`dustrun organization`: shows the key's organisation and changes its settings."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from dustrun.cli.http.client import segment
from dustrun.cli.http.failures import CliError
from dustrun.cli.http.options import SERVER, AsJson, Key, Server, client_of
from dustrun.cli.render.tables import show_one, show_page

app = typer.Typer(no_args_is_help=True, help="Show your organisation and change its settings.")

_COLUMNS = ["organization", "name", "made", "keeps runs (days)", "one person approves"]


def _row(found: dict[str, Any]) -> list[Any]:
    days = found["retentionDays"]
    kept = "as the server" if days is None else days or "forever"
    approves = "yes" if found["singlePersonApproves"] else "no"
    return [found["id"], found["name"], found["createdAt"], kept, approves]


@app.command()
def show(as_json: AsJson = False, server: Server = SERVER, key: Key = None) -> None:
    """Show the organisation of the key."""
    (own,) = client_of(server, key).get("/v1/organizations")["items"]
    show_one(own, _COLUMNS, _row, as_json)


def _quota_row(one: dict[str, Any]) -> list[Any]:
    return [
        one["name"],
        one["used"],
        "no limit" if one["limit"] is None else one["limit"],
        one["setting"],
        one["frees"],
    ]


@app.command()
def quotas(as_json: AsJson = False, server: Server = SERVER, key: Key = None) -> None:
    """Show what the organisation has of what is limited, and how it becomes less; needs `key:read`."""
    client = client_of(server, key)
    (own,) = client.get("/v1/organizations")["items"]
    page = client.get(f"/v1/organizations/{segment(own['id'])}/quotas", limit=100)
    show_page(page, ["of", "has", "may have", "setting", "becomes less"], _quota_row, as_json, spare=("becomes less",))


@app.command()
def update(
    single_person_approves: Annotated[
        bool | None,
        typer.Option(
            "--single-person-approves/--no-single-person-approves",
            help="Whether who administers it may approve what their own runs ask: for one person.",
        ),
    ] = None,
    retention_days: Annotated[
        int | None, typer.Option("--retention-days", help="Days to keep ended runs; 0: forever.")
    ] = None,
    as_json: AsJson = False,
    server: Server = SERVER,
    key: Key = None,
) -> None:
    """Change settings of the organisation; needs `admin`. What is not given stays."""
    given = {"singlePersonApproves": single_person_approves, "retentionDays": retention_days}
    body = {name: value for name, value in given.items() if value is not None}
    if not body:
        raise CliError("Give what to change: --single-person-approves, --no-… or --retention-days.")
    client = client_of(server, key)
    (own,) = client.get("/v1/organizations")["items"]
    changed = client.call("PATCH", f"/v1/organizations/{segment(own['id'])}", body)
    show_one(changed, _COLUMNS, _row, as_json)
