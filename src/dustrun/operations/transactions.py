"""`/v1/transactions`: transactions and signatures, and operations on pending ones."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from dustrun.core.money.policy.verdict import read_stored
from dustrun.core.money.transaction_state import UNSETTLED, TxState
from dustrun.core.values.exact_json import loads_own
from dustrun.core.values.fields import Fields
from dustrun.errors import Code
from dustrun.operations.declaration.answers import STORED, Answer, From, PageAnswer, Time, page_shape, time
from dustrun.operations.declaration.encoding import as_it_is, data_of
from dustrun.operations.declaration.fields import ANY_OF, MAX_INTEGER, Commas, Paged
from dustrun.operations.declaration.operation import Named, Noun
from dustrun.operations.declaration.parts import Call
from dustrun.services.access.paging import Page
from dustrun.services.outbox.operations import Attribution, OpenedSignature, TransactionDetail
from dustrun.storage.money.signatures import SignatureRow
from dustrun.storage.money.transactions import TransactionFilters, TransactionRow

noun = Noun("Transactions")


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
    max_fee_per_gas: Annotated[str, From("max_fee")] = Field(description="The gas price on a chain without EIP-1559.")
    max_priority_fee_per_gas: Annotated[str, From("tip")]
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
    sources: dict[str, list[str]] | None = Field(
        description="What shaped each money field when the policy judged it; `starter`: what a key gave that may "
        "spend. null: the policy does not ask for that.",
        examples=[{"amount": ["definition:wf_01k9@3", "http:api.example.com", "starter"]}],
    )
    receipt: Json | None
    attempts: list[AttemptAnswer]


class SignatureItem(Answer):
    """A signature's record, without the signature itself."""

    id: str = Field(examples=["sig_01m88epxderkr5agxgsj378kvb"])
    status: Annotated[Literal["planned", "signed", "refused"], From("state")]
    run_id: str
    path: str
    item: str
    wallet_id: str
    chain_id: int | None
    about: Annotated[str, From(_about)]
    request: Annotated[Json, STORED] = Field(description="What is signed.")
    error: Annotated[Json | None, STORED]
    planned_at: Time
    finished_at: Time | None


class SignatureAnswer(SignatureItem, of="row"):
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


def detail(found: TransactionDetail) -> Json:
    """A complete transaction."""
    row = found.row
    verdict, sources = read_stored(row.verdict)
    return {
        **item(row),
        "intent": loads_own(row.intent),
        "gasLimit": row.gas_limit,
        "maxPrice": row.max_price,
        "verdict": verdict,
        "sources": sources,
        "receipt": loads_own(row.receipt) if row.receipt is not None else None,
        "attempts": [data_of(AttemptAnswer, attempt) for attempt in found.attempts],
    }


def _about(row: SignatureRow) -> str:
    about: str = loads_own(row.request)["about"]
    return about


TransactionId = Annotated[
    str, Named("id"), Field(description="Id of the transaction, or hash of one of its attempts.", max_length=128)
]
States = Annotated[list[TxState] | None, Commas, Named("status"), Field(description=f"Statuses, {ANY_OF}.")]
_ID = 128
_STEERING = [
    Code.TRANSACTION_UNKNOWN,
    Code.TRANSACTION_NOT_OPEN,
    Code.TRANSACTION_AT_CEILING,
    Code.UPSTREAM_FAILED,
    Code.CHAIN_NOT_SERVED,
    Code.CHAIN_UNREACHABLE,
    Code.FUNDS_INSUFFICIENT,
    Code.SECRET_UNREADABLE,
    Code.VAULT_LOCKED,
    Code.WALLET_CANNOT_SIGN,
]


@noun.get(
    "/v1/transactions",
    permission="transaction:read",
    answers=PageAnswer[TransactionItem],
    shape=page_shape(item),
)
async def list_transactions(
    call: Call,
    paging: Paged,
    states: States = None,
    chain_id: Annotated[
        int | None, Named("chainId"), Field(ge=1, le=2**63 - 1, description="Only transactions on this chain.")
    ] = None,
    wallet_id: Annotated[
        str | None, Named("walletId"), Field(max_length=_ID, description="Only transactions of this wallet.")
    ] = None,
    workflow_id: Annotated[
        str | None, Named("workflowId"), Field(max_length=_ID, description="Only transactions of this workflow.")
    ] = None,
    run_id: Annotated[str | None, Named("runId"), Field(max_length=_ID, description="One run.")] = None,
    hash: Annotated[str | None, Field(max_length=_ID, description="Hash of any attempt.")] = None,
) -> Page[TransactionRow]:
    """List transactions, newest first."""
    filters = TransactionFilters(
        states=tuple(state.value for state in states or ()),
        chain_id=chain_id,
        wallet_id=wallet_id,
        workflow_id=workflow_id,
        run_id=run_id,
        hash=hash.lower() if hash is not None else None,
    )
    return await call.parts.money.operations.list_page(call.principal, filters, paging)


@noun.get(
    "/v1/transactions/{id}",
    permission="transaction:read",
    answers=TransactionAnswer,
    shape=detail,
    refusals=[Code.TRANSACTION_UNKNOWN],
)
async def get_transaction(call: Call, id: TransactionId) -> TransactionDetail:
    """Get a transaction with its attempts, fees and receipt."""
    return await call.parts.money.operations.get(call.principal, id)


@noun.post(
    "/v1/transactions/{id}/speed-up",
    permission="transaction:write",
    reads="transaction:read",
    needed=["hash"],
    answers=TransactionAnswer,
    shape=detail,
    refusals=_STEERING,
    example={"maxFeePerGas": "90000000000"},
)
async def speed_up_transaction(call: Call, id: TransactionId, body: SpeedUpBody | None = None) -> TransactionDetail:
    """Increase the bid of a pending transaction.

    Signs a new attempt with the same nonce, at least 12.5% above the last bid and at least at the market price. At most
    one attempt of a transaction can be included.
    """
    most = int(body.max_fee_per_gas) if body is not None and body.max_fee_per_gas is not None else None
    return await call.parts.money.operations.speed_up(call.principal, id, most)


@noun.post(
    "/v1/transactions/{id}/cancel",
    permission="transaction:write",
    reads="transaction:read",
    needed=["hash"],
    answers=TransactionAnswer,
    shape=detail,
    refusals=_STEERING,
)
async def cancel_transaction(call: Call, id: TransactionId) -> TransactionDetail:
    """Cancel a transaction.

    An unsigned one is dropped. For a signed one, a zero-value self-transfer with the same nonce is sent; whichever
    attempt is included decides the outcome. For a `displaced` one, this states that it was not paid; it is refused if
    an attempt has a receipt.
    """
    return await call.parts.money.operations.cancel(call.principal, id)


@noun.post(
    "/v1/transactions/release",
    permission="wallet:admin",
    answers=ReleaseAnswer,
    refusals=[Code.WALLET_UNKNOWN],
    shape=as_it_is,
    example={"walletId": "wal_01m8brt9hae4de3w6f0w3c1rmr", "chainId": 1},
)
async def release_spends(call: Call, body: ReleaseBody) -> dict[str, Any]:
    """Let a wallet spend again on a chain after a restore from a backup.

    Check the chain first: payments made after the backup are unknown to this server and could be made again.
    """
    return await call.parts.money.operations.release(call.principal, body.wallet_id, body.chain_id)


@noun.post(
    "/v1/runs/tx-attribution",
    permission="transaction:read",
    answers=dict[str, AttributionAnswer],
    refusals=[],
    shape=as_it_is,
    example={"txHashes": ["0x11a63f67539e7fc52373d02ba176d43ce9ecce666d1f6ce1cb65640c6ba8d3fb"]},
)
async def attribute_transactions(call: Call, body: AttributionBody) -> dict[str, Any]:
    """Find the run and node behind each transaction hash; unknown hashes are omitted."""
    found = await call.parts.money.operations.attribute(call.principal, body.tx_hashes)
    return {one.hash: await _attribution(call, one) for one in found}


async def _attribution(call: Call, one: Attribution) -> dict[str, Any]:
    compiled = await call.parts.runs.compiled(one.run)
    path = one.row.path or ""
    node_id = path.rpartition(".")[2]
    return {
        "txHash": one.hash,
        "transactionId": one.row.id,
        "runId": one.run.id,
        "runStatus": one.run.status,
        "nodeId": node_id,
        "path": path,
        "actionType": compiled.definition.nodes[node_id].type if node_id in compiled.definition.nodes else "",
        "workflowId": one.run.workflow_id or "",
        "workflowName": one.run.workflow_name,
        "startedAt": time(one.run.started_at),
    }


@noun.get(
    "/v1/signatures",
    permission="transaction:read",
    answers=PageAnswer[SignatureItem],
)
async def list_signatures(
    call: Call,
    paging: Paged,
    run_id: Annotated[str | None, Named("runId"), Field(max_length=_ID, description="One run.")] = None,
) -> Page[SignatureRow]:
    """List signatures of messages and typed data, newest first, without the signatures themselves."""
    return await call.parts.money.operations.list_signatures(call.principal, run_id, paging)


@noun.get(
    "/v1/signatures/{id}",
    permission="wallet:spend",
    answers=SignatureAnswer,
    refusals=[Code.SIGNATURE_UNKNOWN, Code.VAULT_LOCKED, Code.SECRET_UNREADABLE],
)
async def get_signature(
    call: Call, id: Annotated[str, Field(description="Id of the signature.", max_length=_ID)]
) -> OpenedSignature:
    """Get a signature in plain text.

    A signature can move money, so it is shown only here, and reading it is audited.
    """
    return await call.parts.money.operations.open_signature(call.principal, id)
