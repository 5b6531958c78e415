"""`dustrun action`, against a real server process."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from served import Served, served


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("home") / "data") as found:
        yield found


def test_action_is_run_and_recorded(server: Served, tmp_path: Path) -> None:
    found = server.json("action", "run", "log", "--inputs", '{"message": "hello"}')
    assert (found["mode"], found["status"], found["result"]["message"]) == ("live", "success", "hello")
    assert server.json("runs", "get", found["runId"])["executionState"]["action"]["type"] == "log"
    (tmp_path / "inputs.json").write_text('{"message": "from a file"}')
    shown = server.dustrun("action", "run", "log", "--inputs", f"@{tmp_path / 'inputs.json'}", "--dust").stdout
    assert ("log (dust): success" in shown, "from a file" in shown) == (True, True)


def test_test_shows_what_would_be_sent(server: Served) -> None:
    inputs = json.dumps({"url": "https://api.example.com/orders", "method": "POST", "body": {"n": 1}})
    done = server.dustrun("action", "test", "http-request", "--inputs", inputs)
    assert ("(simulate): success" in done.stdout, "Would request: " in done.stdout) == (True, True), done
    nothing = server.dustrun("action", "test", "log", "--inputs", '{"message": "hello"}').stdout
    assert "Nothing would be sent or written." in nothing


def test_what_is_refused_or_fails_is_told(server: Served) -> None:
    refused = server.dustrun("action", "run", "log", "--inputs", "{}")
    assert (refused.returncode, "inputs.message" in refused.stderr) == (2, True)
    unknown = server.dustrun("action", "test", "lgo")
    assert (unknown.returncode, 'Did you mean "log"?' in unknown.stderr) == (2, True)
    odd = server.dustrun("action", "run", "log", "--inputs", "[1]")
    assert (odd.returncode, "must be a JSON object" in odd.stderr) == (2, True)
    failed = server.dustrun("action", "run", "log", "--inputs", '{"message": "{{1 / 0}} each"}')
    assert (failed.returncode, "log (live): failure" in failed.stdout) == (1, True)
