"""`dustrun update check`: whether there is a newer version, and what an update to it takes. It asks nothing outside."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import dustrun
from dustrun.cli.commands.store.backup import DataDir, Url, settings_of
from dustrun.cli.http.failures import CliError, Exit
from dustrun.cli.http.options import AsJson
from dustrun.cli.render import output
from dustrun.errors import DustrunError, Permanent

if TYPE_CHECKING:
    from dustrun.cli.commands.store.releases import Comparison, Releases
    from dustrun.settings import Settings

app = typer.Typer(no_args_is_help=True, help="Whether there is a newer version, and what an update takes.")


@app.callback()
def _group() -> None:
    """Whether there is a newer version, and what an update takes."""


@app.command()
def check(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The list of releases, e.g. releases.json.")],
    data_dir: DataDir = None,
    database_url: Url = None,
    key: Annotated[
        str | None,
        typer.Option(
            metavar="KEY",
            help="The publisher's public key, `ssh-ed25519 AAAA…`, or a file with it: SHA256SUMS must be signed by it.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compare this version and its store with a list of releases; exit status 7 if there is a newer one.

    It sends nothing and changes nothing, also while a server runs. Each release has the file releases.json. If
    SHA256SUMS or files of the newest release are beside it, they are checked too; with --key, also who signed them.
    """
    from dustrun.cli.commands.store import releases  # slow import

    settings = settings_of(data_dir, database_url)
    try:
        signer = releases.signer_of(file, _text_of(key)) if key else None
        found = releases.read(file)
        compared = _compare(settings, found)
    except OSError as error:
        raise CliError(f"{error.filename or file} cannot be read: {error.strerror}.") from error
    except DustrunError as error:
        raise CliError(error.message, exit=Exit.FAILURE if isinstance(error, Permanent) else Exit.USAGE) from error
    whole, broken = releases.damaged(compared.newest, file.parent) if compared.newest else ([], [])
    if as_json:
        told = {"checkedFiles": whole, "damagedFiles": broken, "signedBy": signer}
        output.write_json({**compared.as_json(), **told})
    else:
        if signer:
            output.say(f"{releases.SUMS} is signed by {signer}.")
        elif file.with_name(releases.SIGNATURE).is_file():
            output.say(f"{releases.SUMS} has a signature, which was not checked: name the publisher's key with --key.")
        _tell(compared, file, whole)
    if broken:
        raise CliError(
            f"{', '.join(broken)}: not as {file} says, so damaged or changed.",
            exit=Exit.FAILURE,
            hint="Copy the release again; do not install it.",
        )
    if compared.newer:
        raise typer.Exit(Exit.OUTDATED)


def _text_of(key: str) -> str:
    """A key, or what is in the file of that name."""
    return key if key.startswith("ssh-") else Path(key).read_text()


def _compare(settings: Settings, found: Releases) -> Comparison:
    import sqlalchemy as sa  # slow import

    from dustrun.cli.commands.store import releases  # slow import
    from dustrun.storage.db import migrate  # slow import
    from dustrun.storage.db.database import Database  # slow import

    url = sa.make_url(settings.store_url())
    if url.get_backend_name() == "sqlite" and not Path(url.database or "").is_file():
        return releases.compare(found, dustrun.__version__, migrate.head(), None)
    database = Database(settings.store_url())
    try:
        revision = migrate.revision_of(database)
        if revision is not None and revision > migrate.head():
            migrate.check_newer(database, revision)
    finally:
        database.close()
    return releases.compare(found, dustrun.__version__, migrate.head(), revision)


def _tell(compared: Comparison, file: Path, whole: list[str]) -> None:
    newest = compared.newest
    if newest is None:
        output.say(f"Dustrun {compared.version} is current: {file.name} has nothing newer.")
        return
    output.say(f"This is Dustrun {compared.version}. The newest is {newest.version}, of {newest.released}.")
    if any(one.security for one in compared.newer):
        output.say("It mends faults of security: update soon.")
    if compared.store is None:
        output.say("There is no store yet, so there is nothing to migrate.")
    elif compared.migrates:
        output.say(f"Its first start migrates the store from schema {compared.store} to {newest.schema_}.")
    else:
        output.say(f"The store's schema, {compared.store}, stays.")
    if compared.leads_back:
        output.say(f"The way back: {compared.version} can run on the store that {newest.version} leaves.")
    else:
        output.say(f"The way back is only the backup: {compared.version} cannot run on the store afterwards.")
    for name in whole:
        output.say(f"{name} is whole.")
    output.say("Before the update: dustrun backup FILE, and read")
    for one in compared.newer:
        output.say(f"  {one.version}: the changelog{':' if one.notes else ''}")
        for note in one.notes:
            output.say(f"    {note}")
