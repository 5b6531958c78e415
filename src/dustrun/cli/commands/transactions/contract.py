"""`dustrun contract`: names of known contracts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from dustrun.cli.http.client import segment
from dustrun.cli.http.options import SERVER, AsJson, Key, Limit, Offset, Server, client_of, parse_json, read_file
from dustrun.cli.render.tables import show_one, show_page

app = typer.Typer(no_args_is_help=True, help="Name contracts, so that approvals and lists show what they are.")
Chain = Annotated[int, typer.Argument(metavar="CHAIN", help="Chain id.")]
Address = Annotated[str, typer.Argument(metavar="ADDRESS", help="Address of the contract.")]
_COLUMNS = ["chain", "address", "name", "kind", "implementation", "abi"]


def _row(found: dict[str, Any]) -> list[Any]:
    shown = [found[name] for name in ("chainId", "address", "name", "kind", "implementation")]
    return [*shown, _abi(found)]


def _abi(found: dict[str, Any]) -> str | None:
    """Whether the deployed code has the methods of the ABI."""
    if not found["abi"]:
        return None
    unknown = found.get("unknownMethods")
    if unknown is None:
        return "not checked"
    return "in the code" if not unknown else f"not in the code: {', '.join(unknown)}"


@app.command("list")
def list_contracts(
    chain: Annotated[int | None, typer.Option("--chain", help="Only this chain, by id.")] = None,
    limit: Limit = 20,
    offset: Offset = 0,
    as_json: AsJson = False,
    server: Server = SERVER,
    key: Key = None,
) -> None:
    """List the contracts that the organisation has named."""
    page = client_of(server, key).get("/v1/contracts", chainId=chain, limit=limit, offset=offset)
    show_page(page, _COLUMNS, _row, as_json, spare=("implementation",))


@app.command("set")
def set_name(
    chain: Chain,
    address: Address,
    name: Annotated[str, typer.Argument(metavar="NAME", help="What approvals and lists call it.")],
    kind: Annotated[str | None, typer.Option("--kind", help="Like router, token, vault.")] = None,
    abi: Annotated[Path | None, typer.Option("--abi", help="JSON file with its ABI.")] = None,
    as_json: AsJson = False,
    server: Server = SERVER,
    key: Key = None,
) -> None:
    """Name a contract."""
    body: dict[str, Any] = {"name": name}
    if kind is not None:
        body["kind"] = kind
    if abi is not None:
        body["abi"] = parse_json(str(abi), read_file(abi))
    show_one(client_of(server, key).put(f"/v1/contracts/{chain}/{segment(address)}", body), _COLUMNS, _row, as_json)


@app.command()
def remove(chain: Chain, address: Address, as_json: AsJson = False, server: Server = SERVER, key: Key = None) -> None:
    """Remove a contract's name."""
    found = client_of(server, key).call("DELETE", f"/v1/contracts/{chain}/{segment(address)}")
    show_one(found, _COLUMNS, _row, as_json)
