"""Whether the store answers this process: one that is cut off from it must not keep work that others could do."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from dustrun import log
from dustrun.errors import Temporary, Uncertain

_logger = log.get(__name__)
CUT_S: Final = 5.0
"""After so long without an answer the store counts as cut off."""
_ASK_EVERY_S: Final = 1.0
_TICK_S: Final = 0.5


class StoreWatch:
    """Asks the store every second. `ask`: returns when the store has answered, or raises."""

    def __init__(self, ask: Callable[[], Awaitable[object]], cut_s: float = CUT_S) -> None:
        self._ask = ask
        self._cut_s = cut_s
        self._silent_s = 0.0
        self._cut, self._well = asyncio.Event(), asyncio.Event()
        self._well.set()
        self._task: asyncio.Task[None] | None = None

    @property
    def is_cut(self) -> bool:
        """Whether the store has not answered for too long."""
        return self._cut.is_set()

    async def until_cut(self) -> None:
        """Returns once the store has not answered for too long."""
        await self._cut.wait()

    async def until_well(self) -> None:
        """Returns as soon as the store answers."""
        await self._well.wait()

    def start(self) -> None:
        """Begins to ask."""
        self._task = asyncio.get_running_loop().create_task(self._keep())

    async def stop(self) -> None:
        """Asks no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _keep(self) -> None:
        while True:
            asked = asyncio.ensure_future(self._is_answered())
            while not (await asyncio.wait({asked}, timeout=_TICK_S))[0]:
                self._note_silence()
            if asked.result():
                self._note_answer()
                await asyncio.sleep(_ASK_EVERY_S)
            else:
                await asyncio.sleep(_TICK_S)
                self._note_silence()

    async def _is_answered(self) -> bool:
        try:
            await self._ask()
        except (Temporary, Uncertain):
            return False
        except Exception as error:
            _logger.error("the store could not be asked", exc_info=error)
            return False
        return True

    def _note_silence(self) -> None:
        """Counts ticks, not the clock's time: what holds up this process holds up its ticks, and is not the store's."""
        self._silent_s += _TICK_S
        if self._silent_s >= self._cut_s and not self.is_cut:
            _logger.warning("the store does not answer; other processes get this one's runs", silent_s=self._silent_s)
            self._well.clear()
            self._cut.set()

    def _note_answer(self) -> None:
        if self.is_cut:
            _logger.info("the store answers again")
        self._silent_s = 0.0
        self._cut.clear()
        self._well.set()
