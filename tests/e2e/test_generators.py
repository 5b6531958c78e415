"""The OpenAPI document in the hands of integrators: linters find nothing, and a generated client compiles and works.

What generators need is checked on every change in `tests/api/test_openapi.py`; these tests take a minute.
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
from testkit.e2e.packages import pip_install
from testkit.e2e.server import Server

FOLDER = ROOT / "testkit" / "generators"
_QUIET = {"REDOCLY_TELEMETRY": "off", "REDOCLY_SUPPRESS_UPDATE_NOTICE": "true"}


class Tools:
    """Programs that run in a folder with the document of a running server."""

    def __init__(self, folder: Path, server: Server, environment: dict[str, str]) -> None:
        self.folder = folder
        self._environment = {**environment, **server.environment}
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
        return self.run("node", f"node_modules/{name}", *arguments)


@pytest.fixture
def tools(tmp_path: Path, server: Server) -> Tools:
    """The npm programs."""
    tools = Tools(tmp_path, server, {**npm_install(FOLDER), **_QUIET})
    (tmp_path / "node_modules").symlink_to(FOLDER / "node_modules")
    for name in ("package.json", "spectral.yaml", "client.ts"):
        shutil.copy(FOLDER / name, tmp_path)
    return tools


@pytest.fixture
def python_tools(tmp_path: Path, server: Server) -> Tools:
    """The Python programs."""
    shutil.copytree(FOLDER / "python", tmp_path, dirs_exist_ok=True)
    return Tools(tmp_path, server, pip_install(FOLDER / "python" / "requirements.txt", "generators"))


@pytest.mark.long
def test_the_recommended_rules_of_redocly_and_spectral_find_nothing(tools: Tools) -> None:
    lint = ("lint", "--extends=recommended", "--format=json", "openapi.json")
    judged: Any = json.loads(tools.package(".bin/redocly", *lint))
    assert (judged["totals"], judged["problems"]) == ({"errors": 0, "warnings": 0, "ignored": 0}, [])
    tools.package(
        ".bin/spectral",
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
    tools.package(".bin/openapi-typescript", "openapi.json", "--output=api.ts", "--default-non-nullable=false")
    for compiler in ("typescript", "typescript-6", "typescript-7"):
        options = ("--strict", "--target", "es2022", "--module", "nodenext", "--types", "node", "--outDir", compiler)
        tools.package(f"{compiler}/bin/tsc", *options, "client.ts", "api.ts")
        assert json.loads(tools.run("node", f"{compiler}/client.js")) == _called("From TypeScript")


def _called(name: str) -> Any:
    """What each client prints of its calls."""
    return {"name": name, "runs": [[True, "success"]], "last": True, "code": 404001}


@pytest.mark.long
def test_a_client_of_openapi_python_client_checks_strictly_and_works(python_tools: Tools) -> None:
    generate = ("generate", "--path=openapi.json", "--config=client.yaml", "--meta=none", "--fail-on-warning")
    python_tools.run("openapi-python-client", *generate, "--output-path=dustrun_client")
    python_tools.run("mypy", "--strict", "dustrun_client", "call_client.py", "check_client.py")
    assert json.loads(python_tools.run("python", "check_client.py")) == {"lost": [], "misjudged": []}
    assert json.loads(python_tools.run("python", "call_client.py")) == _called("From Python")


@pytest.mark.long
def test_models_of_datamodel_code_generator_check_strictly_and_work(python_tools: Tools) -> None:
    python_tools.run(
        "datamodel-codegen",
        "--input=openapi.json",
        "--input-file-type=openapi",
        "--output=dustrun_models.py",
        "--output-model-type=pydantic_v2.BaseModel",
        "--preset=standard-py311-20261027",
        "--deserialize-default-values=enum",
        "--collapse-root-models",
        "--formatters=builtin",
    )
    python_tools.run("mypy", "--strict", "dustrun_models.py", "call_models.py", "check_models.py")
    assert json.loads(python_tools.run("python", "check_models.py")) == {"lost": [], "misjudged": []}
    assert json.loads(python_tools.run("python", "call_models.py")) == _called("From Python")
