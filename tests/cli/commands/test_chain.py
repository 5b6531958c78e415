"""`dustrun chain` against a real server with a real node."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from served import served
from testkit import processes
from testkit.chain.anvil import Anvil
from testkit.chain.contracts import World


def test_chains_are_listed_shown_and_checked(tmp_path: Path, world: World, anvil: Anvil) -> None:
    endpoints = json.dumps({"31337": [anvil.url]})
    with served(tmp_path / "data", chain_endpoints=endpoints) as server:
        listed = server.json("chain", "list")
        assert {chain["chainId"] for chain in listed} >= {1, 10, 8453, 31337}
        assert server.json("chain", "show", "base")["chainId"] == 8453
        shown = server.dustrun("chain", "show", "Ethereum")
        assert "USDC\t0xA0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48\t6" in shown.stdout
        checked = server.dustrun("chain", "check", "local")
        assert (checked.returncode, checked.stdout.splitlines()[-1]) == (0, "Local development chain is ready.")
        assert "Simulation: trace-call, simulate-v1." in checked.stdout
        unknown = server.dustrun("chain", "show", "nowhere")
        assert unknown.returncode != 0
        assert 'does not know the chain "nowhere"' in unknown.stderr
        anvil.stop()
        gone = server.dustrun("chain", "check", "31337")
        assert gone.returncode == 1
        assert "No endpoint of Local development chain answers" in gone.stdout


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("DATABASE_URL", "mysql://root:s3cret@host/x", "DUSTRUN_DATABASE_URL: Must be like postgresql://"),
        ("DATABASE_URL", "postgresql://u:s3cret@host:port/x", "DUSTRUN_DATABASE_URL: Must be like postgresql://"),
        ("DATABASE_URL", "s3cret", "DUSTRUN_DATABASE_URL: Must be like postgresql://"),
        ("NETWORKS_DIR", "/no/such/folder", "networks_dir: /no/such/folder is not a folder"),
        ("CHAIN_ENDPOINTS", "{s3cret", "A setting must be JSON"),
        ("CHAIN_ENDPOINTS", '{"1": ["ftp://s3cret"]}', "The endpoints of chain 1 must be http:// or https:// URLs"),
        ("CHAIN_ENDPOINTS", '{"4": ["http://s3cret"]}', "chain_endpoints: 4: no file describes that chain"),
    ],
)
def test_a_server_with_wrong_chains_does_not_start_and_says_why(
    name: str, value: str, says: str, tmp_path: Path
) -> None:
    environment = {**os.environ, f"DUSTRUN_{name}": value}
    key_file = tmp_path / "secret" / "master.key"
    environment["DUSTRUN_MASTER_KEY_FILE"] = str(key_file)
    command = [*processes.DUSTRUN, "serve", "--port", "0", "--data-dir", str(tmp_path / "data")]
    done = processes.run(command, env=environment)
    assert done.returncode != 0
    assert says in done.stderr
    assert "s3cret" not in done.stderr
    assert "Traceback" not in done.stderr
