"""Every step of a transaction is told: an event on its run's stream and a signal for its node, in the unit that
writes the step; after the commit the readers of the stream and the engine."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from dustrun import clock
from dustrun.core.values.exact_json import dumps_text, loads_own
from dustrun.log import mask_links
from dustrun.services.streaming.broadcaster import Broadcaster
from dustrun.storage.db.statement import Tx
from dustrun.storage.money.transactions import TransactionRow
from dustrun.storage.runs import journal as journal_rows
from dustrun.storage.runs import runs as run_rows
from dustrun.storage.runs.journal import Event

SIGNAL = "transaction"


@dataclass(frozen=True, slots=True)
class Committed:
    """What was written of a run and is to be told after the commit."""

    pk: int
    id: str
    org_id: str
    workflow_id: str | None
    events: tuple[Event, ...]
    wakes: bool


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a transaction or signature: the event's `status` and what else it says."""

    status: str
    data: Mapping[str, Any]


def note(tx: Tx, row: TransactionRow, *steps: Step, wakes: bool = False) -> Committed | None:
    """Writes the steps of a transaction as events of its run, and with `wakes` a signal for its node. None when
    nobody is to be told: it belongs to no run, or the run has ended."""
    if row.run_pk is None or row.run_id is None or row.path is None:
        return None
    about = _about(row)
    return write(tx, row.org_id, row.run_pk, row.run_id, row.workflow_id, row.path, about, steps, wakes=wakes)


def write(
    tx: Tx,
    org_id: str,
    run_pk: int,
    run_id: str,
    workflow_id: str | None,
    path: str,
    about: Mapping[str, Any],
    steps: Iterable[Step],
    *,
    wakes: bool,
) -> Committed | None:
    """As `note`, of anything that a node at `path` does."""
    now = clock.now_ms()
    head = {"nodeId": path.rpartition(".")[2], "path": path}
    written = [
        ("transaction", now, mask_links(dumps_text({**head, "status": step.status, **about, **step.data})))
        for step in steps
    ]
    events = journal_rows.append_open(tx, run_pk=run_pk, org_id=org_id, workflow_id=workflow_id, written=written)
    if not events:
        return None
    if wakes:
        run_rows.add_signal(tx, run_pk, SIGNAL, path, "{}", now)
    return Committed(run_pk, run_id, org_id, workflow_id, tuple(events), wakes)


def _about(row: TransactionRow) -> dict[str, Any]:
    intent = loads_own(row.intent)
    about: dict[str, Any] = {
        "transactionId": row.id,
        "item": row.item,
        "chainId": row.chain_id,
        "from": row.sender,
        "to": intent["to"],
        "value": intent["value"],
        "about": intent["about"],
    }
    if row.hash is not None:
        about["hash"] = row.hash
    if row.nonce is not None:
        about["nonce"] = row.nonce
    return about


class EventPublisher:
    """Tells readers and the engine what was committed; on the event loop, in commit order."""

    def __init__(self, hub: Broadcaster, wake: Callable[[int], None]) -> None:
        self._hub = hub
        self._wake = wake

    def tell(self, *told: Committed | None) -> None:
        """To be called in a write's `after`."""
        for one in told:
            if one is not None:
                self._hub.publish(one, one.events)
                if one.wakes:
                    self._wake(one.pk)
