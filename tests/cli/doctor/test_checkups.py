from __future__ import annotations

import os
from pathlib import Path

import pytest

from cli.conftest import Peer, envelope, failure
from dustrun.cli.doctor import checkups


def test_the_data_folder_must_be_closed_to_others(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    assert checkups.data_folder(folder).state == "warning"
    folder.mkdir(mode=0o700)
    assert checkups.data_folder(folder).state == "ok"
    folder.chmod(0o755)
    assert checkups.data_folder(folder).state == "warning"
    folder.chmod(0o777)
    assert checkups.data_folder(folder).state == "bad"


def test_a_folder_that_this_user_may_not_enter_is_told_and_nothing_is_said_of_what_is_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a container with a user that it was not made for."""
    folder = tmp_path / "closed" / "data"
    folder.mkdir(parents=True)
    monkeypatch.setenv("DUSTRUN_DATA_DIR", str(folder))
    monkeypatch.chdir("/")
    folder.parent.chmod(0)
    is_root = os.geteuid() == 0
    if is_root:
        os.seteuid(65534)
    try:
        found = checkups.data_folder(folder)
        names = [finding.name for finding in checkups.local()]
    finally:
        if is_root:
            os.seteuid(0)
        folder.parent.chmod(0o700)
    assert (found.state, "may not enter" in found.says, "chown" in str(found.mend)) == ("bad", True, True)
    assert names[-1] == "data folder"


def test_the_owner_key_must_be_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DUSTRUN_DATA_DIR", str(tmp_path))
    assert checkups.owner_key() == []
    key = tmp_path / "owner.key"
    key.write_text("sk_x")
    key.chmod(0o644)
    assert [finding.state for finding in checkups.owner_key()] == ["bad"]
    key.chmod(0o600)
    assert [finding.state for finding in checkups.owner_key()] == ["ok"]


def test_the_disk_is_measured(tmp_path: Path) -> None:
    assert "ms" in checkups.sync_time(tmp_path).says
    assert "GiB" in checkups.disk_space(tmp_path).says


def test_wide_exceptions_of_the_outbound_guard_are_found() -> None:
    assert [finding.state for finding in checkups.outbound(())] == ["ok"]
    assert [finding.state for finding in checkups.outbound(("127.0.0.1:8099", "10.1.2.0/24"))] == ["ok"]
    assert [finding.state for finding in checkups.outbound(("10.0.0.0/8",))] == ["warning"]
    assert [finding.state for finding in checkups.outbound(("169.254.0.0/16",))] == ["bad"]
    assert [finding.state for finding in checkups.outbound(("0.0.0.0/0",))] == ["bad"]


def test_settings_that_are_wrong_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DUSTRUN_PORT", "many")
    found = {finding.name: finding for finding in checkups.local()}
    assert found["settings"].state == "bad"
    assert "DUSTRUN_PORT" in found["settings"].says


def test_the_server_is_asked_whether_it_is_well(peer: Peer) -> None:
    peer.answer = lambda _: envelope({})
    assert [(f.name, f.state) for f in checkups.remote(peer.url, "sk_x")] == [
        ("server", "ok"),
        ("ready", "ok"),
        ("key", "ok"),
        ("clock", "ok"),
    ]
    peer.answer = lambda _: failure(401001, "The API key is missing or invalid.")
    assert checkups.key_works(peer.client()).state == "bad"
    assert [f.state for f in checkups.remote("http://127.0.0.1:1", "sk_x")] == ["bad"]
