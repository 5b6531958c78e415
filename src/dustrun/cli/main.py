"""The `dustrun` command: the one place that turns errors into exit statuses."""

from __future__ import annotations

import functools
import sys
from typing import Any

from dustrun.cli.http.failures import CliError, Exit
from dustrun.cli.render.output import plain
from dustrun.core.values import exact_json


@functools.cache
def commands() -> Any:
    """What runs a command line. Made once: it reads the signatures of all commands, most of what a short one costs."""
    from typer.main import get_command  # slow import

    from dustrun.cli.command_tree import app  # slow import

    return get_command(app)


@functools.cache
def server_command() -> Any:
    """What runs `dustrun serve`: a command line without the other commands, which would stay in the server's memory."""
    from typer.main import get_command  # slow import

    from dustrun.cli.command_root import make_root  # slow import
    from dustrun.cli.commands.serve import serve  # slow import
    from dustrun.cli.http import examples  # slow import

    root = make_root()
    root.command("serve")(serve)
    examples.put(root)
    return get_command(root)


def main() -> None:
    """The entry point of the command `dustrun`."""
    try:
        run = server_command() if sys.argv[1:2] == ["serve"] else commands()
        run()
    except CliError as error:
        text = exact_json.dumps_text(error.as_json()) if "--json" in sys.argv else error.as_text()
        sys.stderr.write(plain(text) + "\n")
        sys.exit(error.exit)
    except KeyboardInterrupt:
        sys.exit(Exit.INTERRUPTED)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(Exit.SUCCESS)
