"""What a server that nobody has called yet has loaded: nothing that only some requests, settings, upgrades or commands
need."""

from __future__ import annotations

import compileall
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import dustrun

SLOW = {
    "aiohttp",
    "alembic",
    "anthropic",
    "apprise",
    "coincurve",
    "dustrun.cli.command_tree",
    "dustrun.cli.http.client",
    "eth_abi",
    "eth_account",
    "feedparser",
    "jmespath",
    "jsonschema",
    "lark",
    "mcp",
    "openai",
    "opentelemetry.sdk",
    "prometheus_client",
    "psycopg",
    "pycparser",
    "pydantic.v1",
    "pydantic_ai",
    "quickjs",
    "re2",
    "rich",
    "selectolax",
    "sqlalchemy.dialects.postgresql",
    "temporalio",
    "yaml",
}
MOST_MIB = 98
"""Of its own, without pages of files: a machine with more of them in its cache maps more. `scripts/bench peers` holds
all of it to 105, with the Python and the libraries of its machine."""
_IMPORTED = re.compile(r"^import time: +\d+ \| +\d+ \| +([\w.]+)$", re.MULTILINE)
_LISTENING = "Listening on "


@contextmanager
def _idle(folder: Path) -> Iterator[tuple[int, Path]]:
    """A server in an interpreter of its own, just ready: its process id, and the file that names what it imports."""
    compileall.compile_dir(Path(dustrun.__file__).parent, quiet=1)  # as pip leaves an installed package
    command = [sys.executable, "-X", "importtime", "-m", "dustrun", "serve", "--port", "0"]
    command += ["--data-dir", str(folder / "data")]
    environment = {**os.environ, "DUSTRUN_MASTER_KEY_FILE": str(folder / "master.key")}
    imported = folder / "imported.txt"
    with imported.open("w") as errors:
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True)
        try:
            assert process.stdout is not None
            assert process.stdout.readline().startswith(_LISTENING)
            yield process.pid, imported
        finally:
            process.terminate()
            process.communicate(timeout=120)


def test_first_start_imports_no_slow_module(tmp_path: Path) -> None:
    with _idle(tmp_path) as (_, imported):
        names = set(_IMPORTED.findall(imported.read_text()))
    assert {"dustrun.app.composition", "dustrun.operations.runs"} <= names
    assert names & SLOW == set()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_idle_server_needs_little_memory(tmp_path: Path) -> None:
    with _idle(tmp_path) as (pid, _):
        status = Path(f"/proc/{pid}/status").read_text()
    resident = re.search(r"^RssAnon:\s+(\d+) kB$", status, re.MULTILINE)
    assert resident is not None
    assert int(resident[1]) / 1024 < MOST_MIB
