"""Rehearses a release: `scripts/release --dry` checks, builds twice, installs, starts, and prints what is left to do.
`scripts/release --sign KEY` then signs the checksums of what was built.

What it builds is in `dist/`: wheel, source distribution, bill of materials, list of releases and checksums. It builds
from the last commit in an empty folder, so that nothing gets in that only this folder has. Nothing is uploaded.
"""

from __future__ import annotations

import argparse
import datetime
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import zipfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import build_web
import find_pythons
from release_ways import Failed, arm_wheels, image_faults, kept_site, run, try_it, with_pipx, with_uvx

ROOT = Path(__file__).resolve().parent.parent
DIST = ROOT / "dist"
TOOLS = ROOT / "scripts" / "requirements" / "release.txt"
RELEASES = ROOT / "deploy" / "releases.json"
"""What was released before; `dustrun update check` reads it."""
SITES = ROOT / ".tools" / "site" / "versions"
_SCHEMA = "from dustrun.storage.db import migrate; print(migrate.head(), migrate.oldest())"
_VERSION = re.compile(r"\d+\.\d+\.\d+((a|b|rc)\d+)?")
BY_HAND = (
    "Rename `[Unreleased]` in CHANGELOG.md to the version and the day.",
    "Read the changelog and the guides once as somebody who updates.",
    "scripts/test --all and scripts/soak all on the commit that is tagged.",
    "Build the image and start it with deploy/compose.yaml.",
    "Sign the checksums with scripts/release --sign KEY, and the tag, then upload.",
    "Publish the public key where people trust it, and not only beside the files.",
    "Publish the folder of sites: it has the documentation of every version that was kept there.",
    "Copy dist/releases.json to deploy/ and commit it: the next release adds to it.",
)


def faults(root: Path) -> list[str]:
    """What the files of the project contradict each other in, or lack, before anything is built."""
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    return [*_version_faults(root, project), *_metadata_faults(root, project)]


def _version_faults(root: Path, project: dict[str, Any]) -> Iterator[str]:
    version = project["version"]
    if not _VERSION.fullmatch(version):
        yield f"pyproject.toml: the version {version} is not like 1.2.3 or 1.2.3rc1."
    in_code = re.search(r'^__version__ = "(.*)"$', (root / "src" / "dustrun" / "__init__.py").read_text(), re.MULTILINE)
    if in_code is None or in_code[1] != version:
        yield f"src/dustrun/__init__.py: __version__ is not {version}, as pyproject.toml says."
    described = json.loads((root / "docs" / "reference" / "openapi.json").read_text())["info"]["version"]
    if described != version:
        yield f"docs/reference/openapi.json: describes {described}, not {version}."
    changelog = (root / "CHANGELOG.md").read_text()
    sections = re.findall(r"^## \[(.+?)\]", changelog, re.MULTILINE)
    minor = version.rpartition(".")[0]
    if version not in sections and not (sections[:1] == ["Unreleased"] and f"version {minor}" in changelog):
        yield f"CHANGELOG.md: has neither a section [{version}] nor, first, [Unreleased] that names version {minor}."


def _metadata_faults(root: Path, project: dict[str, Any]) -> Iterator[str]:
    for name in ("description", "readme", "license", "requires-python"):
        if not project.get(name):
            yield f"pyproject.toml: [project] lacks {name}."
    for name in (project.get("readme", "README.md"), "LICENSE"):
        if not (root / name).is_file():
            yield f"{name} is missing."
    pinned = {_plain(line.partition("==")[0]) for line in (root / "constraints.txt").read_text().splitlines()}
    for wanted in project["dependencies"]:
        if _plain(re.split(r"[\[<>=;]", wanted, maxsplit=1)[0]) not in pinned:
            yield f"constraints.txt: has no version of {wanted}."


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).strip().lower()


def _environment(folder: Path, python: str | Path, *requirements: str | Path) -> Path:
    """An empty environment with these packages; gives its Python."""
    run(python, "-m", "venv", folder)
    made = folder / "bin" / "python"
    run(made, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *requirements)
    return made


def _export(folder: Path, app: Path) -> Path:
    """The files of the last commit, and the built web app."""
    folder.mkdir()
    archive = folder.parent / "tree.tar"
    run("git", "archive", "--output", archive, "HEAD")
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    shutil.copytree(app, folder / "src" / "dustrun" / "web")
    return folder


def _files(folder: Path) -> dict[str, str]:
    """What is in a folder: SHA-256 by path."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def _same(what: str, one: dict[str, str], other: dict[str, str]) -> None:
    differing = sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))
    if differing or not one:
        raise Failed(f"Two builds of {what} differ in {', '.join(differing[:5]) or 'everything: there is nothing'}.")


def _build_app(folder: Path) -> Path:
    """The web app, built twice."""
    build_web.build()
    if not (ROOT / "web").is_dir():
        raise Failed("The sources of the web app are missing.")
    again = folder / "app"
    run("bash", "-c", build_web.COMMAND, ROOT / "scripts" / "node-setup", again)
    shutil.copy(build_web.BUILT / build_web.STAMP, again)
    _same("the web app", _files(build_web.BUILT), _files(again))
    return again


def _build(tools: Path, folder: Path, app: Path, epoch: str) -> Path:
    """Wheel and source distribution, twice, and the wheel once more from the source distribution."""
    built = list[Path]()
    for name in ("first", "second"):
        tree = _export(folder / name, app)
        built.append(folder / f"{name}-dist")
        # other times and another right to read: neither may be in what is built
        os.utime(tree / "README.md", (1_000_000_000 + len(built), 1_000_000_000 + len(built)))
        (tree / "pyproject.toml").chmod(0o600 if name == "second" else 0o644)
        run(tools, "-m", "hatchling", "build", "-d", built[-1], cwd=tree, SOURCE_DATE_EPOCH=epoch)
    _same("wheel and source distribution", *map(_files, built))
    (source,) = built[0].glob("*.tar.gz")
    with tarfile.open(source) as tar:
        tar.extractall(folder / "unpacked", filter="data")
    (unpacked,) = (folder / "unpacked").iterdir()
    again = folder / "again"
    run(tools, "-m", "hatchling", "build", "-t", "wheel", "-d", again, cwd=unpacked, SOURCE_DATE_EPOCH=epoch)
    of_tree = {name: digest for name, digest in _files(built[0]).items() if name.endswith(".whl")}
    _same("the wheel, from the source distribution too,", of_tree, _files(again))
    return built[0]


def content_faults(wheel: Path, version: str) -> list[str]:
    """What a wheel lacks, or has and should not."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        metadata = archive.read(f"dustrun-{version}.dist-info/METADATA").decode()
    found = [
        f"The wheel lacks {name}."
        for name in ("dustrun/web/index.html", "dustrun/guides/install-and-run.md", "dustrun/py.typed")
        if name not in names
    ]
    found += [
        f"The wheel has {name}." for name in names if not name.startswith(("dustrun/", f"dustrun-{version}.dist-info/"))
    ]
    found += [f"The wheel has {name}." for name in names if re.search(r"__pycache__|\.pyc$|\.key$|\.db$", name)]
    return found + ([] if f"\nVersion: {version}\n" in metadata else [f"METADATA does not say version {version}."])


def _bill(tools: Path, installed: Path, wheel: Path, epoch: str) -> int:
    """Writes what the wheel brings with it, as CycloneDX; gives the number of components."""
    file = wheel.with_suffix(".cdx.json")
    cyclonedx: list[str | Path] = [
        tools,
        "-m",
        "cyclonedx_py",
        "environment",
        "--output-reproducible",
        "--of",
        "JSON",
        "-o",
        file,
    ]
    run(*cyclonedx, "--pyproject", ROOT / "pyproject.toml", installed, SOURCE_DATE_EPOCH=epoch)
    components = {_plain(one["name"]) for one in json.loads(file.read_text())["components"]}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = {_plain(re.split(r"[\[<>=;]", one, maxsplit=1)[0]) for one in project["dependencies"]}
    if missing := sorted(wanted - components):
        raise Failed(f"The bill of materials lacks {', '.join(missing)}.")
    return len(components)


def release_of(changelog: str, version: str, released: str, schema: str, files: dict[str, str]) -> dict[str, Any]:
    """What the list of releases says of this one. `schema`: the newest migration, and the oldest that it needs."""
    sections = re.split(r"^## \[", changelog, flags=re.MULTILINE)[1:]
    section = next((one for one in sections if one.startswith(f"{version}]")), sections[0] if sections else "")
    parts = dict(re.findall(r"^### (.+?)\n(.*?)(?=^### |\Z)", section, re.MULTILINE | re.DOTALL))
    notes = re.findall(r"^- (.*(?:\n  .*)*)", parts.get("Before you update", ""), re.MULTILINE)
    head, oldest = schema.split()
    return {
        **{"version": version, "released": released, "schema": head, "oldest": oldest},
        **{"security": "Security" in parts, "notes": [" ".join(note.split()) for note in notes], "files": files},
    }


class Rehearsal:
    """The steps, each told as it ends."""

    def __init__(self, pythons: Sequence[find_pythons.Python], folder: Path, sites: Path) -> None:
        self._pythons, self._folder, self._sites = pythons, folder, sites
        self._version: str = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]

    def _step(self, name: str, do: Callable[[], Any]) -> Any:
        print(f"… {name}", end="", flush=True)
        try:
            found = do()
        except Exception:
            print(f"\r[ ] {name}")
            raise
        print(f"\r[x] {name}{'' if found is None or isinstance(found, Path) else f': {found}'}")
        return found

    def run(self) -> None:
        """Raises `Failed` at the first fault."""
        epoch = run("git", "log", "-1", "--format=%ct").strip()
        self._step("the files agree on the version, the changelog and the metadata", self._check)
        tools = _environment(self._folder / "tools", sys.executable, "-r", TOOLS)
        self._step("hadolint has nothing to say of the Dockerfile", lambda: _raise(image_faults(tools.parent)))
        self._step("packages for ARM, all but quickjs with wheels", lambda: arm_wheels(tools.parent, self._pythons))
        app = self._step("two builds of the web app have the same bytes", lambda: _build_app(self._folder))
        built: Path = self._step(
            "two builds of wheel and source distribution have the same bytes, and the wheel from the latter too",
            lambda: _build(tools, self._folder, app, epoch),
        )
        (wheel,) = built.glob("*.whl")
        self._step(
            "the wheel has what it should, and nothing else", lambda: _raise(content_faults(wheel, self._version))
        )
        environments = [
            self._step(f"installed, started and used on Python {one.minor}", partial(self._use, one, wheel))
            for one in sorted(self._pythons)
        ]
        for name, way in (("uvx", with_uvx), ("pipx", with_pipx)):
            self._step(
                f"started and used with {name}",
                partial(way, tools.parent, self._folder / name, wheel, self._version, min(self._pythons).path),
            )
        self._step("bill of materials, components", lambda: _bill(tools, environments[0], wheel, epoch))
        self._step(
            "an older version is told of this one by `dustrun update check`",
            lambda: self._list(built, environments[0], epoch),
        )
        self._step("sites, one for each version", lambda: kept_site(self._folder / "site", self._sites, self._version))
        self._step("checksums", lambda: self._publish(built))

    def _check(self) -> None:
        _raise(faults(ROOT))
        if changed := run("git", "status", "--porcelain").strip():
            raise Failed(f"What is built is the last commit, and these files differ from it:\n{changed}")

    def _use(self, python: find_pythons.Python, wheel: Path) -> Path:
        folder = self._folder / python.minor
        folder.mkdir()
        installed = _environment(folder / "venv", python.path, "-c", ROOT / "constraints.txt", wheel)
        try_it((installed, "-m", "dustrun"), folder, self._version)
        return installed

    def _list(self, built: Path, installed: Path, epoch: str) -> None:
        released = datetime.datetime.fromtimestamp(int(epoch), datetime.UTC).date().isoformat()
        changelog = (ROOT / "CHANGELOG.md").read_text()
        schema = run(installed, "-c", _SCHEMA, cwd=self._folder)
        listed = json.loads(RELEASES.read_text())
        this = release_of(changelog, self._version, released, schema, _files(built))
        listed["releases"] = [one for one in listed["releases"] if one["version"] != self._version] + [this]
        file = built / RELEASES.name
        file.write_text(json.dumps(listed, indent=2, ensure_ascii=False) + "\n")
        later = self._folder / "later.json"
        later.write_text(json.dumps({**listed, "releases": [*listed["releases"], {**this, "version": "999.0.0"}]}))
        asked: list[str | Path] = [installed, "-m", "dustrun", "update", "check"]
        if "is current" not in run(*asked, file, cwd=self._folder):
            raise Failed("`dustrun update check` does not find this version current.")
        told = subprocess.run([*asked, later], cwd=self._folder, capture_output=True, text=True, check=False)
        if (told.returncode, "999.0.0" in told.stdout) != (7, True):
            raise Failed(f"`dustrun update check` does not tell of a newer version: {told.stdout + told.stderr}")

    def _publish(self, built: Path) -> str:
        sums = "".join(f"{digest}  {name}\n" for name, digest in _files(built).items())
        shutil.rmtree(DIST, ignore_errors=True)
        shutil.copytree(built, DIST)
        (DIST / "SHA256SUMS").write_text(sums)
        return f"{DIST.relative_to(ROOT)} has {len(sums.splitlines())} files and their SHA256SUMS"


def sign(folder: Path, key: Path) -> str:
    """Signs the checksums in a folder after a look at every file that they name; the fingerprint, from a check of the
    signature. `key`: a private key of OpenSSH, or the public one of a key that an agent has."""
    from dustrun.cli.commands.store import releases, signature

    sums = folder / releases.SUMS
    for line in sums.read_text().splitlines():
        digest, _, name = line.partition("  ")
        if hashlib.sha256((folder / name).read_bytes()).hexdigest() != digest:
            raise Failed(f"{name} is not as {sums.name} says: rehearse the release again.")
    (folder / releases.SIGNATURE).unlink(missing_ok=True)
    run("ssh-keygen", "-Y", "sign", "-n", signature.NAMESPACE, "-f", key, sums)
    public = key if key.suffix == ".pub" else key.with_name(f"{key.name}.pub")
    return releases.signer_of(folder / RELEASES.name, public.read_text())


def _raise(found: list[str]) -> None:
    if found:
        raise Failed("\n".join(found))


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="scripts/release", description="Rehearse a release, or sign it.")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--dry", action="store_true", help="check, build and try it in dist/; nothing is uploaded")
    what.add_argument(
        "--sign", metavar="KEY", type=Path, help="sign the checksums in dist/ with this OpenSSH key (Ed25519)"
    )
    parser.add_argument(
        "--sites",
        metavar="FOLDER",
        type=Path,
        default=SITES,
        help=f"where the sites of all versions are kept; default {SITES.relative_to(ROOT)}",
    )
    asked = parser.parse_args()
    if asked.sign is not None:
        print(f"[x] {DIST.name}/SHA256SUMS.sig, by {sign(DIST, asked.sign)}")
        return 0
    pythons = find_pythons.fastest(find_pythons.measured(find_pythons.candidates()))
    with tempfile.TemporaryDirectory(prefix="dustrun-release-") as folder:
        try:
            Rehearsal(pythons, Path(folder), asked.sites.resolve()).run()
        except Failed as error:
            print(error, file=sys.stderr)
            return 1
    left = sorted(find_pythons.tried_versions() - {python.minor for python in pythons})
    if left:
        print(f"[ ] Python {', '.join(left)}: not on this machine")
    for one in BY_HAND:
        print(f"[ ] {one}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
