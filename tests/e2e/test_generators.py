"""The OpenAPI document in the hands of integrators: linters find nothing, and a generated client compiles and works.

What generators need is checked on every change in `tests/api/test_openapi.py`; these tests take half a minute.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import requests

from testkit.e2e.guide import ROOT
from testkit.e2e.node import npm_install
from testkit.e2e.server import Server

FOLDER = ROOT / "testkit" / "generators"
_QUIET = {"REDOCLY_TELEMETRY": "off", "REDOCLY_SUPPRESS_UPDATE_NOTICE": "true"}


class Tools:
    """The npm programs, run in a folder that holds the document of a running server."""

    def __init__(self, folder: Path, server: Server) -> None:
        self.folder = folder
        self._environment = {**npm_install(FOLDER), **_QUIET, **server.environment}
        (folder / "node_modules").symlink_to(FOLDER / "node_modules")
        for name in ("package.json", "spectral.yaml", "client.ts"):
            shutil.copy(FOLDER / name, folder)
        (folder / "openapi.json").write_bytes(requests.get(f"{server.url}/openapi.json", timeout=30).content)

    def run(self, *command: str) -> str:
        """What a program prints; it must succeed."""
        done = subprocess.run(
            command, cwd=self.folder, env=self._environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
        return done.stdout

    def package(self, name: str, *arguments: str) -> str:
        """What a program of an npm package prints."""
        return self.run("node", f"node_modules/.bin/{name}", *arguments)


@pytest.fixture
def tools(tmp_path: Path, server: Server) -> Tools:
    return Tools(tmp_path, server)


@pytest.mark.long
def test_the_recommended_rules_of_redocly_and_spectral_find_nothing(tools: Tools) -> None:
    judged: Any = json.loads(tools.package("redocly", "lint", "--extends=recommended", "--format=json", "openapi.json"))
    assert (judged["totals"], judged["problems"]) == ({"errors": 0, "warnings": 0, "ignored": 0}, [])
    tools.package(
        "spectral",
        "lint",
        "--ruleset=spectral.yaml",
        "--fail-severity=hint",
        "--format=json",
        "--output=found.json",
        "openapi.json",
    )
    assert json.loads((tools.folder / "found.json").read_text()) == []


@pytest.mark.long
def test_a_client_of_openapi_typescript_compiles_strictly_and_works(tools: Tools) -> None:
    tools.package("openapi-typescript", "openapi.json", "--output=api.ts", "--default-non-nullable=false")
    tools.package("tsc", "--strict", "--target", "es2022", "--module", "nodenext", "client.ts", "api.ts")
    assert json.loads(tools.run("node", "client.js")) == {
        "name": "From TypeScript",
        "runs": [[True, "success"]],
        "last": True,
        "code": 404001,
    }
