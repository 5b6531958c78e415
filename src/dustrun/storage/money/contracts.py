"""Rows of contracts that an organisation has named or called."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import fields

import sqlalchemy as sa
from sqlalchemy import bindparam as b

from dustrun.records import dataclass
from dustrun.storage.db.ledger_tables import known_contracts as t
from dustrun.storage.db.statement import Statement, Tx


@dataclass(frozen=True, slots=True, kw_only=True)
class ContractRow:
    """One contract; `name` is None if only its implementation is remembered, `abi` is JSON."""

    org_id: str
    chain_id: int
    address: str
    name: str | None
    kind: str | None
    abi: str | None
    implementation: str | None
    created_by: str | None
    updated_at: int
    unknown_methods: str | None = None
    """JSON list of the ABI's methods that are not in the contract's code; None if that was not checked."""


_NAMES = [field.name for field in fields(ContractRow)]
_COLUMNS = [t.c[name] for name in _NAMES]
_OF = (t.c.org_id == b("of_org"), t.c.chain_id == b("of_chain", type_=sa.BigInteger), t.c.address == b("of_address"))
_FIND = Statement(sa.select(*_COLUMNS).where(*_OF))
_NAME = Statement(sa.select(t.c.name).where(*_OF, t.c.name.is_not(None)))
_FEW = 10
_DELETE = Statement(sa.delete(t).where(*_OF))
_SAVE = Statement(
    sa.text(
        f"INSERT INTO known_contracts ({', '.join(_NAMES)}) VALUES ({', '.join(':' + name for name in _NAMES)})"  # noqa: S608 - names of ours
        " ON CONFLICT (org_id, chain_id, address) DO UPDATE SET name = excluded.name, kind = excluded.kind,"
        " abi = excluded.abi, implementation = excluded.implementation, created_by = excluded.created_by,"
        " updated_at = excluded.updated_at, unknown_methods = excluded.unknown_methods"
    )
)
_SEEN = Statement(
    sa.text(
        "INSERT INTO known_contracts (org_id, chain_id, address, implementation, updated_at)"
        " VALUES (:org, :chain, :address, :found, :at)"
        " ON CONFLICT (org_id, chain_id, address) DO UPDATE SET implementation = excluded.implementation,"
        " updated_at = excluded.updated_at"
    )
)


def find(tx: Tx, org_id: str, chain_id: int, address: str) -> ContractRow | None:
    """Finds a contract by its checksummed address."""
    row = tx.one(_FIND, of_org=org_id, of_chain=chain_id, of_address=address)
    return None if row is None else ContractRow(**dict(zip(_NAMES, row, strict=True)))


def list_named(tx: Tx, org_id: str, chain_id: int | None, limit: int, offset: int) -> list[ContractRow]:
    """Lists the contracts that an organisation has named."""
    query = sa.select(*_COLUMNS).where(t.c.org_id == org_id, t.c.name.is_not(None))
    if chain_id is not None:
        query = query.where(t.c.chain_id == chain_id)
    query = query.order_by(t.c.chain_id, t.c.address).limit(limit).offset(offset)
    return [ContractRow(**dict(zip(_NAMES, row, strict=True))) for row in tx.all(Statement(query))]


def find_names(tx: Tx, org_id: str, chain_id: int, addresses: Collection[str]) -> dict[str, str]:
    """The names that an organisation has given to some addresses."""
    if len(addresses) <= _FEW:  # a spend has few, and to compile a statement takes longer than to execute some
        asked = {one: tx.soon(_NAME, of_org=org_id, of_chain=chain_id, of_address=one) for one in sorted(addresses)}
        tx.wait()
        return {one: str(found.value[0]) for one, found in asked.items() if found.value is not None}
    query = sa.select(t.c.address, t.c.name).where(
        t.c.org_id == org_id, t.c.chain_id == chain_id, t.c.name.is_not(None), t.c.address.in_(sorted(addresses))
    )
    return {str(row[0]): str(row[1]) for row in tx.all(Statement(query))}


def save(tx: Tx, row: ContractRow) -> None:
    """Inserts or replaces a contract."""
    tx.do(_SAVE, **{name: getattr(row, name) for name in _NAMES})


def see(tx: Tx, org_id: str, chain_id: int, address: str, implementation: str, at_ms: int) -> None:
    """Remembers the implementation of a proxy, because it is the first one seen or was accepted."""
    tx.do(_SEEN, org=org_id, chain=chain_id, address=address, found=implementation, at=at_ms)


def remove(tx: Tx, org_id: str, chain_id: int, address: str) -> bool:
    """Removes a contract; False if there was none."""
    return tx.run(_DELETE, of_org=org_id, of_chain=chain_id, of_address=address) > 0
