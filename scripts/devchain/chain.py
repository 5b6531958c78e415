"""A local chain with real Uniswap pools: goes on from where it was, or is built anew.

Its folder holds `state.json` (anvil's), `market.json` (the genesis block that the addresses belong to),
`networks/local.json` (what the server reads) and `anvil.log`.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from devchain import market, parts
from devchain.node import Busy, Node, NodeFault, running


@dataclass(frozen=True)
class DevChain:
    """A running chain: its node, where its contracts are, and the block that tells it from every other."""

    node: Node
    genesis: str
    addresses: dict[str, str]
    folder: Path

    @property
    def networks_dir(self) -> Path:
        """What the server's setting of that name takes."""
        return self.folder / "networks"


@contextlib.contextmanager
def opened(folder: Path, port: int, ether_usd: Decimal) -> Iterator[DevChain]:
    """The chain of a folder; raises `parts.Missing` when it cannot be had on this machine."""
    anvil = parts.make_ready()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        node = stack.enter_context(_node(anvil, port, folder))
        yield _furnish(node, folder, int(ether_usd * 10**8))


@contextlib.contextmanager
def _node(anvil: Path, port: int, folder: Path) -> Iterator[Node]:
    """The node with the state that was kept; one that it cannot read is put aside, and a new chain begins."""
    state, log = folder / "state.json", folder / "anvil.log"
    with contextlib.ExitStack() as stack:
        try:
            node = stack.enter_context(running(anvil, port, state, log))
        except NodeFault as fault:
            if isinstance(fault, Busy) or not state.exists():
                raise
            state.rename(folder / "state.json.unreadable")
            print("The chain's state cannot be read; it was put aside, and a new chain begins.", flush=True)
            node = stack.enter_context(running(anvil, port, state, log))
        yield node


def _furnish(node: Node, folder: Path, ether_usd: int) -> DevChain:
    known, genesis = folder / "market.json", node.genesis
    kept = json.loads(known.read_text()) if known.exists() else {}
    if kept.get("genesis") == genesis:
        market.renew_feeds(node, kept["addresses"], ether_usd)
    else:
        kept = {"genesis": genesis, "addresses": market.build(node, ether_usd)}
        known.write_text(json.dumps(kept, indent=2))
    chain = DevChain(node, genesis, kept["addresses"], folder)
    chain.networks_dir.mkdir(exist_ok=True)
    described = market.network(node.url, genesis, chain.addresses)
    (chain.networks_dir / "local.json").write_text(json.dumps(described, indent=2))
    return chain
