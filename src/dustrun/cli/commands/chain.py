"""`dustrun chain`: lists the server's chains and checks their endpoints."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from dustrun.cli.http.client import Client, segment
from dustrun.cli.http.documents import meant
from dustrun.cli.http.failures import CliError, Exit
from dustrun.cli.http.options import SERVER, AsJson, Key, Server, client_of
from dustrun.cli.render import output
from dustrun.cli.render.tables import gap, show_one, table

app = typer.Typer(no_args_is_help=True, help="List the server's chains and check their endpoints.")
Chain = Annotated[
    str, typer.Argument(metavar="CHAIN", help="Chain id, short name or name, like 1, base or OP Mainnet.")
]

_COLUMNS = ["chain", "short name", "name", "coin", "served", "confirmations", "test network"]


def _row(found: dict[str, Any]) -> list[Any]:
    return [
        found["chainId"],
        found["shortName"],
        found["name"],
        found["native"]["symbol"],
        "yes" if found["isServed"] else "no",
        found["confirmations"],
        "yes" if found["isTestnet"] else "no",
    ]


def _id_of(client: Client, wanted: str) -> str:
    """Looks up a chain's id by its id, short name or name."""
    if wanted.isdecimal():
        return segment(wanted)
    chains = client.get("/v1/chains")
    for found in chains:
        if wanted.casefold() in (found["shortName"], found["name"].casefold()):
            return str(found["chainId"])
    known = [found["shortName"] for found in chains]
    hint = meant(wanted.casefold(), known) or f"Known chains: {', '.join(known)}."
    raise CliError(f'The server does not know the chain "{wanted}".', hint=hint)


@app.command("list")
def list_chains(as_json: AsJson = False, server: Server = SERVER, key: Key = None) -> None:
    """List the chains that the server knows."""
    found = client_of(server, key).get("/v1/chains")
    if as_json:
        output.write_json(found)
    else:
        table(_COLUMNS, [_row(item) for item in found], spare=("test network", "confirmations"))


@app.command()
def show(chain: Chain, as_json: AsJson = False, server: Server = SERVER, key: Key = None) -> None:
    """Show a chain with the tokens and contracts that its file lists."""
    client = client_of(server, key)
    found = client.get(f"/v1/chains/{_id_of(client, chain)}")
    show_one(found, _COLUMNS, _row, as_json)
    if as_json:
        return
    gap()
    table(["token", "address", "decimals"], [[t["symbol"], t["address"], t["decimals"]] for t in found["tokens"]])
    contracts = [["wrapped coin", found["wrappedNative"]], ["Multicall3", found["multicall3"]]]
    contracts += [[name, found["dex"][name]] for name in found["dex"] if name != "v3RouterKind"]
    gap()
    table(["contract", "address"], [row for row in contracts if row[1] is not None])


@app.command()
def check(chain: Chain, as_json: AsJson = False, server: Server = SERVER, key: Key = None) -> None:
    """Check a chain's endpoints; exit status 1 if nothing can be signed on it."""
    client = client_of(server, key)
    found = client.get(f"/v1/chains/{_id_of(client, chain)}/status")
    if as_json:
        output.write_json(found)
    else:
        _tell(found)
    if found["problem"] is not None:
        raise typer.Exit(Exit.FAILURE)


def _tell(found: dict[str, Any]) -> None:
    rows = [
        [e["host"], "yes" if e["isUsable"] else "no", e["chainId"], e["problem"], ", ".join(_offers(e))]
        for e in found["endpoints"]
    ]
    table(["endpoint", "usable", "chain", "problem", "offers"], rows)
    if found["block"] is not None:
        output.say(f"Block {found['block']['number']} of {found['block']['time']}.")
    strategies = ", ".join(found["simulationStrategies"]) or "not available; see docs/guides/chains.md"
    output.say(f"Simulation: {strategies}.")
    output.say(found["problem"] or f"{found['name']} is ready.")


def _offers(endpoint: dict[str, Any]) -> list[str]:
    return [name for name, offered in (endpoint["abilities"] or {}).items() if offered]
