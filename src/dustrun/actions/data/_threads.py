"""Lets work over a long text run in a thread, so that the event loop goes on; a short one is done at once."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

_SMALL: Final = 4096
T = TypeVar("T")

# Threads of its own: work that goes on after its node was cut off must not hold up look-ups of names and the like.
_THREADS: Final = ThreadPoolExecutor(max_workers=2, thread_name_prefix="apart")


async def apart(work: Callable[[threading.Event], T], chars: int) -> T:
    """What `work` gives. It is handed an event that is set when nobody waits for it any longer."""
    stop = threading.Event()
    if chars <= _SMALL:
        return work(stop)
    try:
        return await asyncio.get_running_loop().run_in_executor(_THREADS, work, stop)
    finally:
        stop.set()  # a time limit cancels the waiting, not the thread
