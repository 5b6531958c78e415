"""`dustrun workflow`: creates, validates, publishes, exports and imports workflows."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from dustrun.cli.http.client import Client, segment
from dustrun.cli.http.documents import Document, is_file, read_document, workflow_id
from dustrun.cli.http.failures import CliError, Exit
from dustrun.cli.http.options import SERVER, AsJson, Key, Limit, Offset, Server, client_of, read_file
from dustrun.cli.render import output
from dustrun.cli.render.tables import gap, show_one, show_page, table
from dustrun.cli.render.versions import (
    draw_sources,
    show_changes,
    show_definition,
    show_differences,
    show_ladder,
    show_status,
)

app = typer.Typer(no_args_is_help=True, help="Create, validate and publish workflows.")
Workflow = Annotated[str, typer.Argument(metavar="WORKFLOW", help="Workflow name or id.")]
File = Annotated[
    Path, typer.Argument(metavar="FILE", help="Workflow file: a definition, or a document with name and description.")
]
Again = Annotated[bool, typer.Option("--again", help="Create it even if a workflow already has this name.")]

_PAGE = 100
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
    show_one(found, _COLUMNS, _row, as_json)
    output.note_warnings(found)


@app.command("list")
def list_workflows(
    q: Annotated[
        str | None, typer.Argument(metavar="[WORD]", help="Only workflows whose name or description contains this.")
    ] = None,
    status: Annotated[str | None, typer.Option("--status", help="draft, active, paused or archived.")] = None,
    trigger: Annotated[str | None, typer.Option("--trigger", help="Only those started by this trigger type.")] = None,
    action: Annotated[str | None, typer.Option("--action", help="Only those with this action type.")] = None,
    connector: Annotated[str | None, typer.Option("--connector", help="Only those with this connector type.")] = None,
    folder: Annotated[
        str | None, typer.Option("--folder", help="Only those in this folder, or in one inside it.")
    ] = None,
    tag: Annotated[
        list[str] | None, typer.Option("--tag", help="Only those with this tag; repeatable: any of them.")
    ] = None,
    mine: Annotated[bool, typer.Option("--mine", help="Only those that this key created.")] = False,
    sort: Annotated[str | None, typer.Option("--sort", help="updatedAt, createdAt, name, runs; :asc or :desc.")] = None,
    runs: Annotated[
        bool, typer.Option("--runs", help="Show the last run, and the modes in which the current version passed.")
    ] = False,
    limit: Limit = 20,
    offset: Offset = 0,
    as_json: AsJson = False,
    server: Server = SERVER,
    key: Key = None,
) -> None:
    """List workflows."""
    where = {"status": status, "type": trigger, "actions": action, "connectors": connector, "sort": sort}
    where |= {"folder": folder, "tags": ",".join(tag) if tag else None}
    shown = {"owner": "yours" if mine else None, "include": "lastRun,ladder" if runs else None}
    page = client_of(server, key).get("/v1/workflows", q=q, **where, **shown, limit=limit, offset=offset)
    columns, row = ([*_COLUMNS, "last run", "passed"], _row_with_runs) if runs else (_COLUMNS, _row)
    show_page(page, columns, row, as_json, spare=("nodes", "updated", "live"))


def _row_with_runs(item: dict[str, Any]) -> list[Any]:
    last, ladder = item.get("lastRun") or {}, item.get("ladder") or {}
    passed = ", ".join(mode for mode, run in ladder.items() if run)
    return [*_row(item), last.get("status"), passed or None]


@app.command()
def get(workflow: Workflow, as_json: AsJson = False, server: Server = SERVER, key: Key = None) -> None:
    """Show a workflow with its definition."""
    client = client_of(server, key)
    found = client.get(f"/v1/workflows/{segment(workflow_id(client, workflow))}")
    _show(found, as_json)
    if not as_json:
        nodes = found["definition"]["nodes"].items()
        gap()
        table(["node", "type", "children"], [[id, n["type"], " ".join(n.get("children", ()))] for id, n in nodes])


def _read(file: Path) -> Document:
    """Reads a file, and says on standard error what of it is not used."""
    document = read_document(file)
    for name in document.others:
        output.note(f"Warning: {name}: not a setting of a workflow; ignored.")
    return document


@app.command()
def place(
    workflow: Workflow,
    folder: Annotated[
        str | None, typer.Option("--folder", help='Folder, like payroll/europe; "" takes it out of its folder.')
    ] = None,
    tag: Annotated[
        list[str] | None, typer.Option("--tag", help="Tag instead of those that it has; repeatable.")
    ] = None,
    no_tags: Annotated[bool, typer.Option("--no-tags", help="Take its tags away.")] = False,
    as_json: AsJson = False,
    server: Server = SERVER,
    key: Key = None,
) -> None:
    """Put a workflow into a folder, or tag it. This decides which keys that are limited to them access it."""
    if folder is None and not tag and not no_tags:
        raise CliError("Say where it is kept: --folder, --tag or --no-tags.")
    client = client_of(server, key)
    body: dict[str, Any] = {} if folder is None else {"folder": folder or None}
    body |= {"tags": tag or []} if tag or no_tags else {}
    found = client.call("PUT", f"/v1/workflows/{segment(workflow_id(client, workflow))}", body)
    if as_json:
        output.write_json(found)
        return
    tags = f", with the tags {' '.join(found['tags'])}" if found["tags"] else ", without tags"
    output.say(f"{found['name']} is in {found['folder'] or 'no folder'}{tags}.")


@app.command()
def create(
    file: File,
    name: Annotated[str | None, typer.Option("--name", help="Name; default: the one in the file.")] = None,
    description: Annotated[str | None, typer.Option("--description", help="Free text.")] = None,
    again: Again = False,
    as_json: AsJson = False,
    server: Server = SERVER,
    key: Key = None,
) -> None:
    """Create a draft workflow from a file."""
    document = _read(file)
    body = {
        **document.settings,
        "name": name or document.name,
        "description": document.description if description is None else description,
        "definition": document.definition,
        "uniqueName": not again,
    }
    client = client_of(server, key)
    found = client.post("/v1/workflows", body)
    _show(found, as_json)
    checked = client.post(
        "/v1/workflows/validate", {"definition": document.definition, "name": body["name"], "workflowId": found["id"]}
    )
    if not checked["valid"]:
        for problem in checked["errors"]:
            output.note(f"Problem: {_problem_line(problem)}")
        output.note(f"Saved as a draft, which cannot run until it is fixed: dustrun workflow validate {file}")
    elif not as_json:
        output.note(f"Try it: dustrun run {found['id']} --simulate")


@app.command()
def update(
    workflow: Workflow,
    file: File,
    name: Annotated[str | None, typer.Option("--name", help="New name; default: keep the name.")] = None,
    description: Annotated[str | None, typer.Option("--description", help="Default: the one in the file.")] = None,
    expected_version: Annotated[
        int | None, typer.Option("--expected-version", help="Refuse unless the workflow is at this version.")
    ] = None,
    as_json: AsJson = False,
    server: Server = SERVER,
    key: Key = None,
) -> None:
    """Update a workflow from a file: a changed definition becomes the draft, settings in the file apply at once."""
    document = _read(file)
    given = {"name": name, "description": description or document.description or None}
    body = {field: value for field, value in given.items() if value is not None}
    whole = {**document.settings, **body, "definition": document.definition, "expectedCurrentVersion": expected_version}
    client = client_of(server, key)
    _show(client.put(f"/v1/workflows/{segment(workflow_id(client, workflow))}", whole), as_json)


@app.command()
def delete(
    workflow: Workflow,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: AsJson = False,
    server: Server = SERVER,
    key: Key = None,
) -> None:
    """Archive a workflow: its triggers stop; its versions and runs are kept."""
    client = client_of(server, key)
    path = f"/v1/workflows/{segment(workflow_id(client, workflow))}"
    if not yes:
        typer.confirm(f'Archive "{client.get(path)["name"]}"?', abort=True, err=True)
    _show(client.call("DELETE", path), as_json)


@app.command()
def validate(file: File, as_json: AsJson = False, server: Server = SERVER, key: Key = None) -> None:
    """Validate a file without saving it; exit status 1 if it has problems."""
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
    _tell_problems(found["errors"], found.get("warnings") or [])
    if found["valid"]:
        output.say(f"{file} is valid.")


def _tell_problems(problems: list[dict[str, Any]], warnings: list[dict[str, Any]]) -> None:
    for title, items in (("Problem", problems), ("Warning", warnings)):
        for item in items:
            output.say(f"{title}: {_problem_line(item)}")


def _problem_line(item: dict[str, Any]) -> str:
    where = item.get("field") or item.get("nodeId") or "definition"
    return f"{where}: {item['message']}  [{item['code']}]"


@app.command()
def publish(
    workflow: Workflow,
    expected_version: Annotated[
        int | None, typer.Option("--expected-version", help="Refuse unless the draft is this version.")
    ] = None,
    as_json: AsJson = False,
    server: Server = SERVER,
    key: Key = None,
) -> None:
    """Publish the draft: make it the live version."""
    body = {} if expected_version is None else {"expectedVersion": expected_version}
    _steer(client_of(server, key), workflow, "publish", body, as_json)


@app.command()
def pause(workflow: Workflow, as_json: AsJson = False, server: Server = SERVER, key: Key = None) -> None:
    """Pause an active workflow: its triggers stop."""
    _steer(client_of(server, key), workflow, "pause", {}, as_json)


@app.command()
def resume(workflow: Workflow, as_json: AsJson = False, server: Server = SERVER, key: Key = None) -> None:
    """Resume a paused workflow: its triggers start again."""
    _steer(client_of(server, key), workflow, "resume", {}, as_json)


@app.command()
def schedule(workflow: Workflow, as_json: AsJson = False, server: Server = SERVER, key: Key = None) -> None:
    """Show when a workflow runs next: the next ten times of each of its schedules."""
    client = client_of(server, key)
    found = client.get(f"/v1/workflows/{segment(workflow_id(client, workflow))}/schedule")
    if as_json:
        output.write_json(found)
        return
    rows = [
        [trigger["triggerNodeId"], fire["at"], fire["localTime"], trigger["timezone"], fire["note"]]
        for trigger in found["triggers"]
        for fire in trigger["fires"]
    ]
    table(["trigger", "at", "local time", "zone", "note"], rows, spare=("note", "zone"))
    if not found["triggers"]:
        output.note("The workflow has no schedule.")
    elif found["nextRunAt"] is None:
        output.note("Nothing is armed: publish or resume the workflow.")


@app.command("export")
def export_workflow(
    workflow: Workflow,
    format: Annotated[str, typer.Option("--format", help="json or yaml.")] = "yaml",
    version: Annotated[
        int | None, typer.Option("--version", help="Version; default: the draft, else the live version.")
    ] = None,
    to: Annotated[Path | None, typer.Option("--to", "-o", help="File to write; default: standard output.")] = None,
    server: Server = SERVER,
    key: Key = None,
) -> None:
    """Export a workflow as one portable file, without secrets or ids."""
    client = client_of(server, key)
    path = f"/v1/workflows/{segment(workflow_id(client, workflow))}/export"
    found = client.get(path, format=format, version=version)
    if to is None:
        output.say(found["content"].removesuffix("\n"))
        return
    try:
        to.write_text(found["content"], encoding="utf-8")
    except OSError as error:
        raise CliError(f'Cannot write "{to}": {error.strerror}.') from None
    output.note(f"Written: {to}")


@app.command("import")
def import_workflow(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="File written by `export`.")],
    name: Annotated[str | None, typer.Option("--name", help="Name to use instead of the file's.")] = None,
    bind: Annotated[
        list[str] | None, typer.Option("--bind", help="REFERENCE=VALUE, like wallet-1=wal_…; repeatable.")
    ] = None,
    unbound: Annotated[
        list[str] | None, typer.Option("--unbound", help="Reference to leave unbound, like wallet-1; repeatable.")
    ] = None,
    again: Again = False,
    as_json: AsJson = False,
    server: Server = SERVER,
    key: Key = None,
) -> None:
    """Import an exported file as a draft; nothing is run."""
    body: dict[str, Any] = {"content": read_file(file), "bindings": _bindings(bind or []), "uniqueName": not again}
    body["leaveUnbound"] = unbound or []
    if name is not None:
        body["name"] = name
    found = client_of(server, key).post("/v1/workflows/import", body)
    if as_json:
        output.write_json(found)
        return
    _show(found["workflow"], as_json)
    for reference in found["toBind"]:
        output.say(f"To bind: {reference['name']} ({reference['kind']}) at {', '.join(reference['fields'])}")
    _tell_problems([item for item in found["problems"] if item["code"] != "unbound"], found["warnings"])


def _bindings(given: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for one in given:
        reference, _, value = one.partition("=")
        if not reference or not value:
            raise CliError(f'"{one}" is not a binding.', hint="Write it like wallet-1=wal_01k9w3x7q2c4v6b8n0m1a2s3d4.")
        found[reference] = value
    return found


@app.command()
def ladder(
    workflow: Workflow,
    version: Annotated[
        int | None, typer.Option("--version", help="Version; default: the draft, else the live version.")
    ] = None,
    as_json: AsJson = False,
    server: Server = SERVER,
    key: Key = None,
) -> None:
    """Show when each spend of a version was last rehearsed, and whether the version is accepted."""
    client = client_of(server, key)
    found = client.get(f"/v1/workflows/{segment(workflow_id(client, workflow))}/ladder", version=version)
    if as_json:
        output.write_json(found)
        return
    show_ladder(found)
    if found.get("sources"):
        gap()
        output.say("Why this amount, why this recipient:")
        draw_sources(found["sources"])
        if len(found["nodes"]) > len(found["sources"]):
            told = f"{len(found['sources'])} of {len(found['nodes'])} spends are shown here"
            output.say(f"{told}; all: dustrun workflow sources {workflow}")


@app.command()
def sources(
    workflow: Workflow,
    node: Annotated[str | None, typer.Argument(metavar="[NODE]", help="Only this node.")] = None,
    version: Annotated[
        int | None, typer.Option("--version", help="Version; default: the draft, else the live version.")
    ] = None,
    as_json: AsJson = False,
    server: Server = SERVER,
    key: Key = None,
) -> None:
    """Show what shapes each spend of a version: who is paid, how much, and whether it happens."""
    client = client_of(server, key)
    path = f"/v1/workflows/{segment(workflow_id(client, workflow))}/sources"
    found = client.get(path, version=version, limit=_PAGE)
    while found["hasMore"]:
        page = client.get(path, version=found["version"], limit=_PAGE, offset=len(found["items"]))
        found = {**page, "items": [*found["items"], *page["items"]], "offset": 0}
    chosen = [one for one in found["items"] if node in (None, one["nodeId"])]
    if as_json:
        output.write_json({**found, "items": chosen})
        return
    draw_sources(chosen)
    if found["callsAny"]:
        output.say("A call computes which workflow it runs; others may spend, too.")


@app.command()
def accept(
    workflow: Workflow,
    version: Annotated[
        int | None, typer.Option("--version", help="Version; default: the draft, else the live version.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: AsJson = False,
    server: Server = SERVER,
    key: Key = None,
) -> None:
    """Accept what a version can spend, after its difference from the last accepted version is shown."""
    client = client_of(server, key)
    path = f"/v1/workflows/{segment(workflow_id(client, workflow))}"
    status = client.get(f"{path}/ladder", version=version)["acceptance"]
    if not as_json:
        show_differences(status)
    if not yes:
        typer.confirm(f"Accept version {status['version']}?", abort=True, err=True)
    body = {"expectedDigest": status["digest"]}
    found = client.post(f"{path}/versions/{status['version']}/accept", body)
    if as_json:
        output.write_json(found)
    else:
        show_status(found)


@app.command("withdraw-acceptance")
def withdraw_acceptance(
    workflow: Workflow,
    version: Annotated[
        int | None, typer.Option("--version", help="Version; default: the draft, else the live version.")
    ] = None,
    as_json: AsJson = False,
    server: Server = SERVER,
    key: Key = None,
) -> None:
    """Withdraw what your key has accepted of a version."""
    client = client_of(server, key)
    path = f"/v1/workflows/{segment(workflow_id(client, workflow))}"
    number = client.get(f"{path}/ladder", version=version)["version"]
    found = client.call("DELETE", f"{path}/versions/{number}/accept")
    if as_json:
        output.write_json(found)
    else:
        show_status(found)


@app.command()
def diff(
    workflow: Workflow,
    version: Annotated[
        int | None, typer.Argument(metavar="[VERSION]", help="Version to show; default: the current one.")
    ] = None,
    against: Annotated[
        int | None, typer.Option("--against", help="Version to compare with; default: the one before.")
    ] = None,
    as_json: AsJson = False,
    server: Server = SERVER,
    key: Key = None,
) -> None:
    """Show what differs between two versions."""
    client = client_of(server, key)
    path = f"/v1/workflows/{segment(workflow_id(client, workflow))}"
    number = version or client.get(path)["version"]
    found = client.get(f"{path}/versions/{number}/diff", against=against)
    if as_json:
        output.write_json(found)
    else:
        _tell_differences(found)


def _tell_differences(found: dict[str, Any]) -> None:
    output.say(f"Version {found['from']} → {found['to']}{': equal' if found['equal'] else ''}")
    show_definition(found)


def _steer(client: Client, workflow: str, verb: str, body: dict[str, Any], as_json: bool) -> None:
    if is_file(workflow):
        raise CliError(f'"{workflow}" is a file; create the workflow first: dustrun workflow create {workflow}')
    _show(client.post(f"/v1/workflows/{segment(workflow_id(client, workflow))}/{verb}", body), as_json)


# `dustrun apply`: makes the server's workflows those of a file or folder.


_SIGNS = {"create": "+", "update": "~", "archive": "-"}


def apply(
    path: Annotated[Path, typer.Argument(metavar="FILE|FOLDER", help="Workflow file, or a folder of them.")],
    prune: Annotated[
        bool, typer.Option("--prune", help="Archive every workflow that is in none of the files.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the changes and make none.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: AsJson = False,
    server: Server = SERVER,
    key: Key = None,
) -> None:
    """Apply a workflow file or folder to the server: show the changes, then make all of them or none."""
    client = client_of(server, key)
    body = {"files": _files(path), "prune": prune}
    shown = client.post("/v1/workflows/apply", {**body, "dryRun": True})
    output.note_warnings(shown)
    if not as_json:
        _show_applied(shown)
    changes = [one for one in shown["changes"] if one["action"] != "unchanged"]
    if not dry_run and changes:
        if not yes:
            typer.confirm(_question(changes), abort=True, err=True)
        shown = client.post("/v1/workflows/apply", {**body, "expectedDigest": shown["digest"]})
    if as_json:
        output.write_json(shown)
    elif not dry_run and changes:
        output.say("Applied. `dustrun workflow publish` makes a draft live.")


def _files(path: Path) -> list[dict[str, str]]:
    if not path.is_dir():
        return [{"path": path.name, "content": read_file(path)}]
    found = sorted(one for one in path.rglob("*") if is_file(one.name) and one.is_file() and not _is_hidden(one, path))
    if not found:
        raise CliError(f'"{path}" has no workflow files (.json, .yaml, .yml).')
    return [{"path": one.relative_to(path).as_posix(), "content": read_file(one)} for one in found]


def _is_hidden(file: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in file.relative_to(folder).parts)


def _show_applied(shown: dict[str, Any]) -> None:
    for one in shown["changes"]:
        if one["action"] != "unchanged":
            place = one["path"] or one["workflowId"]
            output.say(f"{_SIGNS[one['action']]} {one['name'] or 'not shown'} ({place}): {one['action']}")
            show_changes(one["settings"] or [])
            if one["definition"] is not None:
                show_definition(one["definition"])
    equal = sum(one["action"] == "unchanged" for one in shown["changes"])
    output.say(f"{len(shown['changes']) - equal} to change, {equal} unchanged.")


def _question(changes: list[dict[str, Any]]) -> str:
    archived = sum(one["action"] == "archive" for one in changes)
    told = f", {archived} of which are archived" if archived else ""
    return f"Change {len(changes)} workflows{told}?"
