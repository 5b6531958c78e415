"""DBOS Transact beside us: no HTTP in front of it, its own defaults, an environment of its own."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

from bench.peers.installing import environment
from bench.peers.processes import program

VERSION = "3.4.0"


def measure(runs: int) -> dict[str, Any]:
    """The same three steps, each durable before the next, on SQLite."""
    with tempfile.TemporaryDirectory() as folder:
        return {"store": "SQLite, its own defaults", **_measure(runs, f"sqlite:///{Path(folder) / 'dbos.sqlite'}")}


def measure_on_postgresql(runs: int, url: str) -> dict[str, Any]:
    """The same on PostgreSQL, for which it is made."""
    return {"store": "PostgreSQL, its own defaults", **_measure(runs, url.replace("+psycopg", ""))}


def _measure(runs: int, url: str) -> dict[str, Any]:
    python = environment(f"dbos-{VERSION}", f"dbos=={VERSION}")
    figures = program(python, Path(__file__).with_name("dbos_program.py"), url, runs, time.time())
    return {"version": VERSION, "overHttp": False, **figures}
