"""`dustrun approvals`: lists pending approvals and decides them."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from dustrun.cli.http.client import segment
from dustrun.cli.http.options import SERVER, AsJson, Key, Limit, Offset, Server, client_of
from dustrun.cli.render import output
from dustrun.cli.render.tables import show_page

app = typer.Typer(no_args_is_help=True, help="List, approve and reject approvals.")
Approval = Annotated[str, typer.Argument(metavar="APPROVAL", help="Approval id, apr_….")]
Comment = Annotated[str | None, typer.Option("--comment", help="Your reason; it becomes part of the node's result.")]

_COLUMNS = ["approval", "status", "question", "workflow", "node", "run", "ends", "decided by"]


def _row(item: dict[str, Any]) -> list[Any]:
    names = ("id", "status", "message", "workflowName", "path", "runId", "expiresAt", "decidedBy")
    return [item[name] or None for name in names]


@app.command("list")
def list_approvals(
    status: Annotated[str | None, typer.Option("--status", help="Only this status; default: pending.")] = None,
    limit: Limit = 20,
    offset: Offset = 0,
    as_json: AsJson = False,
    server: Server = SERVER,
    key: Key = None,
) -> None:
    """List pending approvals, newest first."""
    page = client_of(server, key).get("/v1/approvals", status=status, limit=limit, offset=offset)
    show_page(page, _COLUMNS, _row, as_json, spare=("decided by", "run", "node", "workflow", "ends"))


@app.command()
def approve(
    approval: Approval, comment: Comment = None, as_json: AsJson = False, server: Server = SERVER, key: Key = None
) -> None:
    """Approve: the node continues; for a spend, only the exact transaction shown may be signed."""
    _decide(approval, "approve", comment, as_json, server, key)


@app.command()
def reject(
    approval: Approval, comment: Comment = None, as_json: AsJson = False, server: Server = SERVER, key: Key = None
) -> None:
    """Reject: the node takes its `rejected` branch; a spend fails and nothing is signed."""
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
