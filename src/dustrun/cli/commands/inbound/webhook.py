"""`dustrun webhook`: the addresses of a workflow's webhooks, and what came in there."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from dustrun.cli.http.client import Client, segment
from dustrun.cli.http.documents import workflow_id
from dustrun.cli.http.failures import CliError
from dustrun.cli.http.options import SERVER, AsJson, Key, Limit, Offset, Server, client_of, read_file
from dustrun.cli.render import output
from dustrun.cli.render.tables import show_page, table

app = typer.Typer(no_args_is_help=True, help="Create and replace the addresses of webhooks, and list their events.")
Workflow = Annotated[str, typer.Argument(metavar="WORKFLOW", help="Name or id.")]
Node = Annotated[str | None, typer.Option("--node", help="Id of the webhook node, if the workflow has several.")]

_COLUMNS = ["event", "outcome", "reason", "run", "received"]


@app.command("list")
def list_webhooks(workflow: Workflow, as_json: AsJson = False, server: Server = SERVER, key: Key = None) -> None:
    """List a workflow's webhooks, without their secrets."""
    client = client_of(server, key)
    found = client.get(f"/v1/workflows/{segment(workflow_id(client, workflow))}/webhooks")
    if as_json:
        output.write_json(found)
        return
    rows = [
        [one["nodeId"], one["auth"], " ".join(one["methods"]), one["respond"], len(one["addresses"])] for one in found
    ]
    table(["node", "auth", "methods", "respond", "addresses"], rows)


@app.command()
def rotate(
    workflow: Workflow,
    node: Node = None,
    overlap_s: Annotated[
        int, typer.Option("--overlap", min=0, help="Seconds for which the old address stays valid.")
    ] = 86_400,
    signing_secret: Annotated[
        str | None,
        typer.Option("--signing-secret", metavar="FILE", help="File with the sender's own signing secret."),
    ] = None,
    as_json: AsJson = False,
    server: Server = SERVER,
    key: Key = None,
) -> None:
    """Create or replace a webhook's address; it is shown only once."""
    client = client_of(server, key)
    body: dict[str, Any] = {"overlapMs": overlap_s * 1000}
    if signing_secret is not None:
        body["signingSecret"] = read_file(Path(signing_secret)).strip()
    made = client.post(f"{_path(client, workflow, node)}/rotate", body)
    if as_json:
        output.write_json(made)
        return
    output.say(f"Address:        {made['url']}")
    output.say(f"Signing secret: {made['signingSecret']}")
    output.say("Both are shown only now.")
    if made["previousExpiresAt"] is not None:
        output.say(f"The old address stays valid until {made['previousExpiresAt']}.")


@app.command()
def revoke(workflow: Workflow, node: Node = None, server: Server = SERVER, key: Key = None) -> None:
    """Revoke every address of a webhook at once."""
    client = client_of(server, key)
    done = client.call("DELETE", _path(client, workflow, node))
    output.say(f'Nothing answers for the webhook "{done["nodeId"]}" any more.')


@app.command()
def events(
    workflow: Workflow,
    limit: Limit = 20,
    offset: Offset = 0,
    as_json: AsJson = False,
    server: Server = SERVER,
    key: Key = None,
) -> None:
    """List the events of a workflow's webhooks, newest first."""
    client = client_of(server, key)
    found = workflow_id(client, workflow)
    page = client.get("/v1/trigger-events", workflowId=found, limit=limit, offset=offset)
    show_page(page, _COLUMNS, _row, as_json, spare=("received", "reason"))


@app.command()
def replay(
    event: Annotated[str, typer.Argument(metavar="EVENT", help="Event id, evt_….")],
    as_json: AsJson = False,
    server: Server = SERVER,
    key: Key = None,
) -> None:
    """Replay a recorded event as a new one."""
    done = client_of(server, key).post(f"/v1/trigger-events/{segment(event)}/replay", {})
    if as_json:
        output.write_json(done)
    else:
        runs = " ".join(done["runIds"]) or done["reason"]
        output.say(f"{done['action'].capitalize()} by {done['eventId']}: {runs}")


def _row(item: dict[str, Any]) -> list[Any]:
    return [item["id"], item["outcome"], item["reason"], item["runId"], item["createdAt"]]


def _path(client: Client, workflow: str, node: str | None) -> str:
    """The API path of a webhook; without `node`, of the only one."""
    base = f"/v1/workflows/{segment(workflow_id(client, workflow))}/webhooks"
    if node is None:
        nodes = [one["nodeId"] for one in client.get(base)]
        if len(nodes) != 1:
            why = f"it has {len(nodes)}: {', '.join(nodes)}" if nodes else "it has none"
            raise CliError(f"Name the webhook with --node; {why}.")
        node = nodes[0]
    return f"{base}/{segment(node)}"
