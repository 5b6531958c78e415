"""Measured balance changes of a run's transactions.

A simulated transaction has its own block, so its changes are its own and exclude the fee. For a sent one the whole
block was measured, gas included, and several of a run may share a block: then only their sum is known, and it is
counted once. Gas fees are excluded in both cases.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field
from typing import Any

from dustrun.records import dataclass

Json = dict[str, Any]
Pair = tuple[str, str]  # address, asset
HAPPENED = frozenset({"simulated", "mined", "final", "success"})
"""States of a transaction that was executed, on the real or the simulated chain."""


@dataclass(slots=True)
class TransactionGroup:
    """Transactions whose changes are known together: one, or all of the run in one block. `others` maps pairs that
    another party's transaction may have changed to its hash; `unmeasured` says why there are no numbers.
    """

    members: list[int] = field(default_factory=list)
    changes: dict[Pair, int] = field(default_factory=dict)
    watched: set[Pair] | None = None
    others: dict[Pair, str] = field(default_factory=dict)
    unmeasured: str | None = None


def happened(transaction: Mapping[str, Any]) -> bool:
    """Whether it was executed, on the real or the simulated chain."""
    return transaction["status"] in HAPPENED


def group(transactions: Sequence[Mapping[str, Any]]) -> list[TransactionGroup]:
    """Groups a run's transactions, in order; `members` are indexes into the sequence."""
    blocks: dict[str, TransactionGroup] = {}
    groups: list[TransactionGroup] = []
    for place, transaction in enumerate(transactions):
        if not happened(transaction):
            continue
        if transaction["status"] == "simulated" or "measured" not in transaction:
            changes = {(c["address"], c["asset"]): int(c["delta"]) for c in transaction.get("balanceChanges", ())}
            unmeasured = None if transaction["status"] == "simulated" else "balances were not read"
            groups.append(TransactionGroup([place], changes, unmeasured=unmeasured))
            continue
        key = str(transaction.get("blockHash"))
        if key not in blocks:
            blocks[key] = TransactionGroup(watched=set())
            groups.append(blocks[key])
        _add(blocks[key], place, transaction)
    hashes = {str(transaction.get("hash")) for transaction in transactions}
    for found in blocks.values():
        found.others = {pair: hash for pair, hash in found.others.items() if hash not in hashes}
        _leave_out_fees(found, transactions)
    return groups


def _add(found: TransactionGroup, place: int, transaction: Mapping[str, Any]) -> None:
    found.members.append(place)
    if not transaction["measured"]:
        found.unmeasured = transaction["notMeasured"]
        return
    block = transaction["block"]
    assert found.watched is not None
    for change in block["changes"]:
        found.changes[(change["address"], change["asset"])] = int(change["delta"])
    found.watched.update(found.changes)
    found.watched.update(tuple(text.split(" ", 1)) for text in block["unchanged"])
    for other in block["others"]:
        found.others.setdefault((other["address"], other["asset"]), other["hash"])


def _leave_out_fees(found: TransactionGroup, transactions: Sequence[Mapping[str, Any]]) -> None:
    """Removes gas from the block's numbers: adds back the fees of the run's own transactions, including reverted
    ones.
    """
    if not found.changes:
        return
    block_hash = transactions[found.members[0]].get("blockHash")
    for transaction in transactions:
        if transaction.get("blockHash") == block_hash and transaction.get("fee") is not None:
            pair = (transaction["from"], f"eip155:{transaction['chainId']}/native")
            if pair in found.changes:
                found.changes[pair] += int(transaction["fee"])
    found.changes = {pair: units for pair, units in found.changes.items() if units}


def total(groups: Iterable[TransactionGroup]) -> dict[Pair, int]:
    """Sums per address and asset, zeros omitted."""
    sums: dict[Pair, int] = {}
    for found in groups:
        for pair, units in found.changes.items():
            sums[pair] = sums.get(pair, 0) + units
    return {pair: units for pair, units in sorted(sums.items()) if units}
