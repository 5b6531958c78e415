"""`/v1/transactions`: what was signed and sent, what became of it, and steering what waits."""

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
    str, Path(alias="id", description="Id of the transaction, or the hash of one of its attempts.", max_length=128)
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
    chain_id: Annotated[int | None, Query(alias="chainId", ge=1, le=2**63 - 1, description="One chain.")] = None,
    wallet_id: Annotated[str | None, Query(alias="walletId", max_length=_ID, description="One wallet.")] = None,
    workflow_id: Annotated[str | None, Query(alias="workflowId", max_length=_ID, description="One workflow.")] = None,
    run_id: Annotated[str | None, Query(alias="runId", max_length=_ID, description="One run.")] = None,
    hash: Annotated[str | None, Query(max_length=_ID, description="The hash of any attempt.")] = None,
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
    answers=shapes.TransactionAnswer,
    shape=shapes.detail,
    refusals=_STEERING,
)
async def speed_up_transaction(call: Call, id: TransactionId, body: shapes.SpeedUpBody | None = None) -> Detail:
    """Bid more for a transaction that waits.

    A new attempt with the same nonce, an eighth above the last one and at least the market's price. At most one of a
    transaction's attempts is ever included.
    """
    most = int(body.max_fee_per_gas) if body is not None and body.max_fee_per_gas is not None else None
    return await call.parts.money.operations.speed_up(call.principal, id, most)


@routes.post(
    "/v1/transactions/{id}/cancel",
    permission="transaction:write",
    answers=shapes.TransactionAnswer,
    shape=shapes.detail,
    refusals=_STEERING,
)
async def cancel_transaction(call: Call, id: TransactionId) -> Detail:
    """Cancel a transaction.

    What is not signed is given up. What is signed is followed by an attempt that sends nothing to the wallet itself
    with the same nonce: whichever of them is included decides. For a `displaced` one this is a person's word that it
    was not paid; it is refused when an attempt has a receipt after all.
    """
    return await call.parts.money.operations.cancel(call.principal, id)


@routes.post(
    "/v1/transactions/release",
    permission="wallet:admin",
    answers=shapes.ReleaseAnswer,
    refusals=[Code.WALLET_UNKNOWN],
)
async def release_spends(call: Call, body: shapes.ReleaseBody) -> dict[str, Any]:
    """Let a wallet spend again on a chain after the store came out of a backup.

    Only when you have looked at the chain: what was paid after the backup is unknown here and could be paid again.
    """
    return await call.parts.money.operations.release(call.principal, body.wallet_id, body.chain_id)


@routes.post(
    "/v1/runs/tx-attribution",
    permission="transaction:read",
    answers=dict[str, shapes.AttributionAnswer],
    refusals=[],
)
async def attribute_transactions(call: Call, body: shapes.AttributionBody) -> dict[str, Any]:
    """Tell which run and node sent each hash; those that none did are left out."""
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
    """List what wallets signed that is no transaction, newest first, without the signatures themselves."""
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
    """Get a signature in the clear.

    It can move money, so it is shown nowhere else, and reading it is audited.
    """
    return await call.parts.money.operations.open_signature(call.principal, id)
