"""One execution per Idempotency-Key: the key's row commits in the transaction that creates what it stands for.

The API puts a `Pending` into `current` for a request that carries a key. The first unit that the request writes
through `write` (or wraps with `once`) claims the key, does its work and stores the answer, all or nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, TypeVar

from dustrun import clock
from dustrun.errors import Uncertain
from dustrun.storage.access import idempotency as rows
from dustrun.storage.access.idempotency import StoredAnswer
from dustrun.storage.db.database import Database
from dustrun.storage.db.statement import Tx
from dustrun.storage.db.writer import Writer

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer as it goes over the wire; `secret` ones are sent but never stored."""

    status: int
    body: bytes
    resource_id: str | None = None
    secret: bool = False


class Duplicate(Exception):
    """Another request holds the key; nothing of this one was done."""


@dataclass(slots=True)
class Pending:
    """A request's key, not yet used. `answer(result)` shapes the result of the unit into the whole answer."""

    org_id: str
    key: str
    request_hash: str
    keep_ms: int
    answer: Callable[[Any], Answer] | None = None
    recorded: Answer | None = None


current: ContextVar[Pending | None] = ContextVar("idempotency", default=None)


def claim(tx: Tx, pending: Pending | None) -> None:
    """To be called first in a unit: takes the key or raises `Duplicate`. Does nothing without a key."""
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


def record(tx: Tx, pending: Pending | None, answer: Answer) -> None:
    """To be called last in a unit that claimed: stores the answer beside the key. Does nothing without a key."""
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


def once(unit: Callable[[Tx], T], pending: Pending | None) -> Callable[[Tx], T]:
    """The unit with the claim before it and the record of `pending.answer(result)` after it."""
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
) -> T:
    """`Writer.write`, with the current request's Idempotency-Key in the same transaction.

    `creates`, like `("runId", "run_1")`, is what the caller should look up when the outcome is unknown.
    """
    try:
        return await writer.write(once(unit, current.get()), after, repeatable=repeatable)
    except Uncertain as error:
        if creates is None:
            raise
        name, value = creates
        found = {"field": name, "message": "may have been created; look it up before sending again", name: value}
        raise Uncertain(error.message, details=[found], retry_after_s=error.retry_after_s) from error


async def find(database: Database, pending: Pending) -> StoredAnswer | None:
    """The answer that an earlier request with this key got."""
    after = clock.now_ms() - pending.keep_ms
    return await database.read(lambda tx: rows.find(tx, org_id=pending.org_id, key=pending.key, after_ms=after))


async def prune(writer: Writer, keep_hours: int) -> int:
    """Deletes keys that no longer replay; to be called now and then."""
    before = clock.now_ms() - keep_hours * 3_600_000
    return await writer.write(lambda tx: rows.prune(tx, before_ms=before))
