"""A chain whose blocks the test makes, and the outbox over it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from outbox import Outbox, open_outbox
from testkit.chain.anvil import Anvil
from testkit.chain.lent import lent


@pytest.fixture
def node() -> Iterator[Anvil]:
    """A chain whose blocks the test makes."""
    with lent("--no-mining", "--slots-in-an-epoch", "1") as node:
        yield node


@pytest.fixture
async def outbox(tmp_path: Path, node: Anvil) -> AsyncIterator[Outbox]:
    async with open_outbox(tmp_path, node) as outbox:
        yield outbox
