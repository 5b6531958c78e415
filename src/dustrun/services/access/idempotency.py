"""One execution per Idempotency-Key: the key's row commits in the same transaction as the request's effect.

The API sets `current` to a `PendingKey` for a request with a key. The first unit that the request writes through
`write` (or wraps with `once`) claims the key, does its work and stores the response, all or nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, TypeVar

from dustrun import clock
from dustrun.errors import Uncertain
from dustrun.records import dataclass
from dustrun.storage.access import idempotency as rows
from dustrun.storage.access.idempotency import StoredAnswer
from dustrun.storage.db.database import Database
from dustrun.storage.db.statement import Tx
from dustrun.storage.db.writer import Writer

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete HTTP response; a `secret` one is sent but never stored."""

    status: int
    body: bytes
    resource_id: str | None = None
    secret: bool = False


class Duplicate(Exception):
    """Another request has claimed the key; nothing was done for this one."""


@dataclass(slots=True)
class PendingKey:
    """A request's key, not yet claimed. `answer(result)` turns the unit's result into the complete response."""

    org_id: str
    key: str
    request_hash: str
    keep_ms: int
    answer: Callable[[Any], Answer] | None = None
    recorded: Answer | None = None


current: ContextVar[PendingKey | None] = ContextVar("idempotency", default=None)


def claim(tx: Tx, pending: PendingKey | None) -> None:
    """Claims the current request's key, or raises `Duplicate`; call it first in a unit. A no-op without a key."""
    if pending is None:
        return
    now = clock.now_ms()
    taken = rows.claim(
        tx,
        org_id=pending.org_id,
        key=pending.key,
        request_hash=pending.request_hash,
        now_ms=now,
        expired_before_ms=now - pending.keep_ms,
    )
    if not taken:
        raise Duplicate


def record(tx: Tx, pending: PendingKey | None, answer: Answer) -> None:
    """Stores the response with the claimed key; call it last in the unit. A no-op without a key."""
    if pending is None:
        return
    rows.complete(
        tx,
        org_id=pending.org_id,
        key=pending.key,
        status=answer.status,
        response=None if answer.secret else answer.body.decode(),
        resource_id=answer.resource_id,
    )
    pending.recorded = answer


def once(unit: Callable[[Tx], T], pending: PendingKey | None) -> Callable[[Tx], T]:
    """Wraps a unit so that it claims the key first and records `pending.answer(result)` last."""
    if pending is None or pending.answer is None or pending.recorded is not None:
        return unit
    shape = pending.answer

    def claimed(tx: Tx) -> T:
        claim(tx, pending)
        result = unit(tx)
        record(tx, pending, shape(result))
        return result

    return claimed


async def write(
    writer: Writer,
    unit: Callable[[Tx], T],
    after: Callable[[T], None] | None = None,
    *,
    creates: tuple[str, str] | None = None,
    repeatable: bool = False,
    is_separate: bool = False,
    may_wait: bool = False,
) -> T:
    """`Writer.write` that also claims the current request's Idempotency-Key in the same transaction.

    `creates`, like `("runId", "run_1")`, tells the caller what to look up if the outcome is unknown.
    """
    try:
        options: dict[str, Any] = {"repeatable": repeatable, "is_separate": is_separate, "may_wait": may_wait}
        return await writer.write(once(unit, current.get()), after, **options)
    except Uncertain as error:
        if creates is None:
            raise
        name, value = creates
        found = {"field": name, "message": "may have been created; look it up before you try again", name: value}
        raise Uncertain(error.message, details=[found], retry_after_s=error.retry_after_s) from error


async def find(database: Database, pending: PendingKey) -> StoredAnswer | None:
    """The stored response to an earlier request with this key; None if there is none."""
    after = clock.now_ms() - pending.keep_ms
    return await database.read(lambda tx: rows.find(tx, org_id=pending.org_id, key=pending.key, after_ms=after))


async def prune(writer: Writer, keep_hours: int) -> int:
    """Deletes expired keys."""
    before = clock.now_ms() - keep_hours * 3_600_000
    return await writer.write(lambda tx: rows.prune(tx, before_ms=before))
