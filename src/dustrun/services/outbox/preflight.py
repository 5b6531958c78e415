"""Reads chain, prices and allowances before a nonce is taken, so that a failure leaves no nonce gap.

A dust test never lowers an allowance, even if another spend of the wallet raises it after the test has read it. Of two
approvals of the same token for the same spender, one of them dust, only one is under way: the other waits until it is
mined, reads the allowance again, and is not signed if that is enough.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field

from dustrun.chain.evm import LiveChain
from dustrun.core.evm.calls import selector_of
from dustrun.core.money.intent import Intent, Movement
from dustrun.core.money.policy import PolicyRequest, Reason
from dustrun.core.money.token_calls import APPROVE, implied_movement
from dustrun.core.money.transaction_state import AWAITS_APPROVAL, TxState
from dustrun.records import dataclass
from dustrun.sdk.chain import ChainCall, Fees
from dustrun.services.outbox import restore_hold
from dustrun.services.outbox.deps import OutboxDeps
from dustrun.services.outbox.events import CommittedSteps
from dustrun.services.outbox.fees import PricedIntent
from dustrun.services.outbox.spend_status import ALLOWANCE_MET, IntentFailure, intent_of
from dustrun.services.wallets.budget import Values
from dustrun.storage.db.statement import Tx
from dustrun.storage.money import transactions as rows
from dustrun.storage.money.transactions import TransactionRow
from dustrun.storage.runs.journal import RunHeads

NONE_SIGNED = -1
_ALLOWANCE = bytes.fromhex("dd62ed3e")


@dataclass(frozen=True, slots=True)
class Grounds:
    """By what a node was judged: the version of the policy, and the counts of what hands have written."""

    policy_version: int | None
    hands: str


@dataclass(frozen=True, slots=True)
class Ready:
    """An intent that may be signed: its cost, the value of its assets, and the newest nonce whose approvals the
    allowance included when it was read."""

    row: TransactionRow
    priced: PricedIntent
    values: Values
    approvals_up_to: int = -1
    concerns: tuple[Reason, ...] = ()
    """Concerns that a person has to look at, see `concerns.py`."""
    implementations: Mapping[str, str] = field(default_factory=dict)
    """The implementations of the proxies that it trusts now."""
    names: Mapping[str, str] = field(default_factory=dict)
    """Names of known contracts among its addresses."""
    grounds: Grounds | None = None

    @property
    def intent(self) -> Intent:
        """The stored intent."""
        return self.priced.intent

    @property
    def gas_limit(self) -> int:
        """Its gas limit."""
        return self.priced.gas_limit

    @property
    def bid(self) -> Fees:
        """Its bid for gas."""
        return self.priced.bid

    @property
    def max_price_units(self) -> int:
        """The most that a replacement may bid for one unit of gas."""
        return self.priced.max_price_units

    @property
    def request(self) -> PolicyRequest:
        """The spend as the policy judges it."""
        return self.priced.request

    @property
    def most_units(self) -> int:
        """The most by which the wallet's balance goes down, in base units of the native coin."""
        return self.priced.most_units

    @property
    def fee_ceiling_units(self) -> int:
        """The most that any attempt may pay for gas, in base units."""
        return self.gas_limit * self.max_price_units


async def check_allowance(deps: OutboxDeps, row: TransactionRow, chain: LiveChain) -> int | IntentFailure | None:
    """Checks a dust test's approval: the newest nonce that the allowance includes if it may be signed; None if it has
    to wait, which is committed; a failure if it would lower an allowance. `NONE_SIGNED` for anything else."""
    approval = _set_by(row)
    if approval is None:
        return NONE_SIGNED

    def query(tx: Tx) -> tuple[int, bool, int]:
        highest = rows.highest_nonce(tx, row.chain_id, row.sender)
        open_ones = (one for one in rows.list_followed(tx, row.chain_id) if one.sender == row.sender)
        is_open = any(one.state != TxState.MINED and _touches(one, approval) for one in open_ones)
        return NONE_SIGNED if highest is None else highest, is_open, _target(tx, row, approval)

    up_to, is_open, target = await deps.database.read(query)
    if is_open:
        await deps.writer.write(lambda tx: _hold(tx, rows.get(tx, row.id)), deps.publisher.tell)
        return None
    allowance = await _allowance(chain, row.sender, approval)
    return up_to if allowance < target else _met(allowance, approval)


def hold_if_moved(tx: Tx, ready: Ready, heads: RunHeads) -> tuple[bool, CommittedSteps | None]:
    """In the unit that signs: whether an approval must wait because another one was signed after the allowance was
    read."""
    approval = _set_by(ready.row)
    if approval is None:
        return False, None
    newer = rows.list_above_nonce(tx, ready.row.chain_id, ready.row.sender, ready.approvals_up_to)
    return (True, _hold(tx, ready.row, heads)) if any(_touches(one, approval) for one in newer) else (False, None)


def _set_by(row: TransactionRow) -> Movement | None:
    """The approval that a dust test's transaction makes; None for any other transaction."""
    if row.mode != "dust":
        return None
    intent = intent_of(row)
    return _approval_of(intent) if selector_of(intent.data) == APPROVE else None


def _approval_of(intent: Intent) -> Movement | None:
    found = None if intent.to is None else implied_movement(intent.chain_id, intent.to, intent.data)
    return found if found is not None and found.kind == "approve" else None


def _touches(row: TransactionRow, approval: Movement) -> bool:
    """Whether a transaction changes the same allowance."""
    found = _approval_of(intent_of(row))
    return found is not None and (found.asset, found.counterparty) == (approval.asset, approval.counterparty)


def _target(tx: Tx, row: TransactionRow, approval: Movement) -> int:
    """The allowance that the node sets in the end: a reset to 0 is followed by another approval."""
    assert row.root_run_id is not None
    assert row.path is not None
    of_node = rows.list_of_node(tx, row.org_id, row.root_run_id, row.path)
    approvals = (_approval_of(intent_of(one)) for one in of_node if one.generation == row.generation)
    same = [one for one in approvals if one is not None and one.counterparty == approval.counterparty]
    return max((one.amount_units for one in same if one.asset == approval.asset), default=approval.amount_units)


async def _allowance(chain: LiveChain, owner: str, approval: Movement) -> int:
    assert approval.asset.token is not None
    words = b"".join(bytes(12) + bytes.fromhex(who[2:]) for who in (owner, approval.counterparty))
    return int.from_bytes((await chain.call(ChainCall(approval.asset.token, _ALLOWANCE + words)))[:32])


def _hold(tx: Tx, row: TransactionRow, heads: RunHeads | None = None) -> CommittedSteps | None:
    if row.state != TxState.PLANNED:
        return None
    return restore_hold.note(tx, row, AWAITS_APPROVAL, heads)


def _met(allowance: int, approval: Movement) -> IntentFailure:
    message = (
        f"Another transaction of the wallet has allowed {approval.counterparty} to take {allowance} base units of "
        f"{approval.asset.key}. A dust test never lowers an allowance, so nothing was signed. The next attempt goes on "
        "without an approval."
    )
    return IntentFailure(ALLOWANCE_MET, message, retryable=True)
