"""The rules of the outbox that need no chain: states of a transaction, keys, the next bid."""

from __future__ import annotations

import enum
import hashlib

from dustrun.core.money.intent import Intent
from dustrun.core.values.exact_json import dumps_text


class TxState(enum.StrEnum):
    """Where a transaction stands.

    `planned`: nothing is signed. `signed`: its bytes are on disk. `sent`: a node took them. `mined`: an attempt has a
    receipt that is not final yet. The rest is for good: `final` succeeded, `reverted` was included and failed,
    `cancelled` never will be (its nonce went to our own cancel, or it was given up unsigned), `refused` was never
    signed. `displaced`: somebody else used its nonce; a person decides.
    """

    PLANNED = "planned"
    SIGNED = "signed"
    SENT = "sent"
    MINED = "mined"
    FINAL = "final"
    REVERTED = "reverted"
    CANCELLED = "cancelled"
    DISPLACED = "displaced"
    REFUSED = "refused"


PLAIN_GAS = 21_000
SPARE_GAS = 50_000
"""Two slots of storage that are written for the first time, where they were only read or written over before."""
MOST_GAS = 2**24
"""What one transaction may use on chains that have EIP-7825."""
FOLLOWED = frozenset({TxState.SIGNED, TxState.SENT, TxState.MINED})
"""What the chain has yet to decide."""
UNSETTLED = FOLLOWED | {TxState.DISPLACED}
"""Signed, and nobody knows yet what it comes to: nothing may be paid again."""
NOTHING_CAME = frozenset({TxState.REVERTED, TxState.CANCELLED, TxState.REFUSED})
"""Certainly not paid, now and for ever: a new generation may be."""


def raised(units: int) -> int:
    """A bid that every node takes as a replacement: one eighth more, rounded up."""
    return units + units // 8 + 1


def next_bid(bid: tuple[int, int], market: tuple[int, int], ceiling: int) -> tuple[int, int] | None:
    """(max fee, tip) of a replacement: both an eighth above the bid and at least the market's, never above the
    ceiling; None when that leaves too little to replace it."""
    max_fee = min(max(raised(bid[0]), market[0]), ceiling)
    tip = min(max(raised(bid[1]), market[1]), max_fee)
    if max_fee < raised(bid[0]) or tip < raised(bid[1]):
        return None
    return max_fee, tip


def gas_limit_of(estimate: int, is_plain: bool) -> int:
    """The gas limit by an estimate: a plain transfer takes what it takes; what runs code gets half more, at most
    `SPARE_GAS`, or a quarter where that is more, since the state may change until it is included."""
    if is_plain and estimate == PLAIN_GAS:
        return estimate
    limit = estimate + max(estimate // 4, min(estimate // 2, SPARE_GAS))
    return limit if estimate > MOST_GAS else min(limit, MOST_GAS)


def intent_key(org_id: str, root_run_id: str, path: str, item: str, generation: int) -> str:
    """What makes an intent one: the same over attempts, restarts and retries of the run."""
    return f"{org_id}/{root_run_id}/{path}/{item}/{generation}"


def binding_of(intent: Intent, sender: str, fee_ceiling_units: int) -> str:
    """What a person approves: SHA-256 over chain, from, to, value, calldata and the most that the fee may be."""
    bound = [
        intent.chain_id,
        sender,
        intent.to,
        str(intent.value_units),
        "0x" + intent.data.hex(),
        str(fee_ceiling_units),
    ]
    return hashlib.sha256(dumps_text(bound).encode()).hexdigest()
