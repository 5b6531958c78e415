"""`dustrun wallet`: make, import and look after wallets.

Secrets come from a prompt, a file or standard input, never from an argument, which other users of the machine could
read.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from dustrun.cli.http.client import segment
from dustrun.cli.http.failures import CliError
from dustrun.cli.http.naming import wallet_id
from dustrun.cli.http.options import SERVER, AsJson, Key, Limit, Offset, Server, client_of, parse_json, read_file
from dustrun.cli.render import output
from dustrun.cli.render.tables import show_one, show_page, table
from dustrun.core.values import exact_json

app = typer.Typer(no_args_is_help=True, help="Make, import and look after wallets, and say what they may do.")
Wallet = Annotated[str, typer.Argument(metavar="WALLET", help="Name, address or id.")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="Label of the new wallet.")]
Description = Annotated[str | None, typer.Option("--description", help="Free text.")]
IsDefault = Annotated[bool, typer.Option("--default", help="Nodes that name no wallet use it.")]
PasswordFile = Annotated[
    Path | None, typer.Option("--password-file", help="File with the password; without it you are asked.")
]

_COLUMNS = ["wallet", "name", "address", "kind", "default", "created"]


def _row(found: dict[str, Any]) -> list[Any]:
    kind = found["kind"] + (" (archived)" if found["archivedAt"] else "")
    default = "default" if found["isDefault"] else None
    return [found["id"], found["name"], found["address"], kind, default, found["createdAt"]]


def _show(found: dict[str, Any], as_json: bool) -> None:
    show_one(found, _COLUMNS, _row, as_json)
    if found.get("hint") and not as_json:
        output.note(found["hint"])


def _new(name: str, description: str | None, is_default: bool, **more: Any) -> dict[str, Any]:
    fields = {"name": name, "description": description, **more}
    return {"isDefault": is_default} | {field: value for field, value in fields.items() if value is not None}


@app.command()
def create(
    name: Name,
    description: Description = None,
    is_default: IsDefault = False,
    remote: Annotated[str | None, typer.Option("--remote", help="Name of a remote signer that holds the key.")] = None,
    env: Annotated[str | None, typer.Option("--env", help="Name of a variable of the server that holds it.")] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Only watch --address; nothing is signed.")] = False,
    address: Annotated[str | None, typer.Option("--address", help="Address to watch, or of the remote signer.")] = None,
    as_json: AsJson = False,
    server: Server = SERVER,
    key: Key = None,
) -> None:
    """Make a wallet with a fresh key, or with one that is elsewhere."""
    kinds = [kind for kind, given in (("remote", remote), ("env", env), ("watch", watch)) if given]
    if len(kinds) > 1:
        raise CliError("Give one of --remote, --env and --watch.")
    body = _new(
        name, description, is_default, kind=kinds[0] if kinds else "local", signer=remote or env, address=address
    )
    _show(client_of(server, key).post("/v1/wallets", body), as_json)


@app.command("import")
def import_wallet(
    name: Name,
    key_file: Annotated[
        Path | None, typer.Option("--key-file", help="File with a private key or a mnemonic; - is standard input.")
    ] = None,
    keystore: Annotated[Path | None, typer.Option("--keystore", help="A keystore of version 3.")] = None,
    password_file: PasswordFile = None,
    path: Annotated[str | None, typer.Option("--path", help="Derivation path of the mnemonic.")] = None,
    passphrase_file: Annotated[
        Path | None, typer.Option("--passphrase-file", help="File with the mnemonic's BIP-39 passphrase.")
    ] = None,
    description: Description = None,
    is_default: IsDefault = False,
    as_json: AsJson = False,
    server: Server = SERVER,
    key: Key = None,
) -> None:
    """Make a wallet with a key that you bring: you are asked for it, or name a file."""
    if keystore is not None and (key_file or path or passphrase_file):
        raise CliError("--keystore goes with --password-file alone.")
    body = _new(name, description, is_default)
    if keystore is not None:
        body["keystore"] = parse_json(str(keystore), read_file(keystore))
        body["password"] = _secret(password_file, "Password of the keystore")
    else:
        body |= _given_key(_secret(key_file, "Private key or mnemonic"), path, passphrase_file)
    _show(client_of(server, key).post("/v1/wallets/import", body), as_json)


def _given_key(text: str, path: str | None, passphrase_file: Path | None) -> dict[str, Any]:
    """A text with spaces is a mnemonic."""
    if len(text.split()) < 2:
        if path or passphrase_file:
            raise CliError("--path and --passphrase-file go with a mnemonic, and this is a private key.")
        return {"privateKey": text.strip()}
    found: dict[str, Any] = {"mnemonic": " ".join(text.split())}
    if path is not None:
        found["path"] = path
    if passphrase_file is not None:
        found["passphrase"] = _secret(passphrase_file, "")
    return found


def _secret(file: Path | None, asked: str, *, confirm: bool = False) -> str:
    """A secret out of a file, of standard input (`-`, or when it is no terminal), or asked for without an echo."""
    if file is not None and str(file) != "-":
        return read_file(file).rstrip("\r\n")
    if file is not None or not sys.stdin.isatty():
        return sys.stdin.read().rstrip("\r\n")
    answer: str = typer.prompt(asked, hide_input=True, confirmation_prompt=confirm, err=True)
    return answer


@app.command("list")
def list_wallets(
    archived: Annotated[bool, typer.Option("--archived", help="Archived ones too.")] = False,
    limit: Limit = 20,
    offset: Offset = 0,
    as_json: AsJson = False,
    server: Server = SERVER,
    key: Key = None,
) -> None:
    """List wallets, the default first."""
    shown = "true" if archived else None
    page = client_of(server, key).get("/v1/wallets", archived=shown, limit=limit, offset=offset)
    show_page(page, _COLUMNS, _row, as_json, spare=("created", "wallet"))


@app.command()
def show(wallet: Wallet, as_json: AsJson = False, server: Server = SERVER, key: Key = None) -> None:
    """Show a wallet."""
    client = client_of(server, key)
    _show(client.get(f"/v1/wallets/{segment(wallet_id(client, wallet))}"), as_json)


@app.command()
def rename(
    wallet: Wallet,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The new label.")],
    as_json: AsJson = False,
    server: Server = SERVER,
    key: Key = None,
) -> None:
    """Give a wallet another name."""
    client = client_of(server, key)
    _show(client.call("PATCH", f"/v1/wallets/{segment(wallet_id(client, wallet))}", {"name": name}), as_json)


@app.command("default")
def make_default(wallet: Wallet, as_json: AsJson = False, server: Server = SERVER, key: Key = None) -> None:
    """Make it the wallet of nodes that name none."""
    client = client_of(server, key)
    _show(client.call("PUT", f"/v1/wallets/{segment(wallet_id(client, wallet))}/default"), as_json)


@app.command()
def export(
    wallet: Wallet,
    to: Annotated[Path, typer.Option("--to", help="File for the keystore; it must not exist yet.")],
    password_file: PasswordFile = None,
    server: Server = SERVER,
    key: Key = None,
) -> None:
    """Write a wallet's key as a keystore under your password; needs wallet:admin and is audited."""
    client = client_of(server, key)
    found_id = wallet_id(client, wallet)
    if to.exists():
        raise CliError(f'"{to}" exists already; name another file.')
    password = _secret(password_file, "Password for the keystore", confirm=True)
    found = client.post(f"/v1/wallets/{segment(found_id)}/export", {"password": password})
    _write_new(to, exact_json.dumps_text(found["keystore"]) + "\n")
    output.note(f"The key of {found['address']} is in {to}, under your password.")


def _write_new(path: Path, text: str) -> None:
    """For its owner's eyes only, and never over something else."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise CliError(f'Cannot write "{path}": {error.strerror}.') from error


@app.command()
def archive(
    wallet: Wallet,
    force: Annotated[bool, typer.Option("--force", help="Also while workflows name it.")] = False,
    as_json: AsJson = False,
    server: Server = SERVER,
    key: Key = None,
) -> None:
    """Archive a wallet."""
    client = client_of(server, key)
    query = "?force=true" if force else ""
    _show(client.call("DELETE", f"/v1/wallets/{segment(wallet_id(client, wallet))}{query}"), as_json)


@app.command()
def policy(
    wallet: Wallet,
    put: Annotated[
        Path | None, typer.Option("--set", help="JSON file with the whole policy that shall hold; - is standard input.")
    ] = None,
    expected_version: Annotated[
        int | None, typer.Option("--expected-version", min=1, help="Refuse when the newest version is another.")
    ] = None,
    effective_at: Annotated[
        str | None, typer.Option("--effective-at", help="RFC 3339 time when a loosening shall take effect.")
    ] = None,
    history: Annotated[bool, typer.Option("--history", help="List the versions.")] = False,
    as_json: AsJson = False,
    server: Server = SERVER,
    key: Key = None,
) -> None:
    """Show what a wallet may do, or change it with --set."""
    client = client_of(server, key)
    route = f"/v1/wallets/{segment(wallet_id(client, wallet))}/policy"
    if history:
        _show_history(client.get(f"{route}/history", limit=100), as_json)
        return
    if put is None:
        _show_policy(client.get(route), as_json)
        return
    text = sys.stdin.read() if str(put) == "-" else read_file(put)
    given = {"expectedVersion": expected_version, "effectiveAt": effective_at}
    body = {"policy": parse_json(str(put), text)} | {name: value for name, value in given.items() if value is not None}
    _show_policy(client.put(route, body), as_json)


def _show_policy(found: dict[str, Any], as_json: bool) -> None:
    if as_json:
        output.write_json(found)
        return
    output.note(f"Version {found['version']}, in force since {found['effectiveAt']}.")
    if found["pending"]:
        output.note(f"Version {found['pending']['version']} comes into force at {found['pending']['effectiveAt']}.")
    output.say(exact_json.dumps_pretty(_given(found["policy"])).rstrip())


def _given(policy: Any) -> Any:
    """The policy without what it leaves open."""
    if isinstance(policy, dict):
        return {name: _given(value) for name, value in policy.items() if value is not None}
    return [_given(item) for item in policy] if isinstance(policy, list) else policy


def _show_history(page: dict[str, Any], as_json: bool) -> None:
    if as_json:
        output.write_json(page)
        return
    rows = [[item["version"], _state(item), item["effectiveAt"], item["createdBy"]] for item in page["items"]]
    table(["version", "change", "in force from", "by"], rows)


def _state(item: dict[str, Any]) -> str:
    change = "looser" if item["isLooser"] else "not looser"
    if item["cancelledAt"]:
        return f"{change}, cancelled"
    return f"{change}, waits" if item["isPending"] else change


@app.command()
def balances(
    wallet: Wallet,
    chains: Annotated[str | None, typer.Option("--chains", help="Ids of chains, comma-separated.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Balances of zero too.")] = False,
    as_json: AsJson = False,
    server: Server = SERVER,
    key: Key = None,
) -> None:
    """Show what a wallet has."""
    client = client_of(server, key)
    found = client.get(f"/v1/wallets/{segment(wallet_id(client, wallet))}/balances", chainIds=chains)
    if as_json:
        output.write_json(found)
        return
    rows = [
        [chain["name"], balance["symbol"], balance["amountFormatted"], balance["asset"]]
        for chain in found["chains"]
        for balance in chain["balances"]
        if every or balance["amount"] != "0"
    ]
    table(["chain", "asset", "amount", "id"], rows, spare=("id",))
    for chain in found["chains"]:
        for failure in chain["failures"]:
            output.note(f"{chain['name']}: {failure['message']}")


@app.command()
def spending(wallet: Wallet, as_json: AsJson = False, server: Server = SERVER, key: Key = None) -> None:
    """Show how much of each limit of the policy is used."""
    client = client_of(server, key)
    found = client.get(f"/v1/wallets/{segment(wallet_id(client, wallet))}/spending")
    if as_json:
        output.write_json(found)
        return
    rows = [[item["measure"], _hours(item["windowMs"]), *_amounts(item)] for item in found["items"]]
    table(["limit on", "in", "spent", "of", "left"], rows)


def _amounts(item: dict[str, Any]) -> list[str]:
    return [item["spent"], item["max"], item["remaining"]]


def _hours(window_ms: int) -> str:
    hours, rest = divmod(window_ms, 3_600_000)
    return f"{hours} h" if rest == 0 else f"{window_ms} ms"
