"""`dustrun forms`: links to public forms of a workflow."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer

from dustrun.cli.http.client import Client, segment
from dustrun.cli.http.documents import workflow_id
from dustrun.cli.http.options import SERVER, AsJson, Key, Server, client_of
from dustrun.cli.render import output
from dustrun.cli.render.tables import table

app = typer.Typer(no_args_is_help=True, help="Create, list and revoke links to public forms of a workflow.")
Workflow = Annotated[str, typer.Argument(metavar="WORKFLOW", help="Name or id.")]


@app.command("list")
def list_forms(workflow: Workflow, as_json: AsJson = False, server: Server = SERVER, key: Key = None) -> None:
    """List a workflow's links to forms, newest first, without their addresses."""
    client = client_of(server, key)
    found = client.get(_path(client, workflow))
    if as_json:
        output.write_json(found)
        return
    rows = [
        [one["id"], one["title"], one["mode"], one["state"], f"{one['runs']}/{one['maxRuns']}", one["expiresAt"]]
        for one in found
    ]
    table(["form", "title", "mode", "state", "runs", "expires"], rows)


@app.command()
def create(
    workflow: Workflow,
    mode: Annotated[str, typer.Option(help="Mode of its runs: live, dust or simulate.")] = "simulate",
    max_runs: Annotated[int, typer.Option("--max-runs", min=1, help="Maximum number of runs.")] = 100,
    days: Annotated[int, typer.Option("--days", min=1, max=366, help="Days until it expires.")] = 30,
    title: Annotated[str | None, typer.Option(help="Title of the form; default: the workflow's name.")] = None,
    description: Annotated[str | None, typer.Option(help="Text below the title.")] = None,
    as_json: AsJson = False,
    server: Server = SERVER,
    key: Key = None,
) -> None:
    """Create a link, which is shown only once. Anybody who has it can start runs as your key."""
    client = client_of(server, key)
    ends = datetime.now(UTC) + timedelta(days=days, minutes=-1)
    body: dict[str, Any] = {"mode": mode, "maxRuns": max_runs, "expiresAt": ends.isoformat()}
    body |= {name: text for name, text in (("title", title), ("description", description)) if text is not None}
    made = client.post(_path(client, workflow), body)
    if as_json:
        output.write_json(made)
        return
    output.say(f"Address: {made['url']}")
    output.say("It is shown only now.")
    for warning in made["warnings"]:
        output.say(f"Warning: {warning}")
    output.say(f"Form {made['id']}: {made['maxRuns']} {made['mode']} runs until {made['expiresAt']}.")


@app.command()
def revoke(
    workflow: Workflow,
    form: Annotated[str, typer.Argument(metavar="FORM", help="Id of the link, frm_….")],
    server: Server = SERVER,
    key: Key = None,
) -> None:
    """Revoke a link at once."""
    client = client_of(server, key)
    done = client.call("DELETE", f"{_path(client, workflow)}/{segment(form)}")
    output.say(f"Nothing answers at {done['id']} any more; it started {done['runs']} runs.")


def _path(client: Client, workflow: str) -> str:
    return f"/v1/workflows/{segment(workflow_id(client, workflow))}/forms"
