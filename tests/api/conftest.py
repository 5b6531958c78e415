"""The composition that the tests of the API share."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from testkit.composition import Client, Composition, composed


@pytest.fixture
async def server(tmp_path: Path, store_url: str) -> AsyncIterator[Composition]:
    """A server with a fresh store."""
    async with composed(tmp_path, database_url=store_url) as composition:
        yield composition


@pytest.fixture
def owner(server: Composition) -> Client:
    """The caller with the owner's key."""
    return server.owner
