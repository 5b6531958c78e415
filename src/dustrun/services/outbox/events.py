"""Records every step of a transaction as an event of its run and a signal for its node, in the unit that writes the
step; publishes them after the commit."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import replace
from typing import Any, Final

from dustrun import clock
from dustrun.core.money.policy import Reason
from dustrun.core.money.policy.verdict import read_stored
from dustrun.core.stream_events import TRANSACTION, TRANSACTION_REORGED
from dustrun.core.values.exact_json import dumps_text, loads_own
from dustrun.log import mask_links
from dustrun.metrics import Counter, counters
from dustrun.records import dataclass
from dustrun.services.streaming.broadcaster import ActivityNotice, Broadcaster
from dustrun.storage.db import facts
from dustrun.storage.db.statement import Tx
from dustrun.storage.hooks import reading
from dustrun.storage.money.signatures import SignatureRow
from dustrun.storage.money.transactions import TransactionRow
from dustrun.storage.runs import journal as journal_rows
from dustrun.storage.runs import runs as run_rows
from dustrun.storage.runs.journal import Event, RunHeads

SIGNAL = "transaction"
PROXY, SECOND_OPINION, PRICE, ALLOWANCE = "alert.proxy", "alert.second-opinion", "alert.price", "alert.allowance"
_OF: Final = {
    "proxyChanged": PROXY,
    "secondOpinion": SECOND_OPINION,
    "secondOpinionMissing": SECOND_OPINION,
    "prices": PRICE,
}
_raised: Final = Counter("dustrun_alerts", "Alerts about spends, by kind.", ("kind",))
for _type in (PROXY, SECOND_OPINION, PRICE, ALLOWANCE):
    # a rate needs a value from before the first one
    _raised.values[(_type.removeprefix("alert."),)] = 0
counters.append(_raised)
_LIGHT_CHARS = 131_072


@dataclass(frozen=True, slots=True)
class CommittedSteps:
    """The events that were written for a run, to publish after the commit."""

    pk: int
    id: str
    org_id: str
    workflow_id: str | None
    events: tuple[Event, ...]
    wakes: bool
    notices: tuple[ActivityNotice, ...] = ()
    """The events that only readers of the activity who are there get, since the run has ended."""
    alerts: tuple[str, ...] = ()
    """Types of alerts that were raised with it, for metrics."""


@dataclass(frozen=True, slots=True)
class TransactionStep:
    """One step of a transaction or signature: the event's `status` and its other fields."""

    status: str
    data: Mapping[str, Any]


def note(
    tx: Tx, row: TransactionRow, *steps: TransactionStep, wakes: bool = False, heads: RunHeads | None = None
) -> CommittedSteps | None:
    """Writes the steps of a transaction as events of its run, and with `wakes` a signal for its node. None if it
    belongs to no run, or the run has ended. `heads`: of a unit that has read the run."""
    if row.run_pk is None or row.run_id is None or row.path is None:
        return None
    about = _about(row)
    place = row.org_id, row.run_pk, row.run_id, row.workflow_id, row.path
    return write(tx, *place, about, steps, wakes=wakes, heads=heads)


def write(
    tx: Tx,
    org_id: str,
    run_pk: int,
    run_id: str,
    workflow_id: str | None,
    path: str,
    about: Mapping[str, Any],
    steps: Iterable[TransactionStep],
    *,
    wakes: bool,
    heads: RunHeads | None = None,
) -> CommittedSteps | None:
    """Like `note`, for anything that the node at `path` does. Of a run that has ended only hooks are told."""
    now = clock.now_ms()
    head = {"nodeId": path.rpartition(".")[2], "path": path}
    told = [{**head, "status": step.status, **about, **step.data} for step in steps]
    for data in told:
        if data["status"] == "reorged" and "transactionId" in data:
            facts.add(tx, org_id, "transaction", data["transactionId"], "reorged", now, place=str(now))
    written = [(TRANSACTION, now, mask_links(dumps_text(data))) for data in told]
    if heads is not None:
        events = heads.append(run_pk, written)
    else:
        events = journal_rows.append_open(tx, run_pk=run_pk, org_id=org_id, workflow_id=workflow_id, written=written)
    if not events:
        for data in told:
            type_ = f"transaction.{data['status']}"
            reading.add(tx, org_id=org_id, type_=type_, at=now, data=data, workflow_id=workflow_id, run_id=run_id)
        gone = tuple(
            ActivityNotice(TRANSACTION_REORGED, now, workflow_id, mask_links(dumps_text({"runId": run_id, **data})))
            for data in told
            if data.get("wasFinal")
        )
        return CommittedSteps(run_pk, run_id, org_id, workflow_id, (), wakes=False, notices=gone) if gone else None
    if wakes:
        run_rows.add_signal(tx, run_pk, SIGNAL, path, "{}", now)
    return CommittedSteps(run_pk, run_id, org_id, workflow_id, tuple(events), wakes)


def type_of_alert(reason: Reason) -> str | None:
    """The alert of a reason for which a person is asked; None for other reasons."""
    return _OF.get(reason.statement)


def raise_alert(
    tx: Tx, row: TransactionRow, type_: str, message: str, committed: CommittedSteps | None = None
) -> CommittedSteps:
    """Writes an alert in the unit of what it tells; returns what is published after the commit: `committed` too."""
    data = {
        "message": message,
        "transactionId": row.id,
        "walletId": row.wallet_id,
        "chainId": row.chain_id,
        "hash": row.hash,
    }
    where = {"workflow_id": row.workflow_id, "run_id": row.run_id}
    reading.add(tx, org_id=row.org_id, type_=type_, at=clock.now_ms(), data=data, **where)
    if committed is None:
        committed = CommittedSteps(row.run_pk or 0, row.run_id or "", row.org_id, row.workflow_id, (), wakes=False)
    return replace(committed, alerts=(*committed.alerts, type_))


def is_light(rows: Iterable[TransactionRow]) -> bool:
    """Whether intents are small enough that a unit reads and judges them within a few milliseconds."""
    return sum(len(row.intent) for row in rows) <= _LIGHT_CHARS


def touches(row: TransactionRow) -> tuple[Hashable, ...]:
    """The rows that a change of a transaction touches: the retry chain, with its runs and all their transactions."""
    if row.root_run_id is None:
        return (("transaction", row.id),)
    return (chain_of(row.org_id, row.root_run_id),)


def chain_of(org_id: str, root_run_id: str) -> Hashable:
    """A retry chain, among what units touch."""
    return ("chain", org_id, root_run_id)


def wallet_of(wallet_id: str) -> Hashable:
    """The reservations of a wallet, among what units touch."""
    return ("wallet", wallet_id)


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


def public(row: TransactionRow) -> dict[str, Any]:
    """A transaction as the API and the report of a run's effects show it."""
    intent = loads_own(row.intent)
    receipt = loads_own(row.receipt) if row.receipt is not None else None
    return {
        "id": row.id,
        "item": row.item,
        "generation": row.generation,
        "status": row.state,
        "chainId": row.chain_id,
        "from": row.sender,
        "to": intent["to"],
        "value": intent["value"],
        "about": intent["about"],
        "method": intent["method"],
        "movements": intent["movements"],
        "nonce": row.nonce,
        "hash": row.hash,
        "fee": receipt["fee"] if receipt is not None else None,
        "gasUsed": receipt["gasUsed"] if receipt is not None else None,
        "gasPrice": receipt["gasPrice"] if receipt is not None else None,
        "gasLimit": row.gas_limit,
        "blockNumber": row.block_number,
        "blockHash": row.block_hash,
        "blockTime": receipt["blockTime"] if receipt is not None else None,
        "walletId": row.wallet_id,
        "plannedAt": row.planned_at,
        "verdict": read_stored(row.verdict)[0],
        "error": loads_own(row.error) if row.error is not None else None,
        **({"revert": receipt["revert"]} if receipt is not None and receipt["revert"] is not None else {}),
    }


def public_signature(row: SignatureRow) -> dict[str, Any]:
    """A signature request as the API shows it, without the signed content and the signature."""
    request = loads_own(row.request)
    shown = {name: request[name] for name in ("item", "sign", "chainId", "about", "movements")}
    return {**shown, "status": row.state, "walletId": row.wallet_id, "verdict": read_stored(row.verdict)[0]}


class EventPublisher:
    """Publishes what was committed to stream readers and the engine; called on the event loop, in commit order."""

    def __init__(self, hub: Broadcaster, wake: Callable[[int], None]) -> None:
        self._hub = hub
        self._wake = wake

    def tell(self, *committed: CommittedSteps | None) -> None:
        """Call this in a write's `after`."""
        for one in committed:
            if one is not None:
                for alert in one.alerts:
                    _raised.add(alert.removeprefix("alert."))
                if one.events or not one.alerts:
                    self._hub.publish(one, one.events)
                for notice in one.notices:
                    self._hub.announce(one.org_id, notice)
                if one.wakes:
                    self._wake(one.pk)
