"""What an installation adds to the command: the systemd unit and the completion of the shells."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dustrun.settings import Settings
from served import ROOT

COMMAND = Path(sys.executable).with_name("dustrun")
UNIT = ROOT / "deploy" / "dustrun.service"


def _run(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        words, env={**os.environ, **environment}, capture_output=True, text=True, check=False, timeout=60
    )


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="this machine has no systemd")
def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/opt/dustrun/.venv/bin/dustrun", str(COMMAND)))
    done = _run("systemd-analyze", "verify", "--man=no", str(unit))
    assert (done.returncode, [line for line in done.stderr.splitlines() if UNIT.name in line]) == (0, [])
    unit.write_text(unit.read_text().replace("Restart=on-failure", "Restart=perhaps"))
    assert "Restart" in _run("systemd-analyze", "verify", "--man=no", str(unit)).stderr


def test_unit_sets_settings_that_exist_and_keeps_the_key_apart() -> None:
    given = dict(re.findall(r"^Environment=DUSTRUN_(\w+)=(.+)$", UNIT.read_text(), re.MULTILINE))
    assert {name.lower() for name in given} <= set(Settings.model_fields)
    assert not Path(given["MASTER_KEY_FILE"]).is_relative_to(given["DATA_DIR"])
    folders = re.search(r"^StateDirectory=(.+)$", UNIT.read_text(), re.MULTILINE)
    assert folders is not None
    assert {f"/var/lib/{name}" for name in folders[1].split()} == {
        str(Path(path).parent) for path in (given["DATA_DIR"], given["MASTER_KEY_FILE"])
    }


@pytest.mark.parametrize(
    ("typed", "offered"),
    [("wor", ["workflow"]), ("workflow pub", ["publish"]), ("runs eff", ["effects"]), ("run --sim", ["--simulate"])],
)
def test_shell_completes_commands_and_options(typed: str, offered: list[str]) -> None:
    words = f"dustrun {typed}"
    done = _run(
        str(COMMAND), _DUSTRUN_COMPLETE="complete_bash", COMP_WORDS=words, COMP_CWORD=str(len(words.split()) - 1)
    )
    assert done.stdout.split() == offered
