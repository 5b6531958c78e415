"""`--processes`: what several processes of tests report is what one would."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from served import ROOT

_DYING = """
import os, signal
def test_before(tmp_path): assert tmp_path.is_dir()
def test_dies(): os.kill(os.getpid(), signal.SIGKILL)
def test_after(): pass
"""
_FAILING = """
import pytest, warnings
@pytest.fixture(scope="session")
def late():
    yield
    raise RuntimeError("torn down too late")
def test_fails(late):
    print("what it said")
    assert [1] == [2]
def test_warns(): warnings.warn("careful")
@pytest.mark.skip(reason="no need")
def test_skipped(): pass
"""
_CAPTURING = """
import os, pytest, sys, time
KEPT = sys.stderr  # as libraries keep it
@pytest.mark.parametrize("number", range(9))
def test_hears_itself_alone(number, capfd):
    os.write(1, b"%d" % number)
    time.sleep(0.01)
    assert capfd.readouterr().out == str(number)
    KEPT.write("more")
"""
_WAITING = """
import pathlib, pytest, time
@pytest.fixture
def started(tmp_path_factory):
    here = pathlib.Path(__file__).with_suffix(".up")
    here.touch()
    yield
    here.unlink()
def test_waits(started): time.sleep(60)
def test_after(): pass  # who is in the first has not asked for another file
"""


def _begin(folder: Path, files: dict[str, str], *words: str) -> subprocess.Popen[str]:
    for name, text in files.items():
        (folder / f"test_{name}.py").write_text(text)
    command = [sys.executable, "-m", "pytest", "-p", "testkit.workers.plugin", "-q", "-rs", f"--rootdir={folder}"]
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": str(ROOT), "PYTEST_ADDOPTS": ""}
    return subprocess.Popen(
        [*command, "--processes=2", *words, str(folder)],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def _run(folder: Path, files: dict[str, str], *words: str) -> tuple[int, str]:
    with _begin(folder, files, *words) as process:
        output, _ = process.communicate(timeout=60)
    return process.returncode, output


def test_failures_deaths_and_warnings_are_told_and_the_rest_runs(tmp_path: Path) -> None:
    status, output = _run(tmp_path, {"a": _DYING, "b": _DYING, "c": _FAILING, "d": _CAPTURING})
    assert status == 1
    assert output.splitlines()[-1].startswith("3 failed, 14 passed, 1 skipped, 1 warning, 1 error in"), output
    assert output.count("test_dies (exit status -9).") == 2
    for told in ("assert [1] == [2]", "what it said", "torn down too late", "UserWarning: careful", "no need"):
        assert told in output


def test_the_first_failure_ends_all_if_that_is_asked(tmp_path: Path) -> None:
    status, output = _run(tmp_path, {"a": _FAILING, "b": _WAITING}, "-x")
    assert (status, "stopping after 1 failures" in output) == (1, True)
    assert list(tmp_path.glob("*.up")) == []


def test_an_interrupt_tears_down_what_runs(tmp_path: Path) -> None:
    with _begin(tmp_path, {"a": _WAITING, "b": _CAPTURING}, "-vv") as process:
        assert process.stdout is not None
        assert any("test_hears_itself_alone[7]" in line for line in process.stdout)
        process.send_signal(signal.SIGINT)
        rest = process.stdout.read()
    assert process.returncode == 2, rest
    assert list(tmp_path.glob("*.up")) == []
