"""`dustrun audit`: exports the audit log as signed lines, and verifies such files without a server."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import orjson
import typer

from dustrun.cli.commands.access import syslog
from dustrun.cli.http.failures import CliError, Exit
from dustrun.cli.http.options import SERVER, AsJson, Key, Limit, Offset, Server, client_of
from dustrun.cli.render import output
from dustrun.cli.render.tables import show_page
from dustrun.core.audit_export import Verified, fingerprint, verify

app = typer.Typer(no_args_is_help=True, help="Export the audit log as signed lines, and verify them anywhere.")
_LAST_LINE = 65_536


@app.command("list")
def list_entries(
    by: Annotated[str | None, typer.Option("--by", help="Only changes by per_…, svc_…, key_…, or me.")] = None,
    action: Annotated[
        str | None, typer.Option("--action", help="Only this action, like key.revoke, or all of a noun, like key.")
    ] = None,
    subject: Annotated[str | None, typer.Option("--subject", help="Only changes of what has this id.")] = None,
    since: Annotated[str | None, typer.Option("--since", help="Only changes from this RFC 3339 time on.")] = None,
    until: Annotated[str | None, typer.Option("--until", help="Only changes before this RFC 3339 time.")] = None,
    limit: Limit = 20,
    offset: Offset = 0,
    as_json: AsJson = False,
    server: Server = SERVER,
    key: Key = None,
) -> None:
    """List who changed what, newest first; needs `key:read`."""
    where = {"madeBy": by, "action": action, "subject": subject, "since": since, "until": until}
    page = client_of(server, key).get("/v1/audit", **where, limit=limit, offset=offset or None)
    show_page(page, ["at", "action", "subject", "by", "detail"], _row, as_json, spare=("detail",))


def _row(entry: dict[str, Any]) -> list[Any]:
    by = entry.get("personId") or entry.get("serviceAccountId") or entry["keyId"]
    return [entry["at"], entry["action"], entry["subject"], by, output.compact(entry["detail"])]


@app.command("export")
def export_log(
    out: Annotated[Path, typer.Option("--out", help="File to write.")],
    goes_on: Annotated[
        bool, typer.Option("--continue", help="Append what is new to the file of an earlier export.")
    ] = False,
    to_syslog: Annotated[
        str | None,
        typer.Option("--syslog", help="Also send what was not sent yet: udp://, tcp:// or tls://, host and port."),
    ] = None,
    syslog_ca: Annotated[
        Path | None, typer.Option("--syslog-ca", help="Certificates that tls:// trusts; default: the machine's.")
    ] = None,
    server: Server = SERVER,
    key: Key = None,
) -> None:
    """Export the organisation's audit log, oldest first, as JSON lines; needs `key:read`."""
    collector = None if to_syslog is None else syslog.collector_of(to_syslog, syslog_ca)
    entries = _write_new(out, goes_on, server, key)
    output.note(f"Wrote {entries} entries to {out}.")
    if collector is not None:
        sent = syslog.send_new(out, collector)
        output.note(f"Sent {sent} lines to {to_syslog}.")


def _write_new(out: Path, goes_on: bool, server: str, key: str | None) -> int:
    """Writes what the file does not have yet; how many entries."""
    client, entries = client_of(server, key), 0
    try:
        mode = os.O_RDWR if goes_on and out.exists() else os.O_WRONLY | os.O_CREAT | os.O_EXCL
        with os.fdopen(os.open(out, mode, 0o600), "r+b" if mode == os.O_RDWR else "wb") as file:
            after, hash = _end_of(file, out) if mode == os.O_RDWR else (0, "")
            while True:
                part = client.get("/v1/audit/export", after=after)
                end = _checked(part["content"], after, hash, out)
                if part["entries"] or part["next"] is not None or not goes_on or not hash:
                    file.write(part["content"].encode())
                    entries += part["entries"]
                if part["next"] is None:
                    break
                after, hash = end["lastId"], end["hash"]
            file.flush()
            os.fsync(file.fileno())
    except FileExistsError as error:
        raise CliError(f'"{out}" is there already.', hint="--continue appends what is new to it.") from error
    except OSError as error:
        raise CliError(f'Cannot write "{out}": {error.strerror}.') from error
    return entries


@app.command("verify")
def verify_file(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="An export.")],
    public_key: Annotated[
        list[str] | None,
        typer.Option("--public-key", help="Base64 of a key that may have signed it; repeatable. Default: any."),
    ] = None,
    from_syslog: Annotated[
        bool, typer.Option("--from-syslog", help="The file is what a syslog collector kept of an export.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Check an export without a server: every line's hash and signature, and that none is missing or moved."""
    try:
        with file.open("rb") as lines:
            found = verify(syslog.lines_of(lines) if from_syslog else lines, public_key)
    except OSError as error:
        raise CliError(f'Cannot read "{file}": {error.strerror}.') from error
    if as_json:
        output.write_json(_shown(found))
    else:
        _say(found)
    if found.problems:
        raise typer.Exit(Exit.FAILURE)


@app.command("keys")
def list_keys(as_json: AsJson = False, server: Server = SERVER, key: Key = None) -> None:
    """List the keys that sign exports, newest first; needs `key:read`."""
    page = client_of(server, key).get("/v1/audit/keys", limit=100)
    if as_json:
        output.write_json(page)
        return
    for one in page["items"]:
        output.say(f"{one['publicKey']}  since {one['createdAt']}  fingerprint {fingerprint(one['publicKey'])}")


def _end_of(file: BinaryIO, path: Path) -> tuple[int, str]:
    """Where an earlier export ended; leaves the file at its end."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - _LAST_LINE))
    lines = file.read().splitlines(keepends=True)
    last = _line(lines[-1]) if lines and lines[-1].endswith(b"\n") else {}
    if last.get("kind") != "end":
        raise CliError(
            f'"{path}" does not end as an export does.',
            hint=f"See `dustrun audit verify {path}`; export to a new file.",
        )
    return last["lastId"], last["hash"]


def _checked(content: str, after: int, hash: str, path: Path) -> dict[str, Any]:
    """The end of a part, which goes on where the file ends."""
    lines = content.encode().splitlines()
    if after and _line(lines[0]).get("previous") != hash:
        raise CliError(
            f'The log of the server does not go on where "{path}" ends: after entry {after} it has another hash.',
            exit=Exit.FAILURE,
            hint="Was the store restored from a backup? Keep the file: it has what the backup lacks. Export to a new "
            "one.",
        )
    return _line(lines[-1])


def _line(text: bytes) -> dict[str, Any]:
    try:
        read = orjson.loads(text)
    except orjson.JSONDecodeError:
        return {}
    return read if isinstance(read, dict) else {}


def _shown(found: Verified) -> dict[str, Any]:
    return {
        "isGood": not found.problems,
        "problems": found.problems,
        "organizationId": found.organization_id,
        "entries": found.entries,
        "unchained": found.unchained,
        "after": found.after,
        "lastId": found.last_id,
        "hash": found.hash,
        "exportedAt": found.exported_at,
        "publicKeys": found.public_keys,
    }


def _say(found: Verified) -> None:
    for problem in found.problems:
        output.say(problem)
    if found.problems:
        return
    begin = f"after entry {found.after}" if found.after else "from the beginning"
    output.say(f"{found.entries} entries of {found.organization_id}, {begin} to entry {found.last_id}, are unchanged.")
    output.say(f"Exported {found.exported_at}; newest hash {found.hash[:16]}")
    for one in found.public_keys:
        output.say(f"Signed by {one}, fingerprint {fingerprint(one)}")
    if found.unchained:
        output.say(f"{found.unchained} of them are from before there was a chain: only their signatures were checked.")
