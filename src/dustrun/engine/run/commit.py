"""Commits what one run has recorded, and only then publishes it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from dustrun.engine.run.run_context import RunContext, Superseded
from dustrun.errors import Temporary, Uncertain
from dustrun.services.outbox.spend_status import Outbox
from dustrun.storage.runs import journal as journal_rows
from dustrun.storage.runs.journal import Batch, BatchTarget, StaleFence

T = TypeVar("T")

_REWRITE_S = (0.05, 0.2, 0.5, 1.0, 2.0)


class Committer:
    """Writes one run's batches. `last_seq` is the number of the newest event on disk; `outbox` is None unless the run
    may spend."""

    def __init__(self, run: RunContext, outbox: Outbox | None) -> None:
        self.last_seq = 0
        self._run = run
        self._outbox = outbox
        self._touches = () if outbox is None else outbox.touches(run.facts.org_id, run.facts.root_run_id)

    @property
    def has_recorded(self) -> bool:
        """Whether there is anything to commit."""
        return not self._run.recorder.batch.is_empty()

    async def flush(self) -> None:
        """Commits what was recorded. Waits while the store is unavailable; results stay in memory."""
        if not self.has_recorded:
            return
        batch = self._run.recorder.take()

        abandoned: list[Any] = []

        def unit(tx: Any) -> list[journal_rows.Event]:
            abandoned[:] = self._end_spends(tx) if batch.ending is not None else ()
            return self._write(tx, batch)

        def written(events: list[journal_rows.Event]) -> None:
            if self._outbox is not None:
                self._outbox.tell(abandoned)
            self._publish(events)
            self._wake_others(batch)

        is_short = batch.is_short()
        is_separate = is_short and batch.is_own
        tries = iter(_REWRITE_S)
        while True:
            try:
                await self._run.deps.writer.write(
                    unit, written, repeatable=is_short, is_separate=is_separate, touches=self._touches
                )
                return
            except StaleFence:
                raise Superseded from None
            except Temporary:
                if self._run.state.is_stopping:
                    raise Superseded from None
                await asyncio.sleep(next(tries, _REWRITE_S[-1]))
            except Uncertain:
                events = await self._look(batch)
                if events is not None:
                    written(events)
                    return

    async def _look(self, batch: Batch) -> list[journal_rows.Event] | None:
        """After a commit of unknown outcome: the batch's events if it is on disk; None if it certainly is not.

        Results are in memory only, so the run is not reloaded from the tables while the batch may still be written.
        """
        pk, after = self._run.facts.pk, self.last_seq
        return await self.patiently(
            lambda: self._run.deps.writer.write(lambda tx: journal_rows.find_written(tx, pk, after, batch))
        )

    async def patiently(self, look: Callable[[], Awaitable[T]]) -> T:
        """Repeats `look` while the store is unavailable, so that what is not written yet is not lost."""
        tries = iter(_REWRITE_S)
        while True:
            try:
                return await look()
            except (Temporary, Uncertain):
                if self._run.state.is_stopping:
                    raise Superseded from None
                await asyncio.sleep(next(tries, _REWRITE_S[-1]))

    def _end_spends(self, tx: Any) -> list[Any]:
        return self._outbox.end(tx, self._run.facts.org_id, self._run.facts.pk) if self._outbox is not None else []

    def _write(self, tx: Any, batch: Batch) -> list[journal_rows.Event]:
        facts = self._run.facts
        mode = str(facts.mode)
        place = BatchTarget(facts.pk, facts.org_id, facts.workflow_id, mode, facts.fence, self.last_seq)
        return journal_rows.write(tx, place, batch)

    def _publish(self, events: list[journal_rows.Event]) -> None:
        if events:
            self.last_seq = events[-1].seq
        self._run.deps.hub.publish(self._run.facts, events, self._run.facts.trigger_source)

    def _wake_others(self, batch: Batch) -> None:
        """Wakes the caller of an ended run, and cancels called runs whose caller no longer waits."""
        if batch.ending is not None and batch.ending.child_result is not None:
            self._run.engine.wake(batch.ending.child_result.caller_pk)
        for pk in batch.waits.cancelled if batch.waits is not None else ():
            self._run.engine.cancel(pk)
