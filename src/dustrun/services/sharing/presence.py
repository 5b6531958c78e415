"""This process among those that share the store: it says that it lives, and knows how many others do."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

import dustrun
from dustrun import clock, log
from dustrun.errors import DustrunError
from dustrun.settings import Settings
from dustrun.storage.db.database import Database
from dustrun.storage.db.statement import Tx
from dustrun.storage.db.writer import Writer
from dustrun.storage.runs import claims
from dustrun.storage.sharing import leases, processes
from dustrun.storage.sharing.processes import ProcessRow

_logger = log.get(__name__)
BEAT_S = 2.0
KEEP_MS = 8_000
"""How long a process that says nothing counts as alive: others take over what it held after that."""


def _nothing() -> None:
    return None


class Presence:
    """Writes the process's row every two seconds; `living` is who lived then."""

    def __init__(self, database: Database, writer: Writer, settings: Settings) -> None:
        self.id = database.name
        self.living: list[ProcessRow] = []
        self.on_look: Callable[[], None] = _nothing
        """Called when `living` may have changed."""
        self._writer = writer
        self._roles = ",".join(sorted(settings.roles))
        self._most_skew_ms = settings.max_clock_skew_ms
        self._is_off = False
        self._accompanied_until = 0.0
        self._woken = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Says that the process lives, from now on."""
        await self._beat()
        self._task = asyncio.get_running_loop().create_task(self._keep())

    async def stop(self) -> None:
        """The process gives back whatever it holds; call it when nothing of it runs any more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        try:
            await self._writer.write(self._end)
        except DustrunError as error:
            _logger.warning("the end of this process was not recorded", error=error.message)

    def share(self, role: str) -> int:
        """Among how many processes of a role what is limited for all of them is divided; at least one."""
        return max(1, self._count(role))

    def has(self, role: str) -> bool:
        """Whether a process of a role lived when this one last looked."""
        return self._count(role) > 0

    def _count(self, role: str) -> int:
        return sum(role in one.roles for one in self.living)

    @property
    def others(self) -> set[str]:
        """The other processes that lived when this one last looked."""
        return {one.id for one in self.living} - {self.id}

    @property
    def is_alone(self) -> bool:
        """Whether no other process lived when this one last looked, and none has been heard of lately."""
        return not self.others and clock.monotonic_s() >= self._accompanied_until

    def hear_of_another(self) -> None:
        """Another process has come: this one is not alone from now on, and need not have looked for that."""
        self._accompanied_until = clock.monotonic_s() + KEEP_MS / 1000
        self.look()

    async def refresh(self) -> None:
        """Looks now who lives."""
        await self._beat()

    def look(self) -> None:
        """Another process has come, or has gone."""
        self._woken.set()

    async def _keep(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(BEAT_S):
                    await self._woken.wait()
            self._woken.clear()
            try:
                await self._beat()
            except DustrunError as error:
                _logger.warning("this process could not say that it lives", error=error.message)

    async def _beat(self) -> None:
        def unit(tx: Tx) -> tuple[int, list[ProcessRow]]:
            skew_ms = processes.clock_skew(tx)
            processes.beat(tx, self.id, self._roles, dustrun.__version__, KEEP_MS, skew_ms)
            return skew_ms, processes.list_living(tx)

        skew_ms, self.living = await self._writer.write(unit, repeatable=True)
        self._judge_clock(skew_ms)
        self.on_look()

    def _judge_clock(self, skew_ms: int) -> None:
        """Says so, once, when the clock has gone so wrong that this process would not be let in any more."""
        is_off = abs(skew_ms) > self._most_skew_ms
        if is_off and not self._is_off:
            text = "this machine's clock, by which waits and schedules go, is too far from the database's"
            _logger.warning(text, ahead_by_ms=skew_ms, max_clock_skew_ms=self._most_skew_ms)
        self._is_off = is_off

    def _end(self, tx: Tx) -> None:
        claims.release(tx, self.id)
        leases.release_all(tx, self.id)
        processes.end(tx, self.id)
