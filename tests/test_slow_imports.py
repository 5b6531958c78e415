"""What a server that nobody has called yet has loaded: nothing that only some requests, settings, upgrades or commands
need."""

from __future__ import annotations

import compileall
import os
import re
import subprocess
import sys
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Idle:
    """What a server that is just ready has loaded."""

    imported: set[str]
    anonymous_kib: int | None
    """Where the system tells it."""


@pytest.fixture(scope="module")
def idle(tmp_path_factory: pytest.TempPathFactory) -> Idle:
    """A server in an interpreter of its own, which takes seconds of processor time: one for all that is asked of it."""
    compileall.compile_dir(Path(dustrun.__file__).parent, quiet=1)  # as pip leaves an installed package
    folder = tmp_path_factory.mktemp("idle")
    command = [sys.executable, "-X", "importtime", "-m", "dustrun", "serve", "--port", "0"]
    command += ["--data-dir", str(folder / "data")]
    environment = {**os.environ, "DUSTRUN_MASTER_KEY_FILE": str(folder / "master.key")}
    imported = folder / "imported.txt"
    with imported.open("w") as errors:
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True)
        try:
            assert process.stdout is not None
            assert process.stdout.readline().startswith(_LISTENING)
            anonymous_kib = _anonymous_kib(process.pid)
        finally:
            process.terminate()
            process.communicate(timeout=120)
    return Idle(set(_IMPORTED.findall(imported.read_text())), anonymous_kib)


def _anonymous_kib(pid: int) -> int | None:
    status = Path(f"/proc/{pid}/status")
    found = status.exists() and re.search(r"^RssAnon:\s+(\d+) kB$", status.read_text(), re.MULTILINE)
    return int(found[1]) if found else None


def test_first_start_imports_no_slow_module(idle: Idle) -> None:
    assert {"dustrun.app.composition", "dustrun.operations.runs"} <= idle.imported
    assert idle.imported & SLOW == set()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_idle_server_needs_little_memory(idle: Idle) -> None:
    assert idle.anonymous_kib is not None
    assert idle.anonymous_kib / 1024 < MOST_MIB
