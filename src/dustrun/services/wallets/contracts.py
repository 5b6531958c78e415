"""Known contracts: those of the networks' files, and those that an organisation has named."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any, Final

from dustrun import clock
from dustrun.chain.chains import Chains
from dustrun.core.evm.abi import AbiFault
from dustrun.core.evm.abi_signatures import entries_of, read_json_function
from dustrun.core.evm.network import Network
from dustrun.core.money.permits import PERMIT2
from dustrun.core.values.addresses import checksum
from dustrun.core.values.exact_json import dumps_text
from dustrun.errors import Code, Invalid, NotFound, Problem, Temporary
from dustrun.records import dataclass
from dustrun.sdk.threads import run_sized
from dustrun.services.access import audit, idempotency
from dustrun.services.access.paging import Page, Paging, page_of
from dustrun.services.access.principal import Principal
from dustrun.storage.db.database import Database
from dustrun.storage.db.statement import Tx
from dustrun.storage.db.writer import Writer
from dustrun.storage.money import contracts as rows
from dustrun.storage.money.contracts import ContractRow

_MINIMAL_PROXY: Final = re.compile(bytes.fromhex("363d3d373d3d3d363d73") + b"(.{20})" + bytes.fromhex("5af4"), re.S)
"""EIP-1167: passes every call on to an address that stands in the code."""
_OF_DEX: Final = {
    "v2_factory": ("Uniswap V2 factory", "factory"),
    "v2_router": ("Uniswap V2 router", "router"),
    "v3_factory": ("Uniswap V3 factory", "factory"),
    "v3_router": ("Uniswap V3 router", "router"),
    "v3_quoter": ("Uniswap V3 quoter", "quoter"),
}


@dataclass(frozen=True, slots=True)
class BundledContract:
    """A contract that the network's file names."""

    address: str
    name: str
    kind: str


def bundled(network: Network) -> list[BundledContract]:
    """The contracts that a network's file names, and Permit2."""
    dex = network.dex
    found = [
        BundledContract(getattr(dex, field), *said) for field, said in _OF_DEX.items() if dex and getattr(dex, field)
    ]
    found += [BundledContract(token.address, token.symbol, "token") for token in network.tokens]
    if network.multicall3 is not None:
        found.append(BundledContract(network.multicall3, "Multicall3", "multicall"))
    found.append(BundledContract(PERMIT2, "Permit2", "permit2"))
    return [BundledContract(checksum(one.address), one.name, one.kind) for one in found]


def names_of(tx: Tx, org_id: str, network: Network, addresses: Collection[str]) -> dict[str, str]:
    """Names of addresses (checksummed): the organisation's own first, then those of the network's file."""
    known = {one.address: one.name for one in bundled(network)}
    own = rows.find_names(tx, org_id, network.chain_id, addresses) if addresses else {}
    return {address: own.get(address) or known[address] for address in addresses if address in own or address in known}


def _functions_of(abi: Any) -> dict[str, bytes]:
    """Selectors by signature; raises `AbiFault`."""
    found = [read_json_function(entry) for entry in entries_of(abi, "function")]
    return {one.signature: one.selector for one in found}


class Contracts:
    """The use cases of known contracts."""

    def __init__(self, database: Database, writer: Writer, chains: Chains) -> None:
        self._database = database
        self._writer = writer
        self._chains = chains
        self._networks = chains.networks

    def list_bundled(self, chain_id: int) -> list[BundledContract]:
        """Those of a network's file; none for an unknown chain."""
        network = self._networks.get(chain_id)
        return [] if network is None else bundled(network)

    async def list_page(self, principal: Principal, chain_id: int | None, paging: Paging) -> Page[ContractRow]:
        """Those that the organisation has named."""
        found = await self._database.read(
            lambda tx: rows.list_named(tx, principal.org_id, chain_id, paging.peek, paging.offset)
        )
        return page_of(found, paging)

    async def put(self, principal: Principal, chain_id: int, address: str, said: Mapping[str, Any]) -> ContractRow:
        """Names a contract. `said`: name, kind and abi. Its accepted implementation stays. Raises `Invalid` for an ABI
        of an address without code."""
        if chain_id not in self._networks:
            problem = Problem("chainId", "is not a chain of this server")
            raise Invalid("There is no such chain.", code=Code.CHAIN_UNKNOWN, details=[problem])
        abi, unknown = said.get("abi"), None
        if abi is not None:
            try:
                functions = await run_sized(abi, _functions_of, abi)
            except AbiFault as fault:
                raise Invalid("The ABI is not valid.", details=[Problem("abi", fault.message)]) from None
            unknown = await self._unknown_of(chain_id, address, functions)

        def unit(tx: Tx) -> ContractRow:
            found = rows.find(tx, principal.org_id, chain_id, address)
            row = ContractRow(
                org_id=principal.org_id,
                chain_id=chain_id,
                address=address,
                name=said["name"],
                kind=said.get("kind"),
                abi=None if abi is None else dumps_text(abi),
                implementation=None if found is None else found.implementation,
                created_by=principal.key_id,
                updated_at=clock.now_ms(),
                unknown_methods=None if unknown is None else dumps_text(unknown),
            )
            rows.save(tx, row)
            audit.record(tx, principal, "contract.put", f"{chain_id}:{address}", name=row.name)
            return row

        return await idempotency.write(self._writer, unit)

    async def _unknown_of(self, chain_id: int, address: str, functions: Mapping[str, bytes]) -> list[str] | None:
        """The methods whose selectors are neither in the contract's code nor in that which carries out its calls; None
        if no endpoint says."""
        if not self._chains.is_served(chain_id):
            return None
        chain = self._chains.get(chain_id)
        try:
            code, behind = await asyncio.gather(chain.code(address), chain.find_implementation(address))
            minimal = _MINIMAL_PROXY.search(code)
            behind = behind or (None if minimal is None else checksum("0x" + minimal[1].hex()))
            if behind is not None:
                code += await chain.code(behind)
        except Temporary:
            return None
        if not code:
            problem = Problem("abi", "there is no contract at this address of this chain")
            raise Invalid("The ABI cannot be that of the address.", details=[problem])
        # a compiler leaves out zeros in front
        return sorted(one for one, selector in functions.items() if selector.lstrip(b"\0") not in code)

    async def remove(self, principal: Principal, chain_id: int, address: str) -> ContractRow:
        """Forgets a name; what is remembered of a proxy's implementation stays."""

        def unit(tx: Tx) -> ContractRow:
            found = rows.find(tx, principal.org_id, chain_id, address)
            if found is None or found.name is None:
                raise NotFound(f"No contract {address} of chain {chain_id} has a name.", code=Code.CONTRACT_UNKNOWN)
            rows.save(
                tx, replace(found, name=None, kind=None, abi=None, unknown_methods=None, updated_at=clock.now_ms())
            )
            audit.record(tx, principal, "contract.delete", f"{chain_id}:{address}", name=found.name)
            return found

        return await idempotency.write(self._writer, unit)
