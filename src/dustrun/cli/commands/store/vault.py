"""`dustrun vault`: rotates or resets the keys that encrypt stored secrets."""

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
    from dustrun.storage.backup.vault_rotation import LostSecrets

DataDir = Annotated[
    Path | None, typer.Option("--data-dir", help="Folder that contains the store.", show_default="data")
]
Url = Annotated[
    str | None, typer.Option("--database-url", help="URL of another store, e.g. postgresql://…", show_default="SQLite")
]
_IN_USE = "Stop the server first; runs continue when it starts again."

app = typer.Typer(no_args_is_help=True, help="Rotate or reset the keys that encrypt stored secrets.")


@app.callback()
def _group() -> None:
    """Rotate or reset the keys that encrypt stored secrets."""


@app.command()
def rotate(
    master: Annotated[
        bool, typer.Option("--master", help="Also create a new master key in the master key file.")
    ] = False,
    forget_old: Annotated[
        bool,
        typer.Option(
            "--forget-old", help="With --master: remove the old master key from the file. Older backups need it."
        ),
    ] = False,
    data_dir: DataDir = None,
    database_url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Re-encrypt every stored secret with new keys.

    Stop the server first. A crash in between loses nothing: start the server or run the command again.
    """
    if forget_old and not master:
        raise CliError("--forget-old requires --master.")
    settings = _settings(data_dir, database_url)
    from dustrun.storage.backup.vault_rotation import rotate as rotate_keys  # slow import

    try:
        done = rotate_keys(settings, master=master, forget_old=forget_old)
    except Conflict as error:
        raise CliError("A server is using this store.", exit=Exit.SERVER, hint=_IN_USE) from error
    except DustrunError as error:
        raise CliError(error.message, exit=Exit.SERVER) from error
    if as_json:
        output.write_json({"dataKeys": done.data_keys, "secrets": done.secrets, "masterKey": done.master_id})
        return
    output.say(f"Re-encrypted {done.secrets} secrets with {done.data_keys} new data keys.")
    if done.master_id is None:
        return
    output.say(f"The master key is now {done.master_id}, in {settings.master_key_file.expanduser()}.")
    if not forget_old:
        output.note("The file keeps the old key for older backups; --forget-old would remove it.")


@app.command()
def reset(
    give_up: Annotated[
        bool,
        typer.Option("--give-up-what-is-lost", help="Do it. Without this flag, the command only lists what is lost."),
    ] = False,
    data_dir: DataDir = None,
    database_url: Url = None,
    as_json: AsJson = False,
) -> None:
    """If the master key is lost for good: list what is lost with it, and let the server start without it.

    Look for a copy of the master key first. Lost wallets are archived: only a copy of a wallet's own key can move its
    coins again. Lost connectors stay, but need their data again. The store is backed up before anything changes.
    """
    from dustrun import clock
    from dustrun.storage.backup.vault_rotation import reset as give_up_lost  # slow import

    settings = _settings(data_dir, database_url)
    file = settings.data_dir / f"before-reset-{clock.now_ms()}.backup"
    try:
        lost = give_up_lost(settings, give_up=give_up, backup_to=file)
    except Conflict as error:
        raise CliError("A server is using this store.", exit=Exit.SERVER, hint=_IN_USE) from error
    except DustrunError as error:
        raise CliError(error.message, exit=Exit.SERVER) from error
    is_done = give_up and bool(lost.data_keys)
    if as_json:
        output.write_json({**asdict(lost), "isDone": is_done, "backup": str(file) if is_done else None})
        return
    if not lost.data_keys:
        output.say("Nothing is lost: the master key decrypts every secret, or there are no secrets.")
        return
    _tell(lost)
    if is_done:
        output.say(f"Reset done. If you find the master key later, restore {file} with it.")
        return
    needed = ", ".join(lost.master_keys)
    output.note(
        f"Nothing was changed. A master key file with {needed} decrypts all of it; --give-up-what-is-lost abandons it."
    )


def _tell(lost: LostSecrets) -> None:
    output.say(f"Without {', '.join(lost.master_keys)} these cannot be decrypted:")
    for _, wallet_id, name, address in lost.wallets:
        output.say(f"  wallet     {name}  {address}  ({wallet_id})")
    for _, connector_id, name in lost.connectors:
        output.say(f"  connector  {name}  ({connector_id})")
    output.say(f"  signatures {lost.signatures}")


def _settings(data_dir: Path | None, database_url: str | None) -> Settings:
    given = {"data_dir": data_dir, "database_url": database_url}
    return read_settings({name: value for name, value in given.items() if value is not None})
