"""`dustrun vault`: the keys that seal stored secrets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dustrun.cli import output
from dustrun.cli.failures import CliError, Exit
from dustrun.cli.options import AsJson
from dustrun.cli.serve import read_settings
from dustrun.errors import Conflict, DustrunError

app = typer.Typer(no_args_is_help=True, help="The keys that seal stored secrets.")


@app.callback()
def _group() -> None:
    """The keys that seal stored secrets."""


@app.command()
def rotate(
    master: Annotated[bool, typer.Option("--master", help="A new master key too, in the master key file.")] = False,
    forget_old: Annotated[
        bool,
        typer.Option(
            "--forget-old", help="With --master: take the old master key out of the file. Older backups need it."
        ),
    ] = False,
    data_dir: Annotated[
        Path | None, typer.Option("--data-dir", help="Folder of the store.", show_default="data")
    ] = None,
    database_url: Annotated[
        str | None, typer.Option("--database-url", help="Store elsewhere, e.g. postgresql://…", show_default="SQLite")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Seal every stored secret anew under new keys.

    The server must be stopped. A crash in the middle loses nothing: start the server or run the command again.
    """
    if forget_old and not master:
        raise CliError("--forget-old goes together with --master.")
    given = {"data_dir": data_dir, "database_url": database_url}
    settings = read_settings({name: value for name, value in given.items() if value is not None})
    from dustrun.storage.vault_rotation import rotate as rotate_keys  # slow import

    try:
        done = rotate_keys(settings, master=master, forget_old=forget_old)
    except Conflict as error:
        hint = "Stop the server, rotate, and start it again; runs go on where they were."
        raise CliError("A server uses this store.", exit=Exit.SERVER, hint=hint) from error
    except DustrunError as error:
        raise CliError(error.message, exit=Exit.SERVER) from error
    if as_json:
        output.write_json({"dataKeys": done.data_keys, "secrets": done.secrets, "masterKey": done.master_id})
        return
    output.say(f"{done.secrets} secrets are sealed anew under {done.data_keys} new data keys.")
    if done.master_id is None:
        return
    output.say(f"The master key is now {done.master_id}, in {settings.master_key_file.expanduser()}.")
    if not forget_old:
        output.note("The file keeps the old key for backups made before; --forget-old would take it out.")
