"""The package that is written is whole: its own tests pass, and an installed Dustrun finds its types."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from dustrun import catalog
from dustrun.cli.commands.new_package import new_package, write
from dustrun.cli.http.failures import CliError

SOURCE = Path(catalog.__file__).parents[1]


def install(root: Path) -> None:
    """As an installer leaves it: its entry points beside its modules."""
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    info = root / "src" / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    groups = project["entry-points"]
    assert set(groups) == set(catalog.GROUPS)
    lines = [
        line for group, found in groups.items() for line in (f"[{group}]", *(f"{k} = {v}" for k, v in found.items()))
    ]
    (info / "entry_points.txt").write_text("\n".join(lines))


def test_the_tests_of_a_new_package_pass_where_it_is_installed(tmp_path: Path) -> None:
    root = tmp_path / "acme-shop"
    written = write(root, "acme-shop")
    assert Path("src/acme_shop/actions/acme_shop_get_order.py") in written
    install(root)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    path = os.pathsep.join([str(root / "src"), str(SOURCE)])
    environment = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout.splitlines()[-1].split(" in ")[0]) == (0, "4 passed"), done.stdout


def test_what_is_written_is_formatted(tmp_path: Path) -> None:
    write(tmp_path / "acme-shop", "acme-shop")
    ruff = str(Path(sys.executable).parent / "ruff")
    for how in (["format", "--check"], ["check", "--select", "E,F,I"]):
        command = [ruff, *how, "--isolated", "--no-cache", "--line-length", "120", "src", "tests"]
        done = subprocess.run(command, cwd=tmp_path / "acme-shop", capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("name", ["Acme", "acme_shop", "1st", "import", "../x", "dustrun"])
def test_names_are_kebab_case(tmp_path: Path, name: str) -> None:
    with pytest.raises(CliError, match="kebab case"):
        new_package(name, tmp_path, test=False)


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    write(tmp_path / "acme-shop", "acme-shop")
    with pytest.raises(CliError, match="already exists"):
        new_package("acme-shop", tmp_path, test=False)
