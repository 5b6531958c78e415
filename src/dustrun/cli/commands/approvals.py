"""`dustrun approvals`: lists pending approvals and decides them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

import typer

from dustrun.cli.http.client import segment
from dustrun.cli.http.options import SERVER, AsJson, Key, Limit, Offset, Server, client_of
from dustrun.cli.render import output
from dustrun.cli.render.tables import show_page
from dustrun.cli.render.versions import draw_sources

app = typer.Typer(no_args_is_help=True, help="List, approve and reject approvals.")
Approval = Annotated[str, typer.Argument(metavar="APPROVAL", help="Approval id, apr_….")]
Comment = Annotated[str | None, typer.Option("--comment", help="Your reason; it becomes part of the node's result.")]

Binding = Annotated[
    str | None,
    typer.Option("--binding", help="What you decide about, as `approvals show` prints it; a launch needs it."),
]

_COLUMNS = ["approval", "status", "question", "workflow", "node", "run", "ends", "decided by", "why"]


def _row(item: dict[str, Any]) -> list[Any]:
    names = ("id", "status", "message", "workflowName", "path", "runId", "expiresAt", "decidedBy", "why")
    return [item[name] or None for name in names]


@app.command("list")
def list_approvals(
    status: Annotated[str | None, typer.Option("--status", help="Only this status; default: pending.")] = None,
    run: Annotated[str | None, typer.Option("--run", help="Only questions of this run.")] = None,
    limit: Limit = 20,
    offset: Offset = 0,
    as_json: AsJson = False,
    server: Server = SERVER,
    key: Key = None,
) -> None:
    """List pending approvals, newest first."""
    page = client_of(server, key).get("/v1/approvals", status=status, runId=run, limit=limit, offset=offset)
    show_page(page, _COLUMNS, _row, as_json, spare=("why", "decided by", "run", "node", "workflow", "ends"))


@app.command()
def show(approval: Approval, as_json: AsJson = False, server: Server = SERVER, key: Key = None) -> None:
    """Show an approval: the question, what it is bound to, and until when it can be decided."""
    found = client_of(server, key).get(f"/v1/approvals/{segment(approval)}")
    if as_json:
        output.write_json(found)
        return
    for name, value in _facts(found):
        output.say(f"{name + ':':<13}{value}")
    if found.get("sources"):
        output.say("Why this amount, why this recipient:")
        draw_sources(found["sources"])
    launch = found.get("launch")
    if launch and found["status"] == "pending":
        output.say(f"What it does: dustrun runs effects {found['runId']}")
        output.say(f"Decide: dustrun approvals approve {found['id']} --binding {found['binding']}")


def _facts(found: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    launch = found.get("launch") or {}
    shown = {
        "approval": found["id"],
        "status": found["status"],
        "question": found["message"],
        "workflow": found["workflowName"],
        "mode": found["mode"],
        "version": launch.get("version"),
        "node": found["path"],
        "rehearsal" if launch else "run": found["runId"],
        "starts run": launch.get("runId"),
        "proposed by": launch.get("proposedBy"),
        "bound to": found.get("binding"),
        "ends": found["expiresAt"],
        "approvals": f"{len(found['votes'])} of {found['quorum']}" if found["quorum"] > 1 else None,
        "decided by": found.get("decidedBy"),
        "comment": found.get("comment"),
    }
    yield from ((name, value) for name, value in shown.items() if value)


@app.command()
def approve(
    approval: Approval,
    comment: Comment = None,
    binding: Binding = None,
    as_json: AsJson = False,
    server: Server = SERVER,
    key: Key = None,
) -> None:
    """Approve: the node continues; for a spend, only the exact transaction shown may be signed; a launch starts."""
    _decide(approval, "approve", {"comment": comment, "binding": binding}, as_json, server, key)


@app.command()
def reject(
    approval: Approval, comment: Comment = None, as_json: AsJson = False, server: Server = SERVER, key: Key = None
) -> None:
    """Reject: the node takes its `rejected` branch; a spend fails and nothing is signed; a launch starts nothing."""
    _decide(approval, "reject", {"comment": comment}, as_json, server, key)


def _decide(
    approval: str, verb: str, given: dict[str, str | None], as_json: bool, server: str, key: str | None
) -> None:
    body = {name: value for name, value in given.items() if value is not None}
    found = client_of(server, key).post(f"/v1/approvals/{segment(approval)}/{verb}", body)
    if as_json:
        output.write_json(found)
    else:
        launch = found.get("launch")
        watch = "" if launch and verb == "reject" else (launch or found)["runId"]
        more = f" Watch the run: dustrun runs watch {watch}" if watch else ""
        output.say(f"{found['status'].capitalize()}: {found['message'] or approval}{more}")
