"""Rows of message signatures (not transactions). The signature itself is stored only encrypted."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import field, fields
from functools import lru_cache

import sqlalchemy as sa
from sqlalchemy import bindparam as b

from dustrun.records import dataclass
from dustrun.storage.db.ledger_tables import signatures as t
from dustrun.storage.db.statement import Row, Statement, Tx, count_of, is_one_of, numbered
from dustrun.storage.secrets.vault import Vault

KIND = "signature"


@dataclass(frozen=True, slots=True, kw_only=True)
class SignatureRow:
    """One signature as stored; JSON columns are text, times milliseconds."""

    id: str
    org_id: str
    key: str
    run_pk: int
    run_id: str
    root_run_id: str
    workflow_id: str | None
    path: str
    item: str
    generation: int
    mode: str
    wallet_id: str
    key_id: str
    chain_id: int | None
    request: str
    state: str
    planned_at: int
    mark: str = field(repr=False)
    sealed: str | None = field(default=None, repr=False)
    error: str | None = None
    verdict: str | None = None
    approval_id: str | None = None
    finished_at: int | None = None


_NAMES = [found.name for found in fields(SignatureRow)]
_COLUMNS = [t.c[name] for name in _NAMES]
_CHANGED = (
    "run_pk",
    "run_id",
    "workflow_id",
    "key_id",
    "state",
    "sealed",
    "error",
    "verdict",
    "approval_id",
    "finished_at",
)
_INSERT = Statement(sa.insert(t))
_SAVE = Statement(
    sa.update(t).where(t.c.id == b("the_id")).values({name: b(f"to_{name}", type_=t.c[name].type) for name in _CHANGED})
)
_FIND = Statement(sa.select(*_COLUMNS).where(t.c.id == b("the_id")))
_PLANNED_OF_RUN = Statement(
    sa.select(*_COLUMNS).where(t.c.run_pk == b("the_run_pk"), t.c.state == "planned").order_by(t.c.id)
)
_OF_NODE = Statement(
    sa.select(*_COLUMNS)
    .where(t.c.org_id == b("org_id"), t.c.root_run_id == b("root"), t.c.path == b("the_path"))
    .order_by(t.c.generation, t.c.id)
)


def _row(values: Row) -> SignatureRow:
    return SignatureRow(**dict(zip(_NAMES, values, strict=True)))


def insert(tx: Tx, row: SignatureRow) -> None:
    """Inserts a signature."""
    tx.do(_INSERT, **{name: getattr(row, name) for name in _NAMES})


def save(tx: Tx, row: SignatureRow) -> None:
    """Updates all mutable columns of a signature that was read in the same unit."""
    tx.do(_SAVE, the_id=row.id, **{f"to_{name}": getattr(row, name) for name in _CHANGED})


def get(tx: Tx, signature_id: str) -> SignatureRow:
    """Reads a signature that must exist."""
    row = tx.one(_FIND, the_id=signature_id)
    assert row is not None
    return _row(row)


def find(tx: Tx, org_id: str, signature_id: str) -> SignatureRow | None:
    """Finds a signature of the organisation."""
    row = tx.one(_FIND, the_id=signature_id)
    found = _row(row) if row is not None else None
    return found if found is not None and found.org_id == org_id else None


def ask_of_node(tx: Tx, org_id: str, root_run_id: str, path: str) -> Callable[[], list[SignatureRow]]:
    """Asks for `list_of_node`; the function returns it after a wait."""
    asked = tx.soon_all(_OF_NODE, org_id=org_id, root=root_run_id, the_path=path)
    return lambda: [_row(row) for row in asked.value]


def list_of_node(tx: Tx, org_id: str, root_run_id: str, path: str) -> list[SignatureRow]:
    """Lists a node's signatures across a retry chain, oldest generation first."""
    found = ask_of_node(tx, org_id, root_run_id, path)
    tx.wait()
    return found()


def ask_planned_of_run(tx: Tx, run_pk: int) -> Callable[[], list[SignatureRow]]:
    """Asks for a run's signatures that are not signed yet; the function lists them after a wait."""
    asked = tx.soon_all(_PLANNED_OF_RUN, the_run_pk=run_pk)
    return lambda: [_row(row) for row in asked.value]


def opened(tx: Tx, vault: Vault, row: SignatureRow) -> str:
    """Decrypts a signature to 0x-hex."""
    assert row.sealed is not None
    return "0x" + vault.open(tx, row.org_id, KIND, row.id, row.sealed).hex()


def list_of_marks(tx: Tx, org_id: str, marks: Collection[str]) -> list[SignatureRow]:
    """Lists the organisation's signatures by their placeholder marks."""
    query = sa.select(*_COLUMNS).where(t.c.org_id == org_id, t.c.mark.in_(sorted(marks)))
    return [_row(row) for row in tx.all(Statement(query))]


def list_page(
    tx: Tx,
    org_id: str,
    run_id: str | None,
    limit: int,
    offset: int,
    *,
    only_workflows: Collection[str] | None = None,
    only_wallets: Collection[str] | None = None,
) -> list[SignatureRow]:
    """Lists the signatures that the caller can access, newest first."""
    statement = _page(run_id is not None, count_of(only_workflows), count_of(only_wallets))
    values = {"org_id": org_id, "most": limit, "skip": offset, **numbered("workflow", only_workflows)}
    if run_id is not None:
        values["of_run"] = run_id
    return [_row(row) for row in tx.all(statement, **values, **numbered("wallet", only_wallets))]


@lru_cache(maxsize=256)
def _page(is_of_run: bool, workflows: int | None, wallets: int | None) -> Statement:
    """The statement of a page; a caller asks again and again with the same filters."""
    reached = [*is_one_of(t.c.workflow_id, "workflow", workflows), *is_one_of(t.c.wallet_id, "wallet", wallets)]
    query = sa.select(*_COLUMNS).where(t.c.org_id == b("org_id"), *reached)
    if is_of_run:
        query = query.where(t.c.run_id == b("of_run"))
    newest = query.order_by(t.c.id.desc())
    return Statement(newest.limit(b("most", type_=sa.Integer)).offset(b("skip", type_=sa.Integer)))
