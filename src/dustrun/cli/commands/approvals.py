"""`dustrun approvals`: what waits for a person, and the person's word."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from dustrun.cli.http.client import segment
from dustrun.cli.http.options import SERVER, AsJson, Key, Limit, Offset, Server, client_of
from dustrun.cli.render import output
from dustrun.cli.render.tables import show_page

app = typer.Typer(no_args_is_help=True, help="See what waits for a person, say yes or no to it.")
Approval = Annotated[str, typer.Argument(metavar="APPROVAL", help="Id of the approval, apr_….")]
Comment = Annotated[str | None, typer.Option("--comment", help="Why; the node's result shows it.")]

_COLUMNS = ["approval", "status", "question", "workflow", "node", "run", "ends", "decided by"]


def _row(item: dict[str, Any]) -> list[Any]:
    names = ("id", "status", "message", "workflowName", "path", "runId", "expiresAt", "decidedBy")
    return [item[name] or None for name in names]


@app.command("list")
def list_approvals(
    status: Annotated[str | None, typer.Option("--status", help="A status; without it, the open ones.")] = None,
    limit: Limit = 20,
    offset: Offset = 0,
    as_json: AsJson = False,
    server: Server = SERVER,
    key: Key = None,
) -> None:
    """List what waits for a person, newest first."""
    page = client_of(server, key).get("/v1/approvals", status=status, limit=limit, offset=offset)
    show_page(page, _COLUMNS, _row, as_json, spare=("decided by", "run", "node", "workflow", "ends"))


@app.command()
def approve(
    approval: Approval, comment: Comment = None, as_json: AsJson = False, server: Server = SERVER, key: Key = None
) -> None:
    """Say yes: the node goes on; of a spend, exactly the transaction that is shown may be signed."""
    _decide(approval, "approve", comment, as_json, server, key)


@app.command()
def reject(
    approval: Approval, comment: Comment = None, as_json: AsJson = False, server: Server = SERVER, key: Key = None
) -> None:
    """Say no: the node takes its `rejected` branch; a spend fails and nothing is signed."""
    _decide(approval, "reject", comment, as_json, server, key)


def _decide(approval: str, verb: str, comment: str | None, as_json: bool, server: str, key: str | None) -> None:
    body = {} if comment is None else {"comment": comment}
    found = client_of(server, key).post(f"/v1/approvals/{segment(approval)}/{verb}", body)
    if as_json:
        output.write_json(found)
    else:
        output.say(
            f"{found['status'].capitalize()}: {found['message']} Watch the run: dustrun runs watch {found['runId']}"
        )
