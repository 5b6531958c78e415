"""`/v1/contracts`: names of known contracts."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Path, Query
from pydantic import Field

from dustrun.api.routing import Call, Routes
from dustrun.api.shapes.wire import Answer, Name, PageAnswer, Paged, Time, page_shape, time
from dustrun.core.values.addresses import read_address
from dustrun.core.values.exact_json import loads_own
from dustrun.core.values.fields import Fields
from dustrun.errors import Code, Invalid, Problem
from dustrun.services.access.paging import Page
from dustrun.services.wallets.contracts import Bundled
from dustrun.storage.money.contracts import ContractRow

routes = Routes("Wallets")
router = routes.router
ChainId = Annotated[int, Path(alias="chainId", ge=1, le=2**63 - 1, description="The chain.")]
Address = Annotated[str, Path(max_length=64, description="The contract's address.")]


class PutContract(Fields):
    """What a contract is called."""

    name: Name = Field(description="What approvals and lists call it.")
    kind: Annotated[str, Field(max_length=64)] | None = Field(None, description="Like router, token, vault.")
    abi: list[dict[str, Any]] | None = Field(None, max_length=2_000, description="Its ABI, as a compiler emits it.")


class ContractAnswer(Answer):
    """A contract that the organisation has named."""

    chain_id: int
    address: str
    name: str
    kind: str | None
    abi: list[dict[str, Any]] | None
    implementation: str | None = Field(description="Of a proxy: the implementation that is accepted.")
    created_by: str | None = Field(description="Id of the key.")
    updated_at: Time


class BundledAnswer(Answer):
    """A contract that the network's file names."""

    address: str
    name: str
    kind: str


def _shape(row: ContractRow) -> dict[str, Any]:
    return {
        "chainId": row.chain_id,
        "address": row.address,
        "name": row.name,
        "kind": row.kind,
        "abi": None if row.abi is None else loads_own(row.abi),
        "implementation": row.implementation,
        "createdBy": row.created_by,
        "updatedAt": time(row.updated_at),
    }


def _bundled(found: list[Bundled]) -> list[dict[str, Any]]:
    return [{"address": one.address, "name": one.name, "kind": one.kind} for one in found]


def _read(address: str) -> str:
    try:
        return read_address(address)
    except ValueError as fault:
        problem = Problem("address", str(fault))
        raise Invalid("A parameter is not valid.", code=Code.PARAMETER_INVALID, details=[problem]) from None


@routes.get("/v1/contracts", permission="wallet:read", answers=PageAnswer[ContractAnswer], shape=page_shape(_shape))
async def list_contracts(
    call: Call,
    paging: Paged,
    chain_id: Annotated[int | None, Query(alias="chainId", ge=1, le=2**63 - 1, description="Only this chain.")] = None,
) -> Page[ContractRow]:
    """List the contracts that the organisation has named."""
    return await call.parts.money.contracts.list_page(call.principal, chain_id, paging)


@routes.get("/v1/contracts/{chainId}/bundled", permission="wallet:read", answers=list[BundledAnswer], shape=_bundled)
async def list_bundled_contracts(call: Call, chain_id: ChainId) -> list[Bundled]:
    """List the contracts that the file of a network names: tokens, exchanges, Permit2."""
    return call.parts.money.contracts.list_bundled(chain_id)


@routes.put(
    "/v1/contracts/{chainId}/{address}",
    permission="wallet:admin",
    reads="wallet:read",
    answers=ContractAnswer,
    shape=_shape,
    refusals=[Code.CHAIN_UNKNOWN],
)
async def put_contract(call: Call, chain_id: ChainId, address: Address, body: PutContract) -> ContractRow:
    """Name a contract.

    Approvals and lists of allowances show the name beside the address. It changes nothing of what a policy allows.
    """
    said = {"name": body.name, "kind": body.kind, "abi": body.abi}
    return await call.parts.money.contracts.put(call.principal, chain_id, _read(address), said)


@routes.delete(
    "/v1/contracts/{chainId}/{address}",
    permission="wallet:admin",
    reads="wallet:read",
    answers=ContractAnswer,
    shape=_shape,
    refusals=[Code.CONTRACT_UNKNOWN],
)
async def delete_contract(call: Call, chain_id: ChainId, address: Address) -> ContractRow:
    """Remove a contract's name. The accepted implementation of a proxy is still remembered."""
    return await call.parts.money.contracts.remove(call.principal, chain_id, _read(address))
