"""Which Python `scripts/setup` takes, and what it says when it can take none."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import find_pythons
import pytest
from find_pythons import Python

from served import ROOT

OPTIMIZED_311 = Python((3, 11, 2), 1.47, "/usr/bin/python3.11")
OPTIMIZED_313 = Python((3, 13, 5), 1.05, "/usr/bin/python3.13")
PLAIN_312 = Python((3, 12, 1), 2.48, "/opt/3.12/bin/python3.12")
PLAIN_313 = Python((3, 13, 0), 1.69, "/opt/3.13/bin/python3.13")
UNTRIED = Python((3, 99, 0), 0.5, "/opt/3.99/bin/python3.99")


def test_the_fastest_is_first_and_each_minor_version_is_there_once() -> None:
    found = find_pythons.fastest([OPTIMIZED_311, PLAIN_312, PLAIN_313, OPTIMIZED_313])
    assert found == [OPTIMIZED_313, OPTIMIZED_311, PLAIN_312]


def test_an_optimized_build_of_an_older_version_is_before_a_plain_one_of_a_newer() -> None:
    assert find_pythons.fastest([PLAIN_313, OPTIMIZED_311]) == [OPTIMIZED_311, PLAIN_313]


def test_of_two_that_are_about_as_fast_the_newer_is_first() -> None:
    newer = PLAIN_312._replace(time_ms=OPTIMIZED_311.time_ms * 1.05)
    assert find_pythons.fastest([OPTIMIZED_311, newer]) == [newer, OPTIMIZED_311]


def test_a_version_that_was_never_tried_is_taken_only_without_another() -> None:
    assert find_pythons.fastest([UNTRIED, PLAIN_312]) == [PLAIN_312]
    assert find_pythons.fastest([UNTRIED]) == [UNTRIED]
    assert find_pythons.fastest([]) == []


def test_a_python_is_measured_and_another_program_is_none(tmp_path: Path) -> None:
    found = find_pythons.probe(Path(sys.executable))
    assert found is not None
    assert (found.version, Path(found.path).resolve()) == (sys.version_info[:3], Path(sys.executable).resolve())
    assert 0 < found.time_ms < 1000
    assert find_pythons.probe(Path("/bin/true")) is None
    assert find_pythons.probe(tmp_path / "none") is None


def test_the_best_of_several_turns_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine is busy while the faster one takes its first turn."""
    told: dict[Path, list[Python | None]] = {
        Path("/a"): [OPTIMIZED_313._replace(time_ms=4.0), OPTIMIZED_313._replace(time_ms=4.0), OPTIMIZED_313],
        Path("/b"): [PLAIN_312, PLAIN_312, PLAIN_312],
        Path("/c"): [None],
    }
    turns = {path: iter([*found, *found[-1:] * 9]) for path, found in told.items()}
    monkeypatch.setattr(find_pythons, "probe", lambda path: next(turns[path]))
    assert find_pythons.fastest(find_pythons.measured(list(told))) == [OPTIMIZED_313, PLAIN_312]


def test_a_given_python_that_cannot_run_dustrun_is_refused_by_name(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHON": "/bin/false", "VENV": str(tmp_path / "venv")}
    ended = subprocess.run([ROOT / "scripts" / "setup"], env=environment, capture_output=True, text=True, check=False)
    says = (
        "PYTHON=/bin/false does not run Dustrun. Dustrun needs Python 3.11 or newer with its venv module. "
        "On Debian: apt-get install python3 python3-venv\n"
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (1, "", says)
    assert list(tmp_path.iterdir()) == []
