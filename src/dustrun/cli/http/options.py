"""Options that several commands share, and how their values are read."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from dustrun.cli.http.client import DEFAULT_SERVER, Client, find_key, find_server
from dustrun.cli.http.failures import CliError
from dustrun.core.values import exact_json

Server = Annotated[
    str,
    typer.Option(
        "--server",
        envvar="DUSTRUN_SERVER",
        show_envvar=True,
        show_default=False,
        help=f"Server address; default: the server that runs on the data folder, else {DEFAULT_SERVER}.",
    ),
]
Key = Annotated[
    str | None,
    typer.Option(
        "--key",
        envvar="DUSTRUN_API_KEY",
        show_envvar=True,
        show_default=False,
        help="API key; default: owner.key in the data folder.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON; streams as one object per line.")]
Limit = Annotated[int, typer.Option("--limit", min=1, max=100, help="Maximum number of items.")]
Offset = Annotated[int, typer.Option("--offset", min=0, help="Number of items to skip.")]

SERVER = ""


def client_of(server: str, key: str | None) -> Client:
    """Creates the client from the shared options."""
    return Client(find_server(server), find_key(key))


def read_json_option(name: str, text: str) -> Any:
    """Reads a JSON option: inline JSON, `@FILE`, or `@-` for standard input."""
    source = f"--{name}"
    if text.startswith("@"):
        source = text[1:]
        text = sys.stdin.read() if source == "-" else read_file(Path(source))
    return parse_json(source, text)


def read_file(path: Path) -> str:
    """Reads a UTF-8 text file that the user named."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise CliError(f'Cannot read "{path}": {reason}.') from error


def parse_json(source: str, text: str) -> Any:
    """Parses JSON with exact numbers."""
    try:
        return exact_json.loads_unique(text)
    except exact_json.JsonError as error:
        raise CliError(f"{source} is not JSON: {error}.") from error


def read_pairs(name: str, pairs: list[str]) -> dict[str, Any]:
    """Parses `key=value` options; values that are valid JSON become JSON, all others text."""
    found: dict[str, Any] = {}
    for key, text in read_texts(name, pairs).items():
        try:
            found[key] = exact_json.loads(text)
        except exact_json.JsonError:
            found[key] = text
    return found


def read_texts(name: str, pairs: list[str]) -> dict[str, str]:
    """Parses `key=value` options; values are texts."""
    found: dict[str, str] = {}
    for pair in pairs:
        key, separator, text = pair.partition("=")
        if not separator or not key:
            raise CliError(f'--{name} "{pair}" must have the form key=value.')
        found[key] = text
    return found
