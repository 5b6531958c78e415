"""Holds spends after a restore from a backup, or in a copy of the store (`storage/backup/copy_detection.py`).

Such a store may not know everything that it signed, and the server it comes from may still run. Spends of runs that
were open then wait for a person. Spends of later runs wait until the chain's nonce equals the one that the store
expects; if the chain is ahead, a person decides.
"""

from __future__ import annotations

from dataclasses import replace

from dustrun import clock, log
from dustrun.core.values.exact_json import loads_own
from dustrun.errors import Refused
from dustrun.services.outbox import events
from dustrun.services.outbox.deps import OutboxDeps
from dustrun.services.outbox.events import CommittedSteps, TransactionStep
from dustrun.storage.db import store_facts as facts
from dustrun.storage.db.statement import Tx
from dustrun.storage.money import transactions as rows
from dustrun.storage.money.signatures import SignatureRow
from dustrun.storage.money.transactions import TransactionRow
from dustrun.storage.runs import runs as run_rows
from dustrun.storage.runs.journal import RunHeads

_logger = log.get(__name__)
RESTORED = facts.RESTORED_AT
_MAY_BE_PAID = (
    "Its run was open in the backup or copy that this store comes from, and the original server may have paid it "
    "since, or may still pay it."
)
_LOOK = (
    "Make sure that no other server runs, check the chain, then release the wallet's spends or cancel the run. (If you "
    "only moved the store, stop the server and run: dustrun moved)"
)


def name_of(chain_id: int, sender: str) -> str:
    """Name of the fact that a person released a sender's spends; its value is the restore that this applies to."""
    return f"spends_released/{chain_id}/{sender}"


def _seen_name(chain_id: int, sender: str) -> str:
    """Name of the fact that the chain's nonce was once as expected; its value is the restore that this applies to."""
    return f"chain_as_expected/{chain_id}/{sender}"


def _restore_of(tx: Tx, chain_id: int | None, sender: str) -> str | None:
    """The latest restore, unless a person has released the sender's spends since."""
    restored = facts.find(tx, RESTORED)
    if restored is None or chain_id is None or facts.find(tx, name_of(chain_id, sender)) != restored:
        return restored
    return None


def _is_of_backup(tx: Tx, run_pk: int | None) -> bool:
    """Whether a run, or the root of its callers, was in the backup."""
    newest = facts.find(tx, facts.RESTORED_RUNS)
    if newest is None or run_pk is None:
        return False
    callers = run_rows.get(tx, run_pk).callers
    top_pk = run_pk if callers is None else int(loads_own(callers)["topPk"])
    return top_pk <= int(newest)


def _holds_back(tx: Tx, chain_id: int | None, sender: str, run_pk: int | None) -> bool:
    return _restore_of(tx, chain_id, sender) is not None and _is_of_backup(tx, run_pk)


async def check(deps: OutboxDeps, row: TransactionRow) -> bool:
    """Whether a planned intent may be signed; if not, the reason is committed and published."""
    chain_id, sender = row.chain_id, row.sender
    restored = await deps.database.look_up(lambda tx: _restore_of(tx, chain_id, sender))
    if restored is None:
        return True
    if await deps.database.read(lambda tx: _is_of_backup(tx, row.run_pk)):
        reason = f"{_MAY_BE_PAID} {_LOOK}"
    else:
        found = await _is_behind(deps, chain_id, sender, restored)
        if found is None:
            return True
        reason = found
    await deps.writer.write(lambda tx: note(tx, rows.get(tx, row.id), reason), deps.publisher.tell)
    return False


async def _is_behind(deps: OutboxDeps, chain_id: int, sender: str, restored: str) -> str | None:
    """Why a spend that began after the restore has to wait; None if the chain is, or was, as the store expects."""
    seen = _seen_name(chain_id, sender)
    if await deps.database.read(lambda tx: facts.find(tx, seen)) == restored:
        return None
    chain = deps.chains.get(chain_id)
    used, pending = await chain.nonce(sender, "latest"), await chain.nonce(sender, "pending")
    highest = await deps.database.read(lambda tx: rows.highest_nonce(tx, chain_id, sender))
    expected = 0 if highest is None else highest + 1
    if used == pending == expected:
        await deps.writer.write(lambda tx: facts.put(tx, seen, restored))
        return None
    if max(used, pending) > expected:
        _logger.error("the chain is ahead of the restored store", chain_id=chain_id, sender=sender, used=used)
        return (
            f"The store comes from a backup or a copy, and the chain has {max(used, pending)} transactions of "
            f"{sender}, but the store knows {expected}: the missing ones may have been payments. {_LOOK}"
        )
    return "The store comes from a backup or a copy: what it signed before must reach the chain first."


async def check_signature(deps: OutboxDeps, row: SignatureRow, sender: str) -> None:
    """Raises `Refused` for a signature that the backup's server may have made too: no chain would show it."""
    if await deps.database.read(lambda tx: _holds_back(tx, row.chain_id, sender, row.run_pk)):
        raise Refused(
            "Its run was open in the backup or copy that this store comes from, and the original server may have "
            "signed it since. Make sure that no other server runs; a retry of the run signs it."
        )


async def why_not_raised(deps: OutboxDeps, row: TransactionRow) -> str | None:
    """Why the bid of a signed transaction is not raised automatically: a person may have cancelled it after the backup,
    and a higher bid would win over the cancel."""
    if await deps.database.read(lambda tx: _holds_back(tx, row.chain_id, row.sender, row.run_pk)):
        return (
            "The store comes from a backup or a copy: its bid is not raised automatically, since the original "
            "server may have cancelled it. Speed it up, or release the wallet's spends."
        )
    return None


def note(tx: Tx, row: TransactionRow, reason: str, heads: RunHeads | None = None) -> CommittedSteps | None:
    """Records why a planned intent is not signed now."""
    if row.refusal == reason:
        return None
    held = replace(row, refusal=reason, updated_at=clock.now_ms())
    rows.save(tx, held)
    return events.note(tx, held, TransactionStep("held", {"reason": reason}), heads=heads)


def release(tx: Tx, org_id: str, chain_id: int, sender: str) -> list[CommittedSteps | None]:
    """Releases a sender's spends and wakes the nodes that wait for it."""
    restored = facts.find(tx, RESTORED)
    if restored is not None:
        facts.put(tx, name_of(chain_id, sender), restored)
    committed = []
    for row in rows.list_planned(tx, org_id, chain_id, sender):
        if row.refusal is not None:
            freed = replace(row, refusal=None, updated_at=clock.now_ms())
            rows.save(tx, freed)
            committed.append(events.note(tx, freed, TransactionStep("released", {}), wakes=True))
    return committed
