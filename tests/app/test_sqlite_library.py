"""What is configured in the SQLite library, in processes of their own."""

from __future__ import annotations

import json
import subprocess
import sys

_USE = """if True:
    import _sqlite3, ctypes, json, os, sqlite3, sys
    from dustrun.app import process

    def use(how):
        if how == "spared":
            process.stop_counting_memory()
        connection = sqlite3.connect(":memory:")
        connection.execute("CREATE TABLE one (two TEXT)")
        connection.execute("INSERT INTO one VALUES ('three')")
        library = ctypes.CDLL(getattr(_sqlite3, "__file__", None))
        used = library.sqlite3_memory_used if hasattr(library, "sqlite3_memory_used") else lambda: None
        used.restype = ctypes.c_longlong
        row = connection.execute("SELECT two FROM one").fetchone()[0]
        print(json.dumps({"how": how, "used": used(), "row": row}), flush=True)

    for how in sys.argv[1:]:
        child = os.fork()
        if child == 0:
            use(how)
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
"""


def test_sqlite_counts_no_memory_once_it_is_told() -> None:
    ran = subprocess.run([sys.executable, "-c", _USE, "spared", "counted"], check=True, capture_output=True, text=True)
    found = [json.loads(line) for line in ran.stdout.splitlines()]
    assert [(one["how"], one["row"]) for one in found] == [("spared", "three"), ("counted", "three")]
    for one in found:
        if sys.platform == "linux" and one["used"] is not None:
            assert (one["used"] == 0) is (one["how"] == "spared")
