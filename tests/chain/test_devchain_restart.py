"""The chain of `scripts/up` after many starts: still the same chain."""

from __future__ import annotations

import json
import time
from pathlib import Path

from devchain.node import _keep_first_genesis, running

from testkit.chain.anvil import binary
from testkit.ports import free_port

_STARTS = 6


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
