"""`dustrun service-accounts`: makes accounts of programs, and disables them; `dustrun keys` makes and rotates their
keys."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from dustrun.cli.http.client import segment
from dustrun.cli.http.documents import workflow_id
from dustrun.cli.http.failures import CliError
from dustrun.cli.http.options import SERVER, AsJson, Key, Limit, Offset, Server, client_of
from dustrun.cli.render.tables import show_one, show_page

app = typer.Typer(no_args_is_help=True, help="Make accounts of programs, disable and delete them; needs `admin`.")
AccountId = Annotated[str, typer.Argument(metavar="ACCOUNT", help="Service account id, svc_….")]
Owner = Annotated[
    str | None, typer.Option("--owner", help="Person who answers for it, per_….", show_default="yourself")
]
About = Annotated[str | None, typer.Option("--description", help="What it is for.")]
Rights = Annotated[list[str] | None, typer.Option("--permission", "-p", help="Permission, like run:read; repeatable.")]
Role = Annotated[str | None, typer.Option("--role", help="Role instead, like builder.")]

_PATH = "/v1/service-accounts"
_COLUMNS = ["account", "name", "status", "role", "may", "owner", "keys", "last used"]


def _row(one: dict[str, Any]) -> list[Any]:
    named = [one["id"], one["name"], one["status"], one["role"], " ".join(one["permissions"])]
    return [*named, one["ownerId"], " ".join(one["keyIds"]) or None, one["lastUsedAt"]]


@app.command("list")
def list_accounts(
    limit: Limit = 20, offset: Offset = 0, as_json: AsJson = False, server: Server = SERVER, key: Key = None
) -> None:
    """List service accounts, newest first."""
    page = client_of(server, key).get(_PATH, limit=limit, offset=offset)
    show_page(page, _COLUMNS, _row, as_json, spare=("last used", "may", "keys", "owner"))


@app.command()
def create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A name that no other one has.")],
    permission: Rights = None,
    scope: Annotated[
        str | None, typer.Option("--scope", help="Preset of permissions instead: read, read-write or mcp.")
    ] = None,
    role: Role = None,
    owner: Owner = None,
    description: About = None,
    workflow: Annotated[
        list[str] | None, typer.Option("--workflow", help="Limit it to this workflow, by name or id; repeatable.")
    ] = None,
    wallet: Annotated[list[str] | None, typer.Option("--wallet", help="Limit it to this wallet, by id.")] = None,
    connector: Annotated[
        list[str] | None, typer.Option("--connector", help="Limit it to this connector, by id; repeatable.")
    ] = None,
    as_json: AsJson = False,
    server: Server = SERVER,
    key: Key = None,
) -> None:
    """Make a service account. `dustrun keys create NAME --service-account ACCOUNT` makes its keys."""
    if sum(map(bool, (permission, scope, role))) != 1:
        raise CliError("Give what it may do: one of --role, --permission (repeatable) and --scope.")
    client = client_of(server, key)
    body: dict[str, Any] = {"name": name, "description": description, "permissions": permission or None}
    body |= {"scope": scope, "role": role, "ownerId": owner, "walletIds": wallet or None}
    body["connectorIds"] = connector or None
    body["workflowIds"] = [workflow_id(client, named) for named in workflow] if workflow else None
    made = client.post(_PATH, {field: value for field, value in body.items() if value is not None})
    show_one(made, _COLUMNS, _row, as_json)


@app.command()
def show(account_id: AccountId, as_json: AsJson = False, server: Server = SERVER, key: Key = None) -> None:
    """Show a service account, and its keys."""
    show_one(client_of(server, key).get(f"{_PATH}/{segment(account_id)}"), _COLUMNS, _row, as_json)


@app.command()
def update(
    account_id: AccountId,
    name: Annotated[str | None, typer.Option("--name", help="Another name.")] = None,
    permission: Rights = None,
    role: Role = None,
    owner: Owner = None,
    description: About = None,
    as_json: AsJson = False,
    server: Server = SERVER,
    key: Key = None,
) -> None:
    """Change a service account. What is not given stays; its keys are revoked if a permission goes."""
    given = {"name": name, "permissions": permission or None, "role": role, "ownerId": owner}
    body = {field: value for field, value in {**given, "description": description}.items() if value is not None}
    if not body:
        raise CliError("Give what to change: --name, --description, --owner, --role or --permission.")
    changed = client_of(server, key).call("PATCH", f"{_PATH}/{segment(account_id)}", body)
    show_one(changed, _COLUMNS, _row, as_json)


@app.command()
def disable(account_id: AccountId, as_json: AsJson = False, server: Server = SERVER, key: Key = None) -> None:
    """Revoke the keys of a service account, at once; it gets no others until it is enabled."""
    show_one(client_of(server, key).post(f"{_PATH}/{segment(account_id)}/disable"), _COLUMNS, _row, as_json)


@app.command()
def enable(account_id: AccountId, as_json: AsJson = False, server: Server = SERVER, key: Key = None) -> None:
    """Let a disabled service account have keys again; those that it had stay revoked."""
    show_one(client_of(server, key).post(f"{_PATH}/{segment(account_id)}/enable"), _COLUMNS, _row, as_json)


@app.command()
def delete(account_id: AccountId, as_json: AsJson = False, server: Server = SERVER, key: Key = None) -> None:
    """Revoke the keys of a service account and delete it, for good."""
    show_one(client_of(server, key).call("DELETE", f"{_PATH}/{segment(account_id)}"), _COLUMNS, _row, as_json)
