"""The root of the command line, to which commands are added."""

from __future__ import annotations

from typing import Annotated

import typer

import dustrun


def make_root() -> typer.Typer:
    """`dustrun` without commands."""
    app = typer.Typer(
        name="dustrun",
        help="An automation server for workflows that move money and call APIs, and its command line.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        add_completion=True,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_root)
    return app


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"dustrun {dustrun.__version__}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """An automation server for workflows that move money and call APIs, and its command line."""
