"""The web app is built, and its npm packages are installed, by one process at a time."""

from __future__ import annotations

import fcntl
import shutil
import subprocess
import sys
import time
from pathlib import Path

from testkit.e2e.guide import ROOT

_SETUP = 'touch "$PWD/installed"; exit 1\n'  # stands for npm: only when it begins is of interest


def test_a_build_waits_until_nobody_installs_npm_packages(tmp_path: Path) -> None:
    for name in ("scripts", "web", ".tools"):
        (tmp_path / name).mkdir()
    shutil.copy(ROOT / "scripts" / "build_web.py", tmp_path / "scripts")
    (tmp_path / "scripts" / "node-setup").write_text(_SETUP)
    (tmp_path / "web" / "package.json").write_text("{}")
    installed = tmp_path / "installed"
    with (tmp_path / ".tools" / "npm.lock").open("w") as lock:  # as testkit/e2e/node.py and scripts/devchain hold it
        fcntl.flock(lock, fcntl.LOCK_EX)
        build = subprocess.Popen([sys.executable, "scripts/build_web.py"], cwd=tmp_path, stderr=subprocess.DEVNULL)
        time.sleep(0.5)
        begun_too_early = installed.exists()
    assert build.wait(30) != 0
    assert (begun_too_early, installed.exists()) == (False, True)
