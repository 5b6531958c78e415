"""`dustrun backup` and `dustrun restore`: the store into a file and out of it, past any server; and `dustrun moved`."""

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
    Path | None, typer.Option("--data-dir", help="Folder of the SQLite file.", show_default="as the server's settings")
]
Url = Annotated[
    str | None, typer.Option("--database-url", help="Another store.", show_default="as the server's settings")
]


def backup(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where to write it, e.g. dustrun.backup.")],
    replace: Annotated[bool, typer.Option("--replace", help="Write over the file if it exists.")] = False,
    data_dir: DataDir = None,
    database_url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Back the store up into one file, also while a server works on it.

    The file holds everything that the store holds, at one instant; secrets stay sealed, and the master key that opens
    them is not in it: keep a copy of that apart. A backup of SQLite can be restored into PostgreSQL and the other way.
    """
    from dustrun.storage.backup.backup import back_up  # slow import

    settings = _settings(data_dir, database_url)
    try:
        manifest = back_up(settings.store_url(), file, replace=replace)
    except (DustrunError, OSError) as error:
        raise _failure(error) from error
    _tell(manifest, f'Backed up to "{file}"', as_json)


def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A file that `dustrun backup` wrote.")],
    replace: Annotated[
        bool, typer.Option("--replace", help="Delete everything that the store holds, if it holds anything.")
    ] = False,
    data_dir: DataDir = None,
    database_url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Restore a backup into a store that no server uses.

    All or nothing: the file is read as a whole first, and a damaged or newer one changes nothing. Runs that were open
    when the backup was taken go on when a server starts on the store; what they have done since is not in it.
    """
    from dustrun.storage.backup.restore import restore as put_back  # slow import

    settings = _settings(data_dir, database_url)
    if settings.database_url is None:
        settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        manifest = put_back(settings.store_url(), settings.data_dir, file, replace=replace)
    except (DustrunError, OSError) as error:
        raise _failure(error) from error
    _tell(manifest, f'Restored "{file}"', as_json)
    output.note(
        "Stop the server of the backup for good. Runs that were open spend nothing until you `dustrun tx release`."
    )
    locked = _why_locked(settings)
    if locked is not None:
        output.note(f"No server starts on it yet. {locked}")


def moved(
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    data_dir: DataDir = None,
    database_url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Say that a store was moved and not copied, so that its open runs may spend.

    A store that finds itself on another disk, or in another database, than where it was last served is taken for a
    copy: another server may work on the original. The server must be stopped.
    """
    from dustrun.storage.backup.copy_detection import say_moved  # slow import

    if not yes:
        typer.confirm("Is it certain that no server will ever run on what it was moved from?", abort=True, err=True)
    try:
        is_new = say_moved(_settings(data_dir, database_url))
    except Conflict as error:
        raise CliError("A server uses this store.", exit=Exit.SERVER, hint="Stop it first.") from error
    except DustrunError as error:
        raise _failure(error) from error
    if as_json:
        output.write_json({"wasMoved": is_new})
    elif is_new:
        output.say("Said: the store was moved. What its runs spend no longer waits for that.")
    else:
        output.say("The store lies where it was last served; there is nothing to say.")


def _settings(data_dir: Path | None, database_url: str | None) -> Settings:
    given: dict[str, Any] = {"data_dir": data_dir, "database_url": database_url}
    return read_settings({name: value for name, value in given.items() if value is not None})


def _why_locked(settings: Settings) -> str | None:
    """What the master key here lacks to open the restored secrets; None when it opens them all."""
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
