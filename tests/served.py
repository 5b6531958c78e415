"""Real processes for tests: a Dustrun server on a free port, and a small outside world for its workflows."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from testkit import processes, store_template

ROOT = Path(__file__).resolve().parent.parent
_STOP_WITHIN_S = 60


@dataclass(frozen=True)
class Served:
    """A running server: where it is, its data, and how commands find it."""

    url: str
    data_dir: Path

    @property
    def key(self) -> str:
        return (self.data_dir / "owner.key").read_text().strip()

    @property
    def environment(self) -> dict[str, str]:
        own = {"DUSTRUN_DATA_DIR": self.data_dir, "DUSTRUN_MASTER_KEY_FILE": self.data_dir.parent / "master.key"}
        return {**_clean(), "DUSTRUN_SERVER": self.url, **{name: str(path) for name, path in own.items()}}

    def dustrun(self, *words: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
        """Runs the command line against this server."""
        command = [*processes.DUSTRUN, *words]
        return processes.run(command, env=self.environment, cwd=cwd)

    def json(self, *words: str) -> Any:
        """The one JSON document that a command prints."""
        done = self.dustrun(*words, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


def _clean() -> dict[str, str]:
    """The environment without settings of Dustrun's."""
    return {name: value for name, value in os.environ.items() if not name.startswith("DUSTRUN_")}


@contextlib.contextmanager
def served(data_dir: Path, port: int = 0, **settings: str) -> Iterator[Served]:
    """A server over the store in `data_dir`; `settings` are variables without their prefix."""
    settings.setdefault("master_key_file", str(data_dir.parent / "master.key"))
    environment = _clean() | {f"DUSTRUN_{name.upper()}": value for name, value in settings.items()}
    words = ["serve", "--port", str(port), "--data-dir", str(data_dir)]
    store_template.fill_folder(data_dir, settings.get("database_url"))
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _process([*processes.DUSTRUN, *words], environment, data_dir / "server.log") as first_line:
        assert first_line.startswith("Listening on "), (data_dir / "server.log").read_text()
        yield Served(first_line.removeprefix("Listening on "), data_dir)


@dataclass(frozen=True)
class Outside:
    """The outside world of `scripts/price_source.py`."""

    url: str

    @property
    def address(self) -> str:
        return self.url.removeprefix("http://")

    def notices(self) -> list[Any]:
        """What was POSTed to it."""
        with urllib.request.urlopen(f"{self.url}/notices", timeout=60) as response:
            found: list[Any] = json.load(response)["notices"]
            return found


@contextlib.contextmanager
def outside(folder: Path) -> Iterator[Outside]:
    """The outside world in a process of its own."""
    command = [sys.executable, str(ROOT / "scripts/price_source.py")]
    with _process(command, _clean(), folder / "outside.log") as first_line:
        yield Outside(first_line)


@contextlib.contextmanager
def _process(command: Sequence[str], environment: dict[str, str], log_path: Path) -> Iterator[str]:
    """A process, and its first line of output; it is stopped by its own handle."""
    with (
        log_path.open("w") as log,
        processes.start(command, env=environment, cwd=ROOT, stdout=subprocess.PIPE, stderr=log, text=True) as process,
    ):
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()
            try:
                process.wait(_STOP_WITHIN_S)
            except subprocess.TimeoutExpired:
                process.kill()
