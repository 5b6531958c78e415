"""The writer's transactions on a connection that is replaced when it dies."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import psycopg

from dustrun.errors import Bug, Temporary, Uncertain
from dustrun.storage.db.database import Claimed, Database
from dustrun.storage.db.pipeline.call import Answer, Call, fixed
from dustrun.storage.db.pipeline.link import Link
from dustrun.storage.db.pipeline.wave import Wave

_BEGIN = "BEGIN ISOLATION LEVEL READ COMMITTED"


class Session:
    """One transaction after the other; a transaction begins with the first statements that are sent."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._link: Link | None = None
        self.thread = ThreadPoolExecutor(1, thread_name_prefix="writer")
        """Where units run that may take long."""
        self.has_begun = False
        """Whether a transaction is open."""

    async def send(self, before: Sequence[str], wave: Wave) -> None:
        """Executes fixed SQL and a wave in one round trip; each request of the wave gets its result."""
        wanted = [fixed(sql) for sql in before] + wave.calls()
        if self.has_begun:
            assert self._link is not None
            answers = await self._link.send(wanted)
        else:
            answers = (await self._begin([fixed(_BEGIN), *wanted]))[1:]
            self.has_begun = True
        wave.resolve(answers[len(before) :])

    async def commit(self, before: Sequence[str], wave: Wave) -> None:
        """Commits, together with the last statements; raises `Uncertain` if the connection dies meanwhile."""
        if not self.has_begun and wave.steps:
            await self.send(before, wave)  # what may go to a new connection may not contain a commit
            before, wave = (), Wave(self._database.dialect)
        if not self.has_begun:
            return
        assert self._link is not None
        self.has_begun = False
        wanted = [fixed(sql) for sql in before] + wave.calls()
        try:
            answers = await self._link.send([*wanted, fixed("COMMIT")])
        except psycopg.Error as error:
            if not self._link.is_closed:
                raise
            message = "The connection to the store died during a commit; look the id up."
            raise Uncertain(message, retry_after_s=2) from error
        if answers[-1].status != "COMMIT":
            raise Bug("The store rolled back a transaction instead of committing it.")
        wave.resolve(answers[len(before) : -1])

    async def roll_back(self) -> None:
        """Undoes the transaction."""
        self.has_begun = False
        if self._link is not None:
            await self._link.send([fixed("ROLLBACK")])

    async def _begin(self, calls: list[Call]) -> list[Answer]:
        """Sends the first statements of a transaction; to a new connection if the old one has died."""
        is_new = not self._database.has_writer
        try:
            link = await self._open()
            return await link.send(calls)
        except psycopg.Error:
            if is_new or self._link is None or not self._link.is_closed:
                raise
            self.drop()
        link = await self._open()
        return await link.send(calls)

    async def _open(self) -> Link:
        if self._link is None:
            try:
                self._link = Link(await asyncio.to_thread(self._database.open_writer))
            except Claimed:
                message = "Another session holds the store; nothing was started."
                raise Temporary(message, retry_after_s=2) from None
        return self._link

    def drop(self) -> None:
        """Discards the connection."""
        self._link, self.has_begun = None, False
        self._database.reopen_writer()

    async def close(self) -> None:
        """Releases the writer's lock and closes the connection."""
        if self._link is not None and not self._link.is_closed:
            self._link.close()
        await asyncio.to_thread(self._database.close_writer)
        self._link = None
        self.thread.shutdown()
