"""Serves one hook: makes its deliveries, sends what is due, and sleeps until something happens."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Final

from dustrun import clock, log
from dustrun.core.hooks.retrying import Schedule, is_probed
from dustrun.errors import Code, DustrunError, Permanent
from dustrun.records import dataclass
from dustrun.sdk.context import Http
from dustrun.services.hooks import deriving, outcomes
from dustrun.services.hooks.sending import send
from dustrun.services.hooks.signing import KIND, Secrets
from dustrun.storage.db.database import Database
from dustrun.storage.db.statement import Tx
from dustrun.storage.db.writer import Writer
from dustrun.storage.hooks import deliveries as delivery_rows
from dustrun.storage.hooks import hooks as hook_rows
from dustrun.storage.hooks.deliveries import DeliveryRow
from dustrun.storage.hooks.hooks import ACTIVE, HookRow
from dustrun.storage.secrets.vault import Vault

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
    """What every worker needs. `http` is the hooks' own client, so that a slow receiver holds up no node."""

    database: Database
    writer: Writer
    vault: Vault
    http: Http
    schedule: Schedule
    base_url: str
    timeout_s: float


@dataclass(frozen=True, slots=True)
class _Due:
    """What can be sent now. `next_at`: when to look again, in milliseconds."""

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
        except DustrunError as error:
            _logger.warning("a hook is held up", hook_id=self._hook_id, error=error.message)
        except Exception as error:
            _logger.error("a hook is held up", hook_id=self._hook_id, exc_info=error)
        return _AFTER_ERROR_S

    async def _find(self) -> HookRow | None:
        while True:
            try:
                return await self._deps.database.read(lambda tx: hook_rows.find_any(tx, self._hook_id))
            except DustrunError as error:
                _logger.warning("a hook cannot be read", hook_id=self._hook_id, error=error.message)
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
        reader = deriving.Reader(hook, self._deps.base_url, clock.now_ms())
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
                news.has_more |= not await self._deps.writer.write(lambda tx: deriving.write(tx, hook, news))
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
            _logger.warning("an attempt was not recorded", hook_id=self._hook_id, error=error.message)
            await asyncio.sleep(_AFTER_ERROR_S)
        except Exception as error:
            _logger.error("an attempt failed", hook_id=self._hook_id, exc_info=error)
            await asyncio.sleep(_AFTER_ERROR_S)
        finally:
            del self._sending[row.id]
            self._woken.set()
