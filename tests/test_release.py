"""What a release is held against before it is built, and a whole rehearsal of one."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import find_pythons
import pytest
import release
import release_ways

from dustrun.cli.commands.store.releases import Releases
from served import ROOT

_READ = ("pyproject.toml", "CHANGELOG.md", "README.md", "LICENSE", "constraints.txt")
_READ_TOO = ("src/dustrun/__init__.py", "docs/reference/openapi.json")


def _copied(folder: Path) -> Path:
    for name in (*_READ, *_READ_TOO):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    return folder


def test_the_files_agree_on_the_version_the_changelog_and_the_metadata() -> None:
    assert release.faults(ROOT) == []


@pytest.mark.parametrize(
    ("name", "old", "new", "said"),
    [
        ("pyproject.toml", 'version = "0.1.0"', 'version = "0.1"', "is not like 1.2.3"),
        ("src/dustrun/__init__.py", '"0.1.0"', '"0.2.0"', "__version__ is not 0.1.0"),
        ("docs/reference/openapi.json", '"version": "0.1.0"', '"version": "0.0.9"', "describes 0.0.9"),
        ("CHANGELOG.md", "## [Unreleased]", "## [0.0.9] - 2026-01-01", "neither a section [0.1.0]"),
        ("pyproject.toml", 'license = "Apache-2.0"', "", "lacks license"),
        ("constraints.txt", "orjson==", "orjson-more==", "no version of orjson"),
    ],
)
def test_a_file_that_says_otherwise_is_found(tmp_path: Path, name: str, old: str, new: str, said: str) -> None:
    file = _copied(tmp_path) / name
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))
    assert any(said in fault for fault in release.faults(tmp_path))


def test_what_a_wheel_lacks_or_has_too_much_is_found(tmp_path: Path) -> None:
    wheel = tmp_path / "dustrun.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name in ("dustrun/web/index.html", "dustrun/py.typed", "tests/secret.py", "dustrun/owner.key"):
            archive.writestr(name, "")
        archive.writestr("dustrun-1.0.0.dist-info/METADATA", "Name: dustrun\nVersion: 0.9.0\n")
    assert release.content_faults(wheel, "1.0.0") == [
        "The wheel lacks dustrun/guides/install-and-run.md.",
        "The wheel has tests/secret.py.",
        "The wheel has dustrun/owner.key.",
        "METADATA does not say version 1.0.0.",
    ]


def test_the_list_of_releases_has_what_the_changelog_says_of_an_update() -> None:
    changelog = """# Changelog

## [0.3.0] - 2027-02-01

### Before you update

- Set `DUSTRUN_X` to
  `yes`.
- Back up.

### Security

- A fault.

## [0.2.0] - 2027-01-01

### Added

- More.
"""
    found = release.release_of(changelog, "0.3.0", "2027-02-01", "0051 0017\n", {"a.whl": "0" * 64})
    assert found == {
        **{"version": "0.3.0", "released": "2027-02-01", "schema": "0051", "oldest": "0017", "security": True},
        **{"notes": ["Set `DUSTRUN_X` to `yes`.", "Back up."], "files": {"a.whl": "0" * 64}},
    }
    older = release.release_of(changelog, "0.2.0", "2027-01-01", "0050 0017", {})
    assert (older["security"], older["notes"]) == (False, [])
    assert Releases.model_validate({**json.loads(release.RELEASES.read_text()), "releases": [found, older]})


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the programs are that a release is tried with."""
    folder = tmp_path_factory.mktemp("tools")
    subprocess.run([sys.executable, "-m", "venv", folder], check=True, timeout=120)
    install = (folder / "bin" / "pip", "install", "--quiet", "-r", release.TOOLS)
    subprocess.run(install, check=True, timeout=600)
    return folder / "bin"


@pytest.mark.long
def test_hadolint_accepts_the_dockerfile_and_finds_what_is_not_pinned(tools: Path, tmp_path: Path) -> None:
    assert release_ways.image_faults(tools) == []
    broken = tmp_path / "Dockerfile"
    broken.write_text(release_ways.DOCKERFILE.read_text().replace(":3.13.5-slim-bookworm", ""))
    found = release_ways.image_faults(tools, broken)
    assert [line.split()[1] for line in found] == ["DL3006", "DL3006"]


@pytest.mark.long
def test_a_package_without_a_wheel_for_arm_is_found(tools: Path, tmp_path: Path) -> None:
    python = find_pythons.Python((3, 11, 0), 1.0, "")
    assert int(release_ways.arm_wheels(tools, [python])) > 100
    project = tmp_path / "pyproject.toml"
    text = (ROOT / "pyproject.toml").read_text()
    project.write_text(text.replace('"aiohttp>=3.14",', '"aiohttp>=3.14", "docopt==0.6.2",', 1))
    with pytest.raises(release_ways.Failed, match="docopt"):
        release_ways.arm_wheels(tools, [python], project)


@pytest.mark.long
def test_a_release_is_rehearsed_whole(tmp_path: Path) -> None:
    """In a clone, because it builds the last commit."""
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", "--depth", "1", f"file://{ROOT}", clone], check=True, timeout=300)
    done = subprocess.run(
        [clone / "scripts" / "release", "--dry"], capture_output=True, text=True, check=False, timeout=3000
    )
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-4000:]
    kinds = {path.name.rpartition(".")[2] for path in (clone / "dist").iterdir()}
    assert kinds == {"whl", "gz", "json", "SHA256SUMS"}
    (version,) = json.loads((clone / ".tools" / "site" / "versions" / "versions.json").read_text())
    assert version["aliases"] == ["latest"]
