"""Nodes that the tests of a process use one after the other: to go back to a snapshot takes a hundredth of the
processor time of a start.

A node is used again only if the next test cannot tell: everything that was asked of it goes away with the snapshot or
is set again here, and nobody restarted it.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from testkit import processes
from testkit.chain.anvil import CHAIN_ID, Anvil

_READS = ("eth_", "txpool_", "debug_", "net_", "web3_")
# of state and blocks, which a snapshot has, and of the pool, the next fee and what mines, which are set again
_UNDONE = {
    *("evm_mine", "anvil_mine", "evm_snapshot", "evm_revert", "evm_setAutomine"),
    *("anvil_setBalance", "anvil_setCode", "anvil_setNonce", "anvil_setStorageAt"),
    *("anvil_dropAllTransactions", "anvil_setNextBlockBaseFeePerGas"),
}
Kind = tuple[tuple[str, ...], Path | None, int]


class _Spare:
    """A node, and how it was at first."""

    def __init__(self, kind: Kind) -> None:
        words, state, chain_id = kind
        self._mines = "--no-mining" not in words
        self.node = Anvil(*words, state=state, chain_id=chain_id).__enter__()
        self._pid = self.node.pid
        self._next_fee = hex(_next_fee(self.node))
        self._first = self.node.snapshot()
        self.go_back()

    def can_go_back(self) -> bool:
        """Whether all that happened can be undone."""
        asked = {method for method in self.node.rpc.asked if not method.startswith(_READS)}
        return self.node.is_running and self.node.pid == self._pid and asked <= _UNDONE

    def go_back(self) -> None:
        """Forgets all that happened."""
        rpc = self.node.rpc
        rpc("anvil_dropAllTransactions")
        rpc("evm_setAutomine", self._mines)
        self.node.revert(self._first)
        self._first = self.node.snapshot()
        rpc("anvil_setNextBlockBaseFeePerGas", self._next_fee)
        rpc.asked.clear()

    def begin(self) -> None:
        """Gives it the time of day: the snapshot took it back to that of its newest block."""
        self.node.rpc("evm_setTime", int(time.time()))
        self.node.rpc.asked.clear()


def _next_fee(node: Anvil) -> int:
    """By the rule of EIP-1559; a node that has just loaded a state says for a moment that of its newest block."""
    block = node.rpc("eth_getBlockByNumber", "latest", False)
    fee, used, limit = (int(block[name], 16) for name in ("baseFeePerGas", "gasUsed", "gasLimit"))
    target = limit // 2
    assert used <= target, "the newest block of a fresh node is not full"
    return fee - fee * (target - used) // target // 8


_spares: dict[Kind, list[_Spare]] = defaultdict(list)


def end() -> None:
    """Ends the nodes that nobody uses."""
    for spares in _spares.values():
        while spares:
            spares.pop().node.__exit__()


@contextmanager
def lent(*words: str, state: Path | None = None, chain_id: int = CHAIN_ID) -> Iterator[Anvil]:
    """A node as `Anvil` starts it; in a process of tests perhaps one that another test has used."""
    if not processes.shares_imports() or "--block-time" in words:  # that one makes blocks between two tests
        with Anvil(*words, state=state, chain_id=chain_id) as node:
            yield node
        return
    kind = (words, state, chain_id)
    spare = _spares[kind].pop() if _spares[kind] else _Spare(kind)
    is_back = False
    try:
        spare.begin()
        yield spare.node
        if spare.can_go_back():
            spare.go_back()
            is_back = True
            _spares[kind].append(spare)
    finally:
        if not is_back:
            spare.node.__exit__()
