"""A chain of pings."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from testkit.chain.anvil import Anvil
from testkit.chain.lent import lent
from testkit.chain.pings import WORDS, Pings


@pytest.fixture
def pings() -> Iterator[Pings]:
    """A node with the contract, some blocks old."""
    with lent(*WORDS) as node:
        made = Pings(node, random.Random(5))
        made.install()
        node.mine(8)
        yield made


@pytest.fixture
def fresh_pings() -> Iterator[Pings]:
    """Like `pings`, on a node that no test has used: one that is lent may have let go of the state of an old block."""
    with Anvil(*WORDS) as node:
        made = Pings(node, random.Random(5))
        made.install()
        node.mine(8)
        yield made
