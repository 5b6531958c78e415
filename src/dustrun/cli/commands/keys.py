"""`dustrun keys`: creates, lists and revokes API keys, and lists the requests made with them."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from dustrun.cli.http.client import segment
from dustrun.cli.http.documents import workflow_id
from dustrun.cli.http.failures import CliError
from dustrun.cli.http.options import SERVER, AsJson, Key, Limit, Offset, Server, client_of
from dustrun.cli.render import output
from dustrun.cli.render.tables import show_one, show_page

app = typer.Typer(no_args_is_help=True, help="Create, list and revoke API keys.")
KeyId = Annotated[str, typer.Argument(metavar="KEY", help="Key id, key_….")]

_COLUMNS = ["key", "name", "may", "limited to", "made", "last used", "ends", "revoked"]
_REQUESTS = ["at", "key", "method", "route", "status", "request"]


def _row(key: dict[str, Any]) -> list[Any]:
    workflows = key.get("workflowScope") or key.get("workflowIds") or ()
    limits = [*workflows, *(key.get("walletIds") or ()), *(key.get("connectorIds") or ())]
    return [
        key["id"],
        key["name"],
        " ".join(key["permissions"]),
        " ".join(limits) or None,
        key["createdAt"],
        key["lastUsedAt"],
        key["expiresAt"],
        key["revokedAt"],
    ]


def _request_row(item: dict[str, Any]) -> list[Any]:
    return [item["at"], item["keyId"], item["method"], item["route"], item["status"], item["requestId"]]


@app.command("list")
def list_keys(
    limit: Limit = 20, offset: Offset = 0, as_json: AsJson = False, server: Server = SERVER, key: Key = None
) -> None:
    """List API keys, newest first."""
    page = client_of(server, key).get("/v1/api-keys", limit=limit, offset=offset)
    spare = ("revoked", "ends", "last used", "made", "limited to")
    show_page(page, _COLUMNS, _row, as_json, spare=spare)


@app.command()
def create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the key.")],
    permission: Annotated[
        list[str] | None, typer.Option("--permission", "-p", help="Permission, like run:read; repeatable.")
    ] = None,
    scope: Annotated[
        str | None, typer.Option("--scope", help="Preset of permissions instead: read, read-write or mcp.")
    ] = None,
    workflow: Annotated[
        list[str] | None, typer.Option("--workflow", help="Limit the key to this workflow, by name or id; repeatable.")
    ] = None,
    folder: Annotated[
        list[str] | None, typer.Option("--folder", help="Limit the key to the workflows in this folder; repeatable.")
    ] = None,
    tag: Annotated[
        list[str] | None, typer.Option("--tag", help="Limit the key to the workflows with this tag; repeatable.")
    ] = None,
    wallet: Annotated[
        list[str] | None, typer.Option("--wallet", help="Limit the key to this wallet, by id; repeatable.")
    ] = None,
    connector: Annotated[
        list[str] | None, typer.Option("--connector", help="Limit the key to this connector, by id; repeatable.")
    ] = None,
    account: Annotated[
        str | None, typer.Option("--service-account", help="Make it a key of this service account, svc_…, instead.")
    ] = None,
    expires: Annotated[str | None, typer.Option("--expires", help="RFC 3339 time at which the key expires.")] = None,
    description: Annotated[str | None, typer.Option("--description", help="Free text.")] = None,
    as_json: AsJson = False,
    server: Server = SERVER,
    key: Key = None,
) -> None:
    """Create an API key. It is shown only once."""
    if sum(map(bool, (permission, scope, account))) != 1:
        raise CliError("Give the key's permissions: one of --permission (repeatable), --scope and --service-account.")
    client = client_of(server, key)
    body: dict[str, Any] = {"name": name, "description": description, "scope": scope, "expiresAt": expires}
    body |= {"serviceAccountId": account, "permissions": permission or None, "walletIds": wallet or None}
    body["connectorIds"] = connector or None
    body["workflowIds"] = [workflow_id(client, named) for named in workflow] if workflow else None
    body["workflowScope"] = [*(f"folder:{one}" for one in folder or ()), *(f"tag:{one}" for one in tag or ())] or None
    made = client.post("/v1/api-keys", {field: value for field, value in body.items() if value is not None})
    if as_json:
        output.write_json(made)
        return
    output.say(made["key"])
    output.note(f"{made['id']}: store the key now; it will not be shown again.")


@app.command("show")
def show_key(key_id: KeyId, as_json: AsJson = False, server: Server = SERVER, key: Key = None) -> None:
    """Show an API key, without its secret."""
    found = client_of(server, key).get(f"/v1/api-keys/{segment(key_id)}")
    show_one(found, _COLUMNS, _row, as_json)


@app.command()
def revoke(
    key_id: KeyId,
    keep_made: Annotated[bool, typer.Option("--keep-made", help="Keep the keys that it created.")] = False,
    as_json: AsJson = False,
    server: Server = SERVER,
    key: Key = None,
) -> None:
    """Revoke an API key and the keys that it created, immediately and permanently."""
    path = f"/v1/api-keys/{segment(key_id)}" + ("?keepMade=true" if keep_made else "")
    found = client_of(server, key).call("DELETE", path)
    if as_json:
        output.write_json(found)
    else:
        output.say(f"Revoked {found['name'] or 'the key'} ({key_id}) at {found['revokedAt']}.")


@app.command()
def rotate(
    key_id: KeyId,
    grace: Annotated[int, typer.Option("--grace", help="Seconds for which the old key stays good.")] = 86_400,
    expires: Annotated[
        str | None,
        typer.Option(
            "--expires",
            help="RFC 3339 time at which the new key expires.",
            show_default="as long a life as the old one",
        ),
    ] = None,
    as_json: AsJson = False,
    server: Server = SERVER,
    key: Key = None,
) -> None:
    """Replace a key of a service account by a new one, which is shown only once."""
    body = {"graceS": grace} | ({} if expires is None else {"expiresAt": expires})
    made = client_of(server, key).post(f"/v1/api-keys/{segment(key_id)}/rotate", body)
    if as_json:
        output.write_json(made)
        return
    output.say(made["key"])
    output.note(f"{made['id']}: store the key now. {key_id} stays good until {made['replacedExpiresAt']}.")


@app.command()
def requests(
    of: Annotated[str | None, typer.Option("--of", metavar="KEY", help="Only requests made with this key.")] = None,
    limit: Limit = 20,
    offset: Offset = 0,
    as_json: AsJson = False,
    server: Server = SERVER,
    key: Key = None,
) -> None:
    """List requests made with API keys, newest first."""
    page = client_of(server, key).get("/v1/api-keys/requests", apiKeyId=of, limit=limit, offset=offset)
    show_page(page, _REQUESTS, _request_row, as_json, spare=("request", "key"))
