"""A SQLite store that several servers share in a simulation, as they share PostgreSQL's.

The code of shared stores is the product's own; replaced are the words that only PostgreSQL has, its notifications, and
the lock that gives a SQLite store to one server. Each transaction is one step of the schedule, which is what the turns
of PostgreSQL's writers come to; the claims are of one organisation, so that nobody takes turns there.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import sqlite3
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

import sqlalchemy as sa

from dustrun.storage.db.database import Database
from dustrun.storage.db.statement import Statement, Tx
from dustrun.storage.runs import claims
from dustrun.storage.sharing import leases, processes
from dustrun.storage.sharing.notifications import Channel, ConnectionLost
from testkit.simulation.loop import OUTSIDE
from testkit.simulation.shared.loop import Life, SharedLoop

_NOW: Final = "store_ms()"
_LOST, _BREAKS, _LATE_S = 20, 5, 0.05
"""Of a thousand notifications, how many are lost, and at how many the connection breaks; and how late they come."""
_FACTS: Final = (
    "pk, id, org_id, workflow_id, concurrency_key, status, wake_at, cancel_requested_at,"
    " (SELECT w.concurrency FROM workflows w WHERE w.id = workflow_id),"
    " EXISTS (SELECT 1 FROM run_signals s WHERE s.run_pk = pk), 1, 1"
)
_SAME: Final = (
    (processes.NOW_MS, _NOW),
    ("CAST(CAST(w.concurrency AS json)->>'max' AS integer)", "json_extract(w.concurrency, '$.max')"),
    ("UPDATE runs c ", "UPDATE runs AS c "),
    ("UPDATE runs r ", "UPDATE runs AS r "),
    ("r.pk = ANY(CAST(:pks AS bigint[]))", "r.pk IN (SELECT value FROM json_each('[' || trim(:pks, '{}') || ']'))"),
)
"""What PostgreSQL calls otherwise."""


def _claiming(room: str) -> str:
    held, is_free = claims._HELD, claims._IS_FREE
    return (
        f"WITH held AS ({held}) UPDATE runs SET claimed_by = :holder, fence = fence + 1 WHERE pk IN"
        f" (SELECT r.pk FROM runs r WHERE {is_free} ORDER BY r.pk LIMIT min(:count, {room})) RETURNING {_FACTS}"
    )


_ROOM: Final = "coalesce((SELECT CAST(s.value AS integer) FROM json_each(:rooms) s LIMIT 1), :most_of_org)"
_OTHERWISE: Final[dict[Statement, str]] = {
    claims._BY_INDEX: "SELECT 1",
    claims._AS_PLANNED: "SELECT 1",
    claims._CLAIM: _claiming(":most_of_org"),
    claims._CLAIM_BY_ROOMS: _claiming(_ROOM),
    claims._DEAD: f"SELECT DISTINCT r.claimed_by FROM runs r WHERE {claims._IS_OPEN} AND r.claimed_by > ''"
    f" AND {leases.IS_DEAD.format(holder='r.claimed_by')}",
    claims._RELEASE_DEAD: f"UPDATE runs SET claimed_by = NULL WHERE pk IN (SELECT r.pk FROM runs r WHERE"
    f" {claims._IS_OPEN} AND r.claimed_by = :holder AND {leases.IS_DEAD.format(holder='r.claimed_by')} LIMIT :count)",
}
"""Statements that need more than other words."""


def _teach_sqlite(dialect: Any) -> None:
    """Gives each statement of shared stores its form for SQLite."""
    for module in (claims, leases, processes):
        for one in vars(module).values():
            if isinstance(one, Statement):
                text = _OTHERWISE.get(one, str(one._source))
                for theirs, ours in _SAME:
                    text = text.replace(theirs, ours)
                one.bound["sqlite"] = Statement(sa.text(text)).compile(dialect)


class Way:
    """A server's way to the store."""

    is_cut = False

    def check(self) -> None:
        """Raises what a dead connection raises while it is cut."""
        if self.is_cut:
            error = sqlite3.OperationalError("the store cannot be reached")
            error.sqlite_errorcode = sqlite3.SQLITE_CANTOPEN
            raise error


class SharedStore(Database):
    """The store as one server reaches it."""

    def __init__(self, way: Way, now_ms: Callable[[], int], url: str, **options: Any) -> None:
        super().__init__(url, **options)
        self.way = way

        @sa.event.listens_for(self.engine, "connect")
        def _set_up(connection: Any, _record: Any) -> None:
            connection.create_function("store_ms", 0, now_ms)

        _teach_sqlite(self.dialect)

    @property
    def can_be_shared(self) -> bool:
        """The simulation's servers share a SQLite file."""
        return True

    def _open_writer(self) -> None:
        self.is_shared, is_shared = False, self.is_shared  # else it sets a time limit that only PostgreSQL has
        try:
            super()._open_writer()
        finally:
            self.is_shared = is_shared

    def begin(self, *, waits: bool = True) -> Tx:
        """Begins a transaction that is executed and committed in one step, or not at all."""
        self.way.check()
        if not waits:
            raise sqlite3.OperationalError("other servers write")
        return super().begin(waits=waits)

    def _read_once(self, query: Callable[[Tx], Any]) -> Any:
        self.way.check()
        return super()._read_once(query)

    async def look_up(self, query: Callable[[Tx], Any]) -> Any:
        """Looks up, as far as there is a way."""
        return await (self.read(query) if self.way.is_cut else super().look_up(query))


class Notifications:
    """What servers tell each other: late, in order, not always, and over connections that break."""

    def __init__(self, loop: SharedLoop, chance: random.Random) -> None:
        self.is_faulty = False
        self._loop = loop
        self._chance = chance
        self._ears: dict[asyncio.Queue[str | None], tuple[Life, float]] = {}

    def open(self, database: Any) -> Channel:
        """A server's way to the others."""
        return _Channel(self, database)

    async def notify(self, database: Database, payload: str) -> None:
        """Sends to all that listen."""
        await database.look_up(lambda _tx: None)
        for ear, (life, busy) in list(self._ears.items()):
            if not self._loop.is_alive(life):
                del self._ears[ear]
                continue
            drawn = self._chance.randrange(1000) if self.is_faulty else 1000
            at = max(busy, self._loop.now + self._chance.random() * _LATE_S)
            self._ears[ear] = life, at
            if drawn >= _LOST:
                self._loop.call_at(at, ear.put_nowait, None if drawn < _LOST + _BREAKS else payload, context=OUTSIDE)

    async def listen(self, database: Any, quiet_s: float) -> AsyncIterator[str | None]:
        """Hears from now on; see `storage/sharing/notifications.py`."""
        if database.way.is_cut:
            raise ConnectionLost("the store cannot be reached")
        ear: asyncio.Queue[str | None] = asyncio.Queue()
        self._ears[ear] = self._loop.life(), 0.0
        try:
            yield None
            while True:
                heard: str | None = ""
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(quiet_s):
                        heard = await ear.get()
                if heard is None or database.way.is_cut:
                    raise ConnectionLost("the connection broke")
                yield heard or None
        finally:
            self._ears.pop(ear, None)


class _Channel(Channel):
    """In the place of PostgreSQL's."""

    def __init__(self, all_of_them: Notifications, database: Any) -> None:
        super().__init__(database)
        self._all = all_of_them

    async def notify(self, payload: str) -> None:
        await self._all.notify(self._database, payload)

    def listen(self, quiet_s: float) -> AsyncIterator[str | None]:
        return self._all.listen(self._database, quiet_s)
