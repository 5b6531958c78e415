"""A server's data folder: closed to others whatever its mode, and known to commands that are run beside it."""

from __future__ import annotations

import json
import os
from pathlib import Path

from served import Served, served
from testkit import processes


def _modes(folder: Path) -> dict[str, int]:
    return {file.name: file.stat().st_mode & 0o777 for file in folder.iterdir() if file.name != "server.log"}


def _doctor(folder: Path, *words: str) -> dict[str, tuple[str, str]]:
    """What `dustrun doctor` finds in a folder, without any variable."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("DUSTRUN_")}
    command = [*processes.DUSTRUN, "doctor", "--json", *words]
    done = processes.run(command, cwd=folder, env=clean)
    return {finding["name"]: (finding["state"], finding["says"]) for finding in json.loads(done.stdout)}


def _open_to_all(folder: Path) -> None:
    folder.chmod(0o755)
    for file in folder.iterdir():
        file.chmod(0o644)


def test_data_files_are_closed_and_doctor_asks_the_server_of_the_folder(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    data.chmod(0o755)
    before = os.umask(0o022)
    try:
        with served(data) as server:
            _check_running(server, tmp_path)
        assert not (data / "server.json").exists()
        _open_to_all(data)
        state, says = _doctor(tmp_path, "--offline")["data files"]
        assert (state, "dustrun.db" in says) == ("warning", True)
        with served(data):
            found = _modes(data)
            assert (found["dustrun.db"], found["dustrun.db-wal"], found["dustrun.db-shm"]) == (0o600,) * 3
    finally:
        os.umask(before)


def _check_running(server: Served, folder: Path) -> None:
    found = _modes(server.data_dir)
    assert {"dustrun.db", "dustrun.db-wal", "dustrun.db-shm", "dustrun.lock", "owner.key", "server.json"} <= set(found)
    assert set(found.values()) == {0o600}, found
    found_here = _doctor(folder)
    assert found_here["server"] == ("ok", f"{server.url} answers")
    assert found_here["key"] == ("ok", "the server accepts it")
    assert found_here["data files"] == ("ok", "only their owner can read them")
    assert found_here["lock"][0] == "ok"
    assert _doctor(folder, "--server", "http://127.0.0.1:9")["server"][0] == "bad"
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    names = ("data files", "owner key", "server", "key", "lock")
    assert set(names) - set(_doctor(elsewhere, "--offline"))
    asked = _doctor(elsewhere, "--data-dir", str(server.data_dir))
    assert {name: asked[name][0] for name in names} == dict.fromkeys(names, "ok")
