"""Use cases of hooks: create, change, disable, enable, rotate the secret, delete."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from dustrun import clock, ids
from dustrun.core import hooks
from dustrun.core.values.exact_json import dumps_text, loads_own
from dustrun.errors import Code, Conflict, Invalid, NotFound, Problem
from dustrun.outbound.client import OutboundClient
from dustrun.outbound.resolver import parse
from dustrun.records import dataclass
from dustrun.sdk.context import HttpRequest
from dustrun.services.access import audit, idempotency
from dustrun.services.access.organizations import used_up
from dustrun.services.access.paging import Page, Paging, page_of
from dustrun.services.access.principal import Principal
from dustrun.services.hooks.host import HookHost
from dustrun.services.hooks.sending import KIND, Secrets
from dustrun.storage.data.attention import DISABLED_BY_HAND
from dustrun.storage.db.database import Database
from dustrun.storage.db.statement import Tx
from dustrun.storage.db.writer import Writer
from dustrun.storage.hooks import deliveries as delivery_rows
from dustrun.storage.hooks import hooks as rows
from dustrun.storage.hooks.hooks import ACTIVE, DISABLED, HookRow
from dustrun.storage.secrets.vault import Vault

OVERLAP_HOURS: Final = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class HookContent:
    """A person's settings of a hook. `workflow_ids`: None for all workflows and inline runs."""

    name: str
    description: str | None
    url: str
    event_types: Sequence[str]
    workflow_ids: Sequence[str] | None
    modes: Sequence[str]
    max_retries: int


@dataclass(frozen=True, slots=True)
class NewSecret:
    """A hook with its new signing secret, which is shown only now. `previous_until`: the old one also signs until
    then, in milliseconds."""

    row: HookRow
    secret: str
    previous_until: int | None = None


class Hooks:
    """Use cases of hooks. `http` is the client that sends: its guard decides which addresses are accepted."""

    def __init__(
        self,
        database: Database,
        writer: Writer,
        vault: Vault,
        http: OutboundClient,
        host: HookHost,
        most: int,
    ) -> None:
        self._database = database
        self._writer = writer
        self._vault = vault
        self._http = http
        self._host = host
        self._most = most

    async def list_page(self, principal: Principal, paging: Paging) -> Page[HookRow]:
        """Lists the organisation's hooks, newest first."""
        need_whole(principal)
        found = await self._database.read(
            lambda tx: rows.list_page(tx, principal.org_id, limit=paging.peek, offset=paging.offset)
        )
        return page_of(found, paging)

    async def get(self, principal: Principal, hook_id: str) -> HookRow:
        """Gets one hook; raises `NotFound`."""
        return await self._database.read(lambda tx: find(tx, principal, hook_id))

    async def create(self, principal: Principal, content: HookContent) -> NewSecret:
        """Creates a hook, which is told of what happens from now on."""
        need_whole(principal)
        await self._check_url(content.url)
        await self._vault.prepare()
        secrets, now, hook_id = Secrets.new(), clock.now_ms(), ids.new_id("hook")

        def unit(tx: Tx) -> NewSecret:
            if (there := rows.count(tx, principal.org_id)) >= self._most:
                raise Conflict(used_up("hooks", there, self._most, "max_hooks"), code=Code.HOOK_LIMIT)
            _check_workflows(tx, principal, content)
            activity_id, notice_id = rows.newest(tx, principal.org_id)
            row = HookRow(
                id=hook_id,
                org_id=principal.org_id,
                sealed=self._vault.seal(tx, principal.org_id, KIND, hook_id, secrets.plain()),
                activity_id=activity_id,
                notice_id=notice_id,
                created_by=principal.key_id,
                created_at=now,
                updated_at=now,
                **_columns(content),
            )
            rows.insert(tx, row)
            audit.record(tx, principal, "hook.create", hook_id, name=row.name, eventTypes=list(content.event_types))
            return NewSecret(row, secrets.current)

        return await idempotency.write(self._writer, unit, self._told_new, creates=("id", hook_id))

    async def update(self, principal: Principal, hook_id: str, changes: Mapping[str, Any]) -> HookRow:
        """Changes fields of the content; applies to events of which no delivery was made yet."""
        need_whole(principal)
        if "url" in changes:
            await self._check_url(changes["url"])

        def decide(tx: Tx, row: HookRow) -> HookRow:
            content = replace(content_of(row), **changes)
            _check_workflows(tx, principal, content)
            fresh = replace(row, updated_at=clock.now_ms(), **_columns(content))
            rows.update(tx, fresh)
            return fresh

        return await self._change(principal, hook_id, "hook.update", decide, changed=sorted(changes))

    async def disable(self, principal: Principal, hook_id: str) -> HookRow:
        """Stops deliveries; open ones wait, and what happens meanwhile is not told."""

        def decide(tx: Tx, row: HookRow) -> HookRow:
            now = clock.now_ms()
            fresh = replace(row, status=DISABLED, disabled_at=now, disabled_reason=DISABLED_BY_HAND, updated_at=now)
            rows.set_state(tx, fresh)
            return fresh

        return await self._change(principal, hook_id, "hook.disable", decide)

    async def enable(self, principal: Principal, hook_id: str) -> HookRow:
        """Starts deliveries again: the open ones, and what happens from now on. Changes nothing if it is active."""

        def decide(tx: Tx, row: HookRow) -> HookRow:
            if row.status == ACTIVE:
                return row
            fresh = replace(
                row,
                status=ACTIVE,
                disabled_at=None,
                disabled_reason=None,
                failures=0,
                failing_since=None,
                resume_at=None,
                updated_at=clock.now_ms(),
            )
            rows.set_state(tx, fresh)
            rows.forget_runs(tx, row.id)
            rows.move(tx, row.id, row.moves, *rows.newest(tx, row.org_id))
            return fresh

        return await self._change(principal, hook_id, "hook.enable", decide)

    async def rotate(self, principal: Principal, hook_id: str, overlap_hours: int) -> NewSecret:
        """Makes a new secret; deliveries carry a signature of the old one too for `overlap_hours`."""
        await self._vault.prepare()
        now = clock.now_ms()
        until = now + overlap_hours * 3_600_000
        made: list[Secrets] = []

        def decide(tx: Tx, row: HookRow) -> HookRow:
            made[:] = [self._rotated(tx, row, until)]
            sealed = self._vault.seal(tx, row.org_id, KIND, row.id, made[0].plain())
            fresh = replace(row, sealed=sealed, updated_at=now)
            rows.update(tx, fresh)
            return fresh

        def shown(row: HookRow) -> NewSecret:
            return NewSecret(row, made[0].current, until if made[0].previous is not None and overlap_hours else None)

        unit = self._unit(principal, hook_id, "hook.rotate-secret", decide, overlapHours=overlap_hours)
        return await idempotency.write(self._writer, lambda tx: shown(unit(tx)), self._told_new)

    def _rotated(self, tx: Tx, row: HookRow, until: int) -> Secrets:
        """A secret that cannot be decrypted any more has no overlap."""
        try:
            plain = self._vault.open(tx, row.org_id, KIND, row.id, row.sealed)
        except Exception as error:
            if getattr(error, "code", None) != Code.SECRET_UNREADABLE:
                raise
            return Secrets.new()
        return Secrets.of(plain).rotated(until)

    async def delete(self, principal: Principal, hook_id: str) -> HookRow:
        """Deletes a hook and gives up what is open; its deliveries stay in the log until they are too old."""

        def decide(tx: Tx, row: HookRow) -> HookRow:
            delivery_rows.end_all(tx, row.id, clock.now_ms())
            rows.delete(tx, row.id)
            return row

        return await self._change(principal, hook_id, "hook.delete", decide)

    async def _change(
        self,
        principal: Principal,
        hook_id: str,
        action: str,
        decide: Callable[[Tx, HookRow], HookRow],
        **detail: Any,
    ) -> HookRow:
        unit = self._unit(principal, hook_id, action, decide, **detail)
        return await idempotency.write(self._writer, unit, self._told)

    def _unit(
        self,
        principal: Principal,
        hook_id: str,
        action: str,
        decide: Callable[[Tx, HookRow], HookRow],
        **detail: Any,
    ) -> Callable[[Tx], HookRow]:
        """Reads the hook, decides, and writes the audit row in one unit."""

        def unit(tx: Tx) -> HookRow:
            row = find(tx, principal, hook_id)
            fresh = decide(tx, row)
            audit.record(tx, principal, action, row.id, name=row.name, **detail)
            return fresh

        return unit

    def _told(self, row: HookRow) -> None:
        self._host.changed(row.org_id, row.id)

    def _told_new(self, made: NewSecret) -> None:
        self._told(made.row)

    async def _check_url(self, url: str) -> None:
        try:
            target = parse(url)
            guard = self._http.guard
            if target.url.scheme != "https" and not guard.is_listed(target.host, target.address, target.port):
                raise _invalid(
                    "url",
                    "must begin with https://; http:// is for hosts that the operator lists in outbound_allow "
                    "(DUSTRUN_OUTBOUND_ALLOW)",
                )
            refusal = guard.find_refusal(target.host, target.address, target.port)
            if refusal is not None:
                raise _invalid("url", refusal)
            await self._http.check(HttpRequest("POST", url))
        except Invalid as error:
            raise error if error.details else _invalid("url", error.message) from None


def need_whole(principal: Principal) -> None:
    """A hook tells of the whole organisation, so a limited key has nothing to do with it."""
    principal.need_no_limits("use hooks, which tell of all workflows")


def find(tx: Tx, principal: Principal, hook_id: str) -> HookRow:
    """Finds a hook; raises `NotFound`."""
    need_whole(principal)
    row = rows.find(tx, principal.org_id, hook_id)
    if row is None:
        raise NotFound(f'There is no hook "{hook_id}".', code=Code.HOOK_UNKNOWN)
    return row


def content_of(row: HookRow) -> HookContent:
    """The settings of a hook that a person decided."""
    return HookContent(
        name=row.name,
        description=row.description,
        url=row.url,
        event_types=loads_own(row.event_types),
        workflow_ids=None if row.workflow_ids is None else loads_own(row.workflow_ids),
        modes=loads_own(row.modes),
        max_retries=row.max_retries,
    )


def check_types(wanted: Sequence[str]) -> None:
    """Raises `Invalid` that names unknown event types."""
    bad = [one for one in wanted if not hooks.is_known(one)]
    if bad:
        known = ", ".join([*hooks.PATTERNS, *hooks.TYPES])
        raise _invalid("subscribedEventTypes", f'there is no event type "{bad[0][:100]}"; there are {known}')


def _check_workflows(tx: Tx, principal: Principal, content: HookContent) -> None:
    check_types(content.event_types)
    if content.workflow_ids:
        unknown = rows.unknown_workflows(tx, principal.org_id, list(content.workflow_ids))
        if unknown:
            raise _invalid("workflowIds", f'there is no workflow "{unknown[0][:100]}"')


def _columns(content: HookContent) -> dict[str, Any]:
    return {
        "name": content.name,
        "description": content.description,
        "url": content.url,
        "event_types": dumps_text(list(dict.fromkeys(content.event_types))),
        "workflow_ids": None if content.workflow_ids is None else dumps_text(sorted(set(content.workflow_ids))),
        "modes": dumps_text(sorted(set(content.modes))),
        "max_retries": content.max_retries,
    }


def _invalid(field: str, message: str) -> Invalid:
    return Invalid("The request body is not valid.", details=[Problem(field, message)])
