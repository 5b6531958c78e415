"""The server's process for `scripts/up`, and the command line that talks to it."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

READY_WITHIN_S = 60.0
STOP_WITHIN_S = 15.0
START = (sys.executable, "-m", "dustrun")
"""The command."""


@dataclass(frozen=True)
class Server:
    """A running server: its process, where it is, and its data."""

    process: subprocess.Popen[bytes]
    port: int
    data: Path

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def key(self) -> str:
        """The owner's key."""
        return (self.data / "owner.key").read_text().strip()

    @property
    def environment(self) -> dict[str, str]:
        """What the command line needs to find this server and its key."""
        return {**os.environ, "DUSTRUN_SERVER": self.url, "DUSTRUN_DATA_DIR": str(self.data)}

    def dustrun(self, *words: str) -> int:
        """Runs a command on this terminal; gives its exit status."""
        return subprocess.run(_command(words), env=self.environment, check=False).returncode

    def dustrun_lines(self, *words: str) -> tuple[int, list[Any]]:
        """The exit status of a command, and what it writes with `--json`: one value a line."""
        command = _command((*words, "--json"))
        done = subprocess.run(command, env=self.environment, check=False, stdout=subprocess.PIPE)
        return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]

    def dustrun_json(self, *words: str) -> Any:
        """The one value that a command writes with `--json`; a failure, which it has told, ends the program."""
        status, lines = self.dustrun_lines(*words)
        if status != 0:
            sys.exit(status)
        return lines[0]


def _command(words: tuple[str, ...], start: Sequence[str | Path] = START) -> list[str]:
    return [*map(str, start), *words]


@contextlib.contextmanager
def serving(
    data: Path, port: int, settings: Mapping[str, str], start: Sequence[str | Path] = START
) -> Iterator[Server]:
    """A server that is ready, with these variables; it is stopped by its process id on the way out.

    Its master key is where `dustrun serve` looks for it too, so that one can take the other's place."""
    log_path = data / "server.log"
    environment = {**os.environ, **settings}
    command = _command(("serve", "--port", str(port), "--data-dir", str(data)), start)
    with log_path.open("ab") as log:
        before = log.tell()
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        server = Server(process, port, data)
        _wait_until_ready(server, log_path, before)
        yield server
    finally:
        _stop(process)


def answers(address: str) -> bool:
    """Whether a server that is ready answers there."""
    with contextlib.suppress(OSError):
        urllib.request.urlopen(f"{address}/readyz", timeout=5).close()
        return True
    return False


def _wait_until_ready(server: Server, log_path: Path, before: int) -> None:
    deadline = time.monotonic() + READY_WITHIN_S
    while server.process.poll() is None and time.monotonic() < deadline:
        if answers(server.url):
            return
        time.sleep(0.05)
    tail = "\n".join(log_path.read_bytes()[before:].decode(errors="replace").splitlines()[-30:])
    sys.exit(f"The server did not come up. What it said last:\n{tail}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_WITHIN_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def first_free_port(first: int) -> int:
    """The first port from there on that nobody listens on."""
    port = next((port for port in range(first, min(first + 100, 65536)) if _is_free(port)), None)
    if port is None:
        sys.exit(f"No free port from {first} on.")
    if port != first:
        print(f"Port {first} is taken; using {port}.")
    return port


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return True
    return False


def free_port() -> int:
    """Any port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
