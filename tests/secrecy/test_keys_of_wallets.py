"""Keys, mnemonics and passwords are given to a real server in every way; all that it said and wrote is searched."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import httpx
import pytest
from eth_account import Account
from eth_account.hdaccount.mnemonic import Mnemonic
from eth_keyfile.keyfile import create_keyfile_json

from secrecy.spelled import find_leaks
from secrecy.stores import rows_of
from served import ROOT, Served, served
from testkit import processes

KEY = bytes.fromhex("5f9d3c71e8b24a06d7c15b8e92f340a6bd17e95c2a8f6403719de5b8c64f02a3")
KEPT = bytes.fromhex("a8172fd64e0b93c5785dfe1429b06c8a3371e4d9520fbc86ea19473d60c52b7e")
IN_ENVIRONMENT = "c3d41f7a9e6508b2d95e73c1406fa82b1d7cf3598ea0642d713bf5c8906ea14d"
MNEMONIC = Mnemonic().to_mnemonic(bytes.fromhex("9b1f62d7a0c84e35761ef92b8d05c3aa"))
WRONG = MNEMONIC.replace(MNEMONIC.split()[5], "zzyzxword")
PASSWORD, EXPORT_PASSWORD, PHRASE = "Pq8keystore-vT3mR", "Pq8export-vT3mR", "Pq8phrase-vT3mR"


def _canaries() -> dict[str, str]:
    Account.enable_unaudited_hdwallet_features()
    derived = Account.from_mnemonic(MNEMONIC, passphrase=PHRASE, account_path="m/44'/60'/0'/0/0").key
    found = {"mnemonic": MNEMONIC, "wrong mnemonic": WRONG, "wrong word": "zzyzxword", "environment": IN_ENVIRONMENT}
    found |= {"password": PASSWORD, "export password": EXPORT_PASSWORD, "phrase": PHRASE}
    for name, key in (("key", KEY), ("kept", KEPT), ("derived", bytes(derived))):
        found |= {f"{name}, hexadecimal": key.hex(), f"{name}, capitals": key.hex().upper()}
        found[f"{name}, decimal"] = str(int.from_bytes(key, "big"))
        found[f"{name}, a part"] = key.hex()[:30]
        found[f"{name}, another part"] = key.hex()[-30:]
    return found


class _Caller:
    """Keeps every byte that it is answered."""

    def __init__(self, server: Served) -> None:
        self.heard: dict[str, bytes] = {}
        headers = {"Authorization": f"Bearer {server.key}"}
        self._http = httpx.Client(base_url=server.url, headers=headers, timeout=60)

    def send(self, method: str, path: str, body: Any = None) -> Any:
        key = {"Idempotency-Key": f"k{len(self.heard)}"} if method == "POST" else {}
        answer = self._http.request(method, path, json=body, headers=key)
        head = str(dict(answer.headers)).encode()
        self.heard[f"{len(self.heard)} {method} {path} {answer.status_code}"] = head + answer.content
        assert answer.status_code < 500, answer.text
        return answer.json().get("data")

    def close(self) -> None:
        self._http.close()


def _use(caller: _Caller) -> None:
    """Everything that touches a key, and what fails while it does."""
    imports: list[dict[str, Any]] = [
        {"privateKey": "0x" + KEY.hex()},
        {"privateKey": "0x" + KEY.hex()},
        {"privateKey": KEY.hex() + "0"},
        {"privateKey": KEY.hex()[:-1]},
        {"privateKey": [KEY.hex()]},
        {"privateKey": {"is": KEY.hex()}},
        {"privateKey": KEY.hex().upper(), "path": "m/1"},
        {"mnemonic": MNEMONIC, "passphrase": PHRASE},
        {"mnemonic": WRONG, "passphrase": PHRASE},
        {"mnemonic": MNEMONIC + " " + MNEMONIC.split()[0]},
        {"mnemonic": MNEMONIC, "path": "bad"},
        {"keystore": create_keyfile_json(KEPT, PASSWORD.encode(), 3, "scrypt", 2), "password": PASSWORD},
        {"keystore": create_keyfile_json(KEY, b"other", 3, "scrypt", 2), "password": PASSWORD},
        {"keystore": {"version": 3, "crypto": PASSWORD}, "password": PASSWORD},
    ]
    for body in imports:
        caller.send("POST", "/v1/wallets/import", {"name": "w", **body})
    caller.send("POST", "/v1/wallets", {"name": "w", "kind": "watch", "address": "0x" + KEY.hex()})
    caller.send("POST", "/v1/wallets", {"name": "w", "kind": "env", "signer": "CANARY_KEY"})
    listed = caller.send("GET", "/v1/wallets?limit=100")["items"]
    assert [item["kind"] for item in listed] == ["local", "env", "local", "local"]
    for wallet in listed:
        path = f"/v1/wallets/{wallet['id']}"
        for part in ("", "/policy", "/policy/history", "/spending"):
            caller.send("GET", path + part)
        caller.send("POST", f"{path}/export", {"password": EXPORT_PASSWORD})
        caller.send("PUT", f"{path}/policy", {"policy": {"chains": ["*"]}})
        caller.send("PATCH", path, {"name": "renamed"})
    caller.send("DELETE", f"/v1/wallets/{listed[-1]['id']}")
    for path in ("/v1/audit", "/v1/api-keys", "/v1/api-keys/requests"):
        caller.send("GET", path)


def _disk(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_nothing_that_a_server_says_or_keeps_holds_a_key(
    tmp_path: Path, store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CANARY_KEY", IN_ENVIRONMENT)
    with served(tmp_path / "data", database_url=store_url, env_signers="CANARY_KEY", log_level="debug") as server:
        caller = _Caller(server)
        try:
            _use(caller)
        finally:
            caller.close()
        said = caller.heard | _command_line(server, tmp_path)
        running = _disk(tmp_path / "data") | rows_of(store_url)
        running |= {path.name: path.read_bytes() for path in tmp_path.glob("dustrun.db*")}
    assert any(name.endswith("server.log") for name in running)
    address = {"what is no secret": Account.from_key(KEY).address}
    seen = find_leaks(address, said | running)
    assert len([found for found in seen if "table wallets" in found or " /v1/wallets" in found]) > 5  # the search finds
    assert find_leaks(_canaries(), said | running | _disk(tmp_path / "data")) == []


def _command_line(server: Served, folder: Path) -> dict[str, bytes]:
    """What the commands print; the secrets go in by standard input, and out into a file under a password."""
    words = [*processes.DUSTRUN, "wallet", "import", "cli", "--key-file", "-"]
    said: dict[str, bytes] = {}
    for text in (KEY.hex(), WRONG):
        done = processes.run(words, input=text, env=server.environment, cwd=ROOT)
        assert done.returncode == 2, done.stderr
        said[f"import {len(said)}"] = (done.stdout + done.stderr).encode()
    password = folder / "password"
    password.write_text(EXPORT_PASSWORD + "\n")
    wallet = server.json("wallet", "list")["items"][0]
    words = ["wallet", "export", wallet["id"], "--to", str(folder / "out.json"), "--password-file", str(password)]
    done_text = server.dustrun(*words)
    assert done_text.returncode == 0, done_text.stderr
    out = folder / "out.json"
    assert (os.stat(out).st_mode & 0o777, json.loads(out.read_text())["version"]) == (0o600, 3)
    again = server.dustrun(*words)
    assert (again.returncode, "already exists" in again.stderr) == (2, True)
    said["export"] = (done_text.stdout + done_text.stderr + again.stderr).encode() + out.read_bytes()
    return said
