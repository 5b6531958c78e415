"""Lets work over a long text run in a thread, so that the event loop goes on; a short one is done at once."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Final, TypeVar

_SMALL: Final = 4096
T = TypeVar("T")


async def apart(work: Callable[[threading.Event], T], chars: int) -> T:
    """What `work` gives. It is handed an event that is set when nobody waits for it any longer."""
    stop = threading.Event()
    if chars <= _SMALL:
        return work(stop)
    try:
        return await asyncio.to_thread(work, stop)
    finally:
        stop.set()  # a time limit cancels the waiting, not the thread
