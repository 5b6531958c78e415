"""Node and the npm packages of a folder, made ready by `scripts/node-setup`."""

from __future__ import annotations

import fcntl
import functools
import os
import subprocess
from pathlib import Path

from testkit.e2e.guide import ROOT

FOLDER = Path(__file__).parent
_SETUP = ROOT / "scripts" / "node-setup"


@functools.cache
def npm_install(folder: Path = FOLDER) -> dict[str, str]:
    """Installs what the folder's lock file names; gives the environment in which `node` is found."""
    tools = ROOT / ".tools"
    tools.mkdir(exist_ok=True)
    with (tools / "npm.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        command = ["bash", "-c", 'source "$0" "$1" >&2 && printf %s "$PATH"', str(_SETUP), str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"scripts/node-setup {folder} failed:\n{done.stderr[-2000:]}"
    os.environ["PATH"] = done.stdout
    return {**os.environ, "PATH": done.stdout}


def npm_add(folder: Path, *packages: str) -> Path:
    """Installs packages (`name@version`) into a folder of their own, and gives the folder."""
    (folder / "package.json").write_text('{"private": true}')
    # Arguments are put aside: what is sourced would take the first one for its own folder.
    script = (
        'packages=("$@"); set --; source "$0" >&2; cd "$FOLDER"; '
        'npm install --ignore-scripts --no-audit --no-fund "${packages[@]}" >&2'
    )
    environment = {**os.environ, "FOLDER": str(folder)}
    subprocess.run(["bash", "-c", script, str(_SETUP), *packages], env=environment, check=True, timeout=900)
    return folder
