"""The user that PostgreSQL runs as in tests is made once, however many processes start a cluster at once."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from testkit import postgres


def test_processes_that_start_together_make_one_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    made = tmp_path / "made"

    def ensure_user_exists(name: str) -> None:
        """As the package does it: look, then make, with a moment between."""
        if not made.exists():
            time.sleep(0.1)
            with made.open("a") as users:
                users.write(f"{name}\n")

    monkeypatch.setattr(postgres, "ensure_user_exists", ensure_user_exists)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    processes = []
    for _ in range(4):
        if (pid := os.fork()) == 0:
            try:
                postgres.make_user()
            finally:
                os._exit(0)
        processes.append(pid)
    for pid in processes:
        os.waitpid(pid, 0)
    assert made.read_text() == "embedded_postgres\n"
