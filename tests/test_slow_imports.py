"""What a server imports when it starts: nothing that only some requests, settings or upgrades need."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

SLOW = (
    "aiohttp",
    "alembic",
    "anthropic",
    "apprise",
    "eth_account",
    "jsonschema",
    "mcp",
    "openai",
    "psycopg",
    "pydantic_ai",
    "rich",
    "sqlalchemy.dialects.postgresql",
    "yaml",
)
_FIRST_START = f"""
import asyncio, json, sys
from pathlib import Path
import dustrun.app
from dustrun.app.composition import compose
from dustrun.settings import Settings

async def start(folder):
    async with compose(Settings(data_dir=folder, master_key_file=folder / "master.key")):
        print(json.dumps([name for name in {SLOW} if name in sys.modules]))

asyncio.run(start(Path(sys.argv[1])))
"""


def test_first_start_imports_no_slow_module(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _FIRST_START, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert json.loads(done.stdout) == []
