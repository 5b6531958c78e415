"""Writes what a look at a chain has found about many transactions: of those of one run or wallet in one unit."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from dustrun.errors import Temporary, Uncertain
from dustrun.services.outbox import events
from dustrun.services.outbox.deps import OutboxDeps
from dustrun.services.outbox.events import Committed
from dustrun.storage.db.statement import Tx
from dustrun.storage.money.transactions import TransactionRow

_MOST = 50
"""Transactions that a unit changes within a few milliseconds."""


class Found(Protocol):
    """What was found about a transaction."""

    @property
    def row(self) -> TransactionRow:
        """The transaction as it was read."""
        ...


F = TypeVar("F", bound=Found)
Unit = Callable[[Tx, Sequence[F]], Sequence[Committed | None]]


async def write_in_batches(deps: OutboxDeps, found: Sequence[F], unit: Unit[F]) -> None:
    """Writes in units of many; each in its own if that fails, so that one fails alone."""
    for start in range(0, len(found), _MOST):
        part = found[start : start + _MOST]
        try:
            await _write(deps, part, unit)
        except (Temporary, Uncertain):
            raise
        except Exception:
            if len(part) == 1:
                raise
            await asyncio.gather(*(_write(deps, [one], unit) for one in part))


async def _write(deps: OutboxDeps, part: Sequence[F], unit: Unit[F]) -> None:
    of_rows = [one.row for one in part]
    is_light = events.is_light(of_rows)
    is_live = all(row.mode != "dust" for row in of_rows)  # a dust test reserves for itself too
    await deps.writer.write(
        lambda tx: unit(tx, part),
        lambda committed: deps.publisher.tell(*committed),
        repeatable=is_light,
        is_separate=is_light and is_live,
        touches={key for row in of_rows for key in (*events.touches(row), events.wallet_of(row.wallet_id))},
    )
