"""What is configured in the SQLite library, in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

_USE = """if True:
    import _sqlite3, ctypes, json, sqlite3, sys
    from dustrun.app import process
    if sys.argv[1] == "spared":
        process.stop_counting_memory()
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE TABLE one (two TEXT)")
    connection.execute("INSERT INTO one VALUES ('three')")
    library = ctypes.CDLL(getattr(_sqlite3, "__file__", None))
    used = library.sqlite3_memory_used if hasattr(library, "sqlite3_memory_used") else lambda: None
    used.restype = ctypes.c_longlong
    print(json.dumps({"used": used(), "row": connection.execute("SELECT two FROM one").fetchone()[0]}))
"""


@pytest.mark.parametrize("how", ["spared", "counted"])
def test_sqlite_counts_no_memory_once_it_is_told(how: str) -> None:
    ran = subprocess.run([sys.executable, "-c", _USE, how], check=True, capture_output=True, text=True)
    found = json.loads(ran.stdout)
    assert found["row"] == "three"
    if sys.platform == "linux" and found["used"] is not None:
        assert (found["used"] == 0) is (how == "spared")
