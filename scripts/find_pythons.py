"""Finds the Pythons of this machine that can run Dustrun, one of each minor version, the fastest first.

Prints a line for each: version, milliseconds that a calculation takes, path. Any Python from 3.8 on can run it. How a
Python was built is not asked: its build variables do not tell (Debian's are optimized and do not say so). So they
calculate in turns, because a machine may be busy for a while, and the best round of each counts; that differs by 1 %
from call to call, where optimized builds differ from others by 40 % and more.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
_FOLDERS = ("/usr/local/bin", "/usr/bin", "/opt/*/bin", "~/.pyenv/versions/*/bin", "~/.local/share/uv/python/*/bin")
_SHIMS = "shims"  # pyenv's folder of scripts that start one of its versions after looking for it
_NAME = re.compile(r"python3(\.\d+)?")
_TURNS = 3
_AS_FAST = 1.1
"""Up to this factor two Pythons count as equally fast, and the newer one is taken."""
# Runs in each candidate: what it is, or an error when it lacks what scripts/setup and Dustrun need.
_PROBE = """
import ensurepip, sqlite3, ssl, sys, sysconfig, time, venv

if sys.version_info < (3, 11) or sys.version_info.releaselevel != "final":
    sys.exit(1)
if sysconfig.get_config_var("Py_GIL_DISABLED"):
    sys.exit(1)


class Point:
    def __init__(self, x):
        self.x = x

    def plus(self, y):
        return Point(self.x + y)


def calculate():
    sums = {}
    for number in range(3000):
        name = "key %d" % (number % 97)
        sums[name] = sums.get(name, 0) + Point(number).plus(number).x
        if isinstance(number, int) and name.startswith("key"):
            [x * 2 for x in (number, number + 1, number + 2)]
    return ",".join(sorted(sums))


best, end = 1.0, time.perf_counter() + 0.1
while time.perf_counter() < end:
    start = time.process_time()
    calculate()
    best = min(best, time.process_time() - start)
print("%d.%d.%d" % sys.version_info[:3], best * 1000, getattr(sys, "_base_executable", sys.executable))
"""


class Python(NamedTuple):
    """A Python that can run Dustrun: its version, how long it calculates in milliseconds, where it is."""

    version: tuple[int, ...]
    time_ms: float
    path: str

    @property
    def minor(self) -> str:
        """`3.13` of 3.13.5."""
        return ".".join(map(str, self.version[:2]))

    def __str__(self) -> str:
        return f"{'.'.join(map(str, self.version))} {self.time_ms:.2f} {self.path}"


def candidates() -> list[Path]:
    """Every file that may be a Python 3: on the PATH, and where distributions, pyenv and uv put them."""
    folders = [Path(folder) for folder in os.environ.get("PATH", "").split(os.pathsep) if folder]
    for pattern in _FOLDERS:
        path = Path(os.path.expanduser(pattern))
        folders += sorted(Path("/").glob(str(path.relative_to("/"))))
    found = {
        file.resolve()
        for folder in dict.fromkeys(folders)
        if folder.is_dir() and folder.name != _SHIMS and not (folder.parent / "pyvenv.cfg").exists()
        for file in folder.iterdir()
        if _NAME.fullmatch(file.name) and os.access(file, os.X_OK)
    }
    return sorted(found)


def probe(path: Path) -> Python | None:
    """What a candidate is, or None if it cannot run Dustrun."""
    try:
        told = subprocess.run(
            [str(path), "-I", "-c", _PROBE], capture_output=True, text=True, timeout=10, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    if not told:
        return None
    version, time_ms, real = told.rstrip("\n").split(" ", 2)
    return Python(tuple(map(int, version.split("."))), float(time_ms), real)


def tried_versions() -> set[str]:
    """The minor versions that pyproject.toml names: with them the suite ran, and constraints.txt can be installed."""
    return set(re.findall(r'"Programming Language :: Python :: (3\.\d+)"', (ROOT / "pyproject.toml").read_text()))


def fastest(found: list[Python]) -> list[Python]:
    """The fastest of each minor version; the first is the newest of those that are about as fast as the fastest."""
    tried = tried_versions()
    found = [python for python in found if python.minor in tried] or found
    best = {python.minor: python for python in sorted(found, key=lambda python: -python.time_ms)}
    order = sorted(best.values(), key=lambda python: python.time_ms)
    first = max(python for python in order if python.time_ms <= order[0].time_ms * _AS_FAST) if order else None
    return sorted(order, key=lambda python: python is not first)


def measured(paths: list[Path]) -> list[Python]:
    """Those that can run Dustrun, each with the best time of its turns."""
    first = {path: python for path in paths if (python := probe(path))}
    again = [python for _ in range(_TURNS - 1) for path in first if (python := probe(path))]
    best = {python.path: python for python in sorted([*first.values(), *again], key=lambda python: -python.time_ms)}
    return list(best.values())


def main() -> None:
    """Prints the Pythons, the one to take first."""
    found = fastest(measured(candidates()))
    print(*found, sep="\n")
    sys.exit(not found)


if __name__ == "__main__":
    main()
