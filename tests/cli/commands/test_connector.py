"""`dustrun connector` and `dustrun vault` against a real server; no secret is ever an argument or an output."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from served import ROOT, Served, served
from testkit import processes

SECRET = "canary-cli-token"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("connectors") / "data") as server:
        yield server


def piped(server: Served, text: str, *words: str) -> subprocess.CompletedProcess[str]:
    """A command with something on its standard input."""
    command = [*processes.DUSTRUN, *words]
    environment = server.environment
    return processes.run(command, env=environment, cwd=ROOT, input=text)


def test_life_of_a_connector(server: Served, tmp_path: Path) -> None:
    data = json.dumps({"token": SECRET})
    words = ["connector", "create", "http-bearer", "Orders", "--host", "a.example.com", "--data", "-", "--json"]
    done = piped(server, data, *words)
    assert done.returncode == 0, done.stderr
    made = json.loads(done.stdout)
    assert made["maskedData"] == {"token": "•••"}
    assert [item["id"] for item in server.json("connector", "list", "--type", "http-bearer")["items"]] == [made["id"]]
    file = tmp_path / "data.json"
    file.write_text(json.dumps({"token": f"{SECRET}-2"}))
    changed = server.json(
        "connector", "update", "Orders", "--data", str(file), "--host", "b.example.com", "--moves-money"
    )
    assert (changed["allowedHosts"], changed["movesMoney"]) == (["b.example.com"], True)
    shown = server.dustrun("connector", "show", "Orders")
    assert "b.example.com" in shown.stdout
    tried = server.dustrun("connector", "test", "Orders", "--url", "https://c.example.com/")
    assert (tried.returncode, "allowedHosts are b.example.com" in tried.stdout) == (1, True)
    gone = server.dustrun("connector", "delete", made["id"])
    assert gone.returncode == 0
    assert SECRET not in "".join([done.stdout, shown.stdout, tried.stdout, gone.stderr])
    assert SECRET not in (server.data_dir / "server.log").read_text()


def test_consent_page_of_a_known_service_is_shown(server: Served) -> None:
    data, words = json.dumps({"clientId": "me", "clientSecret": SECRET}), ["--host", "sheets.googleapis.com"]
    create = ["connector", "create", "oauth2-authorization-code", "Sheets", "--service", "google-sheets", "--data", "-"]
    made = json.loads(piped(server, data, *create, *words, "--json").stdout)
    assert made["maskedData"]["scope"] == "https://www.googleapis.com/auth/spreadsheets"
    begun = server.json("connector", "connect", "Sheets", "--no-browser", "--no-wait")
    assert begun["url"].startswith("https://accounts.google.com/o/oauth2/v2/auth?access_type=offline")
    assert SECRET not in begun["url"]
    create[5] = "trello"
    unknown = piped(server, data, *create, *words)
    assert (unknown.returncode, "does not know the consent page" in unknown.stderr) == (2, True)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["connector", "create", "http-bearer", "x"], "--data"),
        (["connector", "update", "conn_none"], "Nothing to change"),
        (["connector", "show", "nobody"], 'No connector is called "nobody"'),
        (["connector", "show", "conn_none"], "conn_none"),
        (["vault", "rotate", "--forget-old"], "--master"),
    ],
)
def test_what_is_missing_is_told(server: Served, words: list[str], told: str) -> None:
    done = server.dustrun(*words)
    assert done.returncode != 0
    assert told in done.stderr


def test_data_that_is_no_json_is_not_repeated(server: Served) -> None:
    done = piped(server, SECRET, "connector", "create", "http-bearer", "x", "--host", "a.com", "--data", "-")
    assert done.returncode != 0
    assert "standard input is not JSON" in done.stderr
    assert SECRET not in done.stderr


def test_rotation_waits_for_the_server_to_stop(tmp_path: Path) -> None:
    data_dir, key = tmp_path / "data", tmp_path / "master.key"
    rotate = ["vault", "rotate", "--master", "--data-dir", str(data_dir), "--json"]
    with served(data_dir, master_key_file=str(key)) as server:
        words = ["connector", "create", "apprise", "Chat", "--data", "-", "--json"]
        assert piped(server, json.dumps({"url": f"json://{SECRET}/"}), *words).returncode == 0
        environment = server.environment | {"DUSTRUN_MASTER_KEY_FILE": str(key)}
        command = [*processes.DUSTRUN, *rotate]
        refused = processes.run(command, env=environment)
        assert (refused.returncode, "A server is using this store" in refused.stderr) == (6, True)
    done = processes.run(command, env=environment)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["secrets"] == 1
    with served(data_dir, master_key_file=str(key)) as server:
        assert server.json("connector", "test", "Chat")["ok"] is True
    key.unlink()
    command = [*processes.DUSTRUN, "serve", "--port", "0", "--data-dir", str(data_dir)]
    lost = processes.run(command, env=environment)
    assert lost.returncode == 6
    assert str(key) in lost.stderr
    assert "Put back the file" in lost.stderr
    _check_reset(data_dir, key, environment)


def _check_reset(data_dir: Path, key: Path, environment: dict[str, str]) -> None:
    """What is lost is told; only when it is given up does a server start without it."""
    command = [*processes.DUSTRUN, "vault", "reset", "--data-dir", str(data_dir)]

    def reset(*more: str) -> subprocess.CompletedProcess[str]:
        return processes.run([*command, *more], env=environment)

    told = reset()
    assert (told.returncode, "connector  Chat" in told.stdout, "Nothing was changed" in told.stderr) == (0, True, True)
    done = json.loads(reset("--give-up-what-is-lost", "--json").stdout)
    assert (done["isDone"], [name for _, _, name in done["connectors"]]) == (True, ["Chat"])
    assert Path(done["backup"]).is_file()
    assert "Nothing is lost" in reset().stdout
    with served(data_dir, master_key_file=str(key)) as server:
        failed = server.dustrun("connector", "test", "Chat")
        assert (failed.returncode, "Enter it again" in failed.stderr) == (6, True)
        data = json.dumps({"url": f"json://{SECRET}/"})
        assert piped(server, data, "connector", "update", "Chat", "--data", "-").returncode == 0
        assert server.json("connector", "test", "Chat")["ok"] is True
