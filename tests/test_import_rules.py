"""Every contract of .importlinter breaks on the import that it is there to refuse."""

from __future__ import annotations

import configparser
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CONTRACTS = configparser.ConfigParser()
CONTRACTS.read(ROOT / ".importlinter")
FAULTS = {  # contract: the module that gets an import, and what it imports
    "layers": ("chain.wire", "outbound.resolver"),
    "cli-rooms": ("cli.http.failures", "cli.render.wording"),
    "api-rooms": ("api.limits", "api.server"),
    "operations-rooms": ("operations.declaration.fields", "operations.shapes.findings"),
    "app-rooms": ("app.base", "app.process"),
    "engine-rooms": ("engine.node.roots", "engine.hosts.embedded"),
    "services-rooms": ("services.access.paging", "services.runs.runs"),
    "storage-rooms": ("storage.db.statement", "storage.runs.waits"),
    "core-rooms": ("core.values.fields", "core.text.hosts"),
    "no-circles": ("prices.source", "prices.pools"),
    "pure-core": ("core.run.retry", "random"),
    "actions-see-only-the-sdk": ("actions.data.sort", "outbound.guard"),
    "signers-behind-services": ("engine.spend.live", "wallets.keys"),
    "routes-call-services": ("operations.runs", "storage.db.statement"),
    "client-stands-alone": ("client.patience", "api.limits"),
    "fakes-only-in-tests": ("engine.spend.dust", "sdk.testing"),
}
CHOSEN = [section.removeprefix("importlinter:contract:") for section in CONTRACTS.sections() if ":" in section]


def _lint(folder: Path) -> str:
    command = [str(Path(sys.executable).parent / "lint-imports"), "--no-logo", str(ROOT / ".importlinter")]
    environment = {**os.environ, "COLUMNS": "400", "NO_COLOR": "1"}
    done = subprocess.run(
        [*command, "--no-cache"], cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What lint-imports says of a copy of the package in which every fault is made once."""
    folder = tmp_path_factory.mktemp("faulty")
    shutil.copytree(ROOT / "src/dustrun", folder / "dustrun", ignore=shutil.ignore_patterns("__pycache__"))
    for importer, imported in FAULTS.values():
        with (folder / "dustrun" / f"{importer.replace('.', '/')}.py").open("a") as file:
            file.write(f"\nimport {_full(imported)}\n")
    return _lint(folder)


def _full(name: str) -> str:
    return f"dustrun.{name}" if "." in name else name


def test_every_contract_has_a_fault() -> None:
    assert list(FAULTS) == CHOSEN


@pytest.mark.parametrize("contract", CHOSEN)
def test_contract_breaks_on_its_fault(contract: str, report: str) -> None:
    name = CONTRACTS[f"importlinter:contract:{contract}"]["name"]
    assert f"{name} BROKEN" in report
    importer, imported = FAULTS[contract]
    [broken] = re.findall(rf"^{re.escape(name)}\n-+\n(.*?)(?:^-----|\Z)", report, re.MULTILINE | re.DOTALL)
    wanted = f"dustrun.{importer} -> {_full(imported)} "
    if contract == "no-circles":
        wanted = f"No cycles are allowed in dustrun.{importer.split('.')[0]}."
    assert wanted in re.sub(" +", " ", broken)


@pytest.mark.parametrize("layer", ["cli", "engine", "services", "storage", "core"])
def test_the_order_that_architecture_shows_is_the_one_that_is_checked(layer: str) -> None:
    rows = re.findall(rf"^\| `{layer}` \| (.*) \|$", (ROOT / "ARCHITECTURE.md").read_text(), re.MULTILINE)
    checked = CONTRACTS[f"importlinter:contract:{layer}-rooms"]["layers"].strip().split("\n")
    assert [row.replace("\\|", "|").split(" > ") for row in rows] == [checked]
