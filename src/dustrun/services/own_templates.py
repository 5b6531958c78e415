"""Templates that an organisation makes from its workflows: portable definitions without secrets, connectors, wallets
and pinned results, in numbered versions.

They are read by every key that may read the workflow that one was made from, and changed by keys without limits.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final

from dustrun import clock, ids
from dustrun.core.text.secret_rules import is_secret, is_secret_name
from dustrun.core.values import exact_json
from dustrun.core.workflow.placement import tags_text
from dustrun.core.workflow.specs import Specs
from dustrun.errors import Code, Conflict, NotFound
from dustrun.records import dataclass
from dustrun.services.access import audit, idempotency
from dustrun.services.access.paging import Page, Paging, page_of
from dustrun.services.access.principal import Principal
from dustrun.services.workflows.import_export import as_portable, bind
from dustrun.services.workflows.versions import get_workflow
from dustrun.services.workflows.workflows import Workflow
from dustrun.storage.db.database import Database
from dustrun.storage.db.statement import Tx
from dustrun.storage.db.writer import Writer
from dustrun.storage.workflows import templates as rows
from dustrun.storage.workflows.templates import TemplateRow

PREFIX: Final = "tpl_"
MOST: Final = 200
"""Of an organisation."""
_MOST_VERSIONS: Final = 500
_CHANGE: Final = "change the organisation's templates"
_ID: Final = re.compile(r"(conn|wal)_[0-9a-hjkmnp-tv-z]{26}")
_RECENT_MS: Final = 30 * 86_400_000
_WORKFLOWS_OF_STATS, _RUNS_OF_STATS = 50, 20


@dataclass(frozen=True, slots=True)
class TemplateStats:
    """What became of a template. The rate is in per cent; None: nothing has run."""

    total_deployments: int
    recent_deployments: int
    active_workflows: int
    success_rate: int | None
    avg_execution_time_ms: int | None


class OwnTemplates:
    """Use cases of an organisation's own templates."""

    def __init__(self, database: Database, writer: Writer, specs: Specs) -> None:
        self._database = database
        self._writer = writer
        self._specs = specs

    # --- reading ---

    async def list_all(self, principal: Principal) -> list[TemplateRow]:
        """Those that the caller may see, without their definitions, newest first."""
        found = await self._database.read(lambda tx: rows.list_all(tx, principal.org_id))
        return [row for row in found if _may_see(principal, row)]

    async def get(self, principal: Principal, template_id: str, number: int | None = None) -> TemplateRow:
        """One with the version in use, or with another one; raises `NotFound`."""
        return await self._database.read(lambda tx: _get(tx, principal, template_id, number))

    async def find_of_source(self, principal: Principal, workflow_id: str) -> TemplateRow | None:
        """The newest one that was made from a workflow; raises `NotFound` if there is no such workflow."""

        def query(tx: Tx) -> TemplateRow | None:
            get_workflow(tx, principal, workflow_id)
            found = rows.find_of_source(tx, principal.org_id, workflow_id)
            return None if found is None else rows.find(tx, principal.org_id, found)

        return await self._database.read(query)

    async def list_versions(
        self, principal: Principal, template_id: str, paging: Paging
    ) -> tuple[TemplateRow, Page[TemplateRow]]:
        """The template and a page of its versions without their definitions, newest first; raises `NotFound`."""

        def query(tx: Tx) -> tuple[TemplateRow, list[TemplateRow]]:
            row = _get(tx, principal, template_id)
            return row, rows.list_versions(tx, row.org_id, row.id, limit=paging.peek, offset=paging.offset)

        row, found = await self._database.read(query)
        return row, page_of(found, paging)

    async def count_versions(self, principal: Principal, template_id: str) -> int:
        """Its number of versions; raises `NotFound`."""
        return await self._database.read(lambda tx: rows.count_versions(tx, _get(tx, principal, template_id).id))

    async def get_stats(self, principal: Principal, template_id: str) -> TemplateStats:
        """What became of it, of the workflows that the caller may access; raises `NotFound`."""

        def query(tx: Tx) -> TemplateStats:
            row = _get(tx, principal, template_id)
            uses = [one for one in rows.list_uses(tx, row.id) if principal.may_use_workflow(one[0])]
            newest = uses[:_WORKFLOWS_OF_STATS]
            ended = [run for id, _, _ in newest for run in rows.list_ended(tx, id, _RUNS_OF_STATS)]
            recent = clock.now_ms() - _RECENT_MS
            return TemplateStats(
                len(uses),
                sum(used_at >= recent for _, used_at, _ in uses),
                sum(status == "active" for _, _, status in uses),
                100 * sum(status == "success" for status, _ in ended) // len(ended) if ended else None,
                sum(took for _, took in ended) // len(ended) if ended else None,
            )

        return await self._database.read(query)

    # --- changing ---

    async def create(
        self, principal: Principal, source: Workflow, name: str, description: str, tags: Sequence[str]
    ) -> TemplateRow:
        """Makes a template from the version that the workflow shows."""
        principal.need_every_workflow(_CHANGE)
        now = clock.now_ms()
        row = TemplateRow(
            id=ids.new_id(PREFIX[:-1]),
            org_id=principal.org_id,
            source_workflow_id=source.row.id,
            current=1,
            created_by=principal.key_id,
            created_at=now,
            updated_at=now,
            version=1,
            name=name,
            description=description,
            tags=tags_text(tags),
            version_by=principal.key_id,
            version_at=now,
            **await self._content(source),
        )

        def unit(tx: Tx) -> TemplateRow:
            if rows.count(tx, principal.org_id) >= MOST:
                message = f"The organisation has {MOST} templates, the most that it may have. Delete what nobody needs."
                raise Conflict(message, code=Code.TEMPLATE_LIMIT)
            rows.insert(tx, row)
            audit.record(tx, principal, "template.create", row.id, name=name, workflowId=source.row.id)
            return row

        return await idempotency.write(self._writer, unit, creates=("id", row.id))

    async def update(
        self, principal: Principal, template_id: str, changes: dict[str, Any], source: Workflow | None
    ) -> TemplateRow:
        """Changes its name, description or tags, or takes its definition anew: a new version, which is used from then
        on."""
        content = {} if source is None else await self._content(source)

        def decide(tx: Tx, row: TemplateRow) -> TemplateRow:
            number, now = rows.newest_version(tx, row.id) + 1, clock.now_ms()
            if number > _MOST_VERSIONS:
                message = f"The template has {_MOST_VERSIONS} versions. Make a new one, and delete this."
                raise Conflict(message, code=Code.TEMPLATE_LIMIT)
            own: dict[str, Any] = {"version": number, "version_by": principal.key_id, "version_at": now}
            made = replace(row, **own, **changes, **content)
            rows.insert_version(tx, made)
            return _use(tx, made, number, now)

        return await self._change(principal, template_id, "template.update", decide)

    async def roll_back(self, principal: Principal, template_id: str, number: int) -> TemplateRow:
        """Uses an earlier version again; workflows that were made meanwhile stay as they are."""

        def decide(tx: Tx, row: TemplateRow) -> TemplateRow:
            return _use(tx, _get(tx, principal, row.id, number), number, clock.now_ms())

        return await self._change(principal, template_id, "template.rollback", decide, version=number)

    async def delete(self, principal: Principal, template_id: str) -> TemplateRow:
        """Deletes it with its versions; workflows that were made from it stay."""

        def decide(tx: Tx, row: TemplateRow) -> TemplateRow:
            rows.delete(tx, row.id)
            return row

        return await self._change(principal, template_id, "template.delete", decide)

    async def _change(
        self,
        principal: Principal,
        template_id: str,
        action: str,
        decide: Callable[[Tx, TemplateRow], TemplateRow],
        **detail: Any,
    ) -> TemplateRow:
        principal.need_every_workflow(_CHANGE)

        def unit(tx: Tx) -> TemplateRow:
            rows.lock(tx, principal.org_id, template_id)
            done = decide(tx, _get(tx, principal, template_id))
            audit.record(tx, principal, action, done.id, name=done.name, **detail)
            return done

        return await idempotency.write(self._writer, unit)

    async def _content(self, source: Workflow) -> dict[str, Any]:
        version = source.version
        definition = await asyncio.to_thread(portable, version.definition, source.row.id, self._specs)
        return {
            "definition": exact_json.dumps_text(definition),
            "trigger_type": version.trigger_type,
            "node_types": version.node_types,
            "node_count": version.node_count,
        }


def portable(definition: str, own_id: str, specs: Specs) -> dict[str, Any]:
    """A definition (JSON) as others of the organisation may have it. Calls of other workflows stay; what stood for a
    secret is an `unbound:` text, which a template asks for."""
    document: dict[str, Any] = exact_json.loads(definition)
    called = as_portable(document, own_id, specs)
    document = bind(document, {mark: workflow_id for workflow_id, mark in called.items()})
    for node in document["nodes"].values():
        node.pop("connector", None)
        node.pop("pinned", None)
    for variable in document.get("variableDefs") or ():
        if not _is_open(variable.get("default"), is_secret_name(variable["name"])):
            variable.pop("default")
    return document


def _is_open(value: Any, is_named: bool) -> bool:
    """Whether a value holds neither a secret nor the id of a connector or wallet. `is_named`: its name says secret."""
    if isinstance(value, dict):
        return all(_is_open(item, is_named or is_secret_name(str(key))) for key, item in value.items())
    if isinstance(value, list):
        return all(_is_open(item, is_named) for item in value)
    return not is_secret(value, is_named=is_named) and not (isinstance(value, str) and _ID.search(value))


def _get(tx: Tx, principal: Principal, template_id: str, number: int | None = None) -> TemplateRow:
    row = rows.find(tx, principal.org_id, template_id)
    if row is None or not _may_see(principal, row):
        raise NotFound(f'The organisation has made no template "{template_id}".', code=Code.TEMPLATE_UNKNOWN)
    if number is None:
        return row
    found = rows.find(tx, principal.org_id, template_id, number)
    if found is None:
        raise NotFound(f'The template "{template_id}" has no version {number}.', code=Code.VERSION_UNKNOWN)
    return found


def _may_see(principal: Principal, row: TemplateRow) -> bool:
    return principal.may_use_workflow(row.source_workflow_id)


def _use(tx: Tx, row: TemplateRow, number: int, now_ms: int) -> TemplateRow:
    rows.set_current(tx, row.id, number, now_ms)
    return replace(row, current=number, updated_at=now_ms)
