"""`dustrun serve`: starts a server."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from dustrun.cli.failures import CliError


def serve(
    host: Annotated[str | None, typer.Option("--host", help="Address to listen on.", show_default="127.0.0.1")] = None,
    port: Annotated[
        int | None, typer.Option("--port", min=0, max=65535, help="Port; 0 takes a free one.", show_default="8080")
    ] = None,
    data_dir: Annotated[
        Path | None,
        typer.Option("--data-dir", help="Folder of the SQLite file and the owner's key.", show_default="data"),
    ] = None,
    database_url: Annotated[
        str | None, typer.Option("--database-url", help="Store elsewhere, e.g. postgresql://…", show_default="SQLite")
    ] = None,
    log_level: Annotated[
        str | None, typer.Option("--log-level", help="debug, info, warning or error.", show_default="info")
    ] = None,
    log_format: Annotated[str | None, typer.Option("--log-format", help="json or text.", show_default="json")] = None,
) -> None:
    """Start a server.

    Every setting is also an environment variable: DUSTRUN_ and its name in capitals, like DUSTRUN_OUTBOUND_ALLOW; or
    a line of dustrun.toml. Flags win over variables, those over the file. docs/reference/settings.md lists them.
    """
    given = {
        "host": host,
        "port": port,
        "data_dir": data_dir,
        "database_url": database_url,
        "log_level": log_level,
        "log_format": log_format,
    }
    settings = read_settings({name: value for name, value in given.items() if value is not None})
    from dustrun.app import serve as start  # slow import

    start(settings)


def read_settings(flags: dict[str, Any]) -> Any:
    """The settings from flags, environment and file; what is wrong with them is told by name."""
    from pydantic import ValidationError  # slow import

    from dustrun.settings import Settings  # slow import

    try:
        return Settings(**flags)
    except ValidationError as error:
        details = [
            {"field": f"DUSTRUN_{'.'.join(map(str, found['loc'])).upper()}", "message": found["msg"]}
            for found in error.errors(include_url=False)
        ]
        hint = "docs/reference/settings.md lists every setting."
        raise CliError("The settings are not valid.", details=details, hint=hint) from error
