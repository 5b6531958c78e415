"""`/v1/ledger`: what final transactions moved, for accounting."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field
from starlette.responses import StreamingResponse

from dustrun.core.values.addresses import read_address
from dustrun.errors import Code, Invalid, Problem
from dustrun.operations.declaration.answers import Answer, PageAnswer, Time
from dustrun.operations.declaration.encoding import as_it_is
from dustrun.operations.declaration.fields import Instant, Paged, moment_ms
from dustrun.operations.declaration.operation import Named, Noun
from dustrun.operations.declaration.parts import Call
from dustrun.services.access.paging import Page
from dustrun.services.wallets.ledger import Format
from dustrun.storage.money.ledger import LedgerFilters

noun = Noun("Transactions")
_TYPES = {"csv": "text/csv; charset=utf-8", "jsonl": "application/jsonl"}
_ID = 128


class LedgerEntry(Answer):
    """One movement of a wallet in a final transaction."""

    id: str
    time: Time
    kind: Literal["send", "receive", "fee", "allowance"]
    wallet_id: str
    address: str
    chain_id: int
    asset: str
    symbol: str | None
    amount: str
    amount_formatted: str | None
    decimals: int | None
    price_usd: str | None
    price_source: str | None
    price_at: Time | None
    value_usd: str | None
    counterparty: str | None
    contract: str | None
    outcome: Literal["final", "reverted", "cancelled"]
    basis: Literal["balance", "block", "event", "receipt"]
    hash: str
    block_number: int
    attempt: Literal["send", "replace", "cancel"]
    attempts: int
    transaction_id: str
    run_id: str | None
    workflow_id: str | None
    path: str | None
    mode: Literal["live", "dust"]
    started_by: str | None
    approved_by: str | None = Field(description="The key that approved it; of several the one that decided.")
    sources: dict[str, list[str]] | None = Field(
        description="What shaped each money field, as `GET /v1/transactions/{id}` tells it; null: the policy did not "
        "ask."
    )
    approvers: list[str] | None = Field(description="Every key that approved it; null: nobody was asked.")


class PayeeAnswer(Answer):
    """The earlier payments to an address."""

    address: str
    count: int = Field(description="Final live payments that the key can reach; at most 1000 are counted.")
    last_at: Time | None
    last_amount: str | None = Field(description="Whole units of the newest payment; null if the decimals are unknown.")
    last_symbol: str | None
    last_usd: str | None


@noun.get(
    "/v1/ledger",
    permission="transaction:read",
    answers=PageAnswer[LedgerEntry],
    shape=lambda page: {"items": page.items, "limit": page.limit, "offset": page.offset, "hasMore": page.has_more},
)
async def list_ledger(
    call: Call,
    paging: Paged,
    since: Annotated[Instant | None, Named("from"), Field(description="From this time on, by the block.")] = None,
    until: Annotated[Instant | None, Named("to"), Field(description="Before this time.")] = None,
    wallet_id: Annotated[
        str | None, Named("walletId"), Field(max_length=_ID, description="Only transactions of this wallet.")
    ] = None,
    asset: Annotated[str | None, Field(max_length=200, description="Only this asset, like `eip155:1/native`.")] = None,
    chain_id: Annotated[int | None, Named("chainId"), Field(ge=1, le=2**63 - 1, description="Only this chain.")] = None,
    kind: Annotated[
        Literal["send", "receive", "fee", "allowance"] | None, Field(description="Only entries of this kind.")
    ] = None,
    run_id: Annotated[str | None, Named("runId"), Field(max_length=_ID, description="One run.")] = None,
    workflow_id: Annotated[
        str | None, Named("workflowId"), Field(max_length=_ID, description="Only transactions of this workflow.")
    ] = None,
    format: Annotated[
        Format | None,
        Field(description="`csv` or `jsonl` exports the whole selection, oldest first; so does `Accept: text/csv`."),
    ] = None,
) -> Page[dict[str, Any]] | StreamingResponse:
    """List movements of wallets for accounting, newest first, or export them.

    Amounts are negative for what left the wallet; those of an asset add up to the change of its balance through this
    server's transactions. An `allowance` moves nothing. Entries appear shortly after a transaction is final.
    """
    filters = LedgerFilters(
        since=None if since is None else moment_ms(since),
        until=None if until is None else moment_ms(until),
        wallet_id=wallet_id,
        asset=asset,
        chain_id=chain_id,
        kind=kind,
        run_id=run_id,
        workflow_id=workflow_id,
    )
    if since is not None and until is not None and moment_ms(since) > moment_ms(until):
        problem = Problem("to", "must not be before `from`")
        raise Invalid("A parameter is not valid.", code=Code.PARAMETER_INVALID, details=[problem])
    ledger, chosen = call.parts.money.ledger, format or _accepted(call)
    if chosen == "json":
        return await ledger.list_page(call.principal, filters, paging)
    named = {"content-disposition": f'attachment; filename="ledger.{chosen}"'}
    pieces = ledger.export(call.principal, filters, chosen)
    return StreamingResponse(pieces, media_type=_TYPES[chosen], headers=named)


@noun.get(
    "/v1/ledger/payees/{address}",
    permission="transaction:read",
    answers=PayeeAnswer,
    shape=as_it_is,
    refusals=[Code.PARAMETER_INVALID],
)
async def get_payee(
    call: Call,
    address: Annotated[str, Named("address"), Field(max_length=64, description="Who is paid.")],
    asset: Annotated[
        str | None, Field(max_length=200, description="Also payments in this asset, beside those in native coins.")
    ] = None,
) -> dict[str, Any]:
    """Count what was paid to an address before, so that whoever approves a payment knows a new recipient.

    Only final payments count, in native coins and in the asset that is named: a token that anybody makes can say that
    it was sent to anybody.
    """
    try:
        checked = read_address(address)
    except ValueError as error:
        details = [Problem("address", str(error))]
        raise Invalid("A parameter is not valid.", code=Code.PARAMETER_INVALID, details=details) from None
    found = await call.parts.money.ledger.paid_before(call.principal, checked, asset)
    last = found.last or {}
    newest = {"Amount": "amountFormatted", "Symbol": "symbol", "Usd": "valueUsd", "At": "time"}
    shown = {f"last{name}": last.get(field) for name, field in newest.items()}
    of_it = {name: text.removeprefix("-") if text else None for name, text in shown.items()}
    return {"address": checked, "count": found.count, **of_it}


def _accepted(call: Call) -> Format:
    """The format that `Accept` names first."""
    accept = next((value.decode("latin-1") for name, value in call.headers if name == b"accept"), "")
    first = accept.split(",")[0].partition(";")[0].strip().lower()
    return (
        "csv" if first == "text/csv" else "jsonl" if first in ("application/jsonl", "application/x-ndjson") else "json"
    )
