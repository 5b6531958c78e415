"""`dustrun serve`: starts a server."""

from __future__ import annotations

import errno
import gc
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dustrun.cli.http.failures import CliError, Exit
from dustrun.cli.render import output
from dustrun.core.text.wording import explain
from dustrun.errors import DustrunError

if TYPE_CHECKING:
    from dustrun.settings import Settings

_HINT = "docs/reference/settings.md lists every setting."


def serve(
    host: Annotated[str | None, typer.Option("--host", help="Address to listen on.", show_default="127.0.0.1")] = None,
    port: Annotated[
        int | None,
        typer.Option("--port", min=0, max=65535, help="Port to listen on; 0 picks a free port.", show_default="8080"),
    ] = None,
    data_dir: Annotated[
        Path | None,
        typer.Option("--data-dir", help="Folder of the SQLite file and the owner key.", show_default="data"),
    ] = None,
    database_url: Annotated[
        str | None,
        typer.Option("--database-url", help="URL of another store, e.g. postgresql://…", show_default="SQLite"),
    ] = None,
    roles: Annotated[
        str | None,
        typer.Option(
            "--roles", help="What this process does: api, engine, triggers, comma-separated.", show_default="all three"
        ),
    ] = None,
    log_level: Annotated[
        str | None, typer.Option("--log-level", help="debug, info, warning or error.", show_default="info")
    ] = None,
    log_format: Annotated[str | None, typer.Option("--log-format", help="json or text.", show_default="json")] = None,
) -> None:
    """Start a server.

    Every setting can also be an environment variable, like DUSTRUN_OUTBOUND_ALLOW, or a line of dustrun.toml. Flags
    override
    variables, which override the file. docs/reference/settings.md lists all settings.
    """
    given = {
        "host": host,
        "port": port,
        "data_dir": data_dir,
        "database_url": database_url,
        "roles": roles,
        "log_level": log_level,
        "log_format": log_format,
    }
    settings = read_settings({name: value for name, value in given.items() if value is not None})
    _start(settings)


def _start(settings: Settings) -> None:
    gc.set_threshold(50_000, 1_000_000, 1_000_000)  # until the server is ready: nearly everything stays
    from dustrun.app import serve as start  # slow import

    try:
        start(settings, lambda address, _: _announce(address, settings))
    except DustrunError as error:
        raise CliError(error.message, exit=Exit.SERVER) from error
    except OSError as error:
        hint = None
        if error.errno == errno.EADDRINUSE:
            hint = f"Port {settings.port} is already in use; choose another with --port, or 0 for any free port."
        elif error.filename and error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            hint = f"Data folder and master key must be writable by the user that runs the server, {os.getuid()}."
        raise CliError(f"The server cannot start: {error}.", exit=Exit.SERVER, hint=hint) from error


def _announce(address: str, settings: Settings) -> None:
    key = settings.data_dir / "owner.key"
    lines = [f"Listening on {address}", f"  documentation  {address}/docs"]
    if key.exists():
        lines.append(f"  key            {key}  (the owner key; keep it secret)")
    store = settings.data_dir if settings.database_url is None else "as DUSTRUN_DATABASE_URL says"
    lines.append(f"  data           {store}")
    output.say("\n".join(lines))


def _misset(found: Any, known: Sequence[str]) -> dict[str, str]:
    """One line that says what is wrong with a setting, named by its environment variable."""
    from dustrun.cli.http.documents import meant  # slow import

    place = [str(part) for part in found["loc"]]
    message = explain(found["type"], found["msg"])
    if found["type"] == "extra_forbidden" and len(place) == 1:
        message = f"There is no such setting. {meant(place[0], known) or ''}".rstrip()
    return {"field": f"DUSTRUN_{'.'.join(place).upper()}", "message": message}


def read_settings(flags: dict[str, Any]) -> Settings:
    """Reads the settings from flags, environment and file; raises `CliError` that names each invalid one."""
    from pydantic import ValidationError  # slow import
    from pydantic_settings import SettingsError  # slow import

    from dustrun.settings import Settings  # slow import

    try:
        return Settings(**flags)
    except SettingsError as error:  # its text names the field but not the value, which may be secret
        raise CliError(f"A setting must be JSON, but is not: {error}.", hint=_HINT) from None
    except ValidationError as error:
        known = list(Settings.model_fields)
        details = [_misset(found, known) for found in error.errors(include_url=False)]
        raise CliError("The settings are invalid.", details=details, hint=_HINT) from error
