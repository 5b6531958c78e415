"""`dustrun tx`: look at transactions, speed them up and cancel them."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from dustrun.cli.http.client import segment
from dustrun.cli.http.failures import CliError
from dustrun.cli.http.naming import wallet_id
from dustrun.cli.http.options import SERVER, AsJson, Key, Limit, Offset, Server, client_of
from dustrun.cli.render import output
from dustrun.cli.render.tables import gap, show_one, show_page, table

app = typer.Typer(no_args_is_help=True, help="Look at transactions, speed them up and cancel them.")
Transaction = Annotated[str, typer.Argument(metavar="TRANSACTION", help="Id, or the hash of one of its attempts.")]

_COLUMNS = ["transaction", "status", "chain", "nonce", "about", "node", "run", "hash"]
_ATTEMPTS = ["attempt", "kind", "max fee", "tip", "sent", "answer", "hash"]


def _row(found: dict[str, Any]) -> list[Any]:
    names = ("id", "status", "chainId", "nonce", "about", "path", "runId", "hash")
    return [found[name] for name in names]


def _show(found: dict[str, Any], as_json: bool) -> None:
    show_one(found, _COLUMNS, _row, as_json)
    if as_json:
        return
    if found["attempts"]:
        gap()
        table(_ATTEMPTS, [_attempt(attempt) for attempt in found["attempts"]], spare=("tip", "hash"))
    if found["fee"] is not None:
        output.say(f"Fee: {found['fee']} base units of the native coin, block {found['blockNumber']}.")
    if found["waitsBecause"]:
        output.note(f"It waits: {found['waitsBecause']}")
    if found["error"]:
        output.note(f"{found['error']['code']}: {found['error']['message']}")


def _attempt(attempt: dict[str, Any]) -> list[Any]:
    names = ("number", "kind", "maxFeePerGas", "maxPriorityFeePerGas", "sentAt", "reply", "hash")
    return [attempt[name] for name in names]


@app.command("list")
def list_transactions(
    status: Annotated[str | None, typer.Option("--status", help="A status, like sent or final.")] = None,
    run: Annotated[str | None, typer.Option("--run", help="Id of a run.")] = None,
    workflow: Annotated[str | None, typer.Option("--workflow", help="Id of a workflow.")] = None,
    wallet: Annotated[str | None, typer.Option("--wallet", help="Name, address or id of a wallet.")] = None,
    chain: Annotated[int | None, typer.Option("--chain", help="Id of a chain.")] = None,
    limit: Limit = 20,
    offset: Offset = 0,
    as_json: AsJson = False,
    server: Server = SERVER,
    key: Key = None,
) -> None:
    """List transactions, newest first."""
    client = client_of(server, key)
    wanted = wallet_id(client, wallet) if wallet is not None else None
    query = {"runId": run, "workflowId": workflow, "walletId": wanted, "chainId": chain, "status": status}
    page = client.get("/v1/transactions", **query, limit=limit, offset=offset)
    show_page(page, _COLUMNS, _row, as_json, spare=("run", "hash", "node", "nonce"))


@app.command()
def show(transaction: Transaction, as_json: AsJson = False, server: Server = SERVER, key: Key = None) -> None:
    """Show a transaction with its attempts."""
    _show(client_of(server, key).get(f"/v1/transactions/{segment(transaction)}"), as_json)


@app.command("speed-up")
def speed_up(
    transaction: Transaction,
    max_fee: Annotated[
        str | None, typer.Option("--max-fee", help="The most that it may bid for one unit of gas, in base units.")
    ] = None,
    as_json: AsJson = False,
    server: Server = SERVER,
    key: Key = None,
) -> None:
    """Bid more for a transaction that waits."""
    if max_fee is not None and not max_fee.isdecimal():
        raise CliError("--max-fee is a whole number of base units, like 30000000000.")
    body = {"maxFeePerGas": max_fee} if max_fee is not None else {}
    _show(client_of(server, key).post(f"/v1/transactions/{segment(transaction)}/speed-up", body), as_json)


@app.command()
def cancel(transaction: Transaction, as_json: AsJson = False, server: Server = SERVER, key: Key = None) -> None:
    """Cancel a transaction: give it up unsigned, or take its nonce for a transfer of nothing."""
    _show(client_of(server, key).post(f"/v1/transactions/{segment(transaction)}/cancel", {}), as_json)


@app.command()
def release(
    wallet: Annotated[str, typer.Argument(metavar="WALLET", help="Name, address or id.")],
    chain: Annotated[int, typer.Option("--chain", help="Id of the chain.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: AsJson = False,
    server: Server = SERVER,
    key: Key = None,
) -> None:
    """Let a wallet spend again after the store came out of a backup or a copy, when you have looked at the chain."""
    if not yes:
        warning = "What was paid elsewhere since is unknown here and could be paid again."
        typer.confirm(f"{warning} Have you looked at the chain?", abort=True, err=True)
    client = client_of(server, key)
    body = {"walletId": wallet_id(client, wallet), "chainId": chain}
    found = client.post("/v1/transactions/release", body)
    if as_json:
        output.write_json(found)
    else:
        output.say(f"Released; {found['released']} wishes waited for it.")
