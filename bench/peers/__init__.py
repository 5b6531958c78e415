"""Other engines doing the same work, each in an environment of its own."""

from __future__ import annotations

import subprocess
import venv
from pathlib import Path

_TOOLS = Path(__file__).parents[2] / ".tools"


def environment(name: str, *packages: str) -> Path:
    """The Python of an environment that holds just these packages; made at first use."""
    folder = _TOOLS / name
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "-q", *packages], check=True)
    return python
