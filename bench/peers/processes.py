"""The processes of the peers: servers that run until they are measured, and programs that measure themselves."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped,unused-ignore]

from bench.peers import ROOT, WITHIN_S, Unavailable
from bench.peers.installing import node_environment

_TAIL = 600
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(slots=True)
class Running:
    """A process of a peer that answers."""

    process: subprocess.Popen[bytes]
    ready_s: float
    log: Path

    def _family(self) -> list[psutil.Process]:
        root = psutil.Process(self.process.pid)
        return [root, *root.children(recursive=True)]

    def rss_mib(self) -> float:
        """Resident memory of it and of all that it started."""
        return round(sum(one.memory_info().rss for one in self._family()) / 2**20, 1)

    def cpu_s(self) -> float:
        """Processor time that it and all that it started have used so far, user and system."""
        times = [one.cpu_times() for one in self._family()]
        return float(sum(one.user + one.system for one in times))

    def said(self) -> str:
        """Whether it still runs, and the end of its log."""
        state = "runs" if self.process.poll() is None else f"ended with {self.process.returncode}"
        return f"{self.log.stem} {state}; the end of its log: {tail(self.log.read_text(errors='replace'))}"


def tail(text: str) -> str:
    """The last lines, in one: from the last error on, if there is one."""
    lines = [line.strip() for line in _COLOURS.sub("", text).replace(f"{ROOT}/", "").splitlines() if line.strip()]
    last = max((number for number, line in enumerate(lines) if "error" in line.lower()), default=None)
    told = " / ".join(lines) if last is None else " / ".join(lines[last:])
    return (told[-_TAIL:] if last is None else told[:_TAIL]) or "empty"


@contextmanager
def running(
    command: Sequence[Any], folder: Path, health: str, environ: Mapping[str, str] | None = None, limit_s: float = 120
) -> Iterator[Running]:
    """Starts a process in a group of its own, waits until `health` answers 2xx, and ends the group at last."""
    begun = time.perf_counter()
    log = folder / f"{Path(str(command[0])).name}.log"
    with log.open("ab") as out:
        process = subprocess.Popen(
            [str(word) for word in command],
            cwd=folder,
            env={**node_environment(), **(environ or {})},
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    try:
        while not _answers(health):
            if process.poll() is not None or time.perf_counter() - begun > limit_s:
                raise Unavailable(f"it did not start: {tail(log.read_text(errors='replace'))}")
            time.sleep(0.02)
        yield Running(process, round(time.perf_counter() - begun, 2), log)
    finally:
        _end(process)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return int(answer.status) < 300
    except OSError:
        return False


def _end(process: subprocess.Popen[bytes]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            process.wait(10)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            continue


def program(
    python: Path, file: Path, *arguments: object, environ: Mapping[str, str] | None = None, limit_s: float = WITHIN_S
) -> dict[str, Any]:
    """The figures that a program prints, one JSON object a line; `incomplete` says why it gave no more."""
    command = [str(python), "-P", str(file), *map(str, arguments)]
    settings = {**os.environ, **(environ or {}), "PYTHONPATH": str(ROOT)}
    try:
        done = subprocess.run(command, capture_output=True, check=False, env=settings, timeout=limit_s)
    except subprocess.TimeoutExpired as late:
        reason = f"its program did not end within {limit_s:g} s; the end of its log: {_text(late.stderr)}"
        return {**_figures(late.stdout), "incomplete": reason}
    found = _figures(done.stdout)
    if done.returncode != 0:
        found["incomplete"] = f"its program ended with {done.returncode}: {_text(done.stderr)}"
    return found


def _text(said: bytes | None) -> str:
    return tail((said or b"").decode(errors="replace"))


def _figures(said: bytes | None) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for line in (said or b"").splitlines():
        if line.startswith(b"{") and line.endswith(b"}"):
            found.update(json.loads(line))
    return found
