"""`dustrun ledger`: lists and exports what transactions moved, for accounting."""

from __future__ import annotations

import http.client
import os
import sys
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Literal
from urllib.parse import urlencode

import typer

from dustrun.cli.http.client import Client, Unreachable
from dustrun.cli.http.documents import wallet_id
from dustrun.cli.http.failures import CliError
from dustrun.cli.http.options import SERVER, AsJson, Key, Limit, Offset, Server, client_of
from dustrun.cli.render import output
from dustrun.cli.render.tables import show_page

app = typer.Typer(no_args_is_help=True, help="List and export what transactions moved, for accounting.")
From = Annotated[str | None, typer.Option("--from", help="RFC 3339 time of the first block.")]
To = Annotated[str | None, typer.Option("--to", help="RFC 3339 time before which blocks count.")]
OfWallet = Annotated[str | None, typer.Option("--wallet", help="Only this wallet, by name, address or id.")]
OfAsset = Annotated[str | None, typer.Option("--asset", help="Only this asset, like eip155:1/native.")]
_COLUMNS = ["time", "kind", "amount", "asset", "worth", "counterparty", "outcome", "run", "hash"]
_PIECE = 65_536


def _row(found: dict[str, Any]) -> list[Any]:
    amount = found["amountFormatted"] or found["amount"]
    worth = None if found["valueUsd"] is None else f"${found['valueUsd']}"
    rest = [found[name] for name in ("counterparty", "outcome", "runId", "hash")]
    return [found["time"], found["kind"], amount, found["symbol"] or found["asset"], worth, *rest]


def _query(
    client: Client, since: str | None, until: str | None, wallet: str | None, asset: str | None
) -> dict[str, Any]:
    wanted = wallet_id(client, wallet) if wallet is not None else None
    return {"from": since, "to": until, "walletId": wanted, "asset": asset}


@app.command("list")
def list_entries(
    since: From = None,
    until: To = None,
    wallet: OfWallet = None,
    asset: OfAsset = None,
    limit: Limit = 20,
    offset: Offset = 0,
    as_json: AsJson = False,
    server: Server = SERVER,
    key: Key = None,
) -> None:
    """List movements of wallets, newest first."""
    client = client_of(server, key)
    page = client.get("/v1/ledger", **_query(client, since, until, wallet, asset), limit=limit, offset=offset)
    show_page(page, _COLUMNS, _row, as_json, spare=("hash", "run", "counterparty"))


@app.command()
def export(
    to_file: Annotated[
        Path | None, typer.Option("--to-file", help="New file to write; default: standard output.")
    ] = None,
    format: Annotated[Literal["csv", "jsonl"], typer.Option("--format", help="csv or jsonl.")] = "csv",
    since: From = None,
    until: To = None,
    wallet: OfWallet = None,
    asset: OfAsset = None,
    server: Server = SERVER,
    key: Key = None,
) -> None:
    """Export movements of wallets as CSV or JSON lines, oldest first."""
    client = client_of(server, key)
    query = {name: value for name, value in _query(client, since, until, wallet, asset).items() if value is not None}
    response, connection = client.open("GET", f"/v1/ledger?{urlencode({**query, 'format': format})}")
    try:
        if response.status != 200:
            client.raise_failure(response)
        if to_file is None:
            _copy(response, sys.stdout.buffer)
            sys.stdout.buffer.flush()
            return
        handle = os.open(to_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as file:
            _copy(response, file)
    except http.client.HTTPException as error:
        raise Unreachable(client.server, error) from error
    except OSError as error:
        raise CliError(f'Cannot write "{to_file}": {error.strerror}.') from error
    finally:
        connection.close()
    output.note(f"Wrote {to_file}.")


def _copy(response: http.client.HTTPResponse, to: BinaryIO) -> None:
    while piece := response.read(_PIECE):
        to.write(piece)
