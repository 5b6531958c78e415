"""Rows of wallets and their policies. A local wallet's key is stored only encrypted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import field, fields
from typing import Any

import sqlalchemy as sa
from sqlalchemy import bindparam as b

from dustrun.records import dataclass
from dustrun.storage.db.ledger_tables import signatures, transactions
from dustrun.storage.db.ledger_tables import wallet_policies as p
from dustrun.storage.db.ledger_tables import wallets as t
from dustrun.storage.db.statement import Statement, Tx
from dustrun.storage.db.tables import workflow_versions, workflows

LOCAL, REMOTE, ENV, WATCH = "local", "remote", "env", "watch"


@dataclass(frozen=True, slots=True, kw_only=True)
class WalletRow:
    """One wallet; times in milliseconds. `signer` names the remote signer or the environment variable."""

    id: str
    org_id: str
    name: str
    description: str | None
    kind: str
    address: str
    held_address: str | None
    is_default: int
    signer: str | None
    sealed: str | None = field(repr=False)
    created_by: str
    created_at: int
    updated_at: int
    archived_at: int | None = None

    @property
    def can_sign(self) -> bool:
        """Whether the wallet can sign."""
        return self.kind != WATCH and self.archived_at is None


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyRow:
    """One version of a wallet's policy; `document` is JSON text, times in milliseconds."""

    wallet_id: str
    version: int
    document: str
    is_looser: int
    effective_at: int
    cancelled_at: int | None = None
    created_by: str
    created_at: int

    def is_pending(self, now_ms: int) -> bool:
        """Whether the version takes effect in the future."""
        return self.cancelled_at is None and self.effective_at > now_ms


_NAMES = tuple(found.name for found in fields(WalletRow))
_COLUMNS = [t.c[name] for name in _NAMES]
_MINE = (t.c.org_id == b("org_id"), t.c.id == b("id"))
_INSERT = Statement(sa.insert(t).values({name: b(name) for name in _NAMES}))
_FIND = Statement(sa.select(*_COLUMNS).where(*_MINE))
_FIND_DEFAULT = Statement(sa.select(*_COLUMNS).where(t.c.org_id == b("org_id"), t.c.is_default == 1))
_FIND_HOLDER = Statement(sa.select(*_COLUMNS).where(t.c.held_address == b("address")))
_FIND_SAME = Statement(
    sa.select(*_COLUMNS).where(t.c.org_id == b("org_id"), t.c.address == b("address"), t.c.archived_at.is_(None))
)
_CHANGE = Statement(
    sa.update(t)
    .where(t.c.id == b("of_id"))
    .values(name=b("name"), description=b("description"), updated_at=b("updated_at", type_=sa.BigInteger))
)
_CLEAR_DEFAULT = Statement(sa.update(t).where(t.c.org_id == b("of_org"), t.c.is_default == 1).values(is_default=0))
_SET_DEFAULT = Statement(
    sa.update(t).where(t.c.id == b("of_id")).values(is_default=1, updated_at=b("updated_at", type_=sa.BigInteger))
)
_ARCHIVE = Statement(
    sa.update(t)
    .where(t.c.id == b("of_id"))
    .values(held_address=sa.null(), archived_at=b("at", type_=sa.BigInteger), updated_at=b("at", type_=sa.BigInteger))
)
_OPEN_STATES = ("planned", "signed", "sent", "mined")
_OPEN = Statement(
    sa.select(transactions.c.id)
    .where(
        transactions.c.wallet_id == b("wallet_id"), sa.or_(*(transactions.c.state == state for state in _OPEN_STATES))
    )
    .union_all(
        sa.select(signatures.c.id).where(signatures.c.wallet_id == b("wallet_id"), signatures.c.state == "planned")
    )
    .limit(b("limit", type_=sa.Integer))
)
_USERS = Statement(
    sa.select(workflows.c.id, workflows.c.name)
    .distinct()
    .select_from(workflows)
    .join(
        workflow_versions,
        sa.and_(
            workflow_versions.c.workflow_id == workflows.c.id,
            sa.or_(
                workflow_versions.c.version == workflows.c.draft_version,
                workflow_versions.c.version == workflows.c.live_version,
            ),
        ),
    )
    .where(
        workflows.c.org_id == b("org_id"),
        workflows.c.status != "archived",
        workflow_versions.c.definition.contains(b("quoted", type_=sa.Text)),
    )
    .order_by(workflows.c.id)
    .limit(b("limit", type_=sa.Integer))
)

_POLICY_NAMES = tuple(found.name for found in fields(PolicyRow))
_POLICY_COLUMNS = [p.c[name] for name in _POLICY_NAMES]
_ADD_POLICY = Statement(sa.insert(p).values({name: b(name) for name in _POLICY_NAMES}))
_IN_FORCE = Statement(
    sa.select(*_POLICY_COLUMNS)
    .where(
        p.c.wallet_id == b("wallet_id"),
        p.c.cancelled_at.is_(None),
        p.c.effective_at <= b("now", type_=sa.BigInteger),
    )
    .order_by(p.c.version.desc())
    .limit(1)
)
_NEWEST = Statement(
    sa.select(*_POLICY_COLUMNS).where(p.c.wallet_id == b("wallet_id")).order_by(p.c.version.desc()).limit(1)
)
_CANCEL_PENDING = Statement(
    sa.update(p)
    .where(
        p.c.wallet_id == b("of_wallet"),
        p.c.cancelled_at.is_(None),
        p.c.effective_at > b("now", type_=sa.BigInteger),
    )
    .values(cancelled_at=b("now", type_=sa.BigInteger))
)
_POLICY_PAGE = Statement(
    sa.select(*_POLICY_COLUMNS)
    .where(p.c.wallet_id == b("wallet_id"))
    .order_by(p.c.version.desc())
    .limit(b("limit", type_=sa.Integer))
    .offset(b("offset", type_=sa.Integer))
)

_PAGES = [
    Statement(
        sa.select(*_COLUMNS)
        .where(t.c.org_id == b("org_id"), *which)
        .order_by(t.c.is_default.desc(), t.c.id.desc())
        .limit(b("most", type_=sa.Integer))
        .offset(b("skip", type_=sa.Integer))
    )
    for which in ([t.c.archived_at.is_(None)], [])
]
"""Without the archived wallets, and with them."""


def _wallet(found: tuple[Any, ...]) -> WalletRow:
    return WalletRow(**dict(zip(_NAMES, found, strict=True)))


def _policy(found: tuple[Any, ...]) -> PolicyRow:
    return PolicyRow(**dict(zip(_POLICY_NAMES, found, strict=True)))


def insert(tx: Tx, row: WalletRow) -> None:
    """Inserts a wallet; the store refuses a second one that signs with the same key."""
    tx.do(_INSERT, **{name: getattr(row, name) for name in _NAMES})


def ask_for(tx: Tx, org_id: str, wallet_id: str) -> Callable[[], WalletRow | None]:
    """Asks for `find`; the function returns it after a wait."""
    asked = tx.soon(_FIND, org_id=org_id, id=wallet_id)
    return lambda: None if asked.value is None else _wallet(asked.value)


def find(tx: Tx, org_id: str, wallet_id: str) -> WalletRow | None:
    """Finds a wallet of the organisation, including archived ones."""
    found = tx.one(_FIND, org_id=org_id, id=wallet_id)
    return _wallet(found) if found else None


def find_default(tx: Tx, org_id: str) -> WalletRow | None:
    """Finds the default wallet, used by nodes that name none."""
    found = tx.one(_FIND_DEFAULT, org_id=org_id)
    return _wallet(found) if found else None


def find_holder(tx: Tx, address: str) -> WalletRow | None:
    """Finds the wallet of any organisation that signs for a checksummed address."""
    found = tx.one(_FIND_HOLDER, address=address)
    return _wallet(found) if found else None


def find_same(tx: Tx, org_id: str, address: str) -> WalletRow | None:
    """Finds an unarchived wallet of the organisation with this address."""
    found = tx.one(_FIND_SAME, org_id=org_id, address=address)
    return _wallet(found) if found else None


def list_page(tx: Tx, org_id: str, *, with_archived: bool, limit: int, offset: int) -> list[WalletRow]:
    """Lists one page of the organisation's wallets, the default first, then newest first."""
    return [_wallet(found) for found in tx.all(_PAGES[with_archived], org_id=org_id, most=limit, skip=offset)]


def list_named(tx: Tx, org_id: str, wallet_ids: list[str], *, with_archived: bool) -> list[WalletRow]:
    """Lists those of the given wallets that belong to the organisation, in the order of `list_page`."""
    found = [row for wallet_id in wallet_ids if (row := find(tx, org_id, wallet_id)) is not None]
    kept = [row for row in found if with_archived or row.archived_at is None]
    return sorted(kept, key=lambda row: (row.is_default, row.id), reverse=True)


def change(tx: Tx, wallet_id: str, *, name: str, description: str | None, at_ms: int) -> None:
    """Renames a wallet."""
    tx.do(_CHANGE, of_id=wallet_id, name=name, description=description, updated_at=at_ms)


def make_default(tx: Tx, org_id: str, wallet_id: str, *, at_ms: int) -> None:
    """Makes a wallet the organisation's default."""
    tx.do(_CLEAR_DEFAULT, of_org=org_id)
    tx.do(_SET_DEFAULT, of_id=wallet_id, updated_at=at_ms)


def archive(tx: Tx, wallet_id: str, *, at_ms: int) -> None:
    """Archives a wallet; another wallet may then use its key."""
    tx.do(_ARCHIVE, of_id=wallet_id, at=at_ms)


def list_open(tx: Tx, wallet_id: str, *, limit: int) -> list[str]:
    """Ids of the wallet's unfinished transactions and signatures."""
    return [found[0] for found in tx.all(_OPEN, wallet_id=wallet_id, limit=limit)]


def list_users(tx: Tx, org_id: str, wallet_id: str, *, limit: int) -> list[tuple[str, str]]:
    """Ids and names of workflows whose draft or live version uses the wallet."""
    return [(found[0], found[1]) for found in tx.all(_USERS, org_id=org_id, quoted=f'"{wallet_id}"', limit=limit)]


def add_policy(tx: Tx, row: PolicyRow) -> None:
    """Inserts a policy version."""
    tx.do(_ADD_POLICY, **{name: getattr(row, name) for name in _POLICY_NAMES})


def ask_policy(tx: Tx, wallet_id: str, now_ms: int) -> Callable[[], PolicyRow | None]:
    """Asks for the policy in force, the highest version that is effective and not cancelled; the function returns it
    after a wait."""
    asked = tx.soon(_IN_FORCE, wallet_id=wallet_id, now=now_ms)
    return lambda: _policy(asked.value) if asked.value else None


def find_policy(tx: Tx, wallet_id: str, now_ms: int) -> PolicyRow | None:
    """Finds the policy in force: the highest version that is effective and not cancelled."""
    found = ask_policy(tx, wallet_id, now_ms)
    tx.wait()
    return found()


def find_newest_policy(tx: Tx, wallet_id: str) -> PolicyRow | None:
    """Finds the newest policy version, in force or not."""
    found = tx.one(_NEWEST, wallet_id=wallet_id)
    return _policy(found) if found else None


def cancel_pending(tx: Tx, wallet_id: str, *, now_ms: int) -> int:
    """Cancels versions that are not effective yet; returns how many."""
    return tx.run(_CANCEL_PENDING, of_wallet=wallet_id, now=now_ms)


def list_policies(tx: Tx, wallet_id: str, *, limit: int, offset: int) -> list[PolicyRow]:
    """Lists policy versions, newest first."""
    return [_policy(found) for found in tx.all(_POLICY_PAGE, wallet_id=wallet_id, limit=limit, offset=offset)]
