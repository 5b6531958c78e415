"""The writer's transactions on a connection that is replaced when it dies."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import psycopg

from dustrun.errors import Bug, Temporary, Uncertain
from dustrun.storage.db.database import Claimed, Database
from dustrun.storage.db.pipeline.call import Answer, fixed
from dustrun.storage.db.pipeline.link import Link, Packed
from dustrun.storage.db.pipeline.wave import Wave

_BEGIN = "BEGIN ISOLATION LEVEL READ COMMITTED"


class Unsendable(Exception):
    """The values of a statement cannot be encoded; nothing was sent."""

    def __init__(self, reason: Exception) -> None:
        super().__init__(str(reason))
        self.reason = reason


def _pack(link: Link, before: Sequence[str], wave: Wave) -> list[Packed]:
    return [link.pack(call) for call in (*map(fixed, before), *wave.calls())]


class Session:
    """One transaction after the other; a transaction begins with the first statements that are sent."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._link: Link | None = None
        self.thread = ThreadPoolExecutor(1, thread_name_prefix="writer")
        """Where units run that may take long."""
        self.packs_in_thread = False
        """Whether the values that are sent may be long too."""

        self.has_begun = False
        """Whether statements of the transaction have been executed, be it with an error."""

    @property
    def is_lost(self) -> bool:
        """Whether the connection, or the transaction that has begun on it, is no more."""
        return self.has_begun and not (self._link is not None and self._link.is_in_transaction)

    async def send(self, before: Sequence[str], wave: Wave) -> None:
        """Executes fixed SQL and a wave in one round trip; each request of the wave gets its result. Raises
        `Unsendable` if nothing was sent."""
        fixed_first = before if self.has_begun else (_BEGIN, *before)
        try:
            answers = await self._send(fixed_first, wave)
        finally:
            self.has_begun = self.has_begun or (self._link is not None and self._link.is_in_transaction)
        wave.resolve(answers[len(fixed_first) :])

    async def commit(self, before: Sequence[str], wave: Wave) -> None:
        """Commits, together with the last statements. If one fails, the transaction is undone; raises `Uncertain` if
        the connection dies meanwhile, and `Unsendable` if nothing was sent."""
        try:
            if not self.has_begun and wave.steps:
                await self.send(before, wave)  # what may go to a new connection may not contain a commit
                before, wave = (), Wave(self._database.dialect)
            if self.has_begun:
                await self._commit(before, wave)
        except psycopg.Error:
            if self._link is not None and not self._link.is_closed:
                await self._link.send([self._link.pack(fixed("ROLLBACK"))])
                self.has_begun = False
            raise

    async def _commit(self, before: Sequence[str], wave: Wave) -> None:
        assert self._link is not None
        packed = [*await self._pack(self._link, before, wave), self._link.pack(fixed("COMMIT"))]
        try:
            answers = await self._link.send(packed)
        except psycopg.Error as error:
            if not self._link.is_closed:
                raise
            message = "The connection to the store died during a commit; look the id up."
            raise Uncertain(message, retry_after_s=2) from error
        if answers[-1].status != "COMMIT":
            raise Bug("The store rolled back a transaction instead of committing it.")
        self.has_begun = False
        wave.resolve(answers[len(before) : -1])

    async def _pack(self, link: Link, before: Sequence[str], wave: Wave) -> list[Packed]:
        try:
            if self.packs_in_thread:
                return await asyncio.get_running_loop().run_in_executor(self.thread, _pack, link, before, wave)
            return _pack(link, before, wave)
        except Exception as error:
            raise Unsendable(error) from error

    async def _send(self, before: Sequence[str], wave: Wave) -> list[Answer]:
        """Sends statements; the first ones of a transaction to a new connection if the old one has died."""
        may_have_died = self._database.has_writer and not self.has_begun
        link = await self._open()
        try:
            return await link.send(await self._pack(link, before, wave))
        except psycopg.Error:
            if not (may_have_died and link.is_closed):
                raise
            self.drop()
        link = await self._open()
        return await link.send(await self._pack(link, before, wave))

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
