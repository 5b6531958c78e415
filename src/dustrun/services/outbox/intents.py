"""Stores a node's intents in one unit, nothing signed; decides their generation, and reuses what an earlier one has
paid."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from dustrun import clock, ids
from dustrun.core.money.intent import Intent, SignRequest, Spend
from dustrun.core.money.transaction_state import NOTHING_CAME, TxState, intent_key
from dustrun.core.values.exact_json import dumps_text
from dustrun.errors import Code, Invalid, NotFound, Refused
from dustrun.services.outbox import events, fees, policy_check, spend_status
from dustrun.services.outbox.events import CommittedSteps, TransactionStep
from dustrun.services.outbox.spend_status import NodeRows, SpendRequest, StoredIntents
from dustrun.services.runs.approvals import has_good_approvers
from dustrun.storage.db.statement import Tx
from dustrun.storage.money import signatures as signature_rows
from dustrun.storage.money import transactions as rows
from dustrun.storage.money import wallets as wallet_rows
from dustrun.storage.money.signatures import SignatureRow
from dustrun.storage.money.transactions import SpendRow, TransactionRow
from dustrun.storage.money.wallets import WalletRow
from dustrun.storage.runs import approvals as approval_rows
from dustrun.storage.runs.journal import RunHeads

ConfirmationsOf = Callable[[int], int]
_MAY_PASS = frozenset({fees.INSUFFICIENT_FUNDS, fees.REVERTED})
"""Why a transaction is refused before it is signed, though the next attempt may pay the same. Not a price above the
approved one: a person decides about another one."""


def check(spend: Spend) -> None:
    """Raises `Invalid` for intents with equal names, or that wait for each other or for nobody."""
    items = [*(intent.item for intent in spend.intents), *(request.item for request in spend.signatures)]
    if len(items) != len(set(items)):
        raise Invalid(f"The intents of a node need distinct names; these are {', '.join(items)}.")
    known: set[str] = set()
    for intent in spend.intents:
        missing = [name for name in intent.after if name not in known]
        if missing:
            raise Invalid(f'The intent "{intent.item}" comes after "{missing[0]}", which does not precede it.')
        known.add(intent.item)


def plan(
    tx: Tx, request: SpendRequest, spend: Spend, confirmations_of: ConfirmationsOf
) -> tuple[StoredIntents, list[CommittedSteps | None]]:
    """The node's stored intents if they have not failed; otherwise stores these."""
    of_node = spend_status.NodeRows(tx, request)
    wallet = wallet_rows.ask_for(tx, request.org_id, request.wallet_id)
    with RunHeads(tx, [request.run_pk]) as heads:
        tx.wait()
        stored = of_node.stored()
        if stored is not None and not stored.came_to_nothing:
            return _taken_over(tx, request, stored), []
        generation = stored.spend.generation + 1 if stored is not None else 1
        able = _able(wallet(), request.wallet_id)
        return _add(tx, request, spend, of_node, generation, able, confirmations_of, heads)


def _add(
    tx: Tx,
    request: SpendRequest,
    spend: Spend,
    of_node: NodeRows,
    generation: int,
    wallet: WalletRow,
    confirmations_of: ConfirmationsOf,
    heads: RunHeads,
) -> tuple[StoredIntents, list[CommittedSteps | None]]:
    """Stores a node's intents as a new generation, with those that an earlier one has paid."""
    committed: list[CommittedSteps | None] = []
    paid = {row.item: row for row in of_node.transactions() if row.state == TxState.FINAL}
    signed = {row.item: row for row in of_node.signatures() if row.state == "signed"}
    fresh = {
        intent.item: _new_row(request, intent, wallet, generation, confirmations_of(intent.chain_id))
        for intent in spend.intents
        if intent.item not in paid
    }
    if generation > 1:
        fresh = {row.item: row for row in _with_approvals(tx, request, of_node, [*fresh.values()])}
    transactions = []
    for intent in spend.intents:
        row = paid.get(intent.item)
        if row is None:
            row = fresh[intent.item]
            rows.insert(tx, row)
            committed.append(events.note(tx, row, TransactionStep("planned", {"generation": generation}), heads=heads))
        transactions.append(row)
    signatures = [
        signed.get(sign_request.item) or _add_signature(tx, request, sign_request, generation)
        for sign_request in spend.signatures
    ]
    row_of_spend = SpendRow(
        org_id=request.org_id,
        root_run_id=request.root_run_id,
        path=request.path,
        generation=generation,
        run_pk=request.run_pk,
        transactions=dumps_text([row.id for row in transactions]),
        signatures=dumps_text([one.id for one in signatures]),
        notes=dumps_text(dict(spend.notes)),
        created_at=clock.now_ms(),
    )
    rows.insert_spend(tx, row_of_spend)
    return StoredIntents(row_of_spend, tuple(transactions), tuple(signatures), {}, {}), committed


def _with_approvals(
    tx: Tx, request: SpendRequest, of_node: NodeRows, fresh: Sequence[TransactionRow]
) -> Sequence[TransactionRow]:
    """The rows of another attempt with what a person has approved of the one before: all of them, or none. In the same
    run, if that one was refused unsigned for what may pass, and these spend the same, from the same wallet, and bid no
    less. The limits of gas are part of what was approved. `policy_check.Approved` holds them against what was asked."""
    generation = max((row.generation for row in fresh), default=0)
    rows_of_node = of_node.transactions()
    before = {row.item: row for row in rows_of_node if row.generation == generation - 1 and row.state != TxState.FINAL}
    codes = {spend_status.failure_of(row.error).code for row in before.values() if row.error is not None}
    if not codes & _MAY_PASS or not codes <= _MAY_PASS | {policy_check.NOT_SIGNED}:
        return fresh
    if before.keys() != {row.item for row in fresh} or any(row.nonce is not None for row in before.values()):
        return fresh
    if not all(_spends_the_same(row, before[row.item]) for row in fresh):
        return fresh
    used = {row.approval_id for row in rows_of_node if row.nonce is not None}
    for approval_id in {row.approval_id for row in before.values()}:
        if approval_id is not None and (approval_id in used or not _still_counts(tx, request, approval_id)):
            return fresh
    return [_approved_as(row, before[row.item]) for row in fresh]


def _spends_the_same(row: TransactionRow, before: TransactionRow) -> bool:
    """Whether two attempts of one run have the same transaction, and the later one bids no other price of its own."""
    names = ("run_pk", "intent", "wallet_id", "sender", "mode", "key_id")
    if any(getattr(row, name) != getattr(before, name) for name in names):
        return False
    return row.max_price is None or row.max_price == before.max_price


def _still_counts(tx: Tx, request: SpendRequest, approval_id: str) -> bool:
    """Whether an approval of this run counts now: its time is not over, the policy is the one that asked, and the keys
    of all who gave it are good."""
    asked, now = approval_rows.find(tx, request.org_id, approval_id), clock.now_ms()
    if asked is None or asked.status != approval_rows.APPROVED or asked.run_pk != request.run_pk:
        return False
    policy = wallet_rows.find_policy(tx, request.wallet_id, now)
    is_same_policy = policy is not None and policy.effective_at <= asked.created_at
    return is_same_policy and now < asked.expires_at and has_good_approvers(tx, asked)


def _approved_as(row: TransactionRow, before: TransactionRow) -> TransactionRow:
    if before.approval_id is None:
        return row
    kept = {name: getattr(before, name) for name in ("approval_id", "verdict", "gas_limit", "max_price")}
    return replace(row, **kept)


def find_wallet(tx: Tx, request: SpendRequest) -> str | None:
    """The wallet of what the node has planned, has under way, or has done in this retry chain; None without any."""
    of_node = spend_status.NodeRows(tx, request)
    tx.wait()
    sent = [row.wallet_id for row in of_node.transactions() if row.state not in NOTHING_CAME]
    asked = [row.wallet_id for row in of_node.signatures() if row.state != "refused"]
    return next(iter([*sent, *asked]), None)


def get_wallet(tx: Tx, org_id: str, wallet_id: str) -> WalletRow:
    """The wallet that spends; raises `NotFound`, or `Refused` if it cannot sign."""
    return _able(wallet_rows.find(tx, org_id, wallet_id), wallet_id)


def _able(wallet: WalletRow | None, wallet_id: str) -> WalletRow:
    if wallet is None:
        raise NotFound(f'There is no wallet "{wallet_id}".', code=Code.WALLET_UNKNOWN)
    if not wallet.can_sign:
        why = "is archived" if wallet.archived_at is not None else "is watch-only: this server has no key for it"
        raise Refused(f'The wallet "{wallet.name}" {why}.')
    return wallet


def _taken_over(tx: Tx, request: SpendRequest, stored: StoredIntents) -> StoredIntents:
    """Moves to this run what an earlier run of the retry chain left unsigned."""
    if all(row.run_pk == request.run_pk or row.state != TxState.PLANNED for row in stored.transactions) and all(
        row.run_pk == request.run_pk or row.state != "planned" for row in stored.signatures
    ):
        return stored
    # No approval comes along: who had started that run could not decide, who started this one may have.
    for asked in stored.approvals:
        approval_rows.close(tx, asked, "cancelled", clock.now_ms())
    for row in stored.transactions:
        if row.state == TxState.PLANNED:
            moved = replace(row, run_pk=request.run_pk, run_id=request.run_id, key_id=request.key_id, approval_id=None)
            rows.save(tx, replace(moved, workflow_id=request.workflow_id, updated_at=clock.now_ms()))
    for signature in stored.signatures:
        if signature.state == "planned":
            taken = replace(
                signature, run_pk=request.run_pk, run_id=request.run_id, key_id=request.key_id, approval_id=None
            )
            signature_rows.save(tx, replace(taken, workflow_id=request.workflow_id))
    found = spend_status.load_of(tx, request)
    assert found is not None
    return found


def _new_row(
    request: SpendRequest, intent: Intent, wallet: WalletRow, generation: int, confirmations: int
) -> TransactionRow:
    now = clock.now_ms()
    own_price = request.max_price_of(intent.item)
    return TransactionRow(
        id=ids.new_id("tx"),
        org_id=request.org_id,
        key=intent_key(request.org_id, request.root_run_id, request.path, intent.item, generation),
        purpose="intent",
        run_pk=request.run_pk,
        run_id=request.run_id,
        root_run_id=request.root_run_id,
        workflow_id=request.workflow_id,
        path=request.path,
        item=intent.item,
        generation=generation,
        mode=request.mode,
        wallet_id=wallet.id,
        key_id=request.key_id,
        chain_id=intent.chain_id,
        sender=wallet.address,
        intent=dumps_text(intent.public()),
        state=TxState.PLANNED,
        confirmations=request.confirmations_of(intent.item) or confirmations,
        max_price=str(own_price) if own_price is not None else None,
        planned_at=now,
        updated_at=now,
    )


def _add_signature(tx: Tx, request: SpendRequest, sign_request: SignRequest, generation: int) -> SignatureRow:
    row = SignatureRow(
        id=ids.new_id("sig"),
        org_id=request.org_id,
        key=intent_key(request.org_id, request.root_run_id, request.path, sign_request.item, generation),
        run_pk=request.run_pk,
        run_id=request.run_id,
        root_run_id=request.root_run_id,
        workflow_id=request.workflow_id,
        path=request.path,
        item=sign_request.item,
        generation=generation,
        mode=request.mode,
        wallet_id=request.wallet_id,
        key_id=request.key_id,
        chain_id=sign_request.chain_id,
        request=dumps_text(sign_request.public()),
        state="planned",
        planned_at=clock.now_ms(),
        mark=ids.new_entropy(16).hex(),
    )
    signature_rows.insert(tx, row)
    return row
