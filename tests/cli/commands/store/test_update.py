"""`dustrun update check`: a list of releases against the version that runs and its store."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

import dustrun
from dustrun.cli.commands.store import releases
from dustrun.errors import Invalid
from dustrun.storage.db import migrate
from dustrun.storage.db.database import Database
from testkit import processes

_CURRENT = {"version": dustrun.__version__, "released": "2026-12-03", "schema": migrate.head(), "oldest": "0017"}
_NEXT = {"version": "0.2.0", "released": "2027-01-15", "schema": "9001", "oldest": "0017", "notes": ["Set X."]}
_FAR = {"version": "1.0.0", "released": "2027-06-01", "schema": "9100", "oldest": "9050", "security": True}


def _file(folder: Path, *listed: dict[str, Any]) -> Path:
    path = folder / "releases.json"
    path.write_text(json.dumps({"format": 1, "releases": listed, "from a later version": 1}))
    return path


def _check(folder: Path, file: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DUSTRUN_")}
    command = [*processes.DUSTRUN, "update", "check", str(file), "--data-dir", str(folder), *words]
    return processes.run(command, env=environment)


def _store(folder: Path, revision: str | None = None) -> None:
    database = Database(f"sqlite:///{folder / 'dustrun.db'}")
    migrate.upgrade(database, revision)
    database.close()


def test_versions_are_ordered_with_those_for_trial_before_their_release() -> None:
    ordered = ["0.1.0", "0.2.0a1", "0.2.0b1", "0.2.0rc2", "0.2.0rc10", "0.2.0", "0.10.0"]
    assert sorted(ordered, key=releases.order_of) == ordered
    with pytest.raises(Invalid, match=r"not a version like 1\.2\.3"):
        releases.order_of("0.2")


def test_releases_for_trial_are_for_those_who_run_one(tmp_path: Path) -> None:
    listed = releases.read(_file(tmp_path, {**_NEXT, "version": "0.2.0rc1"}))
    assert releases.compare(listed, "0.1.0", "0044", None).newest is None
    found = releases.compare(listed, "0.2.0a1", "0044", None).newest
    assert found is not None
    assert found.version == "0.2.0rc1"


def test_the_current_version_is_told_and_no_store_is_made(tmp_path: Path) -> None:
    done = _check(tmp_path, _file(tmp_path, _CURRENT))
    assert (done.returncode, done.stdout) == (
        0,
        f"Dustrun {dustrun.__version__} is current: releases.json has nothing newer.\n",
    )
    assert [path.name for path in tmp_path.iterdir()] == ["releases.json"]


def test_a_newer_version_its_migrations_the_way_back_and_what_to_read(tmp_path: Path) -> None:
    _store(tmp_path, "0016")
    file = _file(tmp_path, _NEXT, _CURRENT)
    done = _check(tmp_path, file)
    assert (done.returncode, done.stdout.splitlines()) == (
        7,
        [
            f"This is Dustrun {dustrun.__version__}. The newest is 0.2.0, of 2027-01-15.",
            "Its first start migrates the store from schema 0016 to 9001.",
            f"The way back: {dustrun.__version__} can run on the store that 0.2.0 leaves.",
            "Before the update: dustrun backup FILE, and read",
            "  0.2.0: the changelog:",
            "    Set X.",
        ],
    )
    told = json.loads(_check(tmp_path, _file(tmp_path, _FAR, _NEXT), "--json").stdout)
    assert [told[name] for name in ("isCurrent", "isSecurity", "migrates", "canGoBack")] == [False, True, True, False]
    assert told["read"] == [{"version": "0.2.0", "notes": ["Set X."]}, {"version": "1.0.0", "notes": []}]


def test_a_store_that_this_version_must_not_use_is_told(tmp_path: Path) -> None:
    _store(tmp_path)
    database = Database(f"sqlite:///{tmp_path / 'dustrun.db'}")
    with database.engine.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
        connection.execute(sa.text("UPDATE oldest_revision SET revision = '9998'"))
    database.close()
    done = _check(tmp_path, _file(tmp_path, _CURRENT))
    assert (done.returncode, 'The store has schema "9999", newer than' in done.stderr) == (1, True)


def test_a_wheel_beside_the_list_is_held_against_it(tmp_path: Path) -> None:
    wheel = tmp_path / "dustrun-0.2.0-py3-none-any.whl"
    wheel.write_bytes(b"the wheel")
    digest = hashlib.sha256(b"the wheel").hexdigest()
    file = _file(tmp_path, {**_NEXT, "files": {wheel.name: digest, "not-here.tar.gz": digest}})
    assert f"{wheel.name} is whole.\n" in _check(tmp_path, file).stdout
    wheel.write_bytes(b"another wheel")
    done = _check(tmp_path, file, "--json")
    assert (done.returncode, json.loads(done.stdout)["damagedFiles"]) == (1, [wheel.name])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "is not JSON"),
        ("[]", "the document: "),
        ('{"format": 2, "releases": []}', "format: "),
        (json.dumps({"format": 1, "releases": [{**_NEXT, "version": "2"}]}), "releases.0.version: "),
        (json.dumps({"format": 1, "releases": [{**_NEXT, "files": {"a": "b"}}]}), "releases.0.files.a: "),
    ],
)
def test_what_is_no_list_of_releases_is_refused_with_the_field(tmp_path: Path, content: str, said: str) -> None:
    file = tmp_path / "releases.json"
    file.write_text(content)
    with pytest.raises(Invalid, match=said):
        releases.read(file)


def test_a_list_that_its_checksums_contradict_is_refused(tmp_path: Path) -> None:
    file, sums = _file(tmp_path, _NEXT), tmp_path / "SHA256SUMS"
    sums.write_text(f"{hashlib.sha256(file.read_bytes()).hexdigest()}  releases.json\n")
    assert len(releases.read(file).releases) == 1
    file.write_text(file.read_text().replace("0.2.0", "0.3.0"))
    with pytest.raises(Invalid, match="damaged or changed"):
        releases.read(file)
    sums.write_text(f"{'0' * 64}  other.json\n")
    with pytest.raises(Invalid, match="does not list"):
        releases.read(file)


def test_a_list_that_is_not_there_is_told(tmp_path: Path) -> None:
    done = _check(tmp_path, tmp_path / "releases.json")
    assert (done.returncode, "cannot be read: No such file" in done.stderr) == (2, True)
