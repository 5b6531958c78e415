"""`dustrun wallet`: creates, imports and manages wallets and their policies.

Secrets come from a prompt, a file or standard input, never from an argument, which other users of the machine could
read.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from dustrun.cli.http.client import segment
from dustrun.cli.http.documents import wallet_id
from dustrun.cli.http.failures import CliError
from dustrun.cli.http.options import SERVER, AsJson, Key, Limit, Offset, Server, client_of, parse_json, read_file
from dustrun.cli.render import output
from dustrun.cli.render.tables import show_one, show_page, table
from dustrun.core.values import exact_json

app = typer.Typer(no_args_is_help=True, help="Create, import and manage wallets and their policies.")
Wallet = Annotated[str, typer.Argument(metavar="WALLET", help="Wallet name, address or id.")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="Label of the new wallet.")]
Description = Annotated[str | None, typer.Option("--description", help="Free text.")]
IsDefault = Annotated[bool, typer.Option("--default", help="Make it the default wallet, used by nodes that name none.")]
PasswordFile = Annotated[
    Path | None, typer.Option("--password-file", help="File with the password; default: ask for it.")
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
    remote: Annotated[
        str | None, typer.Option("--remote", help="Name of the remote signer that holds the key.")
    ] = None,
    env: Annotated[
        str | None, typer.Option("--env", help="Name of the server's environment variable that holds the key.")
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Watch-only: tracks --address and signs nothing.")] = False,
    address: Annotated[
        str | None, typer.Option("--address", help="Address to watch, or that the remote signer signs for.")
    ] = None,
    as_json: AsJson = False,
    server: Server = SERVER,
    key: Key = None,
) -> None:
    """Create a wallet with a new key, or for a key held elsewhere."""
    kinds = [kind for kind, given in (("remote", remote), ("env", env), ("watch", watch)) if given]
    if len(kinds) > 1:
        raise CliError("Give only one of --remote, --env and --watch.")
    body = _new(
        name, description, is_default, kind=kinds[0] if kinds else "local", signer=remote or env, address=address
    )
    _show(client_of(server, key).post("/v1/wallets", body), as_json)


@app.command("import")
def import_wallet(
    name: Name,
    key_file: Annotated[
        Path | None, typer.Option("--key-file", help="File with a private key or mnemonic; - reads standard input.")
    ] = None,
    keystore: Annotated[Path | None, typer.Option("--keystore", help="Keystore file, version 3.")] = None,
    password_file: PasswordFile = None,
    path: Annotated[str | None, typer.Option("--path", help="Derivation path for the mnemonic.")] = None,
    passphrase_file: Annotated[
        Path | None, typer.Option("--passphrase-file", help="File with the mnemonic's BIP-39 passphrase.")
    ] = None,
    description: Description = None,
    is_default: IsDefault = False,
    as_json: AsJson = False,
    server: Server = SERVER,
    key: Key = None,
) -> None:
    """Import a wallet from a private key, mnemonic or keystore; asks for it unless you give a file."""
    if keystore is not None and (key_file or path or passphrase_file):
        raise CliError("--keystore can only be combined with --password-file.")
    body = _new(name, description, is_default)
    if keystore is not None:
        body["keystore"] = parse_json(str(keystore), read_file(keystore))
        body["password"] = _secret(password_file, "Password of the keystore")
    else:
        body |= _given_key(_secret(key_file, "Private key or mnemonic"), path, passphrase_file)
    _show(client_of(server, key).post("/v1/wallets/import", body), as_json)


def _given_key(text: str, path: str | None, passphrase_file: Path | None) -> dict[str, Any]:
    """The import request for a key or mnemonic; text with spaces is a mnemonic."""
    if len(text.split()) < 2:
        if path or passphrase_file:
            raise CliError("--path and --passphrase-file require a mnemonic, but this is a private key.")
        return {"privateKey": text.strip()}
    found: dict[str, Any] = {"mnemonic": " ".join(text.split())}
    if path is not None:
        found["path"] = path
    if passphrase_file is not None:
        found["passphrase"] = _secret(passphrase_file, "")
    return found


def _secret(file: Path | None, asked: str, *, confirm: bool = False) -> str:
    """Reads a secret from a file, from standard input (`-`, or not a terminal), or from a prompt without echo."""
    if file is not None and str(file) != "-":
        return read_file(file).rstrip("\r\n")
    if file is not None or not sys.stdin.isatty():
        return sys.stdin.read().rstrip("\r\n")
    answer: str = typer.prompt(asked, hide_input=True, confirmation_prompt=confirm, err=True)
    return answer


@app.command("list")
def list_wallets(
    archived: Annotated[bool, typer.Option("--archived", help="Include archived wallets.")] = False,
    limit: Limit = 20,
    offset: Offset = 0,
    as_json: AsJson = False,
    server: Server = SERVER,
    key: Key = None,
) -> None:
    """List wallets, the default wallet first."""
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
    name: Annotated[str, typer.Argument(metavar="NAME", help="New label.")],
    as_json: AsJson = False,
    server: Server = SERVER,
    key: Key = None,
) -> None:
    """Rename a wallet."""
    client = client_of(server, key)
    _show(client.call("PATCH", f"/v1/wallets/{segment(wallet_id(client, wallet))}", {"name": name}), as_json)


@app.command("default")
def make_default(wallet: Wallet, as_json: AsJson = False, server: Server = SERVER, key: Key = None) -> None:
    """Make a wallet the default, used by nodes that name none."""
    client = client_of(server, key)
    _show(client.call("PUT", f"/v1/wallets/{segment(wallet_id(client, wallet))}/default"), as_json)


@app.command()
def export(
    wallet: Wallet,
    to: Annotated[Path, typer.Option("--to", help="Keystore file to write; it must not exist yet.")],
    password_file: PasswordFile = None,
    server: Server = SERVER,
    key: Key = None,
) -> None:
    """Export a wallet's key as a keystore encrypted with your password; requires wallet:admin and is audited."""
    client = client_of(server, key)
    found_id = wallet_id(client, wallet)
    if to.exists():
        raise CliError(f'"{to}" already exists; choose another file.')
    password = _secret(password_file, "Password for the keystore", confirm=True)
    found = client.post(f"/v1/wallets/{segment(found_id)}/export", {"password": password})
    _write_new(to, exact_json.dumps_text(found["keystore"]) + "\n")
    output.note(f"Wrote the key of {found['address']} to {to}, encrypted with your password.")


def _write_new(path: Path, text: str) -> None:
    """Writes a new file with mode 0600; never overwrites."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise CliError(f'Cannot write "{path}": {error.strerror}.') from error


@app.command()
def archive(
    wallet: Wallet,
    force: Annotated[bool, typer.Option("--force", help="Archive it even if workflows use it.")] = False,
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
        Path | None, typer.Option("--set", help="JSON file with the complete new policy; - reads standard input.")
    ] = None,
    expected_version: Annotated[
        int | None, typer.Option("--expected-version", min=1, help="Refuse unless this is the newest version.")
    ] = None,
    effective_at: Annotated[
        str | None, typer.Option("--effective-at", help="RFC 3339 time at which a looser policy takes effect.")
    ] = None,
    history: Annotated[bool, typer.Option("--history", help="List all versions.")] = False,
    say: Annotated[
        str | None,
        typer.Option(
            "--say",
            help="The new policy in sentences, one a line: 'on ethereum', 'swap up to $500 a day on uniswap', 'pay 0x… "
            "and 0x… up to $2,000 a month', 'ask above $100'. - reads standard input.",
        ),
    ] = None,
    write: Annotated[bool, typer.Option("--write", help="Write the new policy in sentences, step by step.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Set it without asking.")] = False,
    as_json: AsJson = False,
    server: Server = SERVER,
    key: Key = None,
) -> None:
    """Show a wallet's spending policy, or replace it with --set, --say or --write."""
    client = client_of(server, key)
    route = f"/v1/wallets/{segment(wallet_id(client, wallet))}/policy"
    if history:
        _show_history(client.get(f"{route}/history", limit=100), as_json)
        return
    given = {"expectedVersion": expected_version, "effectiveAt": effective_at}
    more = {name: value for name, value in given.items() if value is not None}
    if say is not None or write:
        read = functools.partial(_read_sentences, client, wallet_id(client, wallet))
        document = _asked_policy(read) if say is None else read(sys.stdin.read() if say == "-" else say)
        if document is None:
            raise typer.Exit(2)
        if say == "-" and not yes:
            raise CliError(
                "Nothing is set: standard input had the sentences, so it cannot answer. Add --yes to set it."
            )
        if not yes and not typer.confirm("Set this policy?", err=True):
            raise typer.Exit(1)
        found = client.put(route, {"policy": document, **more})
        output.write_json(found) if as_json else _note_version({**found, "warnings": []})  # they were told before
        return
    if put is None:
        found = client.get(route)
        if not as_json:
            _note_sentences(client.post("/v1/wallets/policy-sentences", {"policy": found["policy"]}))
        _show_policy(found, as_json)
        return
    text = sys.stdin.read() if str(put) == "-" else read_file(put)
    _show_policy(client.put(route, {"policy": parse_json(str(put), text), **more}), as_json)


_QUESTIONS = (
    ("on", "Which chains? (ethereum, base; empty: every chain)"),
    ("swap up to", "Swaps: how much, and where? ($500 a day on uniswap; empty: none)"),
    ("pay", "Payments: whom, and how much? (0x… and 0x… up to $2,000 a month; empty: none)"),
    ("ask above", "Ask a person above how much? ($100; empty: never)"),
    ("", "Anything else? (spend up to $3,000 a day; empty: no)"),
)


def _asked_policy(read: Callable[..., Any]) -> Any:
    """The policy that the answers say. After an answer that is not understood its question is asked again."""
    lines: list[str] = []
    for verb, question in _QUESTIONS:
        while told := str(typer.prompt(question, default="", show_default=False, err=True)).strip():
            line = f"{verb} {told}".strip()
            if read("\n".join([*lines[:1], line]), quiet=True) is not None:
                lines.append(line)
                break
    return read("\n".join(lines))


def _read_sentences(client: Any, wallet: str, lines: str, quiet: bool = False) -> Any:
    """The policy that sentences say, which is read back unless `quiet`; None after telling what is not understood."""
    found = client.post("/v1/wallets/policy-sentences", {"text": lines, "walletId": wallet})
    for problem in found["problems"]:
        output.note(f'Line {problem["line"]}, "{problem["text"]}": {problem["message"]}')
    if found["policy"] is not None and not quiet:
        _note_sentences(found)
        for warning in found["warnings"]:
            output.note(f"Warning: {warning}")
    return found["policy"]


def _note_sentences(found: dict[str, Any]) -> None:
    lines = [*found["sentences"], *found["remarks"]] or ["nothing"]
    output.note("\n".join(["The wallet may:", *(f"  {line}" for line in lines)]))


def _show_policy(found: dict[str, Any], as_json: bool) -> None:
    if as_json:
        output.write_json(found)
        return
    _note_version(found)
    output.say(exact_json.dumps_pretty(_given(found["policy"])).rstrip())


def _note_version(found: dict[str, Any]) -> None:
    output.note(f"Version {found['version']}, in force since {found['effectiveAt']}.")
    if found["pending"]:
        output.note(f"Version {found['pending']['version']} takes effect at {found['pending']['effectiveAt']}.")
    for warning in found["warnings"]:
        output.note(f"Warning: {warning}")


def _given(policy: Any) -> Any:
    """The policy without its unset fields."""
    if isinstance(policy, dict):
        return {name: _given(value) for name, value in policy.items() if value is not None}
    return [_given(item) for item in policy] if isinstance(policy, list) else policy


def _show_history(page: dict[str, Any], as_json: bool) -> None:
    if as_json:
        output.write_json(page)
        return
    rows = [[item["version"], _state(item), item["effectiveAt"], item["createdBy"]] for item in page["items"]]
    table(["version", "change", "effective from", "by"], rows)


def _state(item: dict[str, Any]) -> str:
    change = "looser" if item["isLooser"] else "not looser"
    if item["cancelledAt"]:
        return f"{change}, cancelled"
    return f"{change}, waits" if item["isPending"] else change


@app.command()
def balances(
    wallet: Wallet,
    chains: Annotated[str | None, typer.Option("--chains", help="Chain ids, comma-separated.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Include zero balances.")] = False,
    as_json: AsJson = False,
    server: Server = SERVER,
    key: Key = None,
) -> None:
    """Show a wallet's balances."""
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
    if not found["chains"]:
        output.note("No chain was asked: none has an endpoint.")
    elif not rows and found["isComplete"]:
        output.note("Nothing is above zero; --all lists every asset.")


@app.command()
def spending(wallet: Wallet, as_json: AsJson = False, server: Server = SERVER, key: Key = None) -> None:
    """Show how much of each policy limit is used."""
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


@app.command()
def allowances(
    wallet: Wallet,
    chains: Annotated[str | None, typer.Option("--chains", help="Chain ids, comma-separated.")] = None,
    as_json: AsJson = False,
    server: Server = SERVER,
    key: Key = None,
) -> None:
    """Show what a wallet has allowed others to take, worth most first."""
    client = client_of(server, key)
    found = client.get(f"/v1/wallets/{segment(wallet_id(client, wallet))}/allowances", chainIds=chains)
    if as_json:
        output.write_json(found)
        return
    rows = [[chain["name"], *_allowance(one)] for chain in found["chains"] for one in chain["allowances"]]
    table(["chain", "token", "spender", "may take", "worth now", "kind"], rows, spare=("kind",))
    for chain in found["chains"]:
        for failure in chain["failures"]:
            output.note(f"{chain['name']}: {failure['message']}")


def _allowance(found: dict[str, Any]) -> list[Any]:
    amount = "unlimited" if found["isUnlimited"] else found["amountFormatted"] or found["amount"]
    worth = None if found["worthUsd"] is None else f"${found['worthUsd']}"
    return [found["symbol"] or found["token"], found["spenderName"] or found["spender"], amount, worth, found["kind"]]


@app.command()
def revoke(
    wallet: Wallet,
    chain: Annotated[int, typer.Option("--chain", help="Chain id.")],
    token: Annotated[str | None, typer.Option("--token", help="Only of this token, by its address.")] = None,
    spender: Annotated[str | None, typer.Option("--spender", help="Only what this address may take.")] = None,
    unlimited: Annotated[bool, typer.Option("--unlimited", help="Only unlimited allowances.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")] = False,
    as_json: AsJson = False,
    server: Server = SERVER,
    key: Key = None,
) -> None:
    """Revoke allowances of a wallet: one transaction for each; workflows that need one will ask for it again."""
    if token is None and spender is None and not yes:
        kept = "every unlimited allowance" if unlimited else "every allowance"
        typer.confirm(f"Revoke {kept} of the wallet on chain {chain}?", abort=True, err=True)
    client = client_of(server, key)
    body = {"chainId": chain, "token": token, "spender": spender, "unlimitedOnly": unlimited}
    given = {name: value for name, value in body.items() if value is not None}
    found = client.post(f"/v1/wallets/{segment(wallet_id(client, wallet))}/allowances/revoke", given)
    if as_json:
        output.write_json(found)
    else:
        output.say(f"Started {found['runId']}; dustrun runs show {found['runId']} tells what becomes of it.")
