"""`dustrun connector`: manages stored credentials.

Secrets are read from a file or standard input, never from an argument: other users and the shell history see those.
"""

from __future__ import annotations

import sys
import time
import webbrowser
from pathlib import Path
from typing import Annotated, Any

import typer

from dustrun.cli.http.client import Client, segment
from dustrun.cli.http.failures import CliError, Exit
from dustrun.cli.http.options import SERVER, AsJson, Key, Limit, Offset, Server, client_of, parse_json, read_file
from dustrun.cli.render import output
from dustrun.cli.render.tables import show_one, show_page, table

app = typer.Typer(no_args_is_help=True, help="Store, list and test credentials for external systems.")
Connector = Annotated[str, typer.Argument(metavar="CONNECTOR", help="Name or id.")]
DataFile = Annotated[
    str | None,
    typer.Option("--data", metavar="FILE", help="JSON file with the connector's data; - reads standard input."),
]
Hosts = Annotated[list[str] | None, typer.Option("--host", help="Host that the credential may be sent to; repeatable.")]
MovesMoney = Annotated[
    bool | None,
    typer.Option("--moves-money/--moves-no-money", help="Whether the credential can move money.", show_default=False),
]

_COLUMNS = ["connector", "name", "type", "hosts", "moves money", "updated"]
_PAGE = 100
_CONSENT_S = 600
_LOOK_S = 1.0


def _row(item: dict[str, Any]) -> list[Any]:
    money = "yes" if item["movesMoney"] else "no"
    return [item["id"], item["name"], item["type"], " ".join(item["allowedHosts"]), money, item["updatedAt"]]


def _show(found: dict[str, Any], as_json: bool) -> None:
    show_one(found, _COLUMNS, _row, as_json)


def _path(client: Client, named: str) -> str:
    """The API path of a connector, by id or by a unique name."""
    if named.startswith("conn_"):
        return f"/v1/connectors/{segment(named)}"
    found: list[str] = []
    offset, more = 0, True
    while more:
        page = client.get("/v1/connectors", limit=_PAGE, offset=offset)
        found += [item["id"] for item in page["items"] if item["name"] == named]
        offset, more = offset + _PAGE, page["hasMore"]
    if len(found) != 1:
        why = f"{len(found)} connectors are called" if found else "No connector is called"
        raise CliError(f'{why} "{named}".', hint="`dustrun connector list` shows names and ids.")
    return f"/v1/connectors/{segment(found[0])}"


def _read_data(source: str | None) -> Any:
    if source is None:
        return None
    text = sys.stdin.read() if source == "-" else read_file(Path(source))
    return parse_json("standard input" if source == "-" else source, text)


@app.command("list")
def list_connectors(
    type_: Annotated[str | None, typer.Option("--type", help="Only connectors of this type.")] = None,
    limit: Limit = 20,
    offset: Offset = 0,
    as_json: AsJson = False,
    server: Server = SERVER,
    key: Key = None,
) -> None:
    """List connectors, newest first."""
    page = client_of(server, key).get("/v1/connectors", type=type_, limit=limit, offset=offset)
    show_page(page, _COLUMNS, _row, as_json, spare=("updated", "moves money", "hosts"))


@app.command()
def create(
    type_: Annotated[
        str, typer.Argument(metavar="TYPE", help="Connector type, like http-bearer; /v1/connector-types lists them.")
    ],
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the connector.")],
    data: DataFile = None,
    host: Hosts = None,
    moves_money: MovesMoney = None,
    description: Annotated[str | None, typer.Option("--description", help="Free text.")] = None,
    service: Annotated[
        str | None, typer.Option("--service", help="Known service whose consent page the data leaves out.")
    ] = None,
    as_json: AsJson = False,
    server: Server = SERVER,
    key: Key = None,
) -> None:
    """Store a connector: `dustrun connector create http-bearer Orders --host api.example.com --data secret.json`."""
    if data is None:
        hint = 'Write it to a file that only you can read, like {"token": "…"}, or pipe it in with --data -.'
        raise CliError("Use --data to name the file with the connector's data.", hint=hint)
    client, given_data = client_of(server, key), _read_data(data)
    if service is not None and isinstance(given_data, dict):
        given_data = {**_preset(client, service), **given_data}
    body = {"type": type_, "name": name, "data": given_data, "allowedHosts": host or []}
    body |= {"movesMoney": moves_money, "description": description}
    given = {field: value for field, value in body.items() if value is not None}
    _show(client.post("/v1/connectors", given), as_json)


def _preset(client: Client, service: str) -> dict[str, Any]:
    """What a known service's consent page needs in a connector's data."""
    found = client.get(f"/v1/catalog/services/{segment(service)}")
    if found["consent"] is None:
        raise CliError(
            f'Dustrun does not know the consent page of "{service}".', hint="Give authorizeUrl and tokenUrl."
        )
    scope = {"scope": " ".join(found["scopes"])} if found["scopes"] else {}
    return {**{name: value for name, value in found["consent"].items() if name != "docs"}, **scope}


@app.command()
def show(connector: Connector, as_json: AsJson = False, server: Server = SERVER, key: Key = None) -> None:
    """Show a connector without its secrets."""
    client = client_of(server, key)
    found = client.get(_path(client, connector))
    _show(found, as_json)
    if not as_json:
        table(["field", "value"], [[name, value] for name, value in found["maskedData"].items()])


@app.command()
def update(
    connector: Connector,
    name: Annotated[str | None, typer.Option("--name", help="New name.")] = None,
    data: DataFile = None,
    host: Hosts = None,
    moves_money: MovesMoney = None,
    description: Annotated[str | None, typer.Option("--description", help="Free text.")] = None,
    as_json: AsJson = False,
    server: Server = SERVER,
    key: Key = None,
) -> None:
    """Change a connector. Secrets missing from the data keep their value; adding a host requires the secrets again."""
    body = {"name": name, "data": _read_data(data), "allowedHosts": host, "movesMoney": moves_money}
    body["description"] = description
    given = {field: value for field, value in body.items() if value is not None}
    if not given:
        raise CliError("Nothing to change: use --name, --data, --host, --moves-money or --description.")
    client = client_of(server, key)
    _show(client.put(_path(client, connector), given), as_json)


@app.command()
def delete(
    connector: Connector,
    force: Annotated[bool, typer.Option("--force", help="Delete it even if workflows use it.")] = False,
    as_json: AsJson = False,
    server: Server = SERVER,
    key: Key = None,
) -> None:
    """Delete a connector and its secrets."""
    client = client_of(server, key)
    found = client.call("DELETE", _path(client, connector) + ("?force=true" if force else ""))
    if as_json:
        output.write_json(found)
    else:
        output.note(f"Deleted {found['name'] or 'the connector'} ({found['id']}).")


@app.command("test")
def try_connector(
    connector: Connector,
    url: Annotated[str | None, typer.Option("--url", help="URL to request instead of the data's testUrl.")] = None,
    as_json: AsJson = False,
    server: Server = SERVER,
    key: Key = None,
) -> None:
    """Test a connector's credential; exit status 1 if it is not accepted."""
    client = client_of(server, key)
    found = client.post(f"{_path(client, connector)}/test", {"url": url} if url else {})
    if as_json:
        output.write_json(found)
    else:
        output.say(found["message"])
    if not found["ok"]:
        raise typer.Exit(Exit.FAILURE)


@app.command()
def connect(
    connector: Connector,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the address in a browser.")] = True,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until it is connected.")] = True,
    as_json: AsJson = False,
    server: Server = SERVER,
    key: Key = None,
) -> None:
    """Connect a connector at its provider, where a person consents; also after it says that it needs reconnecting."""
    client = client_of(server, key)
    path = _path(client, connector)
    before = client.get(path)
    begun = client.post(f"{path}/consent", {})
    if as_json and not wait:
        output.write_json(begun)
        return
    output.note(f"Open this address and consent, within ten minutes:\n{begun['url']}")
    if browser:
        webbrowser.open(begun["url"])
    if wait:
        _show(_wait_for_consent(client, path, before), as_json)


def _wait_for_consent(client: Client, path: str, before: dict[str, Any]) -> dict[str, Any]:
    until = time.monotonic() + _CONSENT_S
    while time.monotonic() < until:
        found: dict[str, Any] = client.get(path)
        if found["connectedAt"] not in (None, before["connectedAt"]):
            return found
        time.sleep(_LOOK_S)
    raise CliError("Nobody has consented within ten minutes.", hint="Run the command again for a new address.")


@app.command()
def tools(
    connector: Connector,
    read: Annotated[
        list[str] | None, typer.Option("--read", help="Tool that only reads, so that simulations call it; repeatable.")
    ] = None,
    write: Annotated[list[str] | None, typer.Option("--write", help="Tool that writes; repeatable.")] = None,
    stored: Annotated[
        bool, typer.Option("--stored", help="Show the stored tools without asking the MCP server.")
    ] = False,
    as_json: AsJson = False,
    server: Server = SERVER,
    key: Key = None,
) -> None:
    """List and store the tools of a connector's MCP server, and mark those that only read."""
    client = client_of(server, key)
    path = f"{_path(client, connector)}/tools"
    effects = {**dict.fromkeys(read or (), "read"), **dict.fromkeys(write or (), "write")}
    if stored and effects:
        raise CliError("--stored only shows tools; leave out --read and --write.")
    found = client.get(path) if stored else client.post(path, {"effects": effects})
    if as_json:
        output.write_json(found)
        return
    table(["tool", "effect", "was", "problem", "description"], [_tool_row(one) for one in found["tools"]])


def _tool_row(one: dict[str, Any]) -> list[Any]:
    about = " ".join(one["description"].split())
    return [one["name"], one["effect"], one["was"] or "", one["problem"] or "", about[:80]]
