"""The writer's transactions on a connection that is replaced when it dies."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import psycopg

from dustrun import clock
from dustrun.errors import Bug, CommitUnknown, StoreUnavailable
from dustrun.records import dataclass
from dustrun.storage.db.database import Claimed, Database
from dustrun.storage.db.pipeline.call import StatementAnswer, fixed
from dustrun.storage.db.pipeline.link import Link, PackedStatement, PostedStatements
from dustrun.storage.db.pipeline.wave import Wave

_ALIVE_S = 0.1
"""A connection that has answered within this is not taken for dead."""


class Unsendable(Exception):
    """The values of a statement cannot be encoded; nothing was sent."""

    def __init__(self, reason: Exception) -> None:
        super().__init__(str(reason))
        self.reason = reason


def _pack(link: Link, before: Sequence[str], wave: Wave) -> list[PackedStatement]:
    return [link.pack(call) for call in (*map(fixed, before), *wave.calls())]


@dataclass(frozen=True, slots=True)
class Ahead:
    """First statements of the next transaction, posted behind the commit of the one before."""

    before: Sequence[str]
    wave: Wave
    posted: PostedStatements


async def _receive_all(link: Link, posted: Sequence[PostedStatements]) -> list[list[StatementAnswer]]:
    """Waits for the answers to all that was posted, even if one of them is an error: what follows comes after them."""
    answers: list[list[StatementAnswer]] = []
    for number, one in enumerate(posted):
        try:
            answers.append(await link.receive(one))
        except psycopg.Error:
            for _ in () if link.is_closed else posted[number + 1 :]:
                await link.ignore()
            raise
    return answers


def _nothing() -> None:
    return None


class Session:
    """One transaction after the other; a transaction begins with the first statements that are sent, or with those
    that were posted ahead."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._link: Link | None = None
        self.thread = ThreadPoolExecutor(1, thread_name_prefix="writer")
        """Where units run that may take long."""
        self.packs_in_thread = False
        """Whether the values that are sent may be long too."""

        self.has_begun = False
        """Whether statements of the transaction have been executed, be it with an error."""

        self._answered_at = 0.0
        self._ahead: list[Ahead] = []
        self.on_commit: Callable[[], None] = _nothing
        """Called when a commit has been posted, to post the next transaction's first statements behind it."""
        self.on_void: Callable[[], None] = _nothing
        """Called when what was posted ahead is void, because the commit before it failed."""

    @property
    def is_lost(self) -> bool:
        """Whether the connection, or the transaction that has begun on it, is no more."""
        return self.has_begun and not (self._link is not None and self._link.is_in_transaction)

    async def send(self, before: Sequence[str], wave: Wave) -> None:
        """Executes fixed SQL and a wave in one round trip; each request of the wave gets its result. Raises
        `Unsendable` if nothing was sent."""
        assert not self._ahead
        await self._execute([(before if self.has_begun else (*self._database.begins, *before), wave)], [])

    async def receive_ahead(self) -> None:
        """Waits for the answers to all that was posted ahead; each request gets its result. What a dead connection did
        not answer is sent to a new one: units have made nothing of the answers yet."""
        ahead, self._ahead = self._ahead, []
        await self._execute([(one.before, one.wave) for one in ahead], [one.posted for one in ahead])

    async def _execute(self, parts: Sequence[tuple[Sequence[str], Wave]], posted: Sequence[PostedStatements]) -> None:
        try:
            answers = await self._answers(parts, posted)
        finally:
            self.has_begun = self.has_begun or (self._link is not None and self._link.is_in_transaction)
        for (before, wave), found in zip(parts, answers, strict=True):
            wave.resolve(found[len(before) :])

    async def commit(self, before: Sequence[str], wave: Wave) -> None:
        """Commits, together with the last statements. If one fails, the transaction is undone; raises `Uncertain` if
        the connection dies meanwhile, and `Unsendable` if nothing was sent."""
        try:
            if not self.has_begun and wave.steps and not self._commits_at_once:
                await self.send(before, wave)  # what may go to a new connection may not contain a commit
                before, wave = (), Wave(self._database.dialect)
            if self.has_begun or wave.steps:
                await self._commit(before, wave)
        except psycopg.Error:
            if self._link is not None and not self._link.is_closed:
                await self._ignore_ahead(self._link)
                await self._link.send([self._link.pack(fixed("ROLLBACK"))])
                self.has_begun = False
            raise

    async def _commit(self, before: Sequence[str], wave: Wave) -> None:
        assert self._link is not None
        if not self.has_begun:
            before = (*self._database.begins, *before)
        packed = [*await self._pack(self._link, before, wave), self._link.pack(fixed("COMMIT"))]
        try:
            posted = self._link.post(packed)
            self.on_commit()
            answers = await self._link.receive(posted)
        except psycopg.Error as error:
            if not self._link.is_closed:
                raise
            message = "The connection to the store died during a commit; look the id up."
            raise CommitUnknown(message, retry_after_s=2) from error
        if answers[-1].status != "COMMIT":
            raise Bug("The store rolled back a transaction instead of committing it.")
        self.has_begun = False
        self._answered_at = clock.monotonic_s()
        wave.resolve(answers[len(before) : -1])

    @property
    def _commits_at_once(self) -> bool:
        """Whether a whole transaction is sent with its commit: others who share the store wait until it ends."""
        is_alive = self._link is not None and not self._link.is_closed
        return self._database.is_shared and is_alive and clock.monotonic_s() < self._answered_at + _ALIVE_S

    async def _pack(self, link: Link, before: Sequence[str], wave: Wave) -> list[PackedStatement]:
        try:
            if self.packs_in_thread:
                return await asyncio.get_running_loop().run_in_executor(self.thread, _pack, link, before, wave)
            return _pack(link, before, wave)
        except Exception as error:
            raise Unsendable(error) from error

    def post_ahead(self, before: Sequence[str], wave: Wave) -> None:
        """Posts first statements of the next transaction behind a commit, whose answer comes first. `receive_ahead`
        waits for theirs; if that commit fails, they are void. Raises what the driver raises for values that it cannot
        encode."""
        assert self._link is not None
        if not self._ahead:
            before = (*self._database.begins, *before)
        self._ahead.append(Ahead(before, wave, self._link.post(_pack(self._link, before, wave))))

    async def _ignore_ahead(self, link: Link) -> None:
        """Waits until what was posted ahead has been refused, or executed: nothing of it will be committed."""
        for _ in self._void_ahead():
            await link.ignore()

    def _void_ahead(self) -> Sequence[Ahead]:
        ahead, self._ahead = self._ahead, []
        if ahead:
            self.on_void()
        return ahead

    async def _answers(
        self, parts: Sequence[tuple[Sequence[str], Wave]], posted: Sequence[PostedStatements]
    ) -> Sequence[Sequence[StatementAnswer]]:
        """Sends statements unless they were posted ahead; the first ones of a transaction to a new connection if the
        old one has died."""
        may_have_died = self._database.has_writer and not self.has_begun
        link = await self._open()
        try:
            if posted:
                return await _receive_all(link, posted)
            return [await link.send(await self._pack(link, *part)) for part in parts]
        except psycopg.Error:
            if not (may_have_died and link.is_closed):
                raise
            self.drop()
        link = await self._open()
        return [await link.send(await self._pack(link, *part)) for part in parts]

    async def _open(self) -> Link:
        if self._link is None:
            try:
                self._link = Link(await asyncio.to_thread(self._database.open_writer))
            except Claimed:
                message = "Another session holds the store; nothing was started."
                raise StoreUnavailable(message, retry_after_s=2) from None
        return self._link

    def drop(self) -> None:
        """Discards the connection, and what was posted ahead with it."""
        self._void_ahead()
        self._link, self.has_begun = None, False
        self._database.reopen_writer()

    async def close(self) -> None:
        """Releases the writer's lock and closes the connection."""
        if self._link is not None and not self._link.is_closed:
            self._link.close()
        await asyncio.to_thread(self._database.close_writer)
        self._link = None
        self.thread.shutdown()
