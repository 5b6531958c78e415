"""Key usage: when each key was last used and which requests were made with it.

Requests are recorded in memory and written in batches by a background task, so that no caller waits. A crash loses the
last second; while the store is unavailable, the oldest records are dropped.
"""

from __future__ import annotations

import asyncio
from collections import deque

from dustrun import clock, log
from dustrun.errors import DustrunError
from dustrun.services.access.paging import Page, Paging, page_of
from dustrun.services.access.principal import Principal
from dustrun.storage.access import key_requests as rows
from dustrun.storage.access import keys as key_rows
from dustrun.storage.access.key_requests import Noted, RequestRow
from dustrun.storage.db.database import Database
from dustrun.storage.db.statement import Tx
from dustrun.storage.db.writer import Writer

_logger = log.get(__name__)
FLUSH_EVERY_S = 1.0
USED_EVERY_MS = 60_000
_MOST_NOTED = 50_000
_MOST_IN_BATCH = 1000


class Usage:
    """Records key usage. `keep_rows` is the number of requests kept; 0 keeps none."""

    def __init__(self, database: Database, writer: Writer, keep_rows: int) -> None:
        self._database = database
        self._writer = writer
        self._keep_rows = keep_rows
        self._noted: deque[Noted] = deque(maxlen=_MOST_NOTED)
        self._used: dict[str, int] = {}
        self._written: dict[str, int] = {}
        self._task: asyncio.Task[None] | None = None
        self._has_more = asyncio.Event()

    def note(self, principal: Principal, method: str, route: str, status: int, request_id: str) -> None:
        """Records one request in memory; cheap, because it runs for every request."""
        now = clock.now_ms()
        key_id = principal.key_id
        if now - self._written.get(key_id, 0) >= USED_EVERY_MS:
            self._used[key_id] = now
            self._has_more.set()
        if self._keep_rows:
            self._has_more.set()
            self._noted.append((principal.org_id, key_id, now, method, route, status, request_id))

    def start(self) -> None:
        """Starts the background task that writes the records."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """Stops the task and writes what is left."""
        if self._task is not None:
            self._task.cancel()
            self._task = None
        await self._flush_or_log()

    async def _run(self) -> None:
        while await self._has_more.wait():
            await asyncio.sleep(FLUSH_EVERY_S)
            self._has_more.clear()
            await self._flush_or_log()

    async def _flush_or_log(self) -> None:
        try:
            await self.flush()
        except DustrunError as error:
            self._has_more.set()
            _logger.failed("key usage not written", error)

    async def flush(self) -> None:
        """Writes all pending records; those that come meanwhile wait for the next time, or it would not end under
        load."""
        used, self._used = self._used, {}
        left = len(self._noted)
        while used or left:
            batch = [self._noted.popleft() for _ in range(min(left, len(self._noted), _MOST_IN_BATCH))]
            left = max(0, left - _MOST_IN_BATCH)
            try:
                await self._writer.write(lambda tx, used=used, batch=batch: self._write(tx, used, batch))  # type: ignore[misc]
            except DustrunError:
                self._noted.extendleft(reversed(batch[: _MOST_NOTED - len(self._noted)]))
                raise
            self._written.update(used)
            used = {}
            if len(self._written) > _MOST_NOTED:
                self._written.clear()

    def _write(self, tx: Tx, used: dict[str, int], batch: list[Noted]) -> None:
        key_rows.note_use(tx, used)
        if batch:
            rows.add(tx, batch)
            rows.keep_newest(tx, self._keep_rows)

    async def prune(self, keep_days: int) -> int:
        """Deletes requests older than `days`; returns the number of deleted rows."""
        before = clock.now_ms() - keep_days * 86_400_000
        return await self._writer.write(lambda tx: rows.prune(tx, before_ms=before))

    async def list_page(
        self, principal: Principal, *, key_id: str | None, account_id: str | None = None, paging: Paging
    ) -> Page[tuple[int, RequestRow]]:
        """Lists the organisation's requests, newest first, optionally of one key or service account; to a limited key
        its own.

        New requests appear with about a second's delay."""
        if principal.is_limited:
            if key_id not in (None, principal.key_id):
                return Page([], paging.limit, paging.offset, False)
            key_id = principal.key_id
        found = await self._database.read(
            lambda tx: rows.list_page(
                tx,
                principal.org_id,
                key_id=key_id,
                account_id=account_id,
                limit=paging.peek,
                offset=paging.offset,
            )
        )
        return page_of(found, paging)
