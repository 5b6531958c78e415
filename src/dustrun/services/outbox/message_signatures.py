"""Signs messages and typed data. Such signatures can move money, so policy judges them like transactions, and they are
stored sealed: only those who may spend can read them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from dustrun import clock
from dustrun.core.money.intent import SignRequest
from dustrun.core.money.policy import Allow, Ask, Deny, PolicyRequest
from dustrun.core.values.exact_json import dumps_text
from dustrun.services.outbox import events, policy_check, spend_status
from dustrun.services.outbox.deps import OutboxDeps
from dustrun.services.outbox.events import CommittedSteps, TransactionStep
from dustrun.services.outbox.spend_status import IntentFailure, SpendRequest, error_json, request_of
from dustrun.services.runs.approvals import APPROVED
from dustrun.services.wallets import budget
from dustrun.services.wallets.budget import Values
from dustrun.storage.db.statement import Tx
from dustrun.storage.money import signatures as rows
from dustrun.storage.money.signatures import SignatureRow
from dustrun.storage.money.wallets import WalletRow
from dustrun.storage.runs import approvals as approval_rows
from dustrun.storage.runs import runs as run_rows
from dustrun.storage.secrets.vault import Vault


async def sign(deps: OutboxDeps, request: SpendRequest, row: SignatureRow, wallet: WalletRow) -> None:
    """Signs a planned request if policy allows it; verdict and signature are committed together."""
    sign_request = request_of(row)
    values = await deps.budget.values_of([PolicyRequest.of_signature(sign_request, wallet.address)])
    if not await _is_allowed(deps, request, row, wallet, values):
        return
    signer = deps.signers.signer_of(wallet)
    if sign_request.kind == "message":
        signature = await signer.sign_message(message_of(sign_request.payload))
    else:
        signature = await signer.sign_typed_data(_document(sign_request.payload))
    await deps.vault.prepare()

    def unit(tx: Tx) -> CommittedSteps | None:
        found = rows.get(tx, row.id)
        if found.state != "planned" or found.run_pk != request.run_pk or not run_rows.goes_on(tx, request.run_pk):
            return None
        verdict, committed = _decide(tx, deps, request, found, wallet, values)
        if verdict is None:
            return committed
        now = clock.now_ms()
        sealed = deps.vault.seal(tx, row.org_id, rows.KIND, row.id, signature)
        shown = dumps_text(verdict.stored())
        rows.save(tx, replace(found, state="signed", sealed=sealed, verdict=shown, finished_at=now))
        budget.settle(tx, row.id, fee_units=None, at_ms=now)
        return _tell(tx, found, sign_request, TransactionStep("signed", {}))

    deps.on_step("signing a message")
    await deps.writer.write(unit, deps.publisher.tell)


async def _is_allowed(
    deps: OutboxDeps, request: SpendRequest, row: SignatureRow, wallet: WalletRow, values: Values
) -> bool:
    """Whether it may be signed; a signer is never asked for what policy denies or asks a person about."""
    if await policy_check.may_allow(deps, row, PolicyRequest.of_signature(request_of(row), wallet.address), values):
        return True

    def unit(tx: Tx) -> CommittedSteps | None:
        found = rows.get(tx, row.id)
        if found.state != "planned" or found.run_pk != request.run_pk:
            return None
        verdict, committed = _decide(tx, deps, request, found, wallet, values)
        if verdict is not None:
            raise policy_check.Undone
        return committed

    try:
        await deps.writer.write(unit, deps.publisher.tell)
    except policy_check.Undone:
        return True
    return False


def _decide(
    tx: Tx, deps: OutboxDeps, request: SpendRequest, row: SignatureRow, wallet: WalletRow, values: Values
) -> tuple[Allow | None, CommittedSteps | None]:
    sign_request = request_of(row)
    barred = policy_check.find_barred(deps.budget, tx, row)
    if barred is not None:
        return None, refuse(tx, row, barred)
    verdict = deps.budget.judge_and_reserve(
        tx,
        policy_check.case_of(tx, row, PolicyRequest.of_signature(sign_request, wallet.address), values),
        row.id,
        is_approved=_is_approved(tx, row, sign_request, wallet),
        dust_run=policy_check.dust_run_of(tx, row),
    )
    if isinstance(verdict, Deny):
        return None, refuse(tx, replace(row, verdict=dumps_text(verdict.stored())), policy_check.denial(verdict))
    if isinstance(verdict, Ask):
        return None, _ask(tx, request, row, sign_request, wallet, verdict)
    return verdict, None


def message_of(payload: Any) -> bytes:
    """The bytes of a message: 0x-hex, or the text as UTF-8."""
    text = str(payload)
    digits = text[2:]
    if text.startswith("0x") and len(digits) % 2 == 0:
        try:
            return bytes.fromhex(digits)
        except ValueError:
            pass
    return text.encode()


def _document(payload: Any) -> Mapping[str, Any]:
    document: Mapping[str, Any] = payload
    return document


def open_all(tx: Tx, vault: Vault, stored: spend_status.StoredIntents) -> dict[str, str]:
    """A node's signatures in the clear, 0x-hex, by item."""
    return {row.item: rows.opened(tx, vault, row) for row in stored.signatures if row.sealed is not None}


def refuse(tx: Tx, row: SignatureRow, failure: IntentFailure) -> CommittedSteps | None:
    """Refuses a signature for good; nothing is signed."""
    now = clock.now_ms()
    rows.save(tx, replace(row, state="refused", error=dumps_text(error_json(failure)), finished_at=now))
    if row.approval_id is not None:
        approval_rows.close(tx, row.approval_id, "cancelled", now)
    return _tell(tx, row, request_of(row), TransactionStep("refused", {"error": error_json(failure)}))


def _binding(sign_request: SignRequest, wallet: WalletRow) -> str:
    """The content that a person's approval of a signature binds: its kind, the signer and all that is signed."""
    bound = [sign_request.kind, sign_request.chain_id, wallet.address, sign_request.payload]
    return hashlib.sha256(dumps_text(bound).encode()).hexdigest()


def _is_approved(tx: Tx, row: SignatureRow, sign_request: SignRequest, wallet: WalletRow) -> bool:
    asked = approval_rows.find(tx, row.org_id, row.approval_id) if row.approval_id is not None else None
    return asked is not None and asked.status == APPROVED and asked.binding == _binding(sign_request, wallet)


def _ask(
    tx: Tx, request: SpendRequest, row: SignatureRow, sign_request: SignRequest, wallet: WalletRow, verdict: Ask
) -> CommittedSteps | None:
    why = " ".join(reason.message for reason in verdict.reasons)
    movements = policy_check.tell_movements(sign_request.movements)
    message = f"{sign_request.about} (a signature of {wallet.address}). {movements}{why}"
    question = policy_check.question_of(tx, request, row, _binding(sign_request, wallet), message, clock.now_ms())
    approval_rows.add(tx, question)
    rows.save(tx, replace(row, approval_id=question.id, verdict=dumps_text(verdict.stored())))
    return _tell(tx, row, sign_request, policy_check.asked_step(question))


def _tell(tx: Tx, row: SignatureRow, sign_request: SignRequest, step: TransactionStep) -> CommittedSteps | None:
    about = {"signatureId": row.id, "item": row.item, "chainId": row.chain_id, "about": sign_request.about}
    return events.write(tx, row.org_id, row.run_pk, row.run_id, row.workflow_id, row.path, about, [step], wakes=False)
