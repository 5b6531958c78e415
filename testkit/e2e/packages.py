"""Python packages that need an environment of their own, because the product's has other versions of what they need."""

from __future__ import annotations

import fcntl
import functools
import os
import subprocess
import venv
from pathlib import Path

from testkit.e2e.guide import ROOT


@functools.cache
def pip_install(requirements: Path, name: str, *, with_dependencies: bool = True) -> dict[str, str]:
    """Installs what the file pins into `.tools/<name>`, unless it is there; gives the environment in which its programs
    are found. Without dependencies a package gives its files alone."""
    folder = ROOT / ".tools" / name
    folder.mkdir(parents=True, exist_ok=True)
    with (ROOT / ".tools" / "pip.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        wanted, stamp = requirements.read_text(), folder / ".setup"
        if not stamp.exists() or stamp.read_text() != wanted:
            venv.create(folder, clear=True, with_pip=True)
            command = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
            command += [] if with_dependencies else ["--no-deps"]
            done = subprocess.run([*command, "-r", str(requirements)], capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr[-2000:]
            stamp.write_text(wanted)
    return {**os.environ, "PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"}
