"""After a restore from a backup the store may have forgotten what it signed. Until the chain's nonce is the one that
the store expects, nothing new is signed for a sender; when the chain is ahead, a person decides."""

from __future__ import annotations

from dataclasses import replace

from dustrun import clock, log
from dustrun.services.transactions import telling
from dustrun.services.transactions.parts import Parts
from dustrun.services.transactions.telling import Step, Told
from dustrun.storage import store_facts as facts
from dustrun.storage import transactions as rows
from dustrun.storage.statement import Tx
from dustrun.storage.transactions import TransactionRow

_logger = log.get(__name__)
RESTORED = facts.RESTORED_AT


def name_of(chain_id: int, sender: str) -> str:
    """The fact that a sender's spends go on; its value is the restore that this is said of."""
    return f"spends_released/{chain_id}/{sender}"


def _is_held(tx: Tx, chain_id: int, sender: str) -> str | None:
    """The restore that holds a sender's spends; None when none does."""
    restored = facts.find(tx, RESTORED)
    if restored is None or facts.find(tx, name_of(chain_id, sender)) == restored:
        return None
    return restored


async def check(parts: Parts, row: TransactionRow) -> bool:
    """Whether a planned wish may be signed; when not, why is on disk and told."""
    chain_id, sender = row.chain_id, row.sender
    restored = await parts.database.read(lambda tx: _is_held(tx, chain_id, sender))
    if restored is None:
        return True
    chain = parts.chains.get(chain_id)
    used, pending = await chain.nonce(sender, "latest"), await chain.nonce(sender, "pending")
    highest = await parts.database.read(lambda tx: rows.highest_nonce(tx, chain_id, sender))
    expected = 0 if highest is None else highest + 1
    if used == pending == expected:
        await parts.writer.write(lambda tx: facts.put(tx, name_of(chain_id, sender), restored))
        return True
    if max(used, pending) > expected:
        _logger.error("the chain is ahead of the restored store", chain_id=chain_id, sender=sender, used=used)
        reason = (
            f"The store was restored from a backup, and the chain has seen {max(used, pending)} transactions of "
            f"{sender} where the store knows {expected}: what is missing here may have been paid. Look at the chain, "
            "then release the wallet's spends, or cancel the run."
        )
    else:
        reason = "The store was restored from a backup: what was signed before has to reach the chain first."
    await parts.writer.write(lambda tx: _note(tx, row.id, reason), parts.teller.tell)
    return False


def _note(tx: Tx, transaction_id: str, reason: str) -> Told | None:
    row = rows.get(tx, transaction_id)
    if row.refusal == reason:
        return None
    held = replace(row, refusal=reason, updated_at=clock.now_ms())
    rows.save(tx, held)
    return telling.note(tx, held, Step("held", {"reason": reason}))


def release(tx: Tx, org_id: str, chain_id: int, sender: str) -> list[Told | None]:
    """A person says that a sender's spends may go on; wakes the nodes that wait for it."""
    restored = facts.find(tx, RESTORED)
    if restored is not None:
        facts.put(tx, name_of(chain_id, sender), restored)
    told = []
    for row in rows.list_planned(tx, org_id, chain_id, sender):
        if row.refusal is not None:
            freed = replace(row, refusal=None, updated_at=clock.now_ms())
            rows.save(tx, freed)
            told.append(telling.note(tx, freed, Step("released", {}), wakes=True))
    return told
