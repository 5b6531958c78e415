"""Organisations: each caller sees only its own; administrators create further ones."""

from __future__ import annotations

from typing import Final

from dustrun import clock, ids
from dustrun.errors import Code, Conflict, NotFound
from dustrun.records import dataclass
from dustrun.services.access import audit, idempotency
from dustrun.services.access.api_keys import make_key
from dustrun.services.access.principal import Principal
from dustrun.settings import Settings
from dustrun.storage.access import keys, stored_bytes
from dustrun.storage.access import organizations as rows
from dustrun.storage.access.organizations import OrganizationRow
from dustrun.storage.data import connectors, conversation_turns, managed_tables, model_tokens
from dustrun.storage.db.database import Database
from dustrun.storage.db.statement import Tx
from dustrun.storage.db.writer import Writer
from dustrun.storage.hooks import hooks
from dustrun.storage.runs import run_lists
from dustrun.storage.runs.run_lists import RunFilters


@dataclass(frozen=True, slots=True)
class NewOrganization:
    """A new organisation with its owner key's secret, shown only once."""

    row: OrganizationRow
    owner_key_id: str
    owner_key: str


@dataclass(frozen=True, slots=True)
class QuotaUse:
    """How much an organisation has of something, and how much it may have; None: there is no limit. `frees`: how it
    becomes less."""

    name: str
    used: int
    limit: int | None
    setting: str | None
    frees: str


_DELETES: Final = "Delete what nobody needs."


def used_up(what: str, used: int, limit: int, setting: str, has: str = "has") -> str:
    """What is said when a quota is reached: which, its use, and how it becomes less."""
    return (
        f"The organisation {has} {used} {what}, and may have {limit} (setting {setting}). {_DELETES[:-1]}, or have "
        "whoever runs the server raise the setting."
    )


def count_runs(tx: Tx, org_id: str) -> int:
    """How many runs an organisation keeps, of all modes: ended ones by their counters, open ones by their index."""
    return sum(run_lists.count_by_status(tx, org_id, RunFilters()).values())


def count_tokens(tx: Tx, org_id: str) -> int:
    """The tokens of models that an organisation has used in the last 24 hours: its assistant's, and its nodes'."""
    now = clock.now_ms()
    return conversation_turns.count_tokens(tx, org_id, now - 86_400_000) + model_tokens.count(tx, org_id, now)


def need_tokens(tx: Tx, org_id: str, most: int | None) -> None:
    """Raises `Conflict` if the organisation has used what it may; turns under way go on to their end."""
    if most is not None and (used := count_tokens(tx, org_id)) >= most:
        raise Conflict(
            f"The organisation has used {used} tokens of models in 24 hours, and may use {most} (setting "
            "max_model_tokens). Wait until they are a day old, or have whoever runs the server raise the setting.",
            code=Code.MODEL_TOKEN_LIMIT,
        )


class Organizations:
    """Use cases of organisations."""

    def __init__(self, database: Database, writer: Writer, settings: Settings) -> None:
        self._database = database
        self._writer = writer
        self._settings = settings

    async def list_quotas(self, principal: Principal) -> list[QuotaUse]:
        """What the caller's organisation has, and may have."""
        principal.need_no_limits("see what the organisation uses")
        return await self._database.read(lambda tx: self._quotas(tx, principal.org_id))

    def _quotas(self, tx: Tx, org_id: str) -> list[QuotaUse]:
        own, settings = rows.find(tx, org_id), self._settings
        tables, table_rows, table_bytes = managed_tables.usage(tx, org_id)
        days = settings.retention_days if own is None or own.retention_days is None else own.retention_days
        ends = (
            f"Ended runs are deleted after {days} days." if days else "Ended runs are kept forever: set retentionDays."
        )
        return [
            QuotaUse("connectors", connectors.count(tx, org_id), settings.max_connectors, "max_connectors", _DELETES),
            QuotaUse("hooks", hooks.count(tx, org_id), settings.max_hooks, "max_hooks", _DELETES),
            QuotaUse("tables", tables, settings.max_tables, "max_tables", _DELETES),
            QuotaUse("tableRows", table_rows, settings.max_table_rows, "max_table_rows", _DELETES),
            QuotaUse("tableBytes", table_bytes, settings.max_table_bytes, "max_table_bytes", _DELETES),
            QuotaUse(
                *("modelTokens", count_tokens(tx, org_id), settings.max_model_tokens),
                *("max_model_tokens", "Those that are a day old do not count."),
            ),
            QuotaUse("runs", count_runs(tx, org_id), settings.max_runs, "max_runs", ends),
            QuotaUse("runBytes", stored_bytes.of(tx, org_id), settings.max_run_bytes, "max_run_bytes", ends),
        ]

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
