"""`dustrun action`: one action with inputs, outside a workflow."""

from __future__ import annotations

import keyword
import re
import subprocess
import sys
from pathlib import Path
from string import Template
from typing import Annotated, Any

import typer

from dustrun.cli.http.client import Client, segment
from dustrun.cli.http.failures import CliError, Exit
from dustrun.cli.http.options import SERVER, AsJson, Key, Server, client_of, read_json_option
from dustrun.cli.render import output

app = typer.Typer(no_args_is_help=True, help="Run or simulate one action outside a workflow.")
Type = Annotated[str, typer.Argument(metavar="TYPE", help="Type of the action, e.g. http-request.")]
Inputs = Annotated[str, typer.Option("--inputs", metavar="JSON|@FILE", help="Inputs of the action.")]
Connector = Annotated[
    str | None, typer.Option("--connector", metavar="ID", help="Connector or wallet; default: the default wallet.")
]
_STATUS = {"success": 0, "partial": 3, "cancelled": 4, "running": 5, "waiting": 5}
_SENT = ("transactions", "signatures", "requests", "variableWrites", "tableWrites")


@app.command("run")
def run_action(
    type: Type,
    inputs: Inputs = "{}",
    connector: Connector = None,
    simulate: Annotated[bool, typer.Option("--simulate", help="Dry run: only reads leave the server.")] = False,
    dust: Annotated[bool, typer.Option("--dust", help="Real run with amounts worth about one cent.")] = False,
    as_json: AsJson = False,
    server: Server = SERVER,
    key: Key = None,
) -> None:
    """Run one action now and show its result.

    The exit status shows how it ended: 0 success, 1 failure, 3 partial, 4 cancelled, 5 still running or waiting.
    """
    modes = {"simulate": simulate, "dustTest": dust}
    body = _body(inputs, connector) | {name: True for name, is_set in modes.items() if is_set}
    _call(client_of(server, key), type, "run", body, as_json)


@app.command("test")
def try_action(
    type: Type,
    inputs: Inputs = "{}",
    connector: Connector = None,
    as_json: AsJson = False,
    server: Server = SERVER,
    key: Key = None,
) -> None:
    """Simulate one action: show its result, and what would have been sent."""
    _call(client_of(server, key), type, "test", _body(inputs, connector), as_json)


def _body(inputs: str, connector: str | None) -> dict[str, Any]:
    given = read_json_option("inputs", inputs)
    if not isinstance(given, dict):
        raise CliError("--inputs must be a JSON object.", hint="""Like --inputs '{"message": "hello"}'.""")
    return {"inputs": given} if connector is None else {"inputs": given, "connectorId": connector}


def _call(client: Client, kind: str, how: str, body: dict[str, Any], as_json: bool) -> None:
    found = client.post(f"/v1/actions/{segment(kind)}/{how}", body)
    if as_json:
        output.write_json(found)
    else:
        _show(found)
    status = _STATUS.get(found["status"], 1)
    if status:
        raise typer.Exit(status)


def _show(found: dict[str, Any]) -> None:
    output.say(f"{found['type']} ({found['mode']}): {found['status']}, run {found['runId']}")
    if found.get("error"):
        output.say(f"{found['error'].get('code', 'failed')}: {found['error']['message']}")
    elif found["status"] in ("running", "waiting"):
        output.note(f"It continues. Watch it: dustrun runs watch {found['runId']}")
    else:
        output.say(output.compact(found.get("result"), 10_000))
    if found.get("effects"):
        _show_effects(found["effects"])


def _show_effects(effects: dict[str, Any]) -> None:
    for one in effects["transactions"]:
        output.say(f"Would send a transaction: {one['about']}")
    for one in effects["signatures"]:
        output.say(f"Would sign: {one['about']}")
    for one in effects["requests"]:
        output.say(f"Would request: {output.compact(one['request'], 500)}")
    if not any(effects[name] for name in _SENT):
        output.say("Nothing would be sent or written.")
    for one in effects["warnings"]:
        output.note(f"{one['code']}: {one['message']}")


# `dustrun new-action`: generates an action and its test from a template and runs the contract tests on it.


_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_TEMPLATES = Path(__file__).parents[1] / "templates"


def new_action(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The action's type, in kebab case: convert-temperature.")],
    family: Annotated[str, typer.Option("--family", help="Folder of the action: data, http, …")],
    root: Annotated[Path, typer.Option("--root", help="Root of the Dustrun checkout.")] = Path(),
    test: Annotated[
        bool, typer.Option("--test/--no-test", help="Run its test and the contract tests afterwards.")
    ] = True,
) -> None:
    """Generate a new action and its test."""
    for word, what in ((name, "NAME"), (family, "--family")):
        if not _NAME.fullmatch(word) or keyword.iskeyword(word):
            raise CliError(f'{what} "{word}" is not in kebab case.', hint="Like convert-temperature.")
    if not (root / "src/dustrun/actions").is_dir():
        raise CliError(
            f'"{root}" is not the root of a Dustrun checkout.', hint="Run the command in the checkout, or give --root."
        )
    action_path, test_path = write(root, name, family)
    output.say(f"Wrote {action_path}\nWrote {test_path}")
    if test:
        raise typer.Exit(_run_contract(root, name, test_path))
    output.say("Fill in the action, then run: scripts/test tests/contract " + str(test_path))


def write(root: Path, name: str, family: str) -> tuple[Path, Path]:
    """Writes both files and returns their paths relative to `root`; never overwrites."""
    module, package = name.replace("-", "_"), family.replace("-", "_")
    words = {
        "type": name,
        "module": module,
        "package": package,
        "title": name.replace("-", " ").capitalize(),
    }
    paths = Path(f"src/dustrun/actions/{package}/{module}.py"), Path(f"tests/actions/{package}/test_{module}.py")
    for path in paths:
        if (root / path).exists():
            raise CliError(f'"{path}" already exists.', hint="Choose another name, or remove the file first.")
    for path, template in zip(paths, ("action.py.txt", "test.py.txt"), strict=True):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(Template((_TEMPLATES / template).read_text()).substitute(words))
    marker = root / paths[0].parent / "__init__.py"
    if not marker.exists():
        marker.write_text(f'"""Actions of the family {family}."""\n')
    return paths


def _run_contract(root: Path, name: str, test_path: Path) -> Exit:
    contract = [str(path) for path in [Path("tests/contract")] if (root / path).exists()]
    chosen = f"{name} or {test_path.stem}"
    command = [sys.executable, "-m", "pytest", "-k", chosen, str(test_path), *contract]
    done = subprocess.run(command, cwd=root, check=False)  # noqa: S603 - our own words, no shell
    return Exit.SUCCESS if done.returncode == 0 else Exit.FAILURE
