"""`dustrun tx`: lists transactions, speeds them up and cancels them."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from dustrun.cli.http.client import segment
from dustrun.cli.http.documents import wallet_id
from dustrun.cli.http.failures import CliError
from dustrun.cli.http.options import SERVER, AsJson, Key, Limit, Offset, Server, client_of
from dustrun.cli.render import output
from dustrun.cli.render.tables import gap, show_one, show_page, table

app = typer.Typer(no_args_is_help=True, help="List transactions, speed them up and cancel them.")
Transaction = Annotated[
    str, typer.Argument(metavar="TRANSACTION", help="Transaction id, or the hash of one of its attempts.")
]

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
        output.note(f"Waiting: {found['waitsBecause']}")
    if found["error"]:
        output.note(f"{found['error']['code']}: {found['error']['message']}")


def _attempt(attempt: dict[str, Any]) -> list[Any]:
    names = ("number", "kind", "maxFeePerGas", "maxPriorityFeePerGas", "sentAt", "reply", "hash")
    return [attempt[name] for name in names]


@app.command("list")
def list_transactions(
    status: Annotated[str | None, typer.Option("--status", help="Only this status, like sent or final.")] = None,
    run: Annotated[str | None, typer.Option("--run", help="Only this run, by id.")] = None,
    workflow: Annotated[str | None, typer.Option("--workflow", help="Only this workflow, by id.")] = None,
    wallet: Annotated[str | None, typer.Option("--wallet", help="Only this wallet, by name, address or id.")] = None,
    chain: Annotated[int | None, typer.Option("--chain", help="Only this chain, by id.")] = None,
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
        str | None, typer.Option("--max-fee", help="Maximum fee per unit of gas, in base units.")
    ] = None,
    as_json: AsJson = False,
    server: Server = SERVER,
    key: Key = None,
) -> None:
    """Raise the fee of a pending transaction."""
    if max_fee is not None and not max_fee.isdecimal():
        raise CliError("--max-fee must be a whole number of base units, like 30000000000.")
    body = {"maxFeePerGas": max_fee} if max_fee is not None else {}
    _show(client_of(server, key).post(f"/v1/transactions/{segment(transaction)}/speed-up", body), as_json)


@app.command()
def cancel(transaction: Transaction, as_json: AsJson = False, server: Server = SERVER, key: Key = None) -> None:
    """Cancel a transaction: drop it if unsigned, otherwise replace it with a zero-value self-transfer."""
    _show(client_of(server, key).post(f"/v1/transactions/{segment(transaction)}/cancel", {}), as_json)


@app.command()
def release(
    wallet: Annotated[str, typer.Argument(metavar="WALLET", help="Wallet name, address or id.")],
    chain: Annotated[int, typer.Option("--chain", help="Chain id.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")] = False,
    as_json: AsJson = False,
    server: Server = SERVER,
    key: Key = None,
) -> None:
    """Allow a wallet to spend again after a restore or copy of the store. Check the chain first."""
    if not yes:
        warning = "Payments made elsewhere since the backup are not known here and could be paid twice."
        typer.confirm(f"{warning} Have you checked the chain?", abort=True, err=True)
    client = client_of(server, key)
    body = {"walletId": wallet_id(client, wallet), "chainId": chain}
    found = client.post("/v1/transactions/release", body)
    if as_json:
        output.write_json(found)
    else:
        output.say(f"Released; {found['released']} pending payments were waiting.")
