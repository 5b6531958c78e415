"""A process joins others: it answers calls only once each of them tells what it does. Until one has heard of the first
that joins it, it takes itself for the only one and tells nothing; a notice that is not told is in no table either."""

from __future__ import annotations

import asyncio
import contextlib

from dustrun import log
from dustrun.services.sharing.bus import Bus
from dustrun.services.sharing.presence import Presence

_logger = log.get(__name__)
_PATIENCE_S = 1.0
"""More than it takes to hear again after a connection was lost. Who is silent for longer has died or is frozen."""
_AGAIN_S = 0.1


class Arrival:
    """Tells the others that this process listens, and hears that they know it."""

    def __init__(self, bus: Bus, presence: Presence) -> None:
        self._bus = bus
        self._presence = presence
        self._known_to: set[str] = set()
        self._news = asyncio.Event()
        bus.on("listens", self._hear_of)
        bus.on("heard", self._hear_answer)

    async def announce(self) -> None:
        """Returns once the others that live tell this process what they do, or have not answered for a while."""
        await self._presence.refresh()  # who joined before this process listened
        self._bus.tell("came")
        try:
            async with asyncio.timeout(_PATIENCE_S):
                while self._presence.others - self._known_to:
                    await self._ask()
        except TimeoutError:
            silent = sorted(self._presence.others - self._known_to)
            _logger.warning("other servers on the store do not answer", processes=silent)

    async def _ask(self) -> None:
        self._news.clear()
        self._bus.tell("listens", self._presence.id)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_AGAIN_S):
                await self._news.wait()

    def _hear_of(self, process_id: str) -> None:
        self._presence.hear_of_another()
        self._bus.tell("heard", process_id, self._presence.id)
        self._note(process_id)

    def _hear_answer(self, asked_by: str, process_id: str) -> None:
        if asked_by == self._presence.id:
            self._note(process_id)

    def _note(self, process_id: str) -> None:
        self._known_to.add(process_id)
        self._news.set()
