"""What a server imports when it starts: nothing that only some requests, settings or upgrades need."""

from __future__ import annotations

import json
import subprocess
import sys

SLOW = (
    "alembic",
    "apprise",
    "eth_account",
    "jsonschema",
    "rich",
    "sqlalchemy.dialects.postgresql",
    "yaml",
)


def test_server_start_imports_no_slow_module() -> None:
    code = f"import json, sys, dustrun.app; print(json.dumps([name for name in {SLOW} if name in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert json.loads(done.stdout) == []
