"""Runs long work in threads, so that the event loop stays free; short work is done where it is.

A thread that computes in Python lets the loop run every few milliseconds. One call into C that keeps the interpreter to
itself does not, so what such a call gets must be bounded.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Awaitable, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar, overload

from dustrun.core.values.exact_json import is_large

_SMALL: Final = 4096
_FEW: Final = 16
_PER_PIECE: Final = 500
T = TypeVar("T")
A = TypeVar("A")

# Separate pools: actions that take seconds must not delay requests, nor either of them DNS look-ups and the like.
_ACTIONS: Final = ThreadPoolExecutor(max_workers=2, thread_name_prefix="text-work")
_BESIDE: Final = ThreadPoolExecutor(max_workers=2, thread_name_prefix="beside-loop")


async def run_in_thread(work: Callable[[threading.Event], T], chars: int) -> T:
    """The result of an action's `work` on a text. It receives an event that is set when nobody waits any longer."""
    stop = threading.Event()
    if chars <= _SMALL:
        return work(stop)
    try:
        return await asyncio.get_running_loop().run_in_executor(_ACTIONS, work, stop)
    finally:
        stop.set()  # a timeout cancels the wait, not the thread


async def run_sized(size_of: Any, work: Callable[..., T], *arguments: Any) -> T:
    """The result of work whose duration grows with a value: in a thread if that is large, else at once."""
    return await run_beside(work, *arguments) if is_large(size_of) else work(*arguments)


async def run_beside(work: Callable[..., T], *arguments: Any) -> T:
    """The result of work that takes less than a second, in a thread with the caller's context variables."""
    context = contextvars.copy_context()
    return await asyncio.get_running_loop().run_in_executor(_BESIDE, lambda: context.run(work, *arguments))


async def in_pieces(work: Callable[[Sequence[A]], Iterable[T]], items: Sequence[A]) -> list[T]:
    """The work's results for many items, in order: of few at once, else beside the loop, a piece at a time, so that
    others get their turn of the threads, too."""
    if len(items) <= _FEW:
        return list(work(items))
    found: list[T] = []
    for start in range(0, len(items), _PER_PIECE):
        found += await run_beside(lambda piece: list(work(piece)), items[start : start + _PER_PIECE])
    return found


# Concurrent reads: coalesced into one request where possible.


B = TypeVar("B")
C = TypeVar("C")
D = TypeVar("D")


@overload
async def side_by_side(a: Awaitable[A], b: Awaitable[B], /) -> tuple[A, B]: ...


@overload
async def side_by_side(a: Awaitable[A], b: Awaitable[B], c: Awaitable[C], /) -> tuple[A, B, C]: ...


@overload
async def side_by_side(a: Awaitable[A], b: Awaitable[B], c: Awaitable[C], d: Awaitable[D], /) -> tuple[A, B, C, D]: ...


async def side_by_side(*reads: Awaitable[Any]) -> tuple[Any, ...]:
    """The results in order. If several fail, raises the first failure in the order of the arguments."""
    found = await asyncio.gather(*reads, return_exceptions=True)
    for one in found:
        if isinstance(one, BaseException):
            raise one
    return tuple(found)
