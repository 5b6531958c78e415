"""Coalesces JSON-RPC reads of one event-loop tick into a batch, at a tenth of the cost per read."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from dustrun.chain.failures import may_pass
from dustrun.chain.rpc import MAX_BATCH, Request, RpcError

_KEPT: Final[set[asyncio.Task[None]]] = set()  # the loop holds tasks only weakly
Alone = Callable[[Request], Awaitable[Any]]
All = Callable[[Sequence[Request]], Awaitable[list[Any]]]
_Asked = tuple[Request, "asyncio.Future[Any]"]


class Batching:
    """Collects requests until the next loop tick. What the batch could not settle (an unknown block, a missing
    method) is sent again alone, where other endpoints are tried.
    """

    def __init__(self, alone: Alone, all: All) -> None:
        self._alone = alone
        self._all = all
        self._waiting: list[_Asked] = []

    async def call(self, request: Request) -> Any:
        """The result of one request; raises `RpcError` or `Temporary` as if it was sent alone."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        self._waiting.append((request, future))
        if len(self._waiting) == 1:
            loop.call_soon(self._send)
        return await future

    def _send(self) -> None:
        waiting, self._waiting = self._waiting, []
        for start in range(0, len(waiting), MAX_BATCH):
            task = asyncio.get_running_loop().create_task(self._settle(waiting[start : start + MAX_BATCH]))
            _KEPT.add(task)
            task.add_done_callback(_KEPT.discard)

    async def _settle(self, asked: Sequence[_Asked]) -> None:
        if len(asked) > 1:
            asked = await self._settle_at_once(asked)
        await asyncio.gather(*(self._ask_alone(request, future) for request, future in asked))

    async def _settle_at_once(self, asked: Sequence[_Asked]) -> Sequence[_Asked]:
        """Sends all in one batch; returns those that must be sent alone."""
        try:
            answers = await self._all([request for request, _ in asked])
        except Exception as error:
            answers = [error] * len(asked)
        left = []
        for pair, answer in zip(asked, answers, strict=True):
            if isinstance(answer, RpcError) and may_pass(answer):
                left.append(pair)
            else:
                _tell(pair[1], answer)
        return left

    async def _ask_alone(self, request: Request, future: asyncio.Future[Any]) -> None:
        try:
            _tell(future, await self._alone(request))
        except Exception as error:
            _tell(future, error)


def _tell(future: asyncio.Future[Any], answer: Any) -> None:
    if future.done():  # the caller was cancelled
        return
    if isinstance(answer, Exception):
        future.set_exception(answer)
    else:
        future.set_result(answer)
