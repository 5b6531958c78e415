"""`dustrun tx` against a real server and a real chain."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from dustrun.cli.http.failures import CliError
from dustrun.cli.main import commands
from served import Served, served
from testkit.chain.anvil import ACCOUNTS, CHAIN_ID, KEYS, Anvil

_PAY = {
    "nodes": {
        "root": {"type": "manual", "children": ["pay"]},
        "pay": {
            "type": "send-native",
            "payload": {"chainId": CHAIN_ID, "recipient": ACCOUNTS[2], "amount": "5"},
        },
    }
}


class _Commands:
    """The command line of one server."""

    def __init__(self, server: Served) -> None:
        self._environment = {"DUSTRUN_SERVER": server.url, "DUSTRUN_API_KEY": server.key}

    def run(self, *words: str, text: str | None = None) -> Any:
        """What a command printed; raises the `CliError` that it ends with."""
        done = CliRunner().invoke(commands(), [*words], input=text, env=self._environment)
        if done.exception is not None:
            raise done.exception
        return done

    def json(self, *words: str, text: str | None = None) -> Any:
        """The one JSON document that a command prints."""
        return json.loads(self.run(*words, "--json", text=text).stdout)

    def until(self, status: str) -> dict[str, Any]:
        """The newest transaction once it has a status."""
        for _ in range(500):
            found = self.json("tx", "list")["items"]
            if found and found[0]["status"] == status:
                transaction: dict[str, Any] = found[0]
                return transaction
            time.sleep(0.02)
        raise AssertionError(f"no transaction is {status}: {found}")


def _export(do: _Commands, file: Path) -> None:
    """The ledger has the fee of what was cancelled, a moment later."""
    for _ in range(500):
        if found := do.json("ledger", "list", "--wallet", "alice")["items"]:
            break
        time.sleep(0.02)
    assert [(one["kind"], one["outcome"]) for one in found] == [("fee", "cancelled")]
    do.run("ledger", "export", "--to-file", str(file))
    assert file.read_text().splitlines()[1].split(",")[1] == "fee"
    assert json.loads(do.run("ledger", "export", "--format", "jsonl").stdout)["id"] == found[0]["id"]
    with pytest.raises(CliError, match="Cannot write"):
        do.run("ledger", "export", "--to-file", str(file))


def test_a_transaction_is_listed_sped_up_and_cancelled(tmp_path: Path) -> None:
    policy, flow = tmp_path / "policy.json", tmp_path / "flow.json"
    policy.write_text(json.dumps({"chains": ["*"], "assets": ["*"], "recipients": ["*"]}))
    flow.write_text(json.dumps(_PAY))
    with Anvil("--no-mining") as node:
        endpoints = json.dumps({str(CHAIN_ID): [node.url]})
        with served(tmp_path / "data", chain_endpoints=endpoints) as server:
            do = _Commands(server)
            do.run("wallet", "import", "alice", "--default", text=KEYS[1] + "\n")
            do.run("wallet", "policy", "alice", "--set", str(policy))
            do.run("run", str(flow), "--detach")
            sent = do.until("sent")
            assert do.run("tx", "list", "--wallet", "alice").stdout.split("\t")[:2] == [sent["id"], "sent"]
            sped = do.json("tx", "speed-up", sent["hash"])
            assert [attempt["kind"] for attempt in sped["attempts"]] == ["send", "replace"]
            with pytest.raises(CliError, match="its maximum is 1"):
                do.run("tx", "speed-up", sent["id"], "--max-fee", "1")
            assert "cancel" in do.run("tx", "cancel", sent["id"]).stdout
            node.mine()
            cancelled = do.until("cancelled")
            assert do.json("tx", "show", cancelled["id"])["error"]["code"] == "CANCELLED"
            _export(do, tmp_path / "ledger.csv")
            assert do.json("tx", "release", "alice", "--chain", str(CHAIN_ID), "--yes")["released"] == 0
            with pytest.raises(CliError, match="There is no transaction"):
                do.run("tx", "show", "tx_nobody")
