"""`dustrun chain` against a real server with a real node."""

from __future__ import annotations

import json
from pathlib import Path

from anvil import Anvil
from contracts import World
from served import served


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
        assert "Simulation: simulate-v1, trace-call." in checked.stdout
        unknown = server.dustrun("chain", "show", "nowhere")
        assert unknown.returncode != 0
        assert 'knows no chain "nowhere"' in unknown.stderr
        anvil.stop()
        gone = server.dustrun("chain", "check", "31337")
        assert gone.returncode == 1
        assert "No endpoint of Local development chain answers" in gone.stdout
