"""Reads what `strace -f -y` wrote: which call began and ended where, in the order in which the kernel was entered."""

from __future__ import annotations

import re
from codecs import escape_decode
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

TRACED = "pwrite64,pwritev,write,writev,sendto,sendmsg,fdatasync,fsync"

_CALL = re.compile(r"(?P<pid>\d+) +(?P<name>\w+)\((?P<rest>.*)", re.DOTALL)
_RESUMED = re.compile(r"(?P<pid>\d+) +<\.\.\. (?P<name>\w+) resumed>(?P<rest>.*)", re.DOTALL)
_FILE = re.compile(r"\d+<(?P<file>[^>]*)>")
_RESULT = re.compile(r"\) += (?P<result>-?\d+)[^\"]*$")
_STRING = re.compile(r'"((?:[^"\\]|\\.)*)"')
_PAGE, _PAGE_HEAD = 8192, 24  # of PostgreSQL's log (XLogPageHeaderData, access/xlog_internal.h)
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


def command(trace: Path, also: Sequence[int] = ()) -> list[str]:
    """The tracer's command, to be put before the traced one. `also`: processes that are traced too, with those that
    they start from now on; the tracer ends when all have ended. Longer texts are kept then, since a database writes
    several records at once."""
    options = ["-f", "-y", "-qq", "-e", f"trace={TRACED}", "-e", "signal=none", "-o", str(trace)]
    if not also:
        return ["strace", *options, "--seccomp-bpf", "-s", "4200"]
    return ["strace", *options, "-s", "300000", *(f"--attach={pid}" for pid in also)]


class Pages:
    """Texts in PostgreSQL's write-ahead log, where one may go on behind the head of the next page, or in the next
    write."""

    def __init__(self) -> None:
        self._end = ""

    def text_of(self, quoted: str) -> str:
        """What was written, after the end of the write before: only texts can be told from the rest."""
        written = b"".join(escape_decode(part.encode("latin-1"))[0] for part in _STRING.findall(quoted))
        pages = (written[at + _PAGE_HEAD : at + _PAGE] for at in range(0, len(written), _PAGE))
        text = b"".join(pages).decode("latin-1")
        found, self._end = self._end + text, text[-_PAGE_HEAD * 16 :]
        return found


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
