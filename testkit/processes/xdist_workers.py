"""Starts the processes of pytest-xdist as forks of one that has imported all tests, which takes each some fifteen
seconds of processor time otherwise.

xdist starts each by the words that `forked` gives: this file, as a program that needs few imports of its own. It hands
its standard streams to the process that forks, and ends when the fork does.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from pathlib import Path


def forked(arguments: list[str], count: int) -> str:
    """The Python (`python=` of xdist) of `count` processes that run tests which pytest finds by these arguments."""
    name = f"dustrun-tests-{os.getpid()}"
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listening.bind(f"\0{name}")
    listening.listen(count)
    controller = os.getpid()
    if os.fork() == 0:
        try:
            _serve(arguments, count, listening, controller)
        finally:
            os._exit(0)
    listening.close()
    return f"{sys.executable} -I -S {__file__} {name}"


def _serve(arguments: list[str], count: int, listening: socket.socket, controller: int) -> None:
    """Imports the tests, forks for each that asks, and waits for the forks; gives up when `controller` has ended."""
    import gc  # here, since what asks for a fork needs none of these

    import pytest

    quiet = os.open(os.devnull, os.O_RDWR)
    for stream in range(3):
        os.dup2(quiet, stream)
    # what is wrong with a test is told by the forks, which collect too; modules may keep the streams that they find
    pytest.main([*arguments, "--numprocesses=0", "--collect-only", "--capture=no", "-qq"])
    with contextlib.suppress(Exception):  # they tell it too
        _begin_as_they_would()
    gc.collect()
    gc.freeze()
    listening.settimeout(1)
    while count and os.getppid() == controller:
        try:
            asked, _ = listening.accept()
        except TimeoutError:
            continue
        _, streams, _, _ = socket.recv_fds(asked, 1, 3)
        if os.fork() == 0:
            listening.close()
            _become_worker(asked, streams)
        for descriptor in (*streams, asked.detach()):
            os.close(descriptor)
        count -= 1
    with contextlib.suppress(ChildProcessError):
        while True:
            os.wait()


def _begin_as_they_would() -> None:
    """Does what takes long the first time and nearly each of them does: a server makes its models and its document, a
    chain imports web3.py, and a question to a model the SDKs."""
    import asyncio
    import importlib
    import tempfile

    from dustrun import log
    from testkit.composition import composed

    async def serve_once(folder: Path) -> None:
        async with composed(folder) as server:
            await server.owner.create_workflow()

    log.set_up(as_json=True, level="error")  # as in tests: what logs has a thread, which no fork has
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(serve_once(Path(folder)))
    for name in ("testkit.chain.contracts", "dustrun.sdk.llm.protocol"):
        importlib.import_module(name)


def _become_worker(asked: socket.socket, streams: list[int]) -> None:
    """Goes on as `python -c` would with what execnet says first. Keeps `asked` open until its end."""
    from types import ModuleType

    from testkit.processes.fork_server import end_with, take_streams  # slow import, and the tests have it

    take_streams(streams)
    sys.argv = ["-c"]
    program = sys.modules["__main__"] = ModuleType("__main__")
    exec(eval(sys.stdin.readline()), vars(program))
    end_with(0)


def _ask(name: str) -> None:
    """Has the process of that name fork one with these streams, and waits for its end."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as asked:
        asked.connect(f"\0{name}")
        socket.send_fds(asked, [b"1"], [0, 1, 2])
        for stream in (0, 1):
            os.close(stream)
        asked.recv(1)


if __name__ == "__main__":
    _ask(sys.argv[1])
