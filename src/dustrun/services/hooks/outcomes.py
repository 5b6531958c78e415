"""Outcomes of an attempt for a delivery and its hook."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from dustrun import ids
from dustrun.core import hooks
from dustrun.core.hooks import Schedule
from dustrun.core.values.exact_json import dumps_text, loads_own
from dustrun.services.hooks.sending import GONE, Attempt
from dustrun.storage.db.statement import Tx
from dustrun.storage.hooks import deliveries as rows
from dustrun.storage.hooks import hooks as hook_rows
from dustrun.storage.hooks import reading
from dustrun.storage.hooks.deliveries import DeliveryRow
from dustrun.storage.hooks.hooks import DISABLED, HookRow

_KEPT_ATTEMPTS: Final = 20


def after(row: DeliveryRow, attempt: Attempt, now: int) -> DeliveryRow:
    """The delivery with an attempt recorded, ended as it went."""
    log = [*loads_own(row.attempt_log), attempt.logged()][-_KEPT_ATTEMPTS:]
    return replace(
        row,
        attempts=row.attempts + 1,
        status=rows.SUCCESS if attempt.has_arrived else rows.FAILURE,
        next_at=None,
        finished_at=now,
        attempt_log=dumps_text(log),
        response=None if attempt.status is None else dumps_text(attempt.response()),
        updated_at=now,
    )


def record(tx: Tx, row: DeliveryRow, attempt: Attempt, schedule: Schedule, now: int) -> str | None:
    """Records an attempt of a hook's worker. Returns why the hook was disabled, if it was."""
    ended = after(row, attempt, now)
    hook = hook_rows.find_any(tx, row.hook_id)
    if hook is not None and not attempt.has_arrived:
        wait = schedule.next_ms(ended.attempts, hook.max_retries, ids.jitter(), attempt.retry_after_s)
        if wait is not None:
            ended = replace(ended, status=rows.RETRYING, next_at=now + wait, finished_at=None)
    if not rows.record(tx, ended, row.attempts, now) or hook is None:
        return None
    if attempt.has_arrived:
        if hook.failures:
            hook_rows.set_failing(tx, hook.id, failures=0, since=None, resume_at=None)
        return None
    return _count_failure(tx, hook, attempt, schedule, now)


def _count_failure(tx: Tx, hook: HookRow, attempt: Attempt, schedule: Schedule, now: int) -> str | None:
    failures, since = hook.failures + 1, hook.failing_since if hook.failing_since is not None else now
    pause = schedule.pause_ms(failures)
    hook_rows.set_failing(tx, hook.id, failures=failures, since=since, resume_at=now + pause if pause else None)
    reason = None
    if attempt.status == GONE:
        reason = "The receiver answered 410: it is gone."
    elif schedule.is_hopeless(since, now):
        reason = (
            f"No delivery has arrived for {schedule.disable_after_days:g} days; the newest attempt failed: "
            f"{attempt.error}"
        )
    if reason is not None and hook.status != DISABLED:
        disable(tx, hook, reason, now)
        return reason
    return None


def disable(tx: Tx, hook: HookRow, reason: str, now: int) -> None:
    """Disables a hook by itself, and tells the organisation's other hooks."""
    hook_rows.set_state(tx, replace(hook, status=DISABLED, disabled_at=now, disabled_reason=reason, updated_at=now))
    data = {"hookId": hook.id, "name": hook.name, "reason": reason}
    reading.add(tx, org_id=hook.org_id, type_=hooks.DISABLED, at=now, data=data)
