"""`dustrun people`: invites people, shows what depends on them, and deactivates them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from dustrun.cli.commands.serve import read_settings
from dustrun.cli.http.client import segment
from dustrun.cli.http.failures import CliError, Exit
from dustrun.cli.http.options import SERVER, AsJson, Key, Limit, Offset, Server, client_of
from dustrun.cli.render import output
from dustrun.cli.render.tables import show_one, show_page
from dustrun.errors import Conflict, DustrunError

app = typer.Typer(no_args_is_help=True, help="Invite people, sign them out, deactivate them; needs `admin`.")
PersonId = Annotated[str, typer.Argument(metavar="PERSON", help="Person id, per_….")]

Whose = Annotated[str | None, typer.Argument(metavar="PERSON", help="Person id, per_…; default: yourself.")]

_COLUMNS = ["person", "name", "e-mail", "state", "role", "may", "key", "joined"]
_ROLE = ["role", "may", "about", "built in"]
_SESSION = ["session", "key", "started", "last used", "this"]
_DEPENDENTS = {
    "keys": "good keys",
    "madeKeys": "keys of nobody that these made",
    "workflows": "workflows whose triggers run in their name",
    "runs": "runs that have not ended",
    "formLinks": "open links to forms",
    "serviceAccounts": "service accounts that they answer for",
}


def _row(person: dict[str, Any]) -> list[Any]:
    may = " ".join(person["permissions"])
    named = [person["id"], person["name"], person["email"], person["state"], person["role"]]
    return [*named, may, person["keyId"], person["joinedAt"]]


def _role_row(role: dict[str, Any]) -> list[Any]:
    return [role["name"], " ".join(role["permissions"]), role["description"], "yes" if role["builtIn"] else None]


def _session_row(one: dict[str, Any]) -> list[Any]:
    return [one["id"], one["keyId"], one["createdAt"], one["seenAt"], "yes" if one["current"] else None]


def _show(person: dict[str, Any], as_json: bool) -> None:
    show_one(person, _COLUMNS, _row, as_json)


@app.command("list")
def list_people(
    limit: Limit = 20, offset: Offset = 0, as_json: AsJson = False, server: Server = SERVER, key: Key = None
) -> None:
    """List the organisation's people, newest first."""
    page = client_of(server, key).get("/v1/people", limit=limit, offset=offset)
    show_page(page, _COLUMNS, _row, as_json, spare=("joined", "key", "may"))


@app.command()
def invite(
    email: Annotated[str, typer.Argument(metavar="EMAIL", help="E-mail address; nothing is sent to it.")],
    name: Annotated[str, typer.Option("--name", help="What the person is called.")],
    permission: Annotated[
        list[str] | None, typer.Option("--permission", "-p", help="Permission, like run:read; repeatable.")
    ] = None,
    scope: Annotated[
        str | None, typer.Option("--scope", help="Preset of permissions instead: read, read-write or mcp.")
    ] = None,
    role: Annotated[str | None, typer.Option("--role", help="Role instead, like builder.")] = None,
    as_json: AsJson = False,
    server: Server = SERVER,
    key: Key = None,
) -> None:
    """Invite a person, and print the link that signs them in once."""
    if sum(map(bool, (permission, scope, role))) != 1:
        raise CliError("Give what the person may do: one of --role, --permission (repeatable) and --scope.")
    body = {"name": name, "email": email, "permissions": permission or None, "scope": scope, "role": role}
    given = {field: value for field, value in body.items() if value is not None}
    made = client_of(server, key).post("/v1/people", given)
    if as_json:
        output.write_json(made)
        return
    output.say(made["url"])
    output.note(f"{made['id']}: send the link to the person; it signs in once, until {made['linkExpiresAt']}.")


@app.command()
def link(person_id: PersonId, as_json: AsJson = False, server: Server = SERVER, key: Key = None) -> None:
    """Make a new link that signs a person in once; earlier ones no longer do."""
    made = client_of(server, key).post(f"/v1/people/{segment(person_id)}/links")
    if as_json:
        output.write_json(made)
    else:
        output.say(made["url"])


@app.command()
def show(person_id: PersonId, as_json: AsJson = False, server: Server = SERVER, key: Key = None) -> None:
    """Show a person, and what depends on them."""
    found = client_of(server, key).get(f"/v1/people/{segment(person_id)}")
    _show(found, as_json)
    if not as_json:
        output.note(f"open sessions: {found['dependents']['sessions']}")
        for field, words in _DEPENDENTS.items():
            output.note(f"{words}: {', '.join(found['dependents'][field]) or 'none'}")


@app.command()
def give(
    person_id: PersonId,
    key_id: Annotated[list[str], typer.Argument(metavar="KEY", help="Key id, key_…; it is theirs for good.")],
    as_json: AsJson = False,
    server: Server = SERVER,
    key: Key = None,
) -> None:
    """Say that keys are a person's, so that they are one hand with everything else of theirs."""
    _show(client_of(server, key).call("PATCH", f"/v1/people/{segment(person_id)}", {"keyIds": key_id}), as_json)


@app.command()
def deactivate(person_id: PersonId, as_json: AsJson = False, server: Server = SERVER, key: Key = None) -> None:
    """Revoke all keys of a person, and end their sessions and streams, at once."""
    _show(client_of(server, key).call("PATCH", f"/v1/people/{segment(person_id)}", {"state": "deactivated"}), as_json)


@app.command()
def activate(person_id: PersonId, as_json: AsJson = False, server: Server = SERVER, key: Key = None) -> None:
    """Let a deactivated person in again, by a new link."""
    _show(client_of(server, key).call("PATCH", f"/v1/people/{segment(person_id)}", {"state": "active"}), as_json)


@app.command()
def sessions(
    person_id: Whose = None,
    limit: Limit = 20,
    offset: Offset = 0,
    as_json: AsJson = False,
    server: Server = SERVER,
    key: Key = None,
) -> None:
    """List the open sessions of a person, or your own, which needs no permission."""
    page = client_of(server, key).get(_sessions_path(person_id), limit=limit, offset=offset)
    show_page(page, _SESSION, _session_row, as_json, spare=("this", "key"))


@app.command("end-session")
def end_session(
    session_id: Annotated[str, typer.Argument(metavar="SESSION", help="Session id, web_….")],
    person_id: Annotated[str | None, typer.Option("--person", help="Whose it is, per_…; default: yours.")] = None,
    as_json: AsJson = False,
    server: Server = SERVER,
    key: Key = None,
) -> None:
    """End one session, and the streams that it opened."""
    ended = client_of(server, key).call("DELETE", f"{_sessions_path(person_id)}/{segment(session_id)}")
    show_one(ended, _SESSION, _session_row, as_json)


def _sessions_path(person_id: str | None) -> str:
    return "/v1/sessions" if person_id is None else f"/v1/people/{segment(person_id)}/sessions"


@app.command("sign-out")
def sign_out(person_id: PersonId, as_json: AsJson = False, server: Server = SERVER, key: Key = None) -> None:
    """End all sessions and unused links of a person; their keys stay good."""
    found = client_of(server, key).call("DELETE", f"/v1/people/{segment(person_id)}/sessions")
    if as_json:
        output.write_json(found)
    else:
        output.say(f"Sessions ended: {found['ended']}.")


@app.command("remove-passkeys")
def remove_passkeys(person_id: PersonId, as_json: AsJson = False, server: Server = SERVER, key: Key = None) -> None:
    """Remove all passkeys of a person who has lost theirs; they sign in by a link."""
    found = client_of(server, key).call("DELETE", f"/v1/people/{segment(person_id)}/passkeys")
    if as_json:
        output.write_json(found)
    else:
        output.say(f"Passkeys removed: {found['removed']}.")


@app.command("set-role")
def set_role(
    person_id: PersonId,
    role: Annotated[str, typer.Argument(metavar="ROLE", help="Role, like builder.")],
    as_json: AsJson = False,
    server: Server = SERVER,
    key: Key = None,
) -> None:
    """Give a person another role; their keys and sessions end, and they sign in by a new link."""
    _show(client_of(server, key).call("PATCH", f"/v1/people/{segment(person_id)}", {"role": role}), as_json)


@app.command("roles")
def list_roles(
    limit: Limit = 100, offset: Offset = 0, as_json: AsJson = False, server: Server = SERVER, key: Key = None
) -> None:
    """List roles: those that are built in, then the organisation's own."""
    page = client_of(server, key).get("/v1/roles", limit=limit, offset=offset)
    show_page(page, _ROLE, _role_row, as_json, spare=("built in", "about"))


@app.command("add-role")
def add_role(
    name: Annotated[str, typer.Argument(metavar="ROLE", help="New name: small letters, digits, hyphens.")],
    permission: Annotated[list[str], typer.Option("--permission", "-p", help="Permission; repeatable.")],
    about: Annotated[str | None, typer.Option("--about", help="What the role is for.")] = None,
    as_json: AsJson = False,
    server: Server = SERVER,
    key: Key = None,
) -> None:
    """Make a role; it does not change afterwards."""
    body = {"name": name, "permissions": permission} | ({} if about is None else {"description": about})
    show_one(client_of(server, key).post("/v1/roles", body), _ROLE, _role_row, as_json)


@app.command("delete-role")
def delete_role(
    name: Annotated[str, typer.Argument(metavar="ROLE", help="Role that nobody has.")],
    as_json: AsJson = False,
    server: Server = SERVER,
    key: Key = None,
) -> None:
    """Delete a role of the organisation."""
    show_one(client_of(server, key).call("DELETE", f"/v1/roles/{segment(name)}"), _ROLE, _role_row, as_json)


@app.command()
def rescue(
    organization: Annotated[
        str | None, typer.Option("--organization", help="Organisation id, org_…, if there are several.")
    ] = None,
    file: Annotated[
        Path | None, typer.Option("--file", help="New file for the key.", show_default="rescue.key in the data folder")
    ] = None,
    data_dir: Annotated[
        Path | None, typer.Option("--data-dir", help="Folder that contains the store.", show_default="data")
    ] = None,
    database_url: Annotated[
        str | None,
        typer.Option("--database-url", help="URL of another store, e.g. postgresql://…", show_default="SQLite"),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make a new key with `admin` if nobody can get in any more; on the machine itself, while no server runs.

    It opens the store directly. The key is written into a file, never shown; the audit log says that it was made.
    """
    from dustrun.services.access.rescue import rescue as make_way_in  # slow import

    given = {"data_dir": data_dir, "database_url": database_url}
    settings = read_settings({name: value for name, value in given.items() if value is not None})
    path = file or settings.data_dir / "rescue.key"
    try:
        done = make_way_in(settings, organization_id=organization, file=path)
    except (DustrunError, OSError) as error:
        message = error.message if isinstance(error, DustrunError) else f"{error}."
        hint = "Stop the server first; runs continue when it starts again." if isinstance(error, Conflict) else None
        raise CliError(message, exit=Exit.FAILURE, hint=hint) from error
    if as_json:
        output.write_json({"keyId": done.key_id, "organizationId": done.organization.id, "file": str(path)})
        return
    output.say(f'The key {done.key_id} administers "{done.organization.name}"; it is in {path}.')
    output.note("Start the server, and send the key as DUSTRUN_API_KEY. Remove the file when it is stored elsewhere.")
