"""This process among those that share the store: it says that it lives, and knows how many others do."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final

import dustrun
from dustrun import clock, log
from dustrun.errors import Conflict, DustrunError
from dustrun.listeners import Listeners
from dustrun.services.sharing.bus import Bus
from dustrun.settings import Settings
from dustrun.storage.db import store_facts
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


class Presence:
    """Writes the process's row every two seconds; `living` is who lived then."""

    def __init__(self, database: Database, writer: Writer, settings: Settings) -> None:
        self.id = database.name
        self.living: list[ProcessRow] = []
        self.on_look: Listeners[[]] = Listeners()
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
            _logger.failed("the end of this process was not recorded", error)

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
                _logger.failed("this process could not say that it lives", error)

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


# Whether a process may join those that share a store: they must agree on the time, the version and the engine.


_CLAIMS: Final = "without Temporal"


async def check_in(database: Database, writer: Writer, settings: Settings) -> None:
    """Raises `Conflict` if this process does not fit to those that live on the store."""
    place = place_of(settings)

    def unit(tx: Tx) -> None:
        skew = processes.clock_skew(tx)
        others = [one for one in processes.list_living(tx) if one.id != database.name]
        check_clock(skew, settings.max_clock_skew_ms)
        check_versions(others)
        _check_place(tx, place, others)

    await writer.write(unit)


def place_of(settings: Settings) -> str:
    """Who decides which process advances a run."""
    if settings.temporal_address is None:
        return _CLAIMS
    return f'with Temporal, namespace "{settings.temporal_namespace}", queue "{settings.temporal_queue}"'


def check_clock(skew_ms: int, most_ms: int) -> None:
    """Raises `Conflict` if this machine's clock and the database's differ too much."""
    if abs(skew_ms) > most_ms:
        ahead = "ahead of" if skew_ms > 0 else "behind"
        raise Conflict(
            f"The clock of this machine is {abs(skew_ms) / 1000:.1f} s {ahead} the database's; at most "
            f"{most_ms / 1000:.1f} s are allowed (setting max_clock_skew_ms), because waits and schedules go by it. "
            "Turn on time synchronisation on both machines (timedatectl set-ntp true)."
        )


def check_versions(others: list[ProcessRow]) -> None:
    """Raises `Conflict` if processes of another major version live on the store."""
    ours = dustrun.__version__
    foreign = sorted({one.version for one in others if one.version.split(".")[0] != ours.split(".")[0]})
    if foreign:
        raise Conflict(
            f"Processes of version {', '.join(foreign)} use this store, and this one is {ours}: only versions with the "
            "same first number work together. Stop those first, or start this one with their version."
        )


def _check_place(tx: Tx, place: str, others: list[ProcessRow]) -> None:
    known = store_facts.find(tx, store_facts.ENGINE)
    if known is not None and known != place and others:
        raise Conflict(
            f"The {len(others)} processes that use this store work {known}; this one is set to work {place}. Give all "
            "of them the same DUSTRUN_TEMPORAL_ADDRESS, DUSTRUN_TEMPORAL_NAMESPACE and DUSTRUN_TEMPORAL_QUEUE; to "
            "change them, stop all processes first."
        )
    if known != place:
        store_facts.put(tx, store_facts.ENGINE, place)


# A process joins others: it answers calls only once each of them tells what it does. Until one has heard of the first
# that joins it, it takes itself for the only one and tells nothing; a notice that is not told is in no table either.


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
