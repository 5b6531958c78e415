"""`dustrun vault`: the keys that seal stored secrets."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dustrun.cli.commands.serve import read_settings
from dustrun.cli.http.failures import CliError, Exit
from dustrun.cli.http.options import AsJson
from dustrun.cli.render import output
from dustrun.errors import Conflict, DustrunError

if TYPE_CHECKING:
    from dustrun.settings import Settings
    from dustrun.storage.backup.vault_reset import Lost

DataDir = Annotated[Path | None, typer.Option("--data-dir", help="Folder of the store.", show_default="data")]
Url = Annotated[
    str | None, typer.Option("--database-url", help="Store elsewhere, e.g. postgresql://…", show_default="SQLite")
]
_IN_USE = "Stop the server first; runs go on where they were when it starts again."

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
    data_dir: DataDir = None,
    database_url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Seal every stored secret anew under new keys.

    The server must be stopped. A crash in the middle loses nothing: start the server or run the command again.
    """
    if forget_old and not master:
        raise CliError("--forget-old goes together with --master.")
    settings = _settings(data_dir, database_url)
    from dustrun.storage.backup.vault_rotation import rotate as rotate_keys  # slow import

    try:
        done = rotate_keys(settings, master=master, forget_old=forget_old)
    except Conflict as error:
        raise CliError("A server uses this store.", exit=Exit.SERVER, hint=_IN_USE) from error
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


@app.command()
def reset(
    give_up: Annotated[
        bool, typer.Option("--give-up-what-is-lost", help="Do it. Without this, only say what is lost.")
    ] = False,
    data_dir: DataDir = None,
    database_url: Url = None,
    as_json: AsJson = False,
) -> None:
    """When the master key is lost for good: say what is lost with it, and let the server start without that.

    Look for a copy of the master key first. Lost wallets are archived: only a copy of a wallet's own key moves its
    coins again. Lost connectors stay, and want their data again. The store is backed up before anything is changed.
    """
    from dustrun import clock
    from dustrun.storage.backup.vault_reset import reset as give_up_lost  # slow import

    settings = _settings(data_dir, database_url)
    file = settings.data_dir / f"before-reset-{clock.now_ms()}.backup"
    try:
        lost = give_up_lost(settings, give_up=give_up, backup_to=file)
    except Conflict as error:
        raise CliError("A server uses this store.", exit=Exit.SERVER, hint=_IN_USE) from error
    except DustrunError as error:
        raise CliError(error.message, exit=Exit.SERVER) from error
    is_done = give_up and bool(lost.data_keys)
    if as_json:
        output.write_json({**asdict(lost), "isDone": is_done, "backup": str(file) if is_done else None})
        return
    if not lost.data_keys:
        output.say("Nothing is lost: the master key opens every secret, or there are none.")
        return
    _tell(lost)
    if is_done:
        output.say(f"Given up. Should the master key turn up, restore {file} with it.")
        return
    needed = ", ".join(lost.master_keys)
    output.note(
        f"Nothing was changed. The file that holds {needed} opens all of it; --give-up-what-is-lost gives it up."
    )


def _tell(lost: Lost) -> None:
    output.say(f"Without {', '.join(lost.master_keys)} these cannot be opened:")
    for _, wallet_id, name, address in lost.wallets:
        output.say(f"  wallet     {name}  {address}  ({wallet_id})")
    for _, connector_id, name in lost.connectors:
        output.say(f"  connector  {name}  ({connector_id})")
    output.say(f"  signatures {lost.signatures}")


def _settings(data_dir: Path | None, database_url: str | None) -> Settings:
    given = {"data_dir": data_dir, "database_url": database_url}
    return read_settings({name: value for name, value in given.items() if value is not None})
