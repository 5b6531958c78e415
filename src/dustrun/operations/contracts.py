"""`/v1/contracts`: names of known contracts."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from dustrun.core.values.addresses import read_address
from dustrun.core.values.fields import Fields
from dustrun.errors import Code, Invalid, Problem
from dustrun.operations.declaration.answers import STORED, Answer, PageAnswer, Time
from dustrun.operations.declaration.fields import Name, Paged
from dustrun.operations.declaration.operation import Named, Noun
from dustrun.operations.declaration.parts import Call
from dustrun.services.access.paging import Page
from dustrun.services.wallets.contracts import BundledContract
from dustrun.storage.money.contracts import ContractRow

noun = Noun("Wallets")
ChainId = Annotated[int, Named("chainId"), Field(ge=1, le=2**63 - 1, description="The chain.")]
Address = Annotated[str, Field(max_length=64, description="The contract's address.")]


class PutContract(Fields):
    """The name of a contract."""

    name: Name = Field(description="What approvals and lists call it.")
    kind: Annotated[str, Field(max_length=64)] | None = Field(None, description="Like router, token, vault.")
    abi: list[dict[str, Any]] | None = Field(None, max_length=2_000, description="Its ABI, as a compiler emits it.")


class ContractAnswer(Answer):
    """A contract that the organisation has named."""

    chain_id: int
    address: str
    name: str
    kind: str | None
    abi: Annotated[list[dict[str, Any]] | None, STORED]
    unknown_methods: Annotated[list[str] | None, STORED] = Field(
        description="Methods of its ABI that the deployed code does not have, nor the code behind a proxy; null: "
        "without an ABI, or not checked since no endpoint answered."
    )
    implementation: str | None = Field(description="Of a proxy: the implementation that is accepted.")
    created_by: str | None = Field(description="Id of the key.")
    updated_at: Time


class BundledAnswer(Answer):
    """A contract that the network's file names."""

    address: str
    name: str
    kind: str


def _bundled(found: list[BundledContract]) -> list[dict[str, Any]]:
    return [{"address": one.address, "name": one.name, "kind": one.kind} for one in found]


def _read(address: str) -> str:
    try:
        return read_address(address)
    except ValueError as fault:
        problem = Problem("address", str(fault))
        raise Invalid("A parameter is not valid.", code=Code.PARAMETER_INVALID, details=[problem]) from None


@noun.get("/v1/contracts", permission="wallet:read", answers=PageAnswer[ContractAnswer])
async def list_contracts(
    call: Call,
    paging: Paged,
    chain_id: Annotated[int | None, Named("chainId"), Field(ge=1, le=2**63 - 1, description="Only this chain.")] = None,
) -> Page[ContractRow]:
    """List the contracts that the organisation has named."""
    return await call.parts.money.contracts.list_page(call.principal, chain_id, paging)


@noun.get("/v1/contracts/{chainId}/bundled", permission="wallet:read", answers=list[BundledAnswer], shape=_bundled)
async def list_bundled_contracts(call: Call, chain_id: ChainId) -> list[BundledContract]:
    """List the contracts that the file of a network names: tokens, exchanges, Permit2."""
    return call.parts.money.contracts.list_bundled(chain_id)


@noun.put(
    "/v1/contracts/{chainId}/{address}",
    permission="wallet:admin",
    reads="wallet:read",
    answers=ContractAnswer,
    refusals=[Code.CHAIN_UNKNOWN],
    example={"name": "Swap router", "kind": "router"},
)
async def put_contract(call: Call, chain_id: ChainId, address: Address, body: PutContract) -> ContractRow:
    """Name a contract.

    Approvals, reports and lists of allowances show the name beside the address. It changes nothing of what a policy
    allows. The methods of an ABI are looked for in the deployed code.
    """
    said = {"name": body.name, "kind": body.kind, "abi": body.abi}
    return await call.parts.money.contracts.put(call.principal, chain_id, _read(address), said)


@noun.delete(
    "/v1/contracts/{chainId}/{address}",
    permission="wallet:admin",
    reads="wallet:read",
    answers=ContractAnswer,
    refusals=[Code.CONTRACT_UNKNOWN],
)
async def delete_contract(call: Call, chain_id: ChainId, address: Address) -> ContractRow:
    """Remove a contract's name. The accepted implementation of a proxy is still remembered."""
    return await call.parts.money.contracts.remove(call.principal, chain_id, _read(address))
