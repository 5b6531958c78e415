"""Which connections a server's processes open, as seen from outside: every one of them by `strace`; where that is
missing, those that live long enough to stand in a sample of `/proc/net/tcp`."""

from __future__ import annotations

import contextlib
import re
import shutil
import threading
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

_CONNECT = re.compile(r"connect\(\d+, \{sa_family=AF_INET6?, sin6?_port=htons\((?P<port>\d+)\)(?P<rest>[^}]*)")
_LOOPBACK = re.compile(r'"(127\.0\.0\.1|::1)"')
_EVERY_S = 0.01


class Watch(Protocol):
    """One way to see them."""

    @property
    def seen_by(self) -> str:
        """Which way, for people."""
        ...

    @property
    def command(self) -> Sequence[str]:
        """What is put before the server's command."""
        ...

    def begin(self, pid: int) -> None:
        """From now on."""
        ...

    def end(self) -> Counter[int | str]:
        """How many there were to each port of this machine; all others as they are written."""
        ...


def watch(folder: Path) -> Watch:
    """The better way that this machine offers."""
    return Sampled() if shutil.which("strace") is None else Traced(folder / "trace")


class Traced:
    """Every call of `connect` of the process and its children."""

    seen_by = "strace -f"

    def __init__(self, file: Path) -> None:
        self._file = file
        self._start = 0
        self.command = [
            "strace",
            "-f",
            "--seccomp-bpf",
            "-qq",
            "-e",
            "trace=connect",
            "-e",
            "signal=none",
            "-o",
            str(file),
        ]

    def begin(self, pid: int) -> None:
        """From here in the trace."""
        self._start = self._file.stat().st_size

    def end(self) -> Counter[int | str]:
        """Reads the trace."""
        found: Counter[int | str] = Counter()
        with self._file.open(errors="replace") as lines:
            lines.seek(self._start)
            for line in lines:
                if "connect(" in line:
                    found[_target(line)] += 1
        return found


def _target(line: str) -> int | str:
    told = _CONNECT.search(line)
    if told is None or _LOOPBACK.search(told["rest"]) is None:
        return line.strip()
    return int(told["port"])


class Sampled:
    """Open sockets of the process and its children, looked at all the time."""

    seen_by = "samples of /proc/net/tcp every 10 ms: what lives shorter is not seen"
    command: Sequence[str] = ()

    def __init__(self) -> None:
        self._seen: set[tuple[str, str]] = set()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def begin(self, pid: int) -> None:
        """Looks until the end; what is open already is not counted."""
        before = _sockets(pid)

        def look() -> None:
            while not self._stop.wait(_EVERY_S):
                self._seen.update(_sockets(pid) - before)

        self._thread = threading.Thread(target=look, daemon=True)
        self._thread.start()

    def end(self) -> Counter[int | str]:
        """Stops looking."""
        self._stop.set()
        assert self._thread is not None
        self._thread.join()
        return Counter(_port(remote) for _, remote in self._seen)


def _sockets(pid: int) -> set[tuple[str, str]]:
    """Inode and remote address of every connection that the processes began; those that they took are left out."""
    pids = [pid, *_children(pid)]
    inodes = {inode for one in pids for inode in _inodes(one)}
    rows = [
        line.split()
        for name in ("tcp", "tcp6")
        for line in Path(f"/proc/{pid}/net/{name}").read_text().splitlines()[1:]
    ]
    listening = {row[1].rpartition(":")[2] for row in rows if row[3] == "0A" and row[9] in inodes}
    own = (row for row in rows if row[9] in inodes and row[3] != "0A")
    return {(row[9], row[2]) for row in own if row[1].rpartition(":")[2] not in listening}


def _children(pid: int) -> list[int]:
    found: list[int] = []
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            found += [int(child) for child in (task / "children").read_text().split()]
    return [*found, *(deeper for child in found for deeper in _children(child))]


def _inodes(pid: int) -> set[str]:
    found = set()
    with contextlib.suppress(OSError):
        for link in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                target = str(link.readlink())
                if target.startswith("socket:["):
                    found.add(target[8:-1])
    return found


def _port(remote: str) -> int | str:
    address, _, port = remote.rpartition(":")
    is_here = address in ("0100007F", "00000000000000000000000001000000", "0000000000000000FFFF00000100007F")
    return int(port, 16) if is_here else remote
