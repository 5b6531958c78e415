"""Calls whose outcome the store could not tell: they are repeated until it is known."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from dustrun.errors import StoreUnavailable, Uncertain

ASK_AGAIN_S = 0.5
T = TypeVar("T")


async def until_known(call: Callable[[], Awaitable[T]], *, is_unknown: bool = False) -> T:
    """The result of a call that has the same effect however often it is made, repeated until its outcome is known.
    Raises `StoreUnavailable` if the first one has done nothing, unless what came before `is_unknown`. What else it
    raises is known: the store has answered, or another process has the run."""
    while True:
        try:
            return await call()
        except Uncertain:
            is_unknown = True
        except StoreUnavailable:
            if not is_unknown:
                raise
        await asyncio.sleep(ASK_AGAIN_S)
