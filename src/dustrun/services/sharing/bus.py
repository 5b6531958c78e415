"""Wake-ups between the processes that share a store. The tables are the truth: a wake-up only says where to look.

What is told while an earlier notification is on its way travels in the next one. Nothing depends on a wake-up: after
each connection, and after a few quiet seconds, `on_gap` is called, and everybody looks in the tables.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from typing import Any, Final

from dustrun import log
from dustrun.core.values.exact_json import dumps_text, loads_own
from dustrun.errors import DustrunError
from dustrun.storage.db.database import Database
from dustrun.storage.sharing.notifications import MOST_BYTES, Channel, ConnectionLost

_logger = log.get(__name__)
GAP_S: Final = 5.0
"""How long a lost wake-up may delay what it was about."""
_AGAIN_S: Final = 0.5
_PATIENCE_S: Final = 5.0
_REST_S, _BUSY_REST_S = 0.003, 0.005
_FEW: Final = 5
"""With more wake-ups at once, those that follow are gathered for longer: a notification costs both sides as much
processor time as a step of a run."""
Told = tuple[Any, ...]
Handler = Callable[..., object]


def _nothing() -> None:
    return None


class Bus:
    """Tells other processes, and hears them; handlers are called on the event loop. `is_silent`: whether nobody would
    hear it. `open_channel`: what wake-ups travel by."""

    def __init__(
        self,
        database: Database,
        is_silent: Callable[[], bool] = lambda: False,
        open_channel: Callable[[Database], Channel] = Channel,
    ) -> None:
        self._name = database.name
        self._channel = open_channel(database)
        self._handlers: dict[str, Handler] = {}
        self._told: dict[Told, None] = {}
        self._woken = asyncio.Event()
        self._listens = asyncio.Event()
        self._deafness = log.Trouble(_logger, log.WARNING, "the connection that hears other servers is lost")
        self._tasks: list[asyncio.Task[None]] = []
        self.on_gap: list[Callable[[], None]] = []
        """Called when wake-ups may have been lost, and every few seconds, since nobody would know."""
        self._is_silent = is_silent

    def on(self, kind: str, handler: Handler) -> None:
        """Sets who is called with what others tell of a kind."""
        self._handlers[kind] = handler

    def tell(self, kind: str, *values: Any) -> None:
        """Tells the other processes; call it after the commit. Values are JSON, a few short ones."""
        if not self._is_silent():
            self._told[(kind, *values)] = None
            self._woken.set()

    async def start(self) -> None:
        """Listens and tells from now on. If it cannot listen yet, it goes on trying."""
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._listen()), loop.create_task(self._send())]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE_S):
                await self._listens.wait()

    async def stop(self) -> None:
        """Tells what is left, then hears nothing more."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._flush()

    # --- telling ---

    async def _send(self) -> None:
        while True:
            await self._woken.wait()
            self._woken.clear()
            is_busy = len(self._told) > _FEW
            await self._flush()
            await asyncio.sleep(_BUSY_REST_S if is_busy else _REST_S)

    async def _flush(self) -> None:
        told, self._told = self._told, {}
        for payload in self._payloads(told):
            try:
                await self._channel.notify(payload)
            except DustrunError as error:
                _logger.failed("other servers were not told", error)

    def _payloads(self, told: dict[Told, None]) -> Iterator[str]:
        """The messages, in as few notifications as they fit into."""
        begin = f'["{self._name}"'
        parts, size = [begin], len(begin)
        for one in told:
            text = dumps_text(list(one))
            length = len(text.encode()) + 1
            if size + length >= MOST_BYTES and len(parts) > 1:
                yield ",".join(parts) + "]"
                parts, size = [begin], len(begin)
            parts.append(text)
            size += length
        if len(parts) > 1:
            yield ",".join(parts) + "]"

    # --- hearing ---

    async def _listen(self) -> None:
        while True:
            try:
                async for payload in self._channel.listen(GAP_S):
                    self._listens.set()
                    self._deafness.end()
                    if payload is None:
                        self._look()
                    else:
                        self._hear(payload)
            except ConnectionLost as error:
                self._deafness.meet(error)
            except Exception as error:
                _logger.error("what another server told could not be heard", exc_info=error)
            self._look()
            await asyncio.sleep(_AGAIN_S)

    def _look(self) -> None:
        for look in self.on_gap:
            look()

    def _hear(self, payload: str) -> None:
        sender, *told = loads_own(payload)
        if sender == self._name:
            return
        for kind, *values in told:
            handler = self._handlers.get(kind)
            if handler is not None:  # else a newer version tells something new
                handler(*values)
