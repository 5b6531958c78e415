"""Organisations: each caller sees only its own; administrators create further ones."""

from __future__ import annotations

from dustrun import clock, ids
from dustrun.errors import Code, NotFound
from dustrun.records import dataclass
from dustrun.services.access import audit, idempotency
from dustrun.services.access.api_keys import make_key
from dustrun.services.access.principal import Principal
from dustrun.storage.access import keys
from dustrun.storage.access import organizations as rows
from dustrun.storage.access.organizations import OrganizationRow
from dustrun.storage.db.database import Database
from dustrun.storage.db.statement import Tx
from dustrun.storage.db.writer import Writer


@dataclass(frozen=True, slots=True)
class NewOrganization:
    """A new organisation with its owner key's secret, shown only once."""

    row: OrganizationRow
    owner_key_id: str
    owner_key: str


class Organizations:
    """Use cases of organisations."""

    def __init__(self, database: Database, writer: Writer) -> None:
        self._database = database
        self._writer = writer

    async def get_own(self, principal: Principal) -> OrganizationRow:
        """Reads the caller's organisation."""
        return await self.get(principal, principal.org_id)

    async def get(self, principal: Principal, organization_id: str) -> OrganizationRow:
        """Reads an organisation; raises `NotFound` unless it is the caller's."""
        row = None
        if organization_id == principal.org_id:
            row = await self._database.read(lambda tx: rows.find(tx, organization_id))
        if row is None:
            raise NotFound(f'There is no organisation "{organization_id}".', code=Code.ORGANIZATION_UNKNOWN)
        return row

    async def let_one_approve(self, principal: Principal, is_on: bool) -> OrganizationRow:
        """Sets whether whoever administers the caller's organisation may approve what their own runs ask: for an
        organisation of one person. Acceptances of versions stay with others."""
        principal.need_no_limits("change who approves")

        def unit(tx: Tx) -> OrganizationRow:
            rows.set_single_person(tx, principal.org_id, is_on)
            audit.record(tx, principal, "organization.update", principal.org_id, singlePersonApproves=is_on)
            row = rows.find(tx, principal.org_id)
            assert row is not None
            return row

        return await idempotency.write(self._writer, unit)

    async def create(self, principal: Principal, name: str) -> NewOrganization:
        """Creates an organisation with its own owner key."""
        principal.need_no_limits("make organisations")
        row = OrganizationRow(ids.new_id("org"), name, clock.now_ms())
        owner = make_key(row.id, "owner", ["admin"])

        def unit(tx: Tx) -> NewOrganization:
            rows.insert(tx, row)
            keys.insert(tx, owner.row)
            audit.record(tx, principal, "organization.create", row.id, name=name)
            return NewOrganization(row, owner.row.id, owner.secret)

        return await idempotency.write(self._writer, unit, creates=("id", row.id))
