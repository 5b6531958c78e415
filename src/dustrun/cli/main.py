"""The `dustrun` command: all subcommands, and the one place that turns errors into exit statuses."""

from __future__ import annotations

import functools
import sys
from typing import Annotated, Any

import typer
from typer.main import get_command

import dustrun
from dustrun.cli.commands import (
    apply,
    approvals,
    backtest,
    backup,
    chain,
    connector,
    keys,
    run,
    runs,
    serve,
    triggers,
    tx,
    vault,
    wallet,
    workflow,
)
from dustrun.cli.commands.actions import action, new_action
from dustrun.cli.commands.assistants import chat, mcp
from dustrun.cli.commands.hooks import endpoints
from dustrun.cli.commands.inbound import forms, webhook
from dustrun.cli.commands.templates import template
from dustrun.cli.doctor import command
from dustrun.cli.http import examples
from dustrun.cli.http.failures import CliError, Exit
from dustrun.cli.render.sanitize import plain
from dustrun.core.values import exact_json

app = typer.Typer(
    name="dustrun",
    help="An automation server for workflows that move money and call APIs, and its command line.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("serve")(serve.serve)
app.command("run")(run.run)
app.command("backtest")(backtest.backtest)
app.command("mcp")(mcp.mcp)
app.command("apply")(apply.apply)
app.add_typer(chat.app, name="chat")
app.add_typer(template.app, name="template")
app.add_typer(workflow.app, name="workflow")
app.add_typer(runs.app, name="runs")
app.add_typer(action.app, name="action")
app.add_typer(triggers.app, name="triggers")
app.add_typer(approvals.app, name="approvals")
app.add_typer(webhook.app, name="webhook")
app.add_typer(forms.app, name="forms")
app.add_typer(connector.app, name="connector")
app.add_typer(endpoints.app, name="hooks")
app.add_typer(vault.app, name="vault")
app.add_typer(wallet.app, name="wallet")
app.add_typer(tx.app, name="tx")
app.add_typer(chain.app, name="chain")
app.add_typer(keys.app, name="keys")
app.command("backup")(backup.backup)
app.command("restore")(backup.restore)
app.command("moved")(backup.moved)
app.command("doctor")(command.doctor)
app.command("new-action")(new_action.new_action)
examples.put(app)


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"dustrun {dustrun.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """An automation server for workflows that move money and call APIs, and its command line."""


@functools.cache
def commands() -> Any:
    """What runs a command line. Made once: it reads the signatures of all commands, most of what a short one costs."""
    return get_command(app)


def main() -> None:
    """The entry point of the command `dustrun`."""
    try:
        commands()()
    except CliError as error:
        text = exact_json.dumps_text(error.as_json()) if "--json" in sys.argv else error.as_text()
        sys.stderr.write(plain(text) + "\n")
        sys.exit(error.exit)
    except KeyboardInterrupt:
        sys.exit(Exit.INTERRUPTED)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(Exit.SUCCESS)
