"""A process that has imported Dustrun, with its routes, commands and types of nodes, and forks a process for each
command line: a second of processor time less for each server.

    python -m testkit.processes.fork_server FD

FD is a socket of `testkit.processes`. A request is one JSON document with three file descriptors, the command's
standard streams; the answer is the id of the new process. That one is a process like any other: with its own
arguments, environment, folder and streams, killed and waited for by its id. It is forked twice, so that it belongs to
the one who asked and not to this process.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import json
import os
import resource
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable, Iterable
from typing import Any

import dustrun.app.composition
import dustrun.app.process
from dustrun import catalog
from dustrun.api import server
from dustrun.cli import main as command_line
from dustrun.cli.commands import serve

MOST_BYTES = 1 << 20
_LOADED = (dustrun.app.composition, dustrun.app.process, serve)
_AT_FIRST = ("anyio._backends._asyncio", "typer._adapters", "typer._click.decorators", "uvicorn.lifespan.off")
"""What else each server imports with its first steps."""


def main() -> None:
    """Answers until the other side is gone; a new process ends with its command."""
    asked = socket.socket(fileno=int(sys.argv[1]))
    server.discover()
    catalog.load()
    command_line.commands()
    _load(_AT_FIRST)
    while True:
        text, streams, _, _ = socket.recv_fds(asked, MOST_BYTES, 3)
        if not text:
            return
        request = json.loads(text)
        _load(request["modules"])
        reading, writing = os.pipe()
        between = os.fork()
        if between == 0:
            own = os.fork()
            if own:
                os.write(writing, str(own).encode())
                os._exit(0)
            for unused in (reading, writing):
                os.close(unused)
            asked.close()
            _become(request, streams)
            end_with(_status_of(command_line.main))
        os.waitpid(between, 0)
        for stream in streams:
            os.close(stream)
        asked.send(os.read(reading, 32))
        os.close(reading)
        os.close(writing)


def _load(modules: Iterable[str]) -> None:
    """Imports what it has not; its garbage collector leaves all of it alone, so that processes go on sharing it."""
    if new := [name for name in modules if name not in sys.modules]:
        for name in new:
            importlib.import_module(name)
        gc.freeze()


def _status_of(work: Callable[[], None]) -> int:
    """The exit status of a program, as the interpreter makes it (`sys.exit`)."""
    try:
        work()
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return end.code or 0
        print(end.code, file=sys.stderr)
        return 1
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def end_with(status: int) -> None:
    """Ends this process as the interpreter does, but leaves its memory to the system instead of tidying all of it."""
    threading._shutdown()  # type: ignore[attr-defined]  # waits for the other threads
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()
    os._exit(status)


def take_streams(streams: list[int]) -> None:
    """Makes these the standard streams of this process."""
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    sys.stdin, sys.stdout = open(0, closefd=False), open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115


def _become(request: dict[str, Any], streams: list[int]) -> None:
    """Makes this process the one that was asked for."""
    if request["is_session"]:
        os.setsid()
    take_streams(streams)
    sys.argv = request["argv"]
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["folder"])
    for limit, values in request["limits"].items():
        resource.setrlimit(int(limit), values)
    signal.signal(signal.SIGINT, signal.default_int_handler)


if __name__ == "__main__":
    main()
