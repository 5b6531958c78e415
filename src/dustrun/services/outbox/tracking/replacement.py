"""Signs a nonce again: with a higher bid, or as a zero-value self-transfer that cancels it. At most one attempt of a
nonce is ever mined, so a replacement cannot pay twice."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from dustrun import clock
from dustrun.core.money.policy import Deny, PolicyRequest
from dustrun.core.money.transaction_state import PLAIN_GAS, TxState, next_bid
from dustrun.records import dataclass
from dustrun.sdk.chain import Fees
from dustrun.services.outbox import events, policy_check
from dustrun.services.outbox.deps import OutboxDeps
from dustrun.services.outbox.events import CommittedSteps, TransactionStep
from dustrun.services.outbox.sender_queue import bid_of, new_attempt
from dustrun.services.outbox.spend_status import intent_of
from dustrun.services.wallets.budget import Values
from dustrun.storage.db.statement import Tx
from dustrun.storage.money import transactions as rows
from dustrun.storage.money import wallets as wallet_rows
from dustrun.storage.money.transactions import AttemptRow, TransactionRow
from dustrun.storage.money.wallets import WalletRow
from dustrun.wallets.signer import SignedTransaction, UnsignedTransaction

Kind = Literal["replace", "cancel"]
_OPEN = (TxState.SIGNED, TxState.SENT)


@dataclass(frozen=True, slots=True)
class AtCeiling:
    """Its bid is at its ceiling; `message` says whose limit that is."""

    message: str


@dataclass(frozen=True, slots=True)
class NewAttempt:
    """The new attempt, committed and not yet sent."""

    row: TransactionRow
    attempt: AttemptRow


@dataclass(frozen=True, slots=True)
class Replacement:
    """A new attempt that is signed and not committed; nobody has seen its bytes."""

    row: TransactionRow
    last: AttemptRow
    kind: Kind
    unsigned: UnsignedTransaction
    signed: SignedTransaction
    request: PolicyRequest
    values: Values
    ceiling: int


async def replace_attempt(
    deps: OutboxDeps, row: TransactionRow, last: AttemptRow, kind: Kind
) -> NewAttempt | AtCeiling | None:
    """Signs and commits an attempt with a higher bid; None if the transaction has changed in between."""
    signed = await sign_replacement(deps, row, last, kind)
    if isinstance(signed, AtCeiling):
        return signed
    deps.on_step("replacing")
    found, _ = await deps.writer.write(
        lambda tx: write_replacement(tx, deps, signed), lambda done: deps.publisher.tell(done[1])
    )
    deps.on_step("replaced")
    return found


async def sign_replacement(
    deps: OutboxDeps, row: TransactionRow, last: AttemptRow, kind: Kind, ceiling: int | None = None
) -> Replacement | AtCeiling:
    """Signs an attempt with a higher bid. A cancelled transaction stays cancelled. `ceiling` overrides the
    transaction's own."""
    chain = deps.chains.get(row.chain_id)
    market = await chain.fees()
    kind = "cancel" if last.kind == "cancel" else kind
    last_bid = (int(last.max_fee), int(last.tip))
    ceiling = int(row.max_price or 0) if ceiling is None else ceiling
    bid = next_bid(last_bid, (market.max_fee_units, market.tip_units), ceiling)
    if bid is None:
        return AtCeiling(f"It bids {last.max_fee} base units for a unit of gas, and its maximum is {ceiling}.")
    gas_limit = last.gas_limit
    if kind == "cancel" and last.kind != "cancel":
        gas_limit = max(PLAIN_GAS, await chain.estimate_gas(row.sender, row.sender, 0, b""))
    unsigned = _unsigned(row, kind, gas_limit, Fees(*bid, bid[0], is_legacy=bool(last.is_legacy)))
    wallet = await deps.database.read(lambda tx: wallet_rows.find(tx, row.org_id, row.wallet_id))
    assert wallet is not None
    signed = await sign(deps, wallet, unsigned)
    intent = intent_of(row)
    data_fee, usual = await chain.data_fee(intent.to, intent.data), chain.network.usual_fee_units
    request = _request(row, unsigned, data_fee, usual)
    return Replacement(row, last, kind, unsigned, signed, request, await deps.budget.values_of([request]), ceiling)


def write_replacement(
    tx: Tx, deps: OutboxDeps, new: Replacement
) -> tuple[NewAttempt | AtCeiling | None, CommittedSteps | None]:
    """Writes a new attempt if the transaction has not changed and policy allows the bid."""
    row = rows.get(tx, new.row.id)
    attempts = rows.list_attempts(tx, row.id)
    if row.state not in _OPEN or attempts[-1].hash != new.last.hash:
        return None, None
    case = policy_check.case_of(tx, row, new.request, new.values)
    verdict = deps.budget.judge_replacement(tx, case, row.id, is_approved=row.approval_id is not None)
    if isinstance(verdict, Deny):
        return AtCeiling(policy_check.denial(verdict).message), None
    attempt = new_attempt(row, len(attempts) + 1, new.kind, new.unsigned, new.signed)
    # The attempts before it may still be the ones that are included, the payment in place of its cancel too.
    outlay = max(int(row.outlay or 0), intent_of(row).value_units + new.request.gas_units)
    changed = replace(
        row,
        hash=attempt.hash,
        outlay=str(outlay),
        max_price=str(new.ceiling),
        refusal=None,
        updated_at=clock.now_ms(),
    )
    rows.insert_attempt(tx, attempt)
    rows.save(tx, changed)
    status = "cancelling" if new.kind == "cancel" else "replaced"
    step = TransactionStep(status, {**bid_of(attempt), "replaces": new.last.hash})
    return NewAttempt(changed, attempt), events.note(tx, changed, step)


async def sign(deps: OutboxDeps, wallet: WalletRow, unsigned: UnsignedTransaction) -> SignedTransaction:
    """Signs with a wallet's key; an archived wallet still signs for nonces it has begun."""
    held = replace(wallet, archived_at=None)
    return await deps.signers.signer_of(held).sign_transaction(unsigned)


def _unsigned(row: TransactionRow, kind: Kind, gas_limit: int, bid: Fees) -> UnsignedTransaction:
    intent = intent_of(row)
    is_cancel = kind == "cancel"
    assert row.nonce is not None
    return UnsignedTransaction(
        chain_id=row.chain_id,
        nonce=row.nonce,
        to=row.sender if is_cancel else intent.to,
        value_units=0 if is_cancel else intent.value_units,
        data=b"" if is_cancel else intent.data,
        gas_limit=gas_limit,
        max_fee_units=bid.max_fee_units,
        tip_units=bid.tip_units,
        is_legacy=bid.is_legacy,
    )


def _request(
    row: TransactionRow, unsigned: UnsignedTransaction, data_fee_units: int, usual_units: int
) -> PolicyRequest:
    """A replacement as the policy judges it: the same intent with a higher bid. A cancel needs little gas itself, but
    the first attempt may still be mined."""
    gas_limit = max(unsigned.gas_limit, row.gas_limit or 0)
    return PolicyRequest.of_intent(
        intent_of(row),
        row.sender,
        gas_limit=gas_limit,
        max_fee_units=unsigned.max_fee_units,
        data_fee_units=data_fee_units,
        usual_fee_units=usual_units,
    )
