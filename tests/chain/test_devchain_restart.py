"""The chain of `scripts/up` after many starts: still the same chain."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from devchain.node import Busy, _keep_first_genesis, running

from testkit.chain.anvil import binary
from testkit.e2e.guide import ROOT
from testkit.ports import free_port

_STARTS = 3
_KILLED = """
import sys
from pathlib import Path
from devchain.node import running
with running(Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), Path(sys.argv[4])) as node:
    print(node.pid, flush=True)
    sys.stdin.read()
"""


def _blocks(state: Path) -> list[int]:
    """The numbers of the blocks that the state file has."""
    return sorted(int(block["header"]["number"], 16) for block in json.loads(state.read_text())["blocks"])


def test_chain_has_the_same_genesis_and_blocks_after_every_start(tmp_path: Path) -> None:
    state, found = tmp_path / "state.json", []
    for start in range(_STARTS):
        with running(binary(), free_port(), state, tmp_path / "anvil.log") as node:
            node.ask("anvil_mine", "0x1")
            found.append((node.genesis, node.ask("eth_getBlockByNumber", "0x1", False)["hash"]))
            assert int(node.ask("eth_blockNumber"), 16) == start + 1
        time.sleep(1.1)  # anvil's own block 0 differs only by the second in which it starts
    assert found == [found[0]] * _STARTS
    assert _blocks(state) == [0, *range(_STARTS + 1)], "the first block 0, and the one that the last start added"


def test_state_that_cannot_be_read_is_left_for_the_node_to_reject(tmp_path: Path) -> None:
    state = tmp_path / "state.json"
    for text in ("{broken", "[]", '{"blocks": [{}]}', '{"blocks": []}'):
        state.write_text(text)
        _keep_first_genesis(state)
        assert state.read_text() == text


def test_a_node_whose_start_was_killed_keeps_its_state_from_the_next_start(tmp_path: Path) -> None:
    state, log = tmp_path / "state.json", tmp_path / "anvil.log"
    words = [str(word) for word in (binary(), free_port(), state, log)]
    command = [sys.executable, "-c", _KILLED, *words]
    with subprocess.Popen(
        command, text=True, cwd=ROOT / "scripts", stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as started:
        assert started.stdout is not None
        left = int(started.stdout.readline())
        started.kill()
    try:
        said = f"process {left}, of another start, has {tmp_path}; end it first"
        with pytest.raises(Busy, match=f"^{said}$"), running(binary(), free_port(), state, log):
            pass
    finally:
        os.kill(left, signal.SIGTERM)
