"""Options that several commands share, and what they turn into."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from dustrun.cli.http.client import DEFAULT_SERVER, Client, find_key
from dustrun.cli.http.failures import CliError
from dustrun.core.values import exact_json

Server = Annotated[str, typer.Option("--server", envvar="DUSTRUN_SERVER", help="Address of the server.")]
Key = Annotated[
    str | None,
    typer.Option(
        "--key",
        envvar="DUSTRUN_API_KEY",
        show_envvar=True,
        show_default=False,
        help="API key; without one, owner.key of the data folder.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="JSON for programs; streams as one object a line.")]
Limit = Annotated[int, typer.Option("--limit", min=1, max=100, help="Size of the page.")]
Offset = Annotated[int, typer.Option("--offset", min=0, help="Items to skip.")]

SERVER = DEFAULT_SERVER


def client_of(server: str, key: str | None) -> Client:
    """The client that the shared options name."""
    return Client(server, find_key(key))


def read_json_option(name: str, text: str) -> Any:
    """JSON written on the command line, `@FILE`, or `@-` for standard input."""
    source = f"--{name}"
    if text.startswith("@"):
        source = text[1:]
        text = sys.stdin.read() if source == "-" else read_file(Path(source))
    return parse_json(source, text)


def read_file(path: Path) -> str:
    """A text file that the user named."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise CliError(f'Cannot read "{path}": {reason}.') from error


def parse_json(source: str, text: str) -> Any:
    """JSON with exact numbers."""
    try:
        return exact_json.loads_unique(text)
    except exact_json.JsonError as error:
        raise CliError(f"{source} is not JSON: {error}.") from error


def read_pairs(name: str, pairs: list[str]) -> dict[str, Any]:
    """`key=value` options; a value that is JSON is taken as JSON, any other as text."""
    found: dict[str, Any] = {}
    for pair in pairs:
        key, separator, text = pair.partition("=")
        if not separator or not key:
            raise CliError(f'--{name} "{pair}" is not of the form key=value.')
        try:
            found[key] = exact_json.loads(text)
        except exact_json.JsonError:
            found[key] = text
    return found
