"""`dustrun workflow`: make, check and publish workflows."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from dustrun.cli import output
from dustrun.cli.client import Client, segment
from dustrun.cli.documents import read_document
from dustrun.cli.failures import CliError, Exit
from dustrun.cli.naming import workflow_id
from dustrun.cli.options import SERVER, AsJson, Key, Limit, Offset, Server, client_of

app = typer.Typer(no_args_is_help=True, help="Make, check and publish workflows.")
Workflow = Annotated[str, typer.Argument(metavar="WORKFLOW", help="Name or id.")]
File = Annotated[Path, typer.Argument(metavar="FILE", help="A definition, or one with name and description around it.")]

_COLUMNS = ["workflow", "name", "status", "draft", "live", "nodes", "updated"]


def _row(item: dict[str, Any]) -> list[Any]:
    return [
        item["id"],
        item["name"],
        item["status"],
        item.get("draftVersion"),
        item.get("liveVersion"),
        item.get("nodeCount"),
        item.get("updatedAt"),
    ]


def _show(found: dict[str, Any], as_json: bool) -> None:
    if as_json:
        output.write_json(found)
    else:
        output.table(_COLUMNS, [_row(found)])


@app.command("list")
def list_workflows(
    q: Annotated[str | None, typer.Argument(metavar="[WORD]", help="Part of the name or description.")] = None,
    status: Annotated[str | None, typer.Option("--status", help="draft, active, paused or archived.")] = None,
    limit: Limit = 20,
    offset: Offset = 0,
    as_json: AsJson = False,
    server: Server = SERVER,
    key: Key = None,
) -> None:
    """List workflows."""
    page = client_of(server, key).get("/v1/workflows", q=q, status=status, limit=limit, offset=offset)
    if as_json:
        output.write_json(page)
        return
    output.table(_COLUMNS, [_row(item) for item in page["items"]])
    if page["hasMore"]:
        output.note(f"There are more: --offset {offset + limit}")


@app.command()
def get(workflow: Workflow, as_json: AsJson = False, server: Server = SERVER, key: Key = None) -> None:
    """Show a workflow with its definition."""
    client = client_of(server, key)
    found = client.get(f"/v1/workflows/{segment(workflow_id(client, workflow))}")
    _show(found, as_json)
    if not as_json:
        nodes = found["definition"]["nodes"].items()
        output.table(
            ["node", "type", "children"], [[id, n["type"], " ".join(n.get("children", ()))] for id, n in nodes]
        )


@app.command()
def create(
    file: File,
    name: Annotated[str | None, typer.Option("--name", help="Default: the file's own name.")] = None,
    description: Annotated[str | None, typer.Option("--description", help="Free text.")] = None,
    as_json: AsJson = False,
    server: Server = SERVER,
    key: Key = None,
) -> None:
    """Create a workflow from a file; it begins as a draft."""
    document = read_document(file)
    body = {
        "name": name or document.name,
        "description": document.description if description is None else description,
        "definition": document.definition,
    }
    found = client_of(server, key).post("/v1/workflows", body)
    _show(found, as_json)
    if not as_json:
        output.note(f"Try it: dustrun run {found['id']} --simulate")


@app.command()
def validate(file: File, as_json: AsJson = False, server: Server = SERVER, key: Key = None) -> None:
    """Check a file without saving it; status 1 when it has problems."""
    document = read_document(file)
    body = {"definition": document.definition, "name": document.name}
    found = client_of(server, key).post("/v1/workflows/validate", body)
    if as_json:
        output.write_json(found)
    else:
        _tell_findings(file, found)
    if not found["valid"]:
        raise typer.Exit(Exit.FAILURE)


def _tell_findings(file: Path, found: dict[str, Any]) -> None:
    for title, items in (("Problem", found["errors"]), ("Warning", found.get("warnings") or [])):
        for item in items:
            where = item.get("field") or item.get("nodeId") or "definition"
            output.say(f"{title}: {where}: {item['message']}  [{item['code']}]")
    if found["valid"]:
        output.say(f"{file} is valid.")


@app.command()
def publish(
    workflow: Workflow,
    expected_version: Annotated[int | None, typer.Option("--expected-version", help="Refuse any other draft.")] = None,
    as_json: AsJson = False,
    server: Server = SERVER,
    key: Key = None,
) -> None:
    """Make the draft live."""
    body = {} if expected_version is None else {"expectedVersion": expected_version}
    _steer(client_of(server, key), workflow, "publish", body, as_json)


@app.command()
def pause(workflow: Workflow, as_json: AsJson = False, server: Server = SERVER, key: Key = None) -> None:
    """Stop the triggers of an active workflow."""
    _steer(client_of(server, key), workflow, "pause", {}, as_json)


@app.command()
def resume(workflow: Workflow, as_json: AsJson = False, server: Server = SERVER, key: Key = None) -> None:
    """Arm the triggers of a paused workflow again."""
    _steer(client_of(server, key), workflow, "resume", {}, as_json)


def _steer(client: Client, workflow: str, verb: str, body: dict[str, Any], as_json: bool) -> None:
    if workflow.endswith(".json"):
        raise CliError(f'"{workflow}" is a file; create the workflow first: dustrun workflow create {workflow}')
    _show(client.post(f"/v1/workflows/{segment(workflow_id(client, workflow))}/{verb}", body), as_json)
