"""One transaction of the writer: first the units that run together, then the others one after the other."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from operator import itemgetter
from typing import TypeVar

from dustrun import clock
from dustrun.errors import DustrunError
from dustrun.storage.db.database import Database
from dustrun.storage.db.group_commit import GroupOutcome, Waiter
from dustrun.storage.db.pipeline.session import Session, Unsendable
from dustrun.storage.db.pipeline.unit_run import UnitRun
from dustrun.storage.db.pipeline.wave import Request, Wave

T = TypeVar("T")
_SLICE_S = 0.01  # how long units may hold the event loop
_LONGEST_S = 0.2  # how long others may wait for the commit while units run alone
_SAVE, _RELEASE, _BACK = "SAVEPOINT unit", "RELEASE SAVEPOINT unit", "ROLLBACK TO SAVEPOINT unit"


def _end(runs: Sequence[UnitRun]) -> None:
    for run in runs:
        run.abandon()


class Transaction:
    """Executes a group's units in savepoints: one for all that run together, one for each of the others.

    Units that run together take turns: each runs until it asks the database something, then everything that was asked
    is sent at once."""

    def __init__(self, session: Session, database: Database, outcome: GroupOutcome) -> None:
        self._session = session
        self._database = database
        self._outcome = outcome
        self._wave = Wave(database.dialect)
        self._last: list[tuple[int, Request]] = []
        self._before: list[str] = []
        self._begun: list[UnitRun] = []
        self._to_begin: Iterator[tuple[int, Waiter]] = iter(())
        self._beginning: asyncio.Future[None] | None = None
        self._has_posted = False
        self._expects = True

    def begin_ahead(self, waiters: Sequence[Waiter]) -> None:
        """Begins units that run together while the transaction before commits: they take their first turn, and what
        they ask is posted behind that commit. Those for which the event loop has no time now follow on its next
        rounds.

        `execute` must follow, unless the session says that all is void; then `abandon`."""
        self._to_begin = enumerate(waiters)
        self._before.append(_SAVE)
        self._begin_some()
        if len(self._begun) < len(waiters):
            loop = asyncio.get_running_loop()
            self._beginning = loop.create_future()
            loop.call_soon(self._begin_more, self._beginning, len(waiters))

    def prepare(self, waiter: Waiter) -> None:
        """Has a unit that runs with others take its first turn; what it asks is sent by `execute`, which must
        follow."""
        if not self._begun:
            self._before.append(_SAVE)
        run = self._begin(len(self._begun), waiter)
        self._begun.append(run)
        run.go_on()
        if run.asked is not None:
            self._collect(run)

    async def _begun_ahead(self) -> None:
        if self._beginning is not None:
            await self._beginning

    def _begin_more(self, beginning: asyncio.Future[None], count: int) -> None:
        if beginning.done():
            return
        known = len(self._last)
        try:
            self._begin_some()
        except Exception:  # met again, and told, by `execute`, which begins those that are left
            self._wave = Wave(self._database.dialect)
            del self._last[known:]
            beginning.set_result(None)
            return
        if len(self._begun) < count:
            asyncio.get_running_loop().call_soon(self._begin_more, beginning, count)
        else:
            beginning.set_result(None)

    def _begin_some(self) -> None:
        """Begins units for as long as they may hold the event loop, and posts what they ask."""
        until = clock.monotonic_s() + _SLICE_S
        begun: list[UnitRun] = []
        try:
            for number, waiter in self._to_begin:
                run = self._begin(number, waiter)
                begun.append(run)
                run.go_on()
                if clock.monotonic_s() > until:
                    break
            for run in begun:
                if run.asked is not None:
                    self._collect(run)
            self._session.post_ahead(self._before, self._wave)
        except Exception:
            _end(begun)
            raise
        self._before, self._wave, self._has_posted = [], Wave(self._database.dialect), True
        self._begun += begun

    def abandon(self) -> None:
        """Ends units that were begun ahead; nothing of them is committed, and they may be begun again."""
        _end(self._begun)
        if self._beginning is not None and not self._beginning.done():
            self._beginning.set_result(None)

    async def execute(self, group: Sequence[Waiter]) -> Sequence[Waiter]:
        """Executes and commits a group; returns the units for which the time was too short. Raises what ends the whole
        transaction."""
        await self._begun_ahead()
        until, left = clock.monotonic_s() + _LONGEST_S, []
        self._session.packs_in_thread = False
        others = [waiter for waiter in group if not waiter.is_separate]
        together = [waiter for waiter in group if waiter.is_separate]
        if together:
            await self._run_together(together, commits=not others)
        for number, waiter in enumerate(others):
            if number and clock.monotonic_s() > until:
                left = others[number:]
                break
            self._session.packs_in_thread = not waiter.repeatable
            await self._run_alone(waiter, commits=len(group) == 1)
        await self._pass_on(self._session.commit)
        return left

    async def _run_together(self, waiters: Sequence[Waiter], *, commits: bool = False) -> None:
        """Runs units together. `commits`: they are the whole group, so their last statements travel with the commit."""
        ahead, self._begun = self._begun, []
        if not ahead:
            self._before.append(_SAVE)
        runs = ahead + [self._begin(number, waiter) for number, waiter in enumerate(waiters) if number >= len(ahead)]
        try:
            asking = [run for run in ahead if run.asked is not None]
            if self._has_posted:
                self._has_posted = False
                await self._session.receive_ahead()
            elif asking:
                await self._send()
            await self._take_turns(asking + runs[len(ahead) :])
            must_repeat = any(run.error is not None and run.has_written for run in runs)
            if not must_repeat:
                await self._finish(commits=commits)
        except Exception as caught:
            if self._is_final(caught):
                raise
            await self._repeat(runs, caught)
        else:
            if must_repeat:
                await self._repeat(runs, None)
            else:
                self._note(runs)
        finally:
            _end(runs)

    async def _take_turns(self, runs: Sequence[UnitRun]) -> None:
        going = list(runs)
        while going:
            until = clock.monotonic_s() + _SLICE_S
            for run in going:
                run.go_on()
                if clock.monotonic_s() > until:
                    await asyncio.sleep(0)
                    until = clock.monotonic_s() + _SLICE_S
            going = [run for run in going if run.asked is not None]
            for run in going:
                self._collect(run)
            if going:
                await self._send()

    async def _finish(self, *, commits: bool) -> None:
        """Sends what is left, so that its errors are known."""
        for number, request in sorted(self._last, key=itemgetter(0)):
            self._wave.add(number, request)
        self._last = []
        if commits:
            await self._pass_on(self._session.commit, _RELEASE)
            return
        if self._wave.steps:
            await self._send()
        self._before.append(_RELEASE)

    async def _repeat(self, runs: Sequence[UnitRun], refused: Exception | None) -> None:
        """Undoes units and runs them again: those that failed apart from the others, until nobody else is undone with
        them; or each half, if the database refused something and nobody knows whose it was."""
        self._go_back()
        _end(runs)
        waiters = [run.waiter for run in runs]
        if refused is not None and any(run.has_expected for run in runs):
            self._expects = False  # some run has gone on elsewhere: from here on each asks first
            await self._run_together(waiters)
            return
        if refused is not None and len(runs) == 1:
            self._outcome.failed.append((waiters[0], refused))
            return
        if refused is not None:
            parts = [waiters[: len(waiters) // 2], waiters[len(waiters) // 2 :]]
        elif all(run.error is not None for run in runs):
            self._note(runs)
            return
        else:
            parts = [[run.waiter for run in runs if (run.error is not None) is failed] for failed in (False, True)]
        for part in parts:
            await self._run_together(part)

    async def _run_alone(self, waiter: Waiter, *, commits: bool) -> None:
        """Runs one unit; it is not repeated. `commits`: it is the whole group, as for units that run together."""
        self._before.append(_SAVE)
        run = await self._off_the_loop(waiter, lambda: self._begin(0, waiter))
        try:
            await self._off_the_loop(waiter, run.go_on)
            while run.asked is not None:
                self._collect(run)
                await self._send_for(run)
            run.error = run.error or run.refused
            if run.error is None:
                await self._finish(commits=commits)
        except Exception as error:
            if self._is_final(error):
                raise
            run.error = error
        finally:
            await self._off_the_loop(waiter, run.abandon)
        if run.error is not None:
            self._go_back()
        self._note([run])

    async def _send_for(self, run: UnitRun) -> None:
        """Sends what a unit asked and lets it go on, with the error if there is one."""
        try:
            await self._send()
        except Exception as error:
            if self._is_final(error):
                raise
            run.refused = error  # whatever the unit makes of it, nothing more can be executed after it
            await self._off_the_loop(run.waiter, partial(run.fail, error))
        else:
            await self._off_the_loop(run.waiter, run.go_on)

    async def _off_the_loop(self, waiter: Waiter, step: Callable[[], T]) -> T:
        """Takes a step of a unit: of one that is not known to be short, in the thread."""
        if waiter.repeatable:
            return step()
        return await asyncio.get_running_loop().run_in_executor(self._session.thread, step)

    def _is_final(self, error: Exception) -> bool:
        """Whether an error ends the whole transaction."""
        return isinstance(error, DustrunError) or self._database.is_fatal(error) or self._session.is_lost

    def _begin(self, number: int, waiter: Waiter) -> UnitRun:
        expects = self._expects and waiter.is_separate
        return UnitRun(
            number, waiter, self._database.dialect, lambda request: self._take(number, request), expects=expects
        )

    def _take(self, number: int, request: Request) -> None:
        if request.wanted == "returned":
            self._last.append((number, request))
        else:
            self._wave.add(number, request)

    def _collect(self, run: UnitRun) -> None:
        assert run.asked is not None
        self._wave.add(run.number, run.asked)

    async def _send(self) -> None:
        await self._pass_on(self._session.send)

    async def _pass_on(self, send: Callable[[list[str], Wave], Awaitable[None]], *more: str) -> None:
        """Sends everything that is to be sent; keeps the fixed SQL if nothing was."""
        before, wave = self._before, self._wave
        self._before, self._wave = [], Wave(self._database.dialect)
        try:
            await send([*before, *more], wave)
        except Unsendable as error:
            self._before = before
            raise error.reason from error

    def _go_back(self) -> None:
        """Undoes everything since the savepoint."""
        self._wave, self._last = Wave(self._database.dialect), []
        if _SAVE in self._before:  # not sent yet
            del self._before[self._before.index(_SAVE) :]
        elif self._session.has_begun:  # else it was undone as a whole
            self._before = [_BACK, _RELEASE]

    def _note(self, runs: Sequence[UnitRun]) -> None:
        for run in runs:
            if run.error is None:
                self._outcome.done.append(run.waiter)
            else:
                self._outcome.failed.append((run.waiter, run.error))
