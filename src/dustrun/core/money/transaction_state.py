"""Pure rules of the outbox: transaction states, intent keys, replacement fees."""

from __future__ import annotations

import enum
import hashlib
from typing import Final

from dustrun.core.money.intent import Intent
from dustrun.core.values.exact_json import dumps_text


class TxState(enum.StrEnum):
    """State of a transaction.

    `planned`: nothing is signed. `signed`: its bytes are on disk. `sent`: a node accepted them. `mined`: an attempt has
    a receipt that is not final yet. The others are terminal: `final` succeeded, `reverted` was included and failed,
    `cancelled` will never be included (its nonce went to our cancellation, or it was dropped unsigned), `refused` was
    never signed, `displaced`: somebody else used its nonce, and a person must decide.
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


AWAITS_APPROVAL: Final = (
    "Another approval of the same token for the same spender is under way; a dust test never lowers one."
)
"""Why a planned transaction waits that nobody has to release: it goes on by itself."""
PLAIN_GAS = 21_000
SPARE_GAS = 50_000
"""Gas of two storage slots set from zero instead of updated: headroom over an estimate."""
MOST_GAS = 2**24
"""Gas limit of one transaction on chains with EIP-7825."""
FOLLOWED = frozenset({TxState.SIGNED, TxState.SENT, TxState.MINED})
"""Not terminal: the chain has yet to decide."""
UNSETTLED = FOLLOWED | {TxState.DISPLACED}
"""Signed with an unknown outcome: must not be paid again."""
SETTLED = frozenset({TxState.FINAL, TxState.REVERTED, TxState.CANCELLED})
"""A final receipt decided, or a person; only a reorg deeper than the confirmations changes it."""
NOTHING_CAME = frozenset({TxState.REVERTED, TxState.CANCELLED, TxState.REFUSED})
"""Certainly not paid, now or later: a new generation may be."""


def raised(units: int) -> int:
    """The smallest fee that every node accepts as a replacement: 12.5 % more, rounded up."""
    return units + units // 8 + 1


def next_bid(bid: tuple[int, int], market: tuple[int, int], ceiling: int) -> tuple[int, int] | None:
    """(max fee, tip) of a replacement, in base units: each at least 12.5 % above the old one and at least the market's,
    never above the ceiling; None when the ceiling is too low.
    """
    max_fee = min(max(raised(bid[0]), market[0]), ceiling)
    tip = min(max(raised(bid[1]), market[1]), max_fee)
    if max_fee < raised(bid[0]) or tip < raised(bid[1]):
        return None
    return max_fee, tip


def gas_limit_of(estimate: int, is_plain: bool) -> int:
    """The gas limit for an estimate: exact for a plain transfer; contract calls get 50 % more, at most `SPARE_GAS` or
    25 % where that is more, since the state may change before inclusion.
    """
    if is_plain and estimate == PLAIN_GAS:
        return estimate
    limit = estimate + max(estimate // 4, min(estimate // 2, SPARE_GAS))
    return limit if estimate > MOST_GAS else min(limit, MOST_GAS)


def intent_key(org_id: str, root_run_id: str, path: str, item: str, generation: int) -> str:
    """The idempotency key of an intent: stable across attempts, restarts and retries of the run."""
    return f"{org_id}/{root_run_id}/{path}/{item}/{generation}"


def binding_of(intent: Intent, sender: str, fee_ceiling_units: int) -> str:
    """The hash that a person approves: SHA-256 over chain, from, to, value, calldata and maximum fee."""
    bound = [
        intent.chain_id,
        sender,
        intent.to,
        str(intent.value_units),
        "0x" + intent.data.hex(),
        str(fee_ceiling_units),
    ]
    return hashlib.sha256(dumps_text(bound).encode()).hexdigest()
