"""`dustrun action`: one action with inputs, outside a workflow."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from dustrun.cli.http.client import Client, segment
from dustrun.cli.http.failures import CliError
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
