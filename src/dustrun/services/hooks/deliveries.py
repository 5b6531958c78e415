"""Use cases of deliveries: list them, try one again, send it once more, and send a test."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from dustrun import clock, ids
from dustrun.core import hooks
from dustrun.core.hooks import Subject, body_of
from dustrun.errors import Code, Conflict, NotFound
from dustrun.services.access import audit, idempotency
from dustrun.services.access.paging import Page, Paging, page_of
from dustrun.services.access.principal import Principal
from dustrun.services.hooks import outcomes
from dustrun.services.hooks.hooks import find, need_whole
from dustrun.services.hooks.host import HookHost
from dustrun.services.hooks.sending import KIND, Secrets, send
from dustrun.services.hooks.worker import HookDeps
from dustrun.storage.db.statement import Tx
from dustrun.storage.hooks import deliveries as rows
from dustrun.storage.hooks import hooks as hook_rows
from dustrun.storage.hooks.deliveries import DeliveryFilters, DeliveryRow
from dustrun.storage.hooks.hooks import ACTIVE, HookRow


class Deliveries:
    """Use cases of deliveries."""

    def __init__(self, deps: HookDeps, host: HookHost) -> None:
        self._deps = deps
        self._host = host

    async def list_page(self, principal: Principal, filters: DeliveryFilters, paging: Paging) -> Page[DeliveryRow]:
        """Lists the organisation's deliveries, newest first."""
        need_whole(principal)
        found = await self._deps.database.read(
            lambda tx: rows.list_page(tx, principal.org_id, filters, limit=paging.peek, offset=paging.offset)
        )
        return page_of(found, paging)

    async def get(self, principal: Principal, delivery_id: str) -> DeliveryRow:
        """Gets one delivery; raises `NotFound`."""
        return await self._deps.database.read(lambda tx: _find(tx, principal, delivery_id))

    async def retry(self, principal: Principal, delivery_id: str) -> DeliveryRow:
        """Tries a delivery that has not arrived again, at once and in the same record."""

        def unit(tx: Tx) -> DeliveryRow:
            row = _find(tx, principal, delivery_id)
            _need_active(hook_rows.find(tx, principal.org_id, row.hook_id))
            if row.status == rows.SUCCESS:
                raise Conflict("The delivery has arrived; replay it to send it again.", code=Code.DELIVERY_DONE)
            if row.finished_at is None and row.next_at is None:
                return row  # it waits for an earlier one of its run
            now = clock.now_ms()
            fresh = replace(row, status=rows.RETRYING, next_at=now, finished_at=None, updated_at=now)
            rows.record(tx, fresh, row.attempts, now)
            hook_rows.end_pause(tx, row.hook_id)
            audit.record(tx, principal, "hook.retry-delivery", row.id, hookId=row.hook_id)
            return fresh

        return await self._write(unit)

    async def replay(self, principal: Principal, delivery_id: str) -> DeliveryRow:
        """Sends the same body as a new delivery, whatever became of the old one."""

        def unit(tx: Tx) -> DeliveryRow:
            row, now = _find(tx, principal, delivery_id), clock.now_ms()
            _need_active(hook_rows.find(tx, principal.org_id, row.hook_id))
            made = replace(_fresh(row, now), replay_of=row.id, next_at=now)
            rows.insert(tx, made)
            audit.record(tx, principal, "hook.replay-delivery", row.id, hookId=row.hook_id, replay=made.id)
            return made

        return await self._write(unit)

    async def test(self, principal: Principal, hook_id: str) -> DeliveryRow:
        """Sends a `hook.ping` to a hook, active or not, once and now; returns how that went."""
        row, hook = await self._deps.writer.write(lambda tx: _ping(tx, principal, hook_id, self._deps))
        plain = await self._deps.vault.read(self._deps.database, hook.org_id, KIND, hook.id, hook.sealed)
        attempt = await send(self._deps.http, row, hook.url, Secrets.of(plain), self._deps.timeout_s)
        now = clock.now_ms()
        ended = outcomes.after(row, attempt, now)
        await self._deps.writer.write(lambda tx: rows.record(tx, ended, row.attempts, now))
        return ended

    async def _write(self, unit: Callable[[Tx], DeliveryRow]) -> DeliveryRow:
        return await idempotency.write(self._deps.writer, unit, lambda row: self._host.changed(row.org_id, row.hook_id))


def _find(tx: Tx, principal: Principal, delivery_id: str) -> DeliveryRow:
    need_whole(principal)
    row = rows.find(tx, principal.org_id, delivery_id)
    if row is None:
        raise NotFound(f'There is no delivery "{delivery_id}".', code=Code.DELIVERY_UNKNOWN)
    return row


def _need_active(hook: HookRow | None) -> None:
    if hook is None or hook.status != ACTIVE:
        state = "deleted" if hook is None else "disabled; enable it first"
        raise Conflict(f"The hook of the delivery is {state}.", code=Code.DELIVERY_DONE)


def _fresh(row: DeliveryRow, now: int) -> DeliveryRow:
    """A new delivery of the same event, outside the order of its run."""
    made_id = ids.new_id("dlv")
    return DeliveryRow(
        id=made_id,
        org_id=row.org_id,
        hook_id=row.hook_id,
        queue=made_id,
        event_id=row.event_id,
        event_type=row.event_type,
        run_id=row.run_id,
        workflow_id=row.workflow_id,
        body=row.body,
        created_at=now,
        updated_at=now,
    )


def _ping(tx: Tx, principal: Principal, hook_id: str, deps: HookDeps) -> tuple[DeliveryRow, HookRow]:
    hook, now, made_id = find(tx, principal, hook_id), clock.now_ms(), ids.new_id("dlv")
    data = {"hookId": hook.id, "name": hook.name}
    at = clock.to_rfc3339(now)
    body = body_of(hooks.PING, made_id, at, Subject(hook.org_id), data, deps.base_url)
    row = DeliveryRow(
        id=made_id,
        org_id=hook.org_id,
        hook_id=hook.id,
        queue=made_id,
        event_id=made_id,
        event_type=hooks.PING,
        run_id=None,
        workflow_id=None,
        body=body,
        created_at=now,
        updated_at=now,
    )
    rows.insert(tx, row)
    audit.record(tx, principal, "hook.test", hook.id)
    return row, hook
