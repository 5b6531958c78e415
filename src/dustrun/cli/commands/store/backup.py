"""`dustrun backup`, `dustrun restore` and `dustrun moved`: they open the store directly, not through a server."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dustrun.cli.commands.serve import read_settings
from dustrun.cli.http.failures import CliError, Exit
from dustrun.cli.http.options import AsJson
from dustrun.cli.render import output
from dustrun.errors import Conflict, DustrunError

if TYPE_CHECKING:
    from dustrun.settings import Settings
    from dustrun.storage.backup.archive import Manifest

DataDir = Annotated[
    Path | None,
    typer.Option("--data-dir", help="Folder that contains the SQLite file.", show_default="the server's setting"),
]
Url = Annotated[str | None, typer.Option("--database-url", help="Another store.", show_default="the server's setting")]


def backup(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="File to write, e.g. dustrun.backup.")],
    replace: Annotated[bool, typer.Option("--replace", help="Overwrite the file if it exists.")] = False,
    data_dir: DataDir = None,
    database_url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Back up the store to one file; the server may keep running.

    The file is a consistent snapshot of the whole store. Secrets stay encrypted, and the master key is not included:
    keep a
    copy of it elsewhere. A SQLite backup can be restored into PostgreSQL and vice versa.
    """
    from dustrun.storage.backup.backup import back_up  # slow import

    settings = settings_of(data_dir, database_url)
    try:
        manifest = back_up(settings.store_url(), file, replace=replace, master_key_file=settings.master_key_file)
    except (DustrunError, OSError) as error:
        raise _failure(error) from error
    _tell(manifest, f'Backed up to "{file}"', as_json)


def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="File written by `dustrun backup`.")],
    replace: Annotated[bool, typer.Option("--replace", help="Delete everything in the store first.")] = False,
    unverified: Annotated[
        bool, typer.Option("--unverified", help="Skip the check of the MAC; use it only if nobody changed the file.")
    ] = False,
    data_dir: DataDir = None,
    database_url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Restore a backup into a store; stop its server first.

    All or nothing: the whole file is checked first, and a damaged or too new file, or one without a MAC by this
    machine's master key, changes nothing. Runs that were open
    when the backup was taken continue when a server starts; whatever they did after the backup is missing.
    """
    from dustrun.storage.backup.restore import restore as put_back  # slow import

    settings = settings_of(data_dir, database_url)
    if settings.database_url is None:
        settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        manifest = put_back(
            settings.store_url(),
            settings.data_dir,
            file,
            replace=replace,
            master_key_file=None if unverified else settings.master_key_file,
        )
    except (DustrunError, OSError) as error:
        raise _failure(error) from error
    _tell(manifest, f'Restored "{file}"', as_json)
    output.note(
        "Stop the server that the backup came from for good. Runs that were open do not spend until you run `dustrun "
        "tx release`."
    )
    locked = _why_locked(settings)
    if locked is not None:
        output.note(f"No server can start on this store yet. {locked}")


def moved(
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")] = False,
    data_dir: DataDir = None,
    database_url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Confirm that the store was moved, not copied, so that its open runs may spend again.

    A store on a different disk or in a different database than at the last start is treated as a copy, because another
    server may still use the original. Stop the server first.
    """
    from dustrun.storage.backup.copy_detection import say_moved  # slow import

    if not yes:
        typer.confirm("Are you sure that no server will ever run on the original store again?", abort=True, err=True)
    try:
        is_new = say_moved(settings_of(data_dir, database_url))
    except Conflict as error:
        raise CliError("A server is using this store.", exit=Exit.SERVER, hint="Stop it first.") from error
    except DustrunError as error:
        raise _failure(error) from error
    if as_json:
        output.write_json({"wasMoved": is_new})
    elif is_new:
        output.say("Confirmed: the store was moved. Its runs may spend again.")
    else:
        output.say("The store is where it was last served; there is nothing to confirm.")


def settings_of(data_dir: Path | None, database_url: str | None) -> Settings:
    """The server's settings, with another store if one is given."""
    given: dict[str, Any] = {"data_dir": data_dir, "database_url": database_url}
    return read_settings({name: value for name, value in given.items() if value is not None})


def _why_locked(settings: Settings) -> str | None:
    """Why the master key cannot decrypt the restored secrets; None if it can."""
    from dustrun.storage.db.database import Database  # slow import
    from dustrun.storage.secrets.vault import Vault  # slow import

    database = Database(settings.store_url())
    try:
        Vault(settings.master_key_file).unlock(database)
    except DustrunError as error:
        return error.message
    finally:
        database.close()
    return None


def _failure(error: DustrunError | OSError) -> CliError:
    message = error.message if isinstance(error, DustrunError) else f"{error}."
    return CliError(message, exit=Exit.FAILURE)


def _tell(manifest: Manifest, done: str, as_json: bool) -> None:
    from dustrun import clock

    taken_at = clock.to_rfc3339(manifest.taken_at)
    counts = {entry.name: entry.rows for entry in manifest.tables}
    if as_json:
        output.write_json({"schema": manifest.schema, "takenAt": taken_at, "rows": counts})
        return
    shown = ", ".join(f"{counts[name]} {name}" for name in ("workflows", "runs", "events") if name in counts)
    output.say(f"{done}: {shown}; as of {taken_at}, schema {manifest.schema}.")
