"""`/v1/transactions`: transactions and signatures, and operations on pending ones."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Path, Query

from dustrun.api.routing import Call, Routes
from dustrun.api.shapes import transactions as shapes
from dustrun.api.shapes.wire import ANY_OF, Commas, PageAnswer, Paged, page_shape, time
from dustrun.core.money.transaction_state import TxState
from dustrun.errors import Code
from dustrun.services.access.paging import Page
from dustrun.services.outbox.operations import Attribution, Detail, Opened
from dustrun.storage.money.signatures import SignatureRow
from dustrun.storage.money.transactions import Filters, TransactionRow

routes = Routes("Transactions")
router = routes.router

TransactionId = Annotated[
    str, Path(alias="id", description="Id of the transaction, or hash of one of its attempts.", max_length=128)
]
States = Annotated[list[TxState] | None, Commas, Query(alias="status", description=f"Statuses, {ANY_OF}.")]
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


@routes.get(
    "/v1/transactions",
    permission="transaction:read",
    answers=PageAnswer[shapes.TransactionItem],
    shape=page_shape(shapes.item),
)
async def list_transactions(
    call: Call,
    paging: Paged,
    states: States = None,
    chain_id: Annotated[
        int | None, Query(alias="chainId", ge=1, le=2**63 - 1, description="Only transactions on this chain.")
    ] = None,
    wallet_id: Annotated[
        str | None, Query(alias="walletId", max_length=_ID, description="Only transactions of this wallet.")
    ] = None,
    workflow_id: Annotated[
        str | None, Query(alias="workflowId", max_length=_ID, description="Only transactions of this workflow.")
    ] = None,
    run_id: Annotated[str | None, Query(alias="runId", max_length=_ID, description="One run.")] = None,
    hash: Annotated[str | None, Query(max_length=_ID, description="Hash of any attempt.")] = None,
) -> Page[TransactionRow]:
    """List transactions, newest first."""
    filters = Filters(
        states=tuple(state.value for state in states or ()),
        chain_id=chain_id,
        wallet_id=wallet_id,
        workflow_id=workflow_id,
        run_id=run_id,
        hash=hash.lower() if hash is not None else None,
    )
    return await call.parts.money.operations.list_page(call.principal, filters, paging)


@routes.get(
    "/v1/transactions/{id}",
    permission="transaction:read",
    answers=shapes.TransactionAnswer,
    shape=shapes.detail,
    refusals=[Code.TRANSACTION_UNKNOWN],
)
async def get_transaction(call: Call, id: TransactionId) -> Detail:
    """Get a transaction with its attempts, fees and receipt."""
    return await call.parts.money.operations.get(call.principal, id)


@routes.post(
    "/v1/transactions/{id}/speed-up",
    permission="transaction:write",
    reads="transaction:read",
    needed=["hash"],
    answers=shapes.TransactionAnswer,
    shape=shapes.detail,
    refusals=_STEERING,
)
async def speed_up_transaction(call: Call, id: TransactionId, body: shapes.SpeedUpBody | None = None) -> Detail:
    """Increase the bid of a pending transaction.

    Signs a new attempt with the same nonce, at least 12.5% above the last bid and at least at the market price. At most
    one attempt of a transaction can be included.
    """
    most = int(body.max_fee_per_gas) if body is not None and body.max_fee_per_gas is not None else None
    return await call.parts.money.operations.speed_up(call.principal, id, most)


@routes.post(
    "/v1/transactions/{id}/cancel",
    permission="transaction:write",
    reads="transaction:read",
    needed=["hash"],
    answers=shapes.TransactionAnswer,
    shape=shapes.detail,
    refusals=_STEERING,
)
async def cancel_transaction(call: Call, id: TransactionId) -> Detail:
    """Cancel a transaction.

    An unsigned one is dropped. For a signed one, a zero-value self-transfer with the same nonce is sent; whichever
    attempt is included decides the outcome. For a `displaced` one, this states that it was not paid; it is refused if
    an attempt has a receipt.
    """
    return await call.parts.money.operations.cancel(call.principal, id)


@routes.post(
    "/v1/transactions/release",
    permission="wallet:admin",
    answers=shapes.ReleaseAnswer,
    refusals=[Code.WALLET_UNKNOWN],
)
async def release_spends(call: Call, body: shapes.ReleaseBody) -> dict[str, Any]:
    """Let a wallet spend again on a chain after a restore from a backup.

    Check the chain first: payments made after the backup are unknown to this server and could be made again.
    """
    return await call.parts.money.operations.release(call.principal, body.wallet_id, body.chain_id)


@routes.post(
    "/v1/runs/tx-attribution",
    permission="transaction:read",
    answers=dict[str, shapes.AttributionAnswer],
    refusals=[],
)
async def attribute_transactions(call: Call, body: shapes.AttributionBody) -> dict[str, Any]:
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


@routes.get(
    "/v1/signatures",
    permission="transaction:read",
    answers=PageAnswer[shapes.SignatureItem],
    shape=page_shape(shapes.signature_item),
)
async def list_signatures(
    call: Call,
    paging: Paged,
    run_id: Annotated[str | None, Query(alias="runId", max_length=_ID, description="One run.")] = None,
) -> Page[SignatureRow]:
    """List signatures of messages and typed data, newest first, without the signatures themselves."""
    return await call.parts.money.operations.list_signatures(call.principal, run_id, paging)


@routes.get(
    "/v1/signatures/{id}",
    permission="wallet:spend",
    answers=shapes.SignatureAnswer,
    shape=shapes.signature,
    refusals=[Code.SIGNATURE_UNKNOWN, Code.VAULT_LOCKED, Code.SECRET_UNREADABLE],
)
async def get_signature(
    call: Call, id: Annotated[str, Path(description="Id of the signature.", max_length=_ID)]
) -> Opened:
    """Get a signature in plain text.

    A signature can move money, so it is shown only here, and reading it is audited.
    """
    return await call.parts.money.operations.open_signature(call.principal, id)
