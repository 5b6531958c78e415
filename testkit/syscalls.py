"""Reads what `strace -f -y` wrote: which call began and ended where, in the order in which the kernel was entered."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

TRACED = "pwrite64,pwritev,write,writev,sendto,sendmsg,fdatasync,fsync"

_CALL = re.compile(r"(?P<pid>\d+) +(?P<name>\w+)\((?P<rest>.*)", re.DOTALL)
_RESUMED = re.compile(r"(?P<pid>\d+) +<\.\.\. (?P<name>\w+) resumed>(?P<rest>.*)", re.DOTALL)
_FILE = re.compile(r"\d+<(?P<file>[^>]*)>")
_RESULT = re.compile(r"\) += (?P<result>-?\d+)[^\"]*$")
_UNFINISHED = " <unfinished ...>"


@dataclass(slots=True)
class Call:
    """One system call. `begun` and `ended` are places in the trace; `text` is what was written, as strace quotes it."""

    pid: int
    name: str
    file: str
    text: str
    begun: int
    ended: int | None = None
    result: int | None = None


def command(trace: Path) -> list[str]:
    """The tracer's command, to be put before the traced one."""
    options = ["-f", "-y", "--seccomp-bpf", "-qq", "-s", "4200", "-e", f"trace={TRACED}", "-e", "signal=none"]
    return ["strace", *options, "-o", str(trace)]


def read(trace: Path) -> Iterator[Call]:
    """Every call that ended, in the order of their ends."""
    open_calls: dict[int, Call] = {}
    with trace.open(errors="replace") as lines:
        for place, line in enumerate(lines):
            resumed = _RESUMED.match(line)
            if resumed is not None:
                call = open_calls.pop(int(resumed["pid"]), None)
                if call is not None:
                    yield _ended(call, resumed["rest"], place)
                continue
            begun = _CALL.match(line)
            if begun is None:
                continue
            file = _FILE.match(begun["rest"])
            call = Call(int(begun["pid"]), begun["name"], file["file"] if file else "", begun["rest"], place)
            if line.rstrip("\n").endswith(_UNFINISHED):
                open_calls[call.pid] = call
            else:
                yield _ended(call, begun["rest"], place)


def _ended(call: Call, rest: str, place: int) -> Call:
    found = _RESULT.search(rest.rstrip("\n"))
    call.ended = place
    call.result = int(found["result"]) if found else None
    return call
