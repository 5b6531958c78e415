"""The audit log: every change writes one row in its own transaction; its export is signed."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Final

from dustrun import clock, ids
from dustrun.core.audit_export import FORMAT, Sign, line_of
from dustrun.core.values import exact_json
from dustrun.errors import Code, Permanent
from dustrun.records import dataclass
from dustrun.services.access.paging import Page, Paging, page_of
from dustrun.services.access.principal import PERMISSIONS, Principal
from dustrun.storage.access import audit as rows
from dustrun.storage.access import keys as key_rows
from dustrun.storage.access import organizations
from dustrun.storage.access.audit import AuditFilters, AuditKeyRow, AuditRow, ChainedRow
from dustrun.storage.db.database import Database
from dustrun.storage.db.statement import Tx
from dustrun.storage.db.writer import Writer
from dustrun.storage.secrets.vault import Vault

KIND: Final = "audit-key"
"""The vault's record kind for a key that signs exports."""


def record(tx: Tx, principal: Principal, action: str, subject: str, **detail: Any) -> None:
    """Records one change; `action` is noun and verb like `workflow.publish`, `detail` must not contain a secret."""
    rows.insert(
        tx,
        org_id=principal.org_id,
        key_id=principal.key_id,
        at_ms=clock.now_ms(),
        action=action,
        subject=subject,
        detail=exact_json.dumps_text(detail),
    )


async def list_page(
    database: Database, principal: Principal, filters: AuditFilters, paging: Paging, *, made_by: str | None = None
) -> Page[AuditRow]:
    """Lists the organisation's changes, newest first; `made_by`: only those of a person, service account or key. A key
    that is limited sees its own alone."""

    def query(tx: Tx) -> list[AuditRow]:
        makers = [] if made_by is None else [key_rows.ids_of(tx, principal.org_id, made_by, principal.key_id)]
        makers += [(principal.key_id,)] if principal.is_limited else []
        makers += [] if filters.keys is None else [filters.keys]
        keys = tuple(sorted(set[str].intersection(*map(set, makers)))) if makers else None
        return rows.list_page(
            tx, principal.org_id, replace(filters, keys=keys), limit=paging.peek, offset=paging.offset
        )

    return page_of(await database.read(query), paging)


@dataclass(frozen=True, slots=True)
class ExportedAudit:
    """One part of an export: its lines as text, how many entries they have, and after which id the next part begins;
    None: there is nothing more."""

    content: str
    entries: int
    next: int | None


class AuditExport:
    """Signs the audit log for whoever must prove it elsewhere, with a key of the installation."""

    def __init__(self, database: Database, writer: Writer, vault: Vault) -> None:
        self._database = database
        self._writer = writer
        self._vault = vault

    async def list_keys(self, principal: Principal) -> list[AuditKeyRow]:
        """The keys that sign exports, the newest first, which signs now. The first look makes one."""
        principal.need_no_limits("export the audit log")
        await self._key()
        return await self._database.read(rows.list_keys)

    async def export(self, principal: Principal, after: int, limit: int) -> ExportedAudit:
        """The organisation's changes after an id, oldest first, of at most so many changes of all organisations."""
        principal.need_no_limits("export the audit log")
        row, private = await self._key()

        def query(tx: Tx) -> tuple[str, list[ChainedRow]]:
            return rows.list_chained(tx, after=after, limit=limit + 1)

        previous, found = await self._database.read(query)
        part = _Part(principal.org_id, after, previous, found[:limit], len(found) > limit)
        return await asyncio.to_thread(part.written, row, private)

    async def _key(self) -> tuple[AuditKeyRow, bytes]:
        """The key that signs; a new one if there is none, or if the vault can no longer open it."""
        await self._vault.prepare()
        newest = next(iter(await self._database.read(rows.list_keys)), None)
        if newest is not None and (private := await self._opened(newest)) is not None:
            return newest, private
        public, fresh = await asyncio.to_thread(_new_pair)
        made = await self._writer.write(lambda tx: self._add(tx, newest, public, fresh))
        return made, await self._opened(made) or fresh

    async def _opened(self, row: AuditKeyRow) -> bytes | None:
        try:
            return await self._vault.read(self._database, row.org_id, KIND, row.id, row.sealed)
        except Permanent as error:
            if error.code != Code.SECRET_UNREADABLE:
                raise
            return None

    def _add(self, tx: Tx, old: AuditKeyRow | None, public: str, private: bytes) -> AuditKeyRow:
        newest = next(iter(rows.list_keys(tx)), None)
        if newest is not None and (old is None or newest.id != old.id):
            return newest  # somebody else has made one meanwhile
        org_id, made_id = min(one.id for one in organizations.list_all(tx)), ids.new_id("akey")
        sealed = self._vault.seal(tx, org_id, KIND, made_id, private)
        row = AuditKeyRow(id=made_id, org_id=org_id, public_key=public, sealed=sealed, created_at=clock.now_ms())
        rows.insert_key(tx, row)
        record(tx, Principal("server", org_id, PERMISSIONS), "audit-key.create", made_id, publicKey=public)
        return row


@dataclass(frozen=True, slots=True)
class _Part:
    """What one part of an export shows."""

    org_id: str
    after: int
    previous: str
    found: Sequence[ChainedRow]
    has_more: bool

    def written(self, row: AuditKeyRow, private: bytes) -> ExportedAudit:
        """Its lines; signing takes about 0.1 ms each."""
        sign, shown = _signer(private), list(self._lines())
        entries = sum(one["kind"] == "entry" for one in shown)
        at = clock.to_rfc3339(clock.now_ms())
        start = {
            **{"kind": "start", "format": FORMAT, "organizationId": self.org_id, "after": self.after, "at": at},
            **{"previous": self.previous, "signedBy": row.id, "publicKey": row.public_key},
        }
        last_id = self.found[-1].row.id if self.found else self.after
        hash, following = self.found[-1].hash if self.found else self.previous, last_id if self.has_more else None
        end = {"kind": "end", "entries": entries, "lastId": last_id, "hash": hash, "next": following, "at": at}
        content = "".join(line_of(one, sign) for one in (start, *shown, end))
        return ExportedAudit(content, entries, following)

    def _lines(self) -> Iterator[dict[str, Any]]:
        previous, skipped = self.previous, None
        for one in self.found:
            if one.row.org_id != self.org_id:
                skipped = one
                continue
            if skipped is not None:
                yield _others(previous, skipped)
                previous, skipped = skipped.hash, None
            yield _entry(previous, one)
            previous = one.hash
        if skipped is not None:
            yield _others(previous, skipped)


def _others(previous: str, last: ChainedRow) -> dict[str, Any]:
    return {"kind": "others", "id": last.row.id, "previous": previous, "hash": last.hash}


def _entry(previous: str, one: ChainedRow) -> dict[str, Any]:
    row = one.row
    return {
        **{"kind": "entry", "id": row.id, "previous": previous, "hash": one.hash, "organizationId": row.org_id},
        **{"apiKeyId": row.key_id, "personId": row.person_id, "at": clock.to_rfc3339(row.at), "atMs": row.at},
        **{"action": row.action, "subject": row.subject, "detail": row.detail},
    }


def _new_pair() -> tuple[str, bytes]:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # slow import

    private = ids.new_entropy(32)
    public = Ed25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()
    return base64.b64encode(public).decode(), private


def _signer(private: bytes) -> Sign:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # slow import

    return Ed25519PrivateKey.from_private_bytes(private).sign
