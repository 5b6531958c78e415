"""Which runs of a shared store this process advances: those that it has claimed. One machine's worth of processes; for
many machines there is another engine."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from dustrun import clock, log
from dustrun.engine.run.recovery import LoadedRun
from dustrun.services.sharing.bus import Bus
from dustrun.storage.db.database import Database
from dustrun.storage.db.statement import Tx
from dustrun.storage.db.writer import Writer
from dustrun.storage.runs import claims as rows
from dustrun.storage.runs.claims import Rooms, WokenRun
from dustrun.storage.runs.runs import OpenRun

_logger = log.get(__name__)
_LOOK_S = 1.0
"""How often free runs and signals are looked for that nobody told of, also while others tell of new runs."""
_MOST = 50
"""How many runs are claimed at once. With more, all runs in flight move from process to process as one batch, and each
process waits while another one has it."""
_PARTS, _MOST_OF_MANY = 4, 200
"""Of many free runs a quarter is claimed at once, but no more than this: a claim costs almost as much for few."""
_MOST_HANDED = 100
"""How many runs created here may wait for engines: twice what one claims at once, so that the next group is ready when
it comes back."""
_MOST_RELEASED = 1000
"""How many runs of a process that is no more are released at once: all that write wait meanwhile."""
_REST_S = 0.005
"""Runs that become free within this are claimed together."""
_HAND_OVER_S = 5.0
"""How long a run that nobody was heard to advance counts as handed over."""


class ClaimingEngine(Protocol):
    """The engine that advances what is claimed."""

    @property
    def room(self) -> int:
        """How many more runs may begin now."""
        ...

    def rooms(self, most: int, coming: Mapping[str, int]) -> Rooms:
        """How many more runs of each organisation may begin now, as far as it is fewer than `most`. `coming`: how many
        have been claimed of each, and are not adopted yet."""
        ...

    def load_new(self, tx: Tx, found: list[OpenRun]) -> dict[int, LoadedRun]:
        """Reads those of newly claimed runs that may begin at once."""
        ...

    def adopt(self, found: list[OpenRun], loaded: Mapping[int, LoadedRun]) -> None:
        """These runs are this process's now; `loaded`: those that have been read."""
        ...

    def hear_wake(self, run_pk: int) -> bool:
        """A signal for the run is on disk; False, and nothing, if the engine does not know the run."""
        ...

    def hear_cancel(self, run_pk: int) -> bool:
        """A request to cancel the run is on disk; False, and nothing, if the engine does not know the run."""
        ...


class Claims:
    """Claims free runs while the engine has room, organisation after organisation, and passes on what concerns the runs
    of other processes.

    `share`: among how many engines a limit of all is divided. `advances`: False where only calls are answered.
    `most_free`: with so many free runs no more are accepted. `has_engines`: whether a process that advances runs
    lives."""

    def __init__(
        self,
        database: Database,
        writer: Writer,
        bus: Bus,
        share: Callable[[], int],
        *,
        advances: bool,
        most_free: int,
        has_engines: Callable[[], bool] = lambda: False,
    ) -> None:
        self.holder = database.name
        self.share = share
        self.advances = advances
        self._database = database
        self._writer = writer
        self._bus = bus
        self._engine: ClaimingEngine | None = None
        self._woken = asyncio.Event()
        self._was_told = False
        self._coming: Counter[str] = Counter()
        self._reads: set[asyncio.Task[None]] = set()
        self._look_at = 0.0
        self._last_org = ""
        self._is_short = False
        self._seen: dict[int, WokenRun] = {}
        self._most_free = most_free
        self._free = 0
        self._tasks: list[asyncio.Task[None]] = []
        self._handed: dict[int, float] = {}
        self._has_engines = has_engines

    def may_hand_over(self, more: int) -> bool:
        """Whether engines keep up with the runs that were created here, so that they may get more to do. `more`: how
        many are for them and not on disk yet."""
        return len(self._handed) + more < _MOST_HANDED and self._has_engines()

    def handed(self, run_pk: int) -> None:
        """A run was created here for an engine to advance."""
        self._handed[run_pk] = clock.monotonic_s()
        self.freed()

    def hear_of(self, run_pk: int) -> None:
        """Another process advances the run."""
        self._handed.pop(run_pk, None)

    @property
    def is_full(self) -> bool:
        """Whether as many runs as may wait for a process, as the last look tells."""
        return self._free >= self._most_free

    def start(self, engine: ClaimingEngine) -> None:
        """Claims from now on."""
        self._engine = engine
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._keep_counting())]
        if not self.advances:
            return
        self._bus.on("free", self.look_soon)
        self._bus.on("wake", engine.hear_wake)
        self._bus.on("cancel", engine.hear_cancel)
        self._tasks.append(loop.create_task(self._keep()))

    async def stop(self) -> None:
        """Claims nothing more; what is claimed stays so until the process ends."""
        tasks = [*self._tasks, *self._reads]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def freed(self) -> None:
        """A run is free that was not, or a place of its workflow's limit."""
        self.look_soon()
        self._bus.tell("free")

    def left(self) -> None:
        """A run no longer advances here: its place may be what free runs wait for."""
        if self._is_short:
            self.look_soon()

    def pass_on(self, kind: str, run_pk: int) -> None:
        """A run of another process, or of none, has to `wake` or to `cancel`."""
        self._bus.tell(kind, run_pk)
        if kind == "cancel":
            self.freed()

    def look_soon(self) -> None:
        """There may be free runs."""
        self._was_told = True
        self._woken.set()

    async def _keep_counting(self) -> None:
        while True:
            try:
                self._free = await self._database.read(lambda tx: rows.count_free(tx, self._most_free))
            except Exception as error:
                _logger.failed("runs could not be counted", error)
            since = clock.monotonic_s() - _HAND_OVER_S
            self._handed = {run_pk: at for run_pk, at in self._handed.items() if at > since}
            await asyncio.sleep(_LOOK_S)

    async def _keep(self) -> None:
        assert self._engine is not None
        while True:
            try:
                await self._look(self._engine)
            except Exception as error:
                _logger.failed("runs could not be claimed", error)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_S):
                    await self._woken.wait()
            if self._woken.is_set():
                self._woken.clear()
                await asyncio.sleep(_REST_S)

    async def _look(self, engine: ClaimingEngine) -> None:
        is_claimable, self._was_told = self._was_told, False
        if not is_claimable or clock.monotonic_s() >= self._look_at:
            self._look_at = clock.monotonic_s() + _LOOK_S
            called, dead, has_free = await self._database.read(
                lambda tx: (
                    rows.list_called(tx, self.holder),
                    rows.list_dead(tx),
                    is_claimable or rows.has_free(tx),
                )
            )
            self._call(engine, called)
            for holder in dead:
                await self._release(holder)
            is_claimable = has_free or bool(dead)
        room = min(engine.room - self._coming.total(), self._most)
        if is_claimable and room > 0 and await self._claim(engine, room) == room:
            self.look_soon()
        self._is_short = is_claimable and (engine.room <= 0 or bool(engine.rooms(1, self._coming).named))

    @property
    def _most(self) -> int:
        return min(max(_MOST, self._free // _PARTS), _MOST_OF_MANY)

    async def _release(self, holder: str) -> None:
        """Releases what a process has claimed that is no more."""
        count = await self._writer.write(lambda tx: rows.release_dead(tx, holder, _MOST_RELEASED), repeatable=True)
        if count == _MOST_RELEASED:
            self._look_at = 0.0
            self.look_soon()

    async def _claim(self, engine: ClaimingEngine, room: int) -> int:
        """Claims so many runs at most, and returns how many. They are read after the commit, since all processes that
        write wait until it is done, and while more are claimed."""
        rooms, after = engine.rooms(room, self._coming), self._last_org
        answer = await self._writer.write(
            lambda tx: rows.claim(tx, self.holder, room, rooms, after), repeatable=True, is_separate=True
        )
        found, last_org = rows.claimed(answer)
        self._last_org = last_org or self._last_org
        if found:
            self._coming += Counter(run.org_id for run in found)
            task = asyncio.get_running_loop().create_task(self._read(engine, found))
            self._reads.add(task)
            task.add_done_callback(self._reads.discard)
        return len(found)

    async def _read(self, engine: ClaimingEngine, found: list[OpenRun]) -> None:
        """Reads claimed runs, and passes them on in any case: nobody else takes them while this process lives."""
        loaded: Mapping[int, LoadedRun] = {}
        try:
            loaded = await self._database.look_up(lambda tx: engine.load_new(tx, found))
        except Exception as error:
            _logger.failed("claimed runs are read one by one", error)
        finally:
            self._coming -= Counter(run.org_id for run in found)
            engine.adopt(found, loaded)

    def _call(self, engine: ClaimingEngine, found: Sequence[WokenRun]) -> None:
        """Wakes runs for what nobody told of, each thing once: a signal may lie there until its node waits for it. What
        is for a run that the engine does not know yet, since its creation has only just committed, comes again."""
        seen, self._seen = self._seen, {}
        for one in found:
            hear = engine.hear_cancel if one.is_cancelled else engine.hear_wake
            if seen.get(one.pk) == one or hear(one.pk):
                self._seen[one.pk] = one
