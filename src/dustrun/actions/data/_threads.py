"""Runs work on a long text in a thread, so that the event loop is not blocked; short texts are processed inline."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

_SMALL: Final = 4096
T = TypeVar("T")

# A separate pool: work that continues after its node was cancelled must not delay DNS look-ups and the like.
_THREADS: Final = ThreadPoolExecutor(max_workers=2, thread_name_prefix="text-work")


async def run_in_thread(work: Callable[[threading.Event], T], chars: int) -> T:
    """The result of `work`. It receives an event that is set when nobody waits for it any longer."""
    stop = threading.Event()
    if chars <= _SMALL:
        return work(stop)
    try:
        return await asyncio.get_running_loop().run_in_executor(_THREADS, work, stop)
    finally:
        stop.set()  # a timeout cancels the wait, not the thread
