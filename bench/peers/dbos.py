"""DBOS Transact beside us: no HTTP in front of it, its own SQLite defaults, an environment of its own."""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.peers import Unavailable, environment

VERSION = "3.4.0"


def measure(runs: int) -> dict[str, Any]:
    """The same three steps, each durable before the next."""
    python = environment(f"dbos-{VERSION}", f"dbos=={VERSION}")
    program = Path(__file__).with_name("dbos_program.py")
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [python, "-P", program, Path(folder) / "dbos.sqlite", str(runs), str(time.time())],
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode != 0:
        raise Unavailable(f"its program ended with an error: {done.stderr.strip().splitlines()[-1][:200]}")
    figures: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return {"version": VERSION, "store": "SQLite, its own defaults", "overHttp": False, **figures}
