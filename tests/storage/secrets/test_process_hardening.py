"""A process that holds keys leaves no core file and cannot be looked into."""

from __future__ import annotations

import subprocess
import sys

import pytest

_LOOK = """
import ctypes, resource
from dustrun.storage.secrets.process_hardening import shield_process
shielded = shield_process()
print(shielded, resource.getrlimit(resource.RLIMIT_CORE), ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux has prctl")
def test_shielded_process_is_not_dumpable() -> None:
    done = subprocess.run([sys.executable, "-c", _LOOK], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split("\n")[0] == "True (0, 0) 0"
