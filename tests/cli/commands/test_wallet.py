"""`dustrun wallet` against a real server process; the commands run here, which saves a second each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from dustrun.cli.http.failures import CliError
from dustrun.cli.main import commands
from served import Served, served
from testkit.chain.anvil import ACCOUNTS, KEYS


class _Commands:
    """The command line of one server."""

    def __init__(self, server: Served) -> None:
        self._environment = {"DUSTRUN_SERVER": server.url, "DUSTRUN_API_KEY": server.key}

    def run(self, *words: str, text: str | None = None) -> Any:
        """What a command printed; raises the `CliError` that it ends with."""
        done = CliRunner().invoke(commands(), ["wallet", *words], input=text, env=self._environment)
        if done.exception is not None:
            raise done.exception
        return done

    def run_to_end(self, *words: str) -> Any:
        """A command that ends with a code of its own."""
        return CliRunner().invoke(commands(), ["wallet", *words], env=self._environment)

    def json(self, *words: str, text: str | None = None) -> Any:
        """The one JSON document that a command prints."""
        return json.loads(self.run(*words, "--json", text=text).stdout)


def test_a_wallet_from_its_making_to_its_archive(tmp_path: Path) -> None:
    with served(tmp_path / "data") as server:
        wallet = _Commands(server)
        assert "denies every spend" in wallet.json("create", "treasury")["hint"]
        assert wallet.json("import", "spare", text=KEYS[0] + "\n")["address"] == ACCOUNTS[0]
        assert wallet.json("show", ACCOUNTS[0].lower())["name"] == "spare"
        policy = tmp_path / "policy.json"
        policy.write_text(json.dumps({"chains": [1], "assets": ["*"], "recipients": ["*"]}))
        put = wallet.json("policy", "spare", "--set", str(policy), "--expected-version", "1")
        assert (put["version"], put["policy"]["chains"]) == (2, [1])
        payment = f"{ACCOUNTS[1]} up to $2,000 a month"
        answers = f"ethereum\n$$500 a day on uniswap\n$500 a day on uniswap\n{payment}\n$100\n\ny\n"
        told = wallet.run("policy", "treasury", "--write", text=answers).stderr
        assert told.count("Swaps: how much") == 2, "it asks again after what it did not understand"
        assert f"use uniswap up to $500 a day\n  pay {payment}" in told
        assert told.index("Nobody could approve") < told.index("Set this policy?")
        assert "use uniswap" in wallet.run("policy", "treasury").stderr
        written = wallet.json("policy", "treasury")["policy"]
        assert (written["chains"], written["approvalAbove"]["usd"], len(written["limits"])) == ([1], "100", 2)
        refused = wallet.run_to_end("policy", "treasury", "--yes", "--say", "donate a lot")
        assert (refused.exit_code, '"donate" is not known' in refused.stderr) == (2, True)
        assert wallet.json("policy", "treasury")["policy"] == written, "nothing is set"
        listed = wallet.run("policy", "spare", "--history").stdout
        assert [line.split("\t")[:2] for line in listed.splitlines()] == [["2", "looser"], ["1", "not looser"]]
        assert wallet.json("spending", "spare")["items"] == []
        assert wallet.json("rename", "spare", "main")["name"] == "main"
        assert wallet.json("default", "main")["isDefault"] is True
        with pytest.raises(CliError, match="is the default"):
            wallet.run("archive", "main")
        assert wallet.json("archive", "treasury")["canSign"] is False
        assert [item["name"] for item in wallet.json("list")["items"]] == ["main"]
        assert wallet.json("balances", "main")["address"] == ACCOUNTS[0]
        with pytest.raises(CliError) as caught:
            wallet.run("show", "mian")
        assert caught.value.hint == 'Did you mean "main"?'
        for words in (["create", "x", "--watch", "--env", "A"], ["import", "x", "--keystore", "f", "--path", "m/1"]):
            with pytest.raises(CliError):
                wallet.run(*words)
