"""`dustrun keys`, `backup` and `restore` against a real server process."""

from __future__ import annotations

import json
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from served import ROOT, Served, served
from testkit import processes

HELLO = {
    "name": "Hello",
    "definition": {
        "nodes": {
            "root": {"type": "manual", "children": ["say"]},
            "say": {"type": "log", "payload": {"message": "hello"}},
        },
        "triggerNodeIds": ["root"],
    },
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def server(home: Path) -> Iterator[Served]:
    with served(home / "data", master_key_file=str(home / "master.key")) as found:
        (home / "hello.json").write_text(json.dumps(HELLO))
        found.json("workflow", "create", str(home / "hello.json"))
        yield found


def test_settings_of_the_organization_change_one_by_one(server: Served) -> None:
    assert server.dustrun("organization", "show").stdout.strip().endswith("as the server\tno")
    server.json("organization", "update", "--retention-days", "90")
    changed = server.json("organization", "update", "--single-person-approves")
    assert (changed["singlePersonApproves"], changed["retentionDays"]) == (True, 90)
    told = server.dustrun("organization", "update", "--no-single-person-approves", "--retention-days", "0").stdout
    assert told.strip().endswith("forever\tno")
    nothing = server.dustrun("organization", "update")
    assert (nothing.returncode, "Give what to change" in nothing.stderr) == (2, True)


def test_audit_log_is_exported_goes_on_and_is_verified_offline(server: Served, home: Path) -> None:
    file = home / "audit.jsonl"
    (key,) = server.json("audit", "keys")["items"]
    assert server.dustrun("audit", "export", "--out", str(file)).returncode == 0
    first = server.json("audit", "verify", str(file), "--public-key", key["publicKey"])
    again = server.dustrun("audit", "export", "--out", str(file))
    assert (again.returncode, "--continue" in again.stderr) == (2, True)
    server.json("organization", "update", "--retention-days", "30")
    assert server.dustrun("audit", "export", "--out", str(file), "--continue").returncode == 0
    size = file.stat().st_size
    assert server.dustrun("audit", "export", "--out", str(file), "--continue").returncode == 0
    assert file.stat().st_size == size  # nothing new
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as collector:
        collector.bind(("127.0.0.1", 0))
        address = f"udp://127.0.0.1:{collector.getsockname()[1]}"
        sent = server.dustrun("audit", "export", "--out", str(file), "--continue", "--syslog", address)
        (home / "kept.log").write_bytes(
            b"".join(collector.recv(65_536) + b"\n" for _ in file.read_bytes().splitlines())
        )
    assert sent.returncode == 0, sent.stderr
    assert server.json("audit", "verify", str(home / "kept.log"), "--from-syslog")["isGood"]
    second = server.json("audit", "verify", str(file))
    assert (second["isGood"], second["entries"]) == (True, first["entries"] + 1)
    lines = file.read_bytes().splitlines(keepends=True)
    (home / "cut.jsonl").write_bytes(b"".join([*lines[:2], *lines[3:]]))
    cut = server.dustrun("audit", "verify", str(home / "cut.jsonl"))
    assert (cut.returncode, cut.stdout.partition(":")[0]) == (1, "Line 3 does not follow the line before it")
    newest = json.loads(lines[-1])["hash"].encode()
    (home / "elsewhere.jsonl").write_bytes(file.read_bytes().replace(newest, b"0" * 64))
    foreign = server.dustrun("audit", "export", "--out", str(home / "elsewhere.jsonl"), "--continue")
    assert (foreign.returncode, "restored from a backup" in foreign.stderr) == (1, True)


def test_a_workflow_is_placed_and_a_key_limited_to_its_folder(server: Served) -> None:
    told = server.dustrun(
        "workflow", "place", "Hello", "--folder", "payroll/europe", "--tag", "money", "--tag", "eu"
    ).stdout
    assert told.strip() == "Hello is in payroll/europe, with the tags eu money."
    (listed,) = server.json("workflow", "list", "--folder", "payroll", "--tag", "money")["items"]
    assert server.json("workflow", "list", "--tag", "other")["items"] == []
    made = server.json("keys", "create", "bookkeeper", "-p", "workflow:read", "--folder", "payroll", "--tag", "x")
    assert (made["workflowScope"], made["workflowIds"]) == (["folder:payroll", "tag:x"], [listed["id"]])
    assert "folder:payroll tag:x" in server.dustrun("keys", "show", made["id"]).stdout
    assert (
        server.dustrun("workflow", "place", "Hello", "--folder", "", "--no-tags")
        .stdout.strip()
        .endswith("no folder, without tags.")
    )
    nothing = server.dustrun("workflow", "place", "Hello")
    assert (nothing.returncode, "Say where it is kept" in nothing.stderr) == (2, True)


def _check_account(server: Served, owner: str) -> None:
    """An account of a program, whose key is rotated."""
    made = server.json("service-accounts", "create", "till", "-p", "run:read", "--owner", owner)
    assert (made["ownerId"], made["status"]) == (owner, "active")
    key = server.json("keys", "create", "till-1", "--service-account", made["id"])
    rotated = server.json("keys", "rotate", key["id"], "--grace", "60")
    assert (rotated["replaces"], rotated["serviceAccountId"]) == (key["id"], made["id"])
    assert server.json("people", "show", owner)["dependents"]["serviceAccounts"] == [made["id"]]
    assert server.json("service-accounts", "update", made["id"], "--role", "viewer")["role"] == "viewer"
    assert server.json("service-accounts", "disable", made["id"])["keyIds"] == []
    assert server.json("service-accounts", "enable", made["id"])["status"] == "active"
    assert "till" in server.dustrun("service-accounts", "list").stdout
    assert server.json("service-accounts", "delete", made["id"])["name"] == "till"
    assert server.dustrun("service-accounts", "show", made["id"]).returncode != 0


def test_a_person_from_the_invitation_to_the_end(server: Served) -> None:
    invited = server.dustrun("people", "invite", "ada@example.com", "--name", "Ada", "-p", "run:read")
    assert "/#signin=signin_" in invited.stdout
    (ada,) = server.json("people", "list")["items"]
    made = server.json("keys", "create", "hers", "-p", "run:read")["id"]
    assert server.json("people", "give", ada["id"], made)["state"] == "invited"
    assert made in server.dustrun("people", "show", ada["id"]).stderr
    assert "/#signin=signin_" in server.dustrun("people", "link", ada["id"]).stdout
    assert server.json("people", "sessions", ada["id"])["items"] == []
    assert server.dustrun("people", "sign-out", ada["id"]).stdout.strip() == "Sessions ended: 0."
    token = server.dustrun("people", "link", ada["id"]).stdout.partition("#signin=")[2].strip()
    httpx.post(f"{server.url}/v1/session/redeem", json={"token": token}).raise_for_status()
    (session,) = server.json("people", "sessions", ada["id"])["items"]
    assert server.json("people", "sessions")["items"] == []  # the owner's key has none
    assert server.dustrun("people", "end-session", session["id"]).returncode == 2
    assert server.json("people", "end-session", session["id"], "--person", ada["id"])["id"] == session["id"]
    assert server.json("people", "deactivate", ada["id"])["state"] == "deactivated"
    assert server.json("keys", "show", made)["revokedAt"] is not None
    assert server.json("people", "activate", ada["id"])["state"] == "active"
    assert server.json("people", "add-role", "clerk", "-p", "run:read")["builtIn"] is False
    assert server.json("people", "set-role", ada["id"], "clerk")["role"] == "clerk"
    assert server.json("people", "set-role", ada["id"], "viewer")["role"] == "viewer"
    assert server.json("people", "delete-role", "clerk")["name"] == "clerk"
    assert "viewer" in server.dustrun("people", "roles").stdout
    assert server.json("people", "invite", "c@example.com", "--name", "C", "--role", "viewer")["role"] == "viewer"
    _check_account(server, ada["id"])
    assert server.json("people", "remove-passkeys", ada["id"]) == {"removed": 0}
    nothing = server.dustrun("people", "invite", "b@example.com", "--name", "B")
    assert (nothing.returncode, "Give what the person may do" in nothing.stderr) == (2, True)


def test_whoever_has_the_machine_gets_back_in(tmp_path: Path) -> None:
    """After the last owner's key is gone: only while no server runs, and without taking anything from others."""
    data, master = tmp_path / "data", str(tmp_path / "master.key")
    with served(data, master_key_file=master) as server:
        command = [*processes.DUSTRUN, "people", "rescue", "--data-dir", str(data)]
        environment = server.environment
        refused = processes.run(command, env=environment)
        assert (refused.returncode, "Stop the server first" in refused.stderr) == (1, True)
        assert not (data / "rescue.key").exists()
        owner = server.key
    done = processes.run([*command, "--json"], env=environment)
    assert done.returncode == 0, done.stderr
    made = json.loads(done.stdout)
    secret = (data / "rescue.key").read_text().strip()
    assert secret not in done.stdout + done.stderr
    assert (data / "rescue.key").stat().st_mode & 0o777 == 0o600
    again = processes.run(command, env=environment)
    assert (again.returncode, f"has the key {made['keyId']}, which is good" in again.stderr) == (1, True)
    with served(data, master_key_file=master) as server:
        assert server.json("keys", "show", made["keyId"])["permissions"] == ["admin", "operator"]
        told = _with_key(server, secret, "keys", "list", "--json")
        lost = next(one["id"] for one in json.loads(told.stdout)["items"] if one["name"] == "owner")
        assert _with_key(server, secret, "keys", "revoke", lost).returncode == 0
        assert _with_key(server, owner, "keys", "list").returncode != 0


def _with_key(server: Served, key: str, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**server.environment, "DUSTRUN_API_KEY": key}
    command = [*processes.DUSTRUN, *words]
    return processes.run(command, env=environment, cwd=ROOT)


def test_a_key_from_its_making_to_its_end(server: Served) -> None:
    made = server.dustrun("keys", "create", "shop", "-p", "workflow:read", "--workflow", "Hello")
    key, told = made.stdout.strip(), made.stderr
    assert (len(key), "not be shown again" in told) == (43, True)
    (listed,) = [item for item in server.json("keys", "list")["items"] if item["name"] == "shop"]
    (workflow,) = server.json("workflow", "list")["items"]
    assert listed["workflowIds"] == [workflow["id"]]
    assert "Hello" in _with_key(server, key, "workflow", "list").stdout
    refused = _with_key(server, key, "keys", "list")
    assert (refused.returncode, 'lacks the permission "key:read"' in refused.stderr) == (2, True)
    shown = server.dustrun("keys", "show", listed["id"]).stdout
    assert ("workflow:read" in shown, key in shown) == (True, False)
    assert f"Revoked shop ({listed['id']})" in server.dustrun("keys", "revoke", listed["id"]).stdout
    assert _with_key(server, key, "workflow", "list").returncode != 0
    assert [item["status"] for item in _requests(server, listed["id"], 2)] == [403, 200]


def test_a_key_that_may_not_read_changes_and_is_told_no_more(server: Served) -> None:
    rights = ("workflow:create", "workflow:update", "workflow:publish", "connector:write", "key:write")
    made = server.dustrun("keys", "create", "blind", *(word for right in rights for word in ("-p", right)))
    key = made.stdout.strip()
    (workflow,) = server.json("workflow", "list")["items"]
    published = _with_key(server, key, "workflow", "publish", workflow["id"])
    assert published.returncode == 0, published.stderr
    assert "The key lacks workflow:read, so the rest of the answer is not shown." in published.stderr
    assert published.stdout.split("\t")[:3] == [workflow["id"], "", "active"]
    paused = json.loads(_with_key(server, key, "workflow", "pause", workflow["id"], "--json").stdout)
    assert (paused["hiddenWithout"], paused["status"], "definition" in paused) == ("workflow:read", "paused", False)
    folder = server.data_dir.parent / "files"
    folder.mkdir()
    (folder / "hello.json").write_text(json.dumps({**HELLO, "description": "new"}))
    applied = _with_key(server, key, "apply", str(folder), "--yes")
    assert (applied.returncode, "hello.json" in applied.stdout, "description" in applied.stdout) == (0, True, False)
    mine = json.loads(_with_key(server, key, "keys", "create", "mine", "-p", "workflow:publish", "--json").stdout)
    assert f"Revoked the key ({mine['id']})" in _with_key(server, key, "keys", "revoke", mine["id"]).stdout


def _requests(server: Served, key_id: str, count: int) -> list[dict[str, Any]]:
    for _ in range(50):
        found: list[dict[str, Any]] = server.json("keys", "requests", "--of", key_id)["items"]
        if len(found) >= count:
            return found
        time.sleep(0.1)
    raise AssertionError(found)


def test_what_cannot_be_is_told(server: Served) -> None:
    neither = server.dustrun("keys", "create", "k")
    assert (neither.returncode, "one of --permission" in neither.stderr) == (2, True)
    unknown = server.dustrun("keys", "create", "k", "-p", "run:fly")
    assert (unknown.returncode, '"run:fly" is not a permission' in unknown.stderr) == (2, True)
    nowhere = server.dustrun("keys", "create", "k", "-p", "run:read", "--workflow", "Helo")
    assert (nowhere.returncode, 'Did you mean "Hello"?' in nowhere.stderr) == (2, True)
    (own,) = [item for item in server.json("keys", "list")["items"] if item["name"] == "owner"]
    last = server.dustrun("keys", "revoke", own["id"])
    assert (last.returncode, "last unlimited" in last.stderr) == (2, True)


def test_a_backup_while_it_serves_and_a_restore_elsewhere(server: Served, home: Path) -> None:
    file, elsewhere = home / "store.backup", home / "elsewhere"
    told = server.dustrun("backup", str(file))
    assert (told.returncode, "1 workflows" in told.stdout) == (0, True)
    again = server.dustrun("backup", str(file))
    assert (again.returncode, "--replace" in again.stderr) == (1, True)
    in_use = server.dustrun("restore", str(file), "--replace")
    assert (in_use.returncode, "Another server" in in_use.stderr) == (1, True)
    restored = server.json("restore", str(file), "--data-dir", str(elsewhere))
    assert restored["rows"]["workflows"] == 1
    full = server.dustrun("restore", str(file), "--data-dir", str(elsewhere))
    assert (full.returncode, "not empty" in full.stderr) == (1, True)
    (elsewhere / "owner.key").write_text(server.key)
    with served(elsewhere, master_key_file=str(home / "master.key")) as other:
        assert [item["name"] for item in other.json("workflow", "list")["items"]] == ["Hello"]
    file.write_bytes(file.read_bytes()[:1000])
    cut = server.dustrun("restore", str(file), "--data-dir", str(home / "third"))
    assert (cut.returncode, "it is incomplete" in cut.stderr) == (1, True)


def test_the_doctor_finds_a_sound_server_well(server: Served) -> None:
    done = server.dustrun("doctor", "--json")
    findings = {finding["name"]: finding["state"] for finding in json.loads(done.stdout)}
    assert (done.returncode, "bad" in findings.values()) == (0, False), done.stdout
    assert {
        "store",
        "lock",
        "secrets",
        "waiting runs",
        "sandbox",
        "open files",
        "ready",
        "key",
        "chains",
        "wallets",
        "outbox",
        "funds",
    } <= set(findings)


def test_what_shapes_a_spend_is_told_of_a_version_and_of_a_run(server: Served, home: Path) -> None:
    pay = {"chainId": 1, "recipient": "{{$inputs.to}}", "amount": "5"}
    nodes = {"root": {"type": "manual", "children": ["pay"]}, "pay": {"type": "send-native", "payload": pay}}
    (home / "pay.json").write_text(json.dumps({"name": "Pay", "definition": {"nodes": nodes}}))
    server.json("workflow", "create", str(home / "pay.json"))
    (found,) = server.json("workflow", "sources", "Pay", "pay")["items"]
    assert found["fields"][0]["sources"][0]["source"] == "trigger:manual.to"
    shown = server.dustrun("workflow", "sources", "Pay").stdout
    assert "who is paid: `$trigger.to` of the manual that started the run" in shown
    assert "how much: as written" in shown
    assert "how much: as written" in server.dustrun("workflow", "ladder", "Pay").stdout
    many = {f"pay{number}": nodes["pay"] for number in range(101)}
    many = {"root": {"type": "manual", "children": [*many]}, **many}
    (home / "many.json").write_text(json.dumps({"name": "Many", "definition": {"nodes": many}}))
    server.json("workflow", "create", str(home / "many.json"))
    assert len(server.json("workflow", "sources", "Many")["items"]) == 101  # more than a page
    assert [one["nodeId"] for one in server.json("workflow", "sources", "Many", "pay100")["items"]] == ["pay100"]
    assert (
        "50 of 101 spends are shown here; all: dustrun workflow sources Many"
        in server.dustrun("workflow", "ladder", "Many").stdout
    )
    assert server.dustrun("run", "Hello").returncode == 0
    run = server.json("runs", "list", "--workflow", "Hello")["items"][0]["id"]
    assert server.dustrun("runs", "why", run).stdout.strip() == "No node spends."
