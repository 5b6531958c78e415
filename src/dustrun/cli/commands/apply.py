"""`dustrun apply`: makes the server's workflows those of a file or folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from dustrun.cli.http.documents import is_file
from dustrun.cli.http.failures import CliError
from dustrun.cli.http.options import SERVER, AsJson, Key, Server, client_of, read_file
from dustrun.cli.render import output
from dustrun.cli.render.acceptance import show_changes
from dustrun.cli.render.versions import show_definition

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
        _show(shown)
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


def _show(shown: dict[str, Any]) -> None:
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
