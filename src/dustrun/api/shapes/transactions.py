"""Request and response models of transactions, attempts and signatures."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from dustrun.api.shapes.wire import MAX_INTEGER, Answer, Time, time
from dustrun.core.money.transaction_state import UNSETTLED, TxState
from dustrun.core.values.exact_json import loads_own
from dustrun.core.values.fields import Fields
from dustrun.services.outbox.operations import Detail, Opened
from dustrun.storage.money.signatures import SignatureRow
from dustrun.storage.money.transactions import AttemptRow, TransactionRow

Units = Annotated[str, StringConstraints(pattern=r"^[0-9]{1,78}$"), Field(examples=["1000000000"])]
Hash = Annotated[str, StringConstraints(pattern=r"^0x[0-9a-fA-F]{64}$"), Field(examples=["0x" + "00" * 32])]
Json = dict[str, Any]


class SpeedUpBody(Fields):
    """A new ceiling for the bid."""

    max_fee_per_gas: Units | None = Field(
        None,
        description="New maximum price per gas, in base units; if absent, the maximum does not change.",
    )


class ReleaseBody(Fields):
    """The wallet and chain to release."""

    wallet_id: str = Field(description="The wallet.", max_length=64)
    chain_id: int = Field(description="The chain.", ge=1, le=2**63 - 1, strict=True)


class ReleaseAnswer(Answer):
    """Result of a release."""

    wallet_id: str
    chain_id: int
    released: int = Field(description="Intents that waited for it and may be signed now.")


class AttributionBody(Fields):
    """Transaction hashes to look up."""

    tx_hashes: Annotated[list[Hash], Field(min_length=1, max_length=100)] = Field(description="Hashes, at most 100.")


class AttributionAnswer(Answer):
    """The run and node behind a transaction."""

    tx_hash: str
    transaction_id: str
    run_id: str
    run_status: str
    node_id: str
    path: str
    action_type: str
    workflow_id: str = Field(description="Empty for an inline run.")
    workflow_name: str
    started_at: Time


class AttemptAnswer(Answer):
    """One set of signed bytes for the transaction's nonce."""

    number: int = Field(ge=1, le=MAX_INTEGER)
    kind: Literal["send", "replace", "cancel"]
    hash: str
    gas_limit: int
    max_fee_per_gas: str = Field(description="The gas price on a chain without EIP-1559.")
    max_priority_fee_per_gas: str
    created_at: Time
    sent_at: Time | None = Field(description="When an endpoint first accepted it.")
    tried_at: Time | None = Field(description="When it was last broadcast.")
    reply: str | None = Field(description="Last answer of an endpoint; informational only.")


class TransactionItem(Answer):
    """A transaction: one nonce with all its attempts."""

    id: str = Field(examples=["tx_01m88epxderkr5agxgsj378kvb"])
    status: TxState
    purpose: Literal["intent", "fill"] = Field(
        description="`intent`: a node's spend. `fill`: a zero-value self-transfer that fills a nonce gap."
    )
    run_id: str | None
    workflow_id: str | None
    node_id: str | None
    path: str | None
    item: str = Field(description="Which of the node's intents.")
    generation: int = Field(description="Starts at 1; increases when a failed intent is planned again.")
    mode: Literal["live", "dust"]
    wallet_id: str
    chain_id: int
    sender: str
    to: str | None
    value: str = Field(description="Base units of the native coin.")
    about: str
    nonce: int | None
    hash: str | None = Field(description="Hash of the included attempt, or of the newest one.")
    block_number: int | None
    confirmations_needed: int
    fee: str | None = Field(description="Network fee paid, in base units of the native coin.")
    error: Json | None
    waits_because: str | None = Field(description="Why it is waiting, as reported by an endpoint or the outbox.")
    approval_id: str | None
    planned_at: Time
    signed_at: Time | None
    mined_at: Time | None
    finished_at: Time | None


class TransactionAnswer(TransactionItem):
    """A transaction with its intent, attempts and receipt."""

    intent: Json = Field(description="The complete unsigned intent.")
    gas_limit: int | None
    max_price: str | None = Field(description="Maximum price per gas of any attempt, in base units.")
    verdict: Json | None = Field(description="Verdict of the wallet's policy, with reasons.")
    receipt: Json | None
    attempts: list[AttemptAnswer]


class SignatureItem(Answer):
    """A signature's record, without the signature itself."""

    id: str = Field(examples=["sig_01m88epxderkr5agxgsj378kvb"])
    status: Literal["planned", "signed", "refused"]
    run_id: str
    path: str
    item: str
    wallet_id: str
    chain_id: int | None
    about: str
    request: Json = Field(description="What is signed.")
    error: Json | None
    planned_at: Time
    finished_at: Time | None


class SignatureAnswer(SignatureItem):
    """A signature in plain text. Anybody who reads it can use it."""

    signature: str | None = Field(description="65 bytes, 0x-hex; null if nothing was signed.")


def item(row: TransactionRow) -> Json:
    """A transaction in a list."""
    intent = loads_own(row.intent)
    receipt = loads_own(row.receipt) if row.receipt is not None else None
    return {
        "id": row.id,
        "status": row.state,
        "purpose": row.purpose,
        "runId": row.run_id,
        "workflowId": row.workflow_id,
        "nodeId": row.path.rpartition(".")[2] if row.path is not None else None,
        "path": row.path,
        "item": row.item,
        "generation": row.generation,
        "mode": row.mode,
        "walletId": row.wallet_id,
        "chainId": row.chain_id,
        "sender": row.sender,
        "to": intent["to"],
        "value": intent["value"],
        "about": intent["about"],
        "nonce": row.nonce,
        "hash": row.hash,
        "blockNumber": row.block_number,
        "confirmationsNeeded": row.confirmations,
        "fee": receipt["fee"] if receipt is not None else None,
        "error": loads_own(row.error) if row.error is not None else None,
        "waitsBecause": row.refusal,
        "approvalId": row.approval_id,
        "plannedAt": time(row.planned_at),
        "signedAt": time(row.signed_at),
        "minedAt": time(row.mined_at),
        "finishedAt": None if row.state in UNSETTLED else time(row.finished_at),
    }


def detail(found: Detail) -> Json:
    """A complete transaction."""
    row = found.row
    return {
        **item(row),
        "intent": loads_own(row.intent),
        "gasLimit": row.gas_limit,
        "maxPrice": row.max_price,
        "verdict": loads_own(row.verdict) if row.verdict is not None else None,
        "receipt": loads_own(row.receipt) if row.receipt is not None else None,
        "attempts": [_attempt(attempt) for attempt in found.attempts],
    }


def _attempt(attempt: AttemptRow) -> Json:
    return {
        "number": attempt.number,
        "kind": attempt.kind,
        "hash": attempt.hash,
        "gasLimit": attempt.gas_limit,
        "maxFeePerGas": attempt.max_fee,
        "maxPriorityFeePerGas": attempt.tip,
        "createdAt": time(attempt.created_at),
        "sentAt": time(attempt.sent_at),
        "triedAt": time(attempt.tried_at),
        "reply": attempt.reply,
    }


def signature_item(row: SignatureRow) -> Json:
    """A signature in a list."""
    request = loads_own(row.request)
    return {
        "id": row.id,
        "status": row.state,
        "runId": row.run_id,
        "path": row.path,
        "item": row.item,
        "walletId": row.wallet_id,
        "chainId": row.chain_id,
        "about": request["about"],
        "request": request,
        "error": loads_own(row.error) if row.error is not None else None,
        "plannedAt": time(row.planned_at),
        "finishedAt": time(row.finished_at),
    }


def signature(found: Opened) -> Json:
    """A signature in plain text."""
    return {**signature_item(found.row), "signature": found.signature}
