"""`dustrun update check`: a list of releases against the version that runs and its store."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import release
import sqlalchemy as sa
from release_ways import Failed

import dustrun
from dustrun.cli.commands.store import releases, signature
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


_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIF36aE9TUvh7qvWhsuUYEN7jDEWzh343j3mp2uVl7c/7 releases@example"
_OTHER_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
_SUMS = b"abc  releases.json\n"
_SIGNATURE = """-----BEGIN SSH SIGNATURE-----
U1NIU0lHAAAAAQAAADMAAAALc3NoLWVkMjU1MTkAAAAgXfpoT1NS+Huq9aGy5RgQ3uMMRb
OHfjePeana5WXtz/sAAAAPZHVzdHJ1bi1yZWxlYXNlAAAAAAAAAAZzaGE1MTIAAABTAAAA
C3NzaC1lZDI1NTE5AAAAQLLTyrSNrJM0No2yYAj5YiJ7Kbh2RIBYcqOlDrnQ/3kvpEwPv0
5b8Vopo5i1MNPVAzjSr/m0ctPma4v2fy0V9Qk=
-----END SSH SIGNATURE-----
"""
"""Made by `ssh-keygen -Y sign -n dustrun-release`."""
_SIGNER = "SHA256:8UAzV3e8Z8ZCXLuYTVeOVqMvFuDMRdFJoa6gyEPdIos"


def test_a_signature_of_ssh_keygen_is_verified() -> None:
    keys = signature.read_keys(f"# ours\n{_OTHER_KEY}\nreleases@example {_KEY}\n")
    assert signature.signer(_SUMS, _SIGNATURE, keys) == _SIGNER


def _changed(place: int) -> str:
    lines = _SIGNATURE.splitlines()
    blob = bytearray(base64.b64decode("".join(lines[1:-1])))
    blob[place] ^= 1
    return "\n".join([lines[0], base64.b64encode(blob).decode(), lines[-1]])


@pytest.mark.parametrize("place", range(172))
def test_a_signature_with_any_bit_changed_is_refused(place: int) -> None:
    with pytest.raises(Invalid):
        signature.signer(_SUMS, _changed(place), signature.read_keys(_KEY))


@pytest.mark.parametrize(
    ("content", "text", "key", "said"),
    [
        (_SUMS + b"def  more\n", _SIGNATURE, _KEY, "of another content"),
        (_SUMS, _SIGNATURE, _OTHER_KEY, f"by another key, {_SIGNER}"),
        (_SUMS, _SIGNATURE.replace("-----END", "----END"), _KEY, "not one of ssh-keygen"),
        (_SUMS, _SIGNATURE.replace("U1NI", "U1NJ"), _KEY, "cut off or changed"),
        (_SUMS, _SIGNATURE, "ssh-rsa AAAAB3NzaC1yc2E=", "no key of the kind ssh-ed25519"),
        (_SUMS, _SIGNATURE, "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5", "cut off or changed"),
        (_SUMS, _SIGNATURE, "ssh-ed25519 AAA", "not Base64"),
    ],
)
def test_what_does_not_prove_a_signature_is_refused(content: bytes, text: str, key: str, said: str) -> None:
    with pytest.raises(Invalid, match=said):
        signature.signer(content, text, signature.read_keys(key))


def test_a_list_whose_sums_nobody_or_another_has_signed_is_refused_when_a_key_is_named(tmp_path: Path) -> None:
    file, sums, key = _file(tmp_path, _CURRENT), tmp_path / "SHA256SUMS", tmp_path / "publisher.pub"
    key.write_text(_KEY)
    sums.write_text(f"{hashlib.sha256(file.read_bytes()).hexdigest()}  releases.json\n")
    done = _check(tmp_path, file, "--key", str(key))
    assert (done.returncode, "SHA256SUMS.sig is missing" in done.stderr) == (2, True)
    (tmp_path / "SHA256SUMS.sig").write_text(_SIGNATURE)
    done = _check(tmp_path, file, "--key", str(key))
    assert (done.returncode, "of another content" in done.stderr) == (2, True)
    assert "was not checked: name the publisher's key" in _check(tmp_path, file).stdout
    done = _check(tmp_path, file, "--key", str(tmp_path / "none.pub"))
    assert (done.returncode, "none.pub cannot be read" in done.stderr) == (2, True)


@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="this machine has no ssh-keygen")
def test_a_release_that_was_signed_is_told_with_the_key(tmp_path: Path) -> None:
    made = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", made], check=True, timeout=60)
    file = _file(tmp_path, _CURRENT)
    sums, listed = tmp_path / "SHA256SUMS", f"{hashlib.sha256(file.read_bytes()).hexdigest()}  releases.json\n"
    sums.write_text(listed.replace(listed[0], "x"))
    with pytest.raises(Failed, match="is not as SHA256SUMS says"):
        release.sign(tmp_path, made)
    sums.write_text(listed)
    assert release.sign(tmp_path, made).startswith("SHA256:")
    done = _check(tmp_path, file, "--key", made.with_suffix(".pub").read_text(), "--json")
    assert (done.returncode, json.loads(done.stdout)["signedBy"]) == (0, release.sign(tmp_path, made))
