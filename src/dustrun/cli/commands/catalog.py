"""`dustrun catalog`: imports OpenAPI documents, whose operations are node types."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from dustrun.cli.http.client import Client, find_key, find_server, segment
from dustrun.cli.http.failures import CliError
from dustrun.cli.http.options import SERVER, AsJson, Key, Limit, Offset, Server, read_file
from dustrun.cli.render import output
from dustrun.cli.render.tables import show_one, show_page

app = typer.Typer(no_args_is_help=True, help="Import OpenAPI documents, and search their operations.")
Named = Annotated[str, typer.Argument(metavar="NAME", help="Name or id of the import.")]
Service = Annotated[str, typer.Argument(metavar="SERVICE", help="Name of the service: github.")]
Source = Annotated[str, typer.Argument(metavar="URL|FILE", help="Where the document is.")]
Fixed = Annotated[
    list[str] | None,
    typer.Option("--variable", metavar="NAME=VALUE", help="Value of a variable in the document's servers; repeatable."),
]
Place = Annotated[str | None, typer.Option("--server-url", help="Where all operations are served.")]
Reading = Annotated[list[str] | None, typer.Option("--read", metavar="TYPE", help="This type only reads; repeatable.")]
Writing = Annotated[
    list[str] | None, typer.Option("--write", metavar="TYPE", help="This type changes something; repeatable.")
]

_COLUMNS = ["import", "name", "title", "operations", "left out", "version", "renewed"]
_FOUND = ["type", "effect", "method", "summary"]
_LONG_S = 600.0
"""Of an import, which takes half a minute for twenty thousand operations."""


def _row(item: dict[str, Any]) -> list[Any]:
    left_out = sum(item["leftOutCounts"].values())
    named = [item["id"], item["name"], item["title"], item["operations"], left_out]
    return [*named, item["version"], item["renewedAt"]]


def _client(server: str, key: str | None) -> Client:
    return Client(find_server(server), find_key(key), timeout_s=_LONG_S)


def _path(named: str) -> str:
    return f"/v1/catalog/imports/{segment(named)}"


def _body(
    source: str | None, place: str | None, fixed: list[str] | None, reading: list[str] | None, writing: list[str] | None
) -> dict[str, Any]:
    body: dict[str, Any] = {} if source is None else _of_source(source)
    body |= {} if place is None else {"server": place}
    for one in fixed or ():
        name, given, value = one.partition("=")
        if not given:
            raise CliError(f'"{one}" is no variable with its value.', hint="Write it like --variable region=eu.")
        body.setdefault("serverVariables", {})[name] = value
    effects = {**dict.fromkeys(reading or (), "read"), **dict.fromkeys(writing or (), "write")}
    return {**body, "effects": effects} if effects else body


def _of_source(source: str) -> dict[str, Any]:
    if source.startswith(("http://", "https://")):
        return {"url": source}
    return {"document": read_file(Path(source))}


def _tell(found: dict[str, Any], as_json: bool) -> None:
    show_one(found, _COLUMNS, _row, as_json)
    if as_json:
        return
    for one in found["leftOut"][:10]:
        output.note(f"Left out: {one['operation']}: {one['message']}")
    more = sum(found["leftOutCounts"].values()) - len(found["leftOut"][:10])
    if more > 0:
        output.note(f"Left out: {more} more; --json lists the first 200.")
    for user in found["users"]:
        stale = [one["type"] for one in user["operations"] if one["state"] != "current"]
        if stale:
            output.note(f"{user['name']} ({user['workflowId']}) keeps earlier versions of {', '.join(stale)}.")


@app.command("import")
def import_document(
    source: Source,
    name: Annotated[str | None, typer.Option("--name", help="How its types begin; default: its title.")] = None,
    place: Place = None,
    fixed: Fixed = None,
    reading: Reading = None,
    writing: Writing = None,
    as_json: AsJson = False,
    server: Server = SERVER,
    key: Key = None,
) -> None:
    """Import an OpenAPI document; its operations become node types NAME.OPERATION."""
    body = _body(source, place, fixed, reading, writing) | ({} if name is None else {"name": name})
    _tell(_client(server, key).post("/v1/catalog/imports", body), as_json)


@app.command()
def renew(
    named: Named,
    source: Annotated[str | None, typer.Argument(metavar="[URL|FILE]", help="Default: where it was.")] = None,
    place: Place = None,
    fixed: Fixed = None,
    reading: Reading = None,
    writing: Writing = None,
    as_json: AsJson = False,
    server: Server = SERVER,
    key: Key = None,
) -> None:
    """Import a document again. Workflows keep what they are pinned to until they are saved without it."""
    body = _body(source, place, fixed, reading, writing)
    _tell(_client(server, key).post(f"{_path(named)}/renew", body), as_json)


@app.command()
def add(
    service: Service,
    name: Annotated[str | None, typer.Option("--name", help="How its types begin; default: the service.")] = None,
    place: Place = None,
    fixed: Fixed = None,
    as_json: AsJson = False,
    server: Server = SERVER,
    key: Key = None,
) -> None:
    """Import the document of a service that Dustrun knows."""
    body = _body(None, place, fixed, None, None) | {"service": service} | ({} if name is None else {"name": name})
    _tell(_client(server, key).post("/v1/catalog/imports", body), as_json)


@app.command()
def services(
    words: Annotated[list[str] | None, typer.Argument(metavar="[WORDS]", help="Default: all services.")] = None,
    limit: Limit = 100,
    offset: Offset = 0,
    as_json: AsJson = False,
    server: Server = SERVER,
    key: Key = None,
) -> None:
    """List the services that Dustrun knows, to be imported by their names."""
    query = {"q": " ".join(words or ()), "limit": limit, "offset": offset}
    page = _client(server, key).get("/v1/catalog/services", **query)

    def row(item: dict[str, Any]) -> list[Any]:
        return [item["name"], item["title"], item["summary"], ", ".join(item["imports"])]

    show_page(page, ["service", "title", "summary", "imported as"], row, as_json, spare=("title",))


@app.command()
def service(service: Service, as_json: AsJson = False, server: Server = SERVER, key: Key = None) -> None:
    """Show a known service: where its credential is found, and what people automate with it."""
    found = _client(server, key).get(f"/v1/catalog/services/{segment(service)}")
    if as_json:
        output.write_json(found)
        return
    output.say(f"{found['title']}: {found['summary']}. {found['website']}")
    scopes = f" It needs {', '.join(found['scopes'])}." if found["scopes"] else ""
    output.say(f"Credential: {found['credential']}; a connector of type {' or '.join(found['connectors'])}.{scopes}")
    for one in found["operations"]:
        output.say(f"  {one['name']}: {one['summary']}")
    place = " --server-url ADDRESS" if found["needsServer"] else ""
    imported = f"Imported as {', '.join(found['imports'])}." if found["imports"] else ""
    output.note(imported or f"Import it: dustrun catalog add {found['name']}{place}")


@app.command("list")
def list_imports(
    limit: Limit = 20, offset: Offset = 0, as_json: AsJson = False, server: Server = SERVER, key: Key = None
) -> None:
    """List the imported documents, by name."""
    page = _client(server, key).get("/v1/catalog/imports", limit=limit, offset=offset)
    show_page(page, _COLUMNS, _row, as_json, spare=("renewed", "title", "left out"))


@app.command()
def show(named: Named, as_json: AsJson = False, server: Server = SERVER, key: Key = None) -> None:
    """Show one import: what is left out, and which workflows use it."""
    _tell(_client(server, key).get(_path(named)), as_json)


@app.command()
def search(
    words: Annotated[list[str] | None, typer.Argument(metavar="[WORDS]", help="Default: all operations.")] = None,
    api: Annotated[str | None, typer.Option("--api", help="Only those of this import.")] = None,
    limit: Limit = 20,
    offset: Offset = 0,
    as_json: AsJson = False,
    server: Server = SERVER,
    key: Key = None,
) -> None:
    """Search the operations of imported documents."""
    query = {"q": " ".join(words or ()), "api": api, "limit": limit, "offset": offset}
    page = _client(server, key).get("/v1/catalog/operations", **query)

    def row(item: dict[str, Any]) -> list[Any]:
        return [item["type"], item["effect"], item["method"], item["summary"]]

    show_page(page, _FOUND, row, as_json, spare=("method",))


@app.command()
def delete(named: Named, as_json: AsJson = False, server: Server = SERVER, key: Key = None) -> None:
    """Remove an import that no workflow uses."""
    show_one(_client(server, key).call("DELETE", _path(named)), _COLUMNS, _row, as_json)
