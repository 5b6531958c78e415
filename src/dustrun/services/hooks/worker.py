"""Serves one hook: makes its deliveries, sends what is due, and sleeps until something happens.

`NewsReader` reads the events from which deliveries are made.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import field
from typing import Final

from dustrun import clock, ids, log
from dustrun.core import hooks
from dustrun.core.hooks import Schedule, Subject, body_of, is_probed
from dustrun.core.stream_events import RUN_FINISHED
from dustrun.core.values.exact_json import loads, loads_own
from dustrun.errors import Code, DustrunError, Permanent
from dustrun.records import dataclass
from dustrun.sdk.context import Http
from dustrun.services.hooks import outcomes
from dustrun.services.hooks.sending import KIND, Secrets, send
from dustrun.storage.db.database import Database
from dustrun.storage.db.statement import Tx
from dustrun.storage.db.writer import Writer
from dustrun.storage.hooks import deliveries as delivery_rows
from dustrun.storage.hooks import hooks as hook_rows
from dustrun.storage.hooks import reading
from dustrun.storage.hooks.deliveries import DeliveryRow
from dustrun.storage.hooks.hooks import ACTIVE, HookRow
from dustrun.storage.hooks.reading import FollowedRun, HookNotice, RunEvent
from dustrun.storage.secrets.vault import Vault

# Makes deliveries from what happened since a hook's cursors: one read of stored events, and one write that moves the
# cursors with the deliveries.


MOST_OPEN = 2000
"""With so many open deliveries a hook makes no further ones: the events wait where they are stored."""
_RUNS = 100
_EVENTS = 200


@dataclass(slots=True)
class _Position:
    run: FollowedRun
    seq: int
    finish_seq: int | None = None
    """Number of the run's last event, once the activity has shown it."""

    @property
    def is_over(self) -> bool:
        return self.finish_seq is not None and self.seq >= self.finish_seq


@dataclass(slots=True)
class News:
    """What one read found. `has_more`: there may be more at once; `is_full`: the hook has too many open deliveries."""

    activity_id: int
    notice_id: int
    made: list[DeliveryRow] = field(default_factory=list)
    positions: list[tuple[int, int]] = field(default_factory=list)
    left: list[int] = field(default_factory=list)
    has_more: bool = False
    is_full: bool = False


class NewsReader:
    """Reads one hook's news. `base_url` is where links lead."""

    def __init__(self, hook: HookRow, base_url: str, now: int) -> None:
        self._hook = hook
        self._base_url = base_url
        self._now = now
        self._types: list[str] = loads_own(hook.event_types)
        self._modes: list[str] = loads_own(hook.modes)
        self._workflows: list[str] | None = None if hook.workflow_ids is None else loads_own(hook.workflow_ids)
        self.wants_steps = hooks.wants_steps(self._types)

    def read(self, tx: Tx, run_pks: Sequence[int] | None) -> News:
        """The next part; of the runs that it follows looks at these, and at all with None."""
        hook = self._hook
        news = News(hook.activity_id, hook.notice_id)
        if delivery_rows.count_open(tx, hook.id, MOST_OPEN) >= MOST_OPEN:
            news.is_full = True
            return news
        found = self._positions(tx, news, run_pks)
        left = _EVENTS
        for position in found:
            left -= self._advance(tx, news, position, left)
            _keep(news, position)
        self._read_notices(tx, news)
        return news

    def _positions(self, tx: Tx, news: News, run_pks: Sequence[int] | None) -> list[_Position]:
        """The runs with something to read."""
        found: dict[int, _Position] = {}
        active = reading.list_activity(tx, self._hook.org_id, self._hook.id, news.activity_id, _RUNS)
        for entry in active:
            news.activity_id = entry.id
            position = found.get(entry.run.pk)
            if position is None:
                if entry.run.seq is None and not self._wants_run(entry.run):
                    continue
                seq = entry.run.seq if entry.run.seq is not None else entry.seq - 1
                position = found[entry.run.pk] = _Position(entry.run, seq)
            if entry.type == RUN_FINISHED:
                position.finish_seq = entry.seq
        behind = reading.list_behind(tx, self._hook.id, run_pks, _RUNS)
        news.has_more = _RUNS in (len(active), len(behind))
        for run in behind:
            found.setdefault(run.pk, _Position(run, run.seq or 0))
        return list(found.values())

    def _advance(self, tx: Tx, news: News, position: _Position, count: int) -> int:
        if count <= 0:
            news.has_more = True
            return 0
        run = position.run
        events = reading.list_events(tx, run.pk, position.seq, count, steps=self.wants_steps)
        for event in events:
            self._tell(news, run, event)
        if len(events) == count:
            position.seq, news.has_more = events[-1].seq, True
        else:
            position.seq = max(position.seq, run.last_seq)
        return len(events)

    def _tell(self, news: News, run: FollowedRun, event: RunEvent) -> None:
        data = loads(event.data)
        type_ = hooks.type_of(event.type, data)
        if type_ is None or not hooks.wants(self._types, type_):
            return
        org_id = self._hook.org_id
        subject = Subject(org_id, run.workflow_id, run.id, run.workflow_name, run.version, run.mode)
        event_id = f"{run.id}.{event.seq}"
        body = body_of(type_, event_id, clock.to_rfc3339(event.at), subject, data, self._base_url)
        news.made.append(self._delivery(type_, event_id, body, run.id, run.workflow_id, run.id))

    def _read_notices(self, tx: Tx, news: News) -> None:
        notices = reading.list_notices(tx, self._hook.org_id, news.notice_id, _RUNS)
        for notice in notices:
            news.notice_id = notice.id
            if self._wants_notice(notice):
                subject = Subject(self._hook.org_id, notice.workflow_id, notice.run_id, mode=notice.mode)
                event_id, at = f"notice_{notice.id}", clock.to_rfc3339(notice.at)
                body = body_of(notice.type, event_id, at, subject, loads(notice.data), self._base_url)
                queue = notice.run_id or notice.workflow_id or event_id
                news.made.append(self._delivery(notice.type, event_id, body, notice.run_id, notice.workflow_id, queue))
        news.has_more |= len(notices) == _RUNS

    def _delivery(
        self, type_: str, event_id: str, body: str, run_id: str | None, workflow_id: str | None, queue: str
    ) -> DeliveryRow:
        return DeliveryRow(
            id=ids.new_id("dlv"),
            org_id=self._hook.org_id,
            hook_id=self._hook.id,
            queue=queue,
            event_id=event_id,
            event_type=type_,
            run_id=run_id,
            workflow_id=workflow_id,
            body=body,
            created_at=self._now,
            updated_at=self._now,
        )

    def _wants_run(self, run: FollowedRun) -> bool:
        return run.mode in self._modes and (self._workflows is None or run.workflow_id in self._workflows)

    def _wants_notice(self, notice: HookNotice) -> bool:
        if notice.at < self._hook.created_at or not hooks.wants(self._types, notice.type):
            return False
        if notice.mode is not None and notice.mode not in self._modes:
            return False
        return notice.workflow_id is None or self._workflows is None or notice.workflow_id in self._workflows


def _keep(news: News, position: _Position) -> None:
    """A run is followed until the activity has shown its end and everything is read; most begin and end in one read."""
    if position.is_over:
        if position.run.seq is not None:
            news.left.append(position.run.pk)
    elif position.seq != position.run.seq:
        news.positions.append((position.run.pk, position.seq))


def write(tx: Tx, hook: HookRow, news: News) -> bool:
    """Writes deliveries and moves the cursors; False if the hook was disabled or moved since it was read."""
    if not hook_rows.move(tx, hook.id, hook.moves, news.activity_id, news.notice_id):
        return False
    delivery_rows.insert_in_order(tx, news.made)
    reading.follow(tx, hook.id, news.positions)
    reading.leave(tx, hook.id, news.left)
    return True


AT_ONCE: Final = 4
"""Attempts of one hook at the same time."""
_LOOK_AGAIN_S: Final = 2.0
_SCAN_EVERY_S: Final = 30.0
_REST_S: Final = 0.01
_AFTER_ERROR_S: Final = 2.0
_MOST_HINTS: Final = 1000
_logger = log.get(__name__)


@dataclass(frozen=True, slots=True)
class HookDeps:
    """Dependencies of every worker. `http` is the hooks' own client, so that a slow receiver holds up no node."""

    database: Database
    writer: Writer
    vault: Vault
    http: Http
    schedule: Schedule
    base_url: str
    timeout_s: float


@dataclass(frozen=True, slots=True)
class _Due:
    """Deliveries that can be sent now. `next_at`: when to look again, in milliseconds."""

    rows: list[DeliveryRow]
    secrets: Secrets | None
    next_at: int | None


class HookWorker:
    """The loop of one hook. `on_end` is called when the hook is no longer active."""

    def __init__(self, deps: HookDeps, hook_id: str, on_end: Callable[[str], None]) -> None:
        self._deps = deps
        self._hook_id = hook_id
        self._on_end = on_end
        self._woken = asyncio.Event()
        self._hints: set[int] | None = None
        self._scanned_s = 0.0
        self._wants_steps = True
        self._sending: dict[str, asyncio.Task[None]] = {}

    def tell(self, run_pk: int | None, is_activity: bool) -> None:
        """Something was committed: events of a run, or with None anything."""
        if run_pk is None:
            self._hints = None
        elif self._wants_steps:
            if self._hints is not None:
                self._hints.add(run_pk)
                if len(self._hints) > _MOST_HINTS:
                    self._hints = None
        elif not is_activity:
            return
        self._woken.set()

    async def run(self) -> None:
        """Works until the hook is disabled or deleted, or the task is cancelled."""
        try:
            while True:
                hook = await self._find()
                if hook is not None and hook.status == ACTIVE:
                    await self._sleep(await self._safe_turn(hook))
                elif self._woken.is_set():  # it was enabled while it was read
                    self._woken.clear()
                else:
                    break
            self._on_end(self._hook_id)
        finally:
            for task in self._sending.values():
                task.cancel()
            await asyncio.gather(*self._sending.values(), return_exceptions=True)

    async def _safe_turn(self, hook: HookRow) -> float:
        try:
            return await self._turn(hook)
        except Permanent as error:
            if error.code != Code.SECRET_UNREADABLE:
                raise
            reason = f"{error.message} Rotate the hook's secret, then enable it."
            now = clock.now_ms()
            await self._deps.writer.write(lambda tx: outcomes.disable(tx, hook, reason, now))
            _logger.warning("a hook was disabled", hook_id=self._hook_id, reason=reason)
        except Exception as error:
            _logger.failed("a hook is held up", error, hook_id=self._hook_id)
        return _AFTER_ERROR_S

    async def _find(self) -> HookRow | None:
        while True:
            try:
                return await self._deps.database.read(lambda tx: hook_rows.find_any(tx, self._hook_id))
            except DustrunError as error:
                _logger.failed("a hook cannot be read", error, hook_id=self._hook_id)
                await asyncio.sleep(_AFTER_ERROR_S)

    async def _sleep(self, wait_s: float) -> None:
        await asyncio.sleep(_REST_S)  # what is committed meanwhile is read together
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, wait_s)):
                await self._woken.wait()
        self._woken.clear()

    async def _turn(self, hook: HookRow) -> float:
        """Makes deliveries and starts attempts; returns for how long there is nothing to do, in seconds."""
        has_more = await self._derive(hook)
        now, busy = clock.now_ms(), frozenset(self._sending)
        due = await self._deps.database.read(lambda tx: self._due(tx, hook, now, busy))
        for row in due.rows:
            assert due.secrets is not None
            task = asyncio.get_running_loop().create_task(self._attempt(row, hook.url, due.secrets))
            self._sending[row.id] = task
        if has_more:
            self._woken.set()
        wait_s = _LOOK_AGAIN_S if due.next_at is None else (due.next_at - now) / 1000
        return min(wait_s, _LOOK_AGAIN_S)

    async def _derive(self, hook: HookRow) -> bool:
        """Makes deliveries of the next part of what happened; True if there may be more."""
        reader = NewsReader(hook, self._deps.base_url, clock.now_ms())
        self._wants_steps = reader.wants_steps
        hints, self._hints = self._hints, set()
        if hints is None or clock.monotonic_s() - self._scanned_s > _SCAN_EVERY_S:  # a missed call heals here
            hints, self._scanned_s = None, clock.monotonic_s()
        pks = None if hints is None else sorted(hints)
        try:
            news = await self._deps.database.read(lambda tx: reader.read(tx, pks))
            is_news = news.made or news.positions or news.left
            has_moved = (news.activity_id, news.notice_id) != (hook.activity_id, hook.notice_id)
            if is_news or has_moved:
                news.has_more |= not await self._deps.writer.write(lambda tx: write(tx, hook, news))
        except BaseException:
            self._hints = None
            raise
        if news.has_more or news.is_full:
            self._hints = None
        return news.has_more

    def _due(self, tx: Tx, hook: HookRow, now: int, busy: frozenset[str]) -> _Due:
        """A hook whose receiver fails gets one attempt at a time, with pauses."""
        resume_at = hook.resume_at
        if resume_at is not None and resume_at > now:
            return _Due([], None, resume_at)
        free = (1 if is_probed(hook.failures) else AT_ONCE) - len(busy)
        if free <= 0:
            return _Due([], None, None)  # the end of an attempt wakes the worker
        found = delivery_rows.list_due(tx, hook.id, now, free + len(busy))
        rows = [row for row in found if row.id not in busy][:free]
        secrets = self._secrets(tx, hook) if rows else None
        return _Due(rows, secrets, delivery_rows.next_at(tx, hook.id, now))

    def _secrets(self, tx: Tx, hook: HookRow) -> Secrets:
        return Secrets.of(self._deps.vault.open(tx, hook.org_id, KIND, hook.id, hook.sealed))

    async def _attempt(self, row: DeliveryRow, url: str, secrets: Secrets) -> None:
        deps = self._deps
        try:
            attempt = await send(deps.http, row, url, secrets, deps.timeout_s)
            now = clock.now_ms()
            reason = await deps.writer.write(lambda tx: outcomes.record(tx, row, attempt, deps.schedule, now))
            if reason is not None:
                _logger.warning("a hook was disabled", hook_id=self._hook_id, reason=reason)
        except DustrunError as error:
            # not recorded, so it is sent again
            _logger.failed("an attempt was not recorded", error, hook_id=self._hook_id)
            await asyncio.sleep(_AFTER_ERROR_S)
        except Exception as error:
            _logger.error("an attempt failed", hook_id=self._hook_id, exc_info=error)
            await asyncio.sleep(_AFTER_ERROR_S)
        finally:
            del self._sending[row.id]
            self._woken.set()
