"""Use cases of workflows: create, update, publish, pause, archive.

Every change is decided in one write unit, on the row read in the same transaction, so that concurrent callers never
lose
an update; every change writes an audit row.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, Protocol

from pydantic import ValidationError

from dustrun import clock, ids
from dustrun.core import validate
from dustrun.core.evm.network import Network
from dustrun.core.hooks import PAUSED as WORKFLOW_PAUSED
from dustrun.core.run.state import Mode
from dustrun.core.values import exact_json
from dustrun.core.workflow.definition import Definition
from dustrun.core.workflow.placement import tags_text
from dustrun.core.workflow.specs import Specs
from dustrun.errors import Code, Conflict, Invalid, NotFound, Problem
from dustrun.listeners import Listeners
from dustrun.outbound.guard import Guard
from dustrun.records import dataclass
from dustrun.sdk.threads import run_sized
from dustrun.services.access import audit, hands, idempotency
from dustrun.services.access.api_keys import reckon_reach
from dustrun.services.access.hands import Hand
from dustrun.services.access.paging import Page, Paging, page_of
from dustrun.services.access.principal import Principal
from dustrun.services.imports import imported_types
from dustrun.services.problems import errors_in, problems_of
from dustrun.services.workflows import calls
from dustrun.services.workflows.checks import call_circles, chain_names, guarded_triggers, named_recipients, references
from dustrun.services.workflows.checks.limited_keys import (
    need_calls_within,
    need_connectors_within,
    need_objects_within,
)
from dustrun.services.workflows.closure import Lookup
from dustrun.services.workflows.spend_gate import GUARDS, SpendGate
from dustrun.services.workflows.transitions import (
    ACTIVE,
    ARCHIVED,
    DRAFT,
    PAUSED,
    Autosave,
    Changes,
    changed,
    decide_archive,
    decide_discard,
    decide_draft,
    decide_max_runs,
    decide_pause,
    decide_refill,
    decide_resume,
    decide_unarchive,
    draft_to_publish,
    need_layout,
    need_not_archived,
    need_version,
)
from dustrun.services.workflows.versions import document_of, get_version, get_workflow, make_version
from dustrun.storage.access.keys import KeyRow
from dustrun.storage.db.database import Database
from dustrun.storage.db.statement import Tx
from dustrun.storage.db.writer import Writer
from dustrun.storage.hooks import reading
from dustrun.storage.workflows import templates as template_rows
from dustrun.storage.workflows import versions as version_rows
from dustrun.storage.workflows import workflows as rows
from dustrun.storage.workflows.latest_runs import list_latest
from dustrun.storage.workflows.versions import VersionRow
from dustrun.storage.workflows.workflows import ListedWorkflow, WorkflowFilters, WorkflowRow


@dataclass(frozen=True, slots=True)
class Workflow:
    """A workflow with the version shown and, by mode, its newest passed run. `warnings`: what validation warned of when
    it was published."""

    row: WorkflowRow
    version: VersionRow
    ladder: Mapping[str, str]
    warnings: Sequence[Problem] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class NewWorkflow:
    """The content of a new workflow; JSON values are plain data."""

    name: str
    description: str
    definition: Definition
    max_runs: int | None = None
    cooldown_ms: int | None = None
    require_rehearsal: str = "none"
    concurrency: dict[str, Any] | None = None
    enforce_rehearsal: dict[str, Any] | None = None
    acceptances: int = 0
    ui_metadata: dict[str, Any] | None = None
    id: str | None = None
    unique_name: bool = False
    folder: str | None = None
    tags: Sequence[str] = ()
    template: tuple[str, int] | None = None
    """The own template that it is made from, and its version."""


@dataclass(frozen=True, slots=True)
class Counts:
    """Workflow counts by status, and the trigger and connector types, folders and tags in use."""

    by_status: Mapping[str, int]
    types: list[str]
    connectors: list[str]
    folders: list[str]
    tags: list[str]


def json_text(value: Any) -> str | None:
    """Encodes a JSON value for storage; None stays None."""
    return None if value is None else exact_json.dumps_text(value)


def definition_of(version: VersionRow) -> Definition:
    """Parses the stored definition into its model."""
    return Definition.model_validate(exact_json.loads(version.definition))


def _read(document: Any) -> Definition | list[Problem]:
    """The definition, or the problems of its schema."""
    try:
        return Definition.model_validate(document)
    except ValidationError as error:
        found = errors_in(error, document, Definition.model_validate)
        return problems_of(found, whole="definition", model=Definition)


def _check(definition: Definition, specs: Specs, guard: Guard, networks: Mapping[int, Network]) -> list[Problem]:
    return [
        *validate.check(definition, specs),
        *references.find_address_problems(definition, specs, guard),
        *chain_names.find_problems(definition, specs, networks),
    ]


PLACE: Final = frozenset(["folder", "tags"])
"""The columns that say where a workflow is kept, and so who may access it."""

Heads = Mapping[int, int]
"""The newest block of chains, by id."""


class Arming(Protocol):
    """Arms and disarms the triggers of workflows; triggers are services above this one."""

    async def check(self, principal: Principal, definition: Definition) -> list[Problem]:
        """The problems that would keep the triggers of a valid definition from running."""
        ...

    async def ask_heads(self, definition: Definition) -> Heads:
        """The newest blocks of the chains that the triggers of a definition watch."""
        ...

    def settle(self, tx: Tx, principal: Principal, before: WorkflowRow, after: WorkflowRow, heads: Heads = ...) -> None:
        """Makes the subscriptions what the changed row says; `heads` as asked before."""
        ...

    def committed(self, workflow_id: str) -> None:
        """Such a change is on disk."""
        ...


class Workflows:
    """Use cases of workflows."""

    def __init__(
        self,
        database: Database,
        writer: Writer,
        catalog: Any,
        gate: SpendGate,
        guard: Guard,
        arming: Arming,
        networks: Mapping[int, Network],
    ) -> None:
        self._database = database
        self._writer = writer
        self._catalog = catalog
        self._gate = gate
        self._guard = guard
        self._networks = networks
        self.arming = arming
        """Keeps the subscriptions of triggers as workflows' rows say."""
        self.on_changed: Listeners[[str, str]] = Listeners()
        """Told of each workflow whose creation or change is on disk, by organisation and workflow."""
        self.on_moved: Listeners[[Sequence[KeyRow]]] = Listeners()
        """Told of the keys that access other workflows since some were moved, once that is on disk."""

    # --- reading ---

    async def get(self, principal: Principal, workflow_id: str) -> Workflow:
        """Reads the workflow with its draft, else its live version; raises `NotFound`."""

        def query(tx: Tx) -> Workflow:
            row = get_workflow(tx, principal, workflow_id)
            return _load(tx, row, row.current_version)

        return await self._database.read(query)

    async def get_draft(self, principal: Principal, workflow_id: str) -> Workflow:
        """Reads the workflow with its draft; raises `NotFound` if it has none."""

        def query(tx: Tx) -> Workflow:
            row = get_workflow(tx, principal, workflow_id)
            if row.draft_version is None:
                raise NotFound("The workflow has no draft version.", code=Code.DRAFT_UNKNOWN)
            return _load(tx, row, row.draft_version)

        return await self._database.read(query)

    async def get_live(self, principal: Principal, workflow_id: str) -> Workflow:
        """Reads the workflow with its live version; raises `NotFound` if it has none."""

        def query(tx: Tx) -> Workflow:
            row = get_workflow(tx, principal, workflow_id)
            if row.live_version is None:
                raise NotFound("The workflow has no live version.", code=Code.LIVE_UNKNOWN)
            return _load(tx, row, row.live_version)

        return await self._database.read(query)

    async def get_at(self, principal: Principal, workflow_id: str, version: int | None) -> Workflow:
        """Reads the workflow with the given version, by default the draft or live one; raises `NotFound`."""

        def query(tx: Tx) -> Workflow:
            row = get_workflow(tx, principal, workflow_id)
            return _load(tx, row, version or row.current_version)

        return await self._database.read(query)

    async def list_page(
        self, filters: WorkflowFilters, sort: str, paging: Paging, *, last_run: bool = False, ladder: bool = False
    ) -> Page[ListedWorkflow]:
        """Lists the organisation's workflows without their definitions, and what is asked for of their runs."""

        def query(tx: Tx) -> Page[ListedWorkflow]:
            found = rows.list_page(tx, filters, sort=sort, limit=paging.peek, offset=paging.offset)
            page = page_of(found, paging)
            if not page.items or not (last_run or ladder):
                return page
            latest = list_latest(tx, [one.row.id for one in page.items], last_run=last_run, ladder=ladder)
            return replace(page, items=[replace(one, latest=latest[one.row.id]) for one in page.items])

        return await self._database.read(query)

    async def count(self, filters: WorkflowFilters) -> Counts:
        """Counts the same list by status, and lists the types used in it."""

        def query(tx: Tx) -> Counts:
            present = (*rows.types_present(tx, filters), *rows.places_present(tx, filters))
            return Counts(rows.count_by_status(tx, filters), *present)

        return await self._database.read(query)

    async def count_tags(self, filters: WorkflowFilters) -> Counter[str]:
        """How many workflows of the list have each tag."""
        return await self._database.read(lambda tx: rows.count_tags(tx, filters))

    # --- validating ---

    async def validate(self, principal: Principal, document: Any, own_id: str | None = None) -> list[Problem]:
        """Validates an unsaved definition: its schema first and, if that is valid, everything else. `own_id`: the
        workflow that it is for."""
        found = await run_sized(document, _read, document)
        if isinstance(found, Definition):
            found = await self._pinned(principal, found)
        return await self.find_problems(principal, found, own_id) if isinstance(found, Definition) else found

    async def find_problems(
        self, principal: Principal, definition: Definition, own_id: str | None = None
    ) -> list[Problem]:
        """Validates a definition in full, including references. Runs in a thread: a thousand nodes take a while."""
        specs: Specs = self._catalog.specs()
        if imported_types.has_imported(definition):
            org_id, known = principal.org_id, specs
            specs = await self._database.read(lambda tx: imported_types.specs_with(tx, org_id, definition, known))
        found = await asyncio.to_thread(_check, definition, specs, self._guard, self._networks)
        found += await references.find_problems(self._database, principal, definition, specs)
        found += await self._database.read(lambda tx: list(self._check_around(tx, principal, definition, own_id)))
        calls_some = any(node.type == calls.CALL for node in definition.nodes.values())
        if not calls_some or any(one.severity == "error" for one in found):
            return found
        text = await asyncio.to_thread(lambda: exact_json.dumps_text(document_of(definition)))

        def query(tx: Tx) -> list[Problem]:
            lookup = Lookup(tx, principal.org_id, principal)
            closure = self._gate.closures.of_unsaved(lookup, text, Hand(principal.key_id, principal.spendable))
            shapes = self._gate.shapes.get(lookup, closure) if closure.can_spend else ()
            return list(named_recipients.find_problems(lookup, closure, shapes, definition, specs, found))

        return found + await self._gate.slicing(lambda: self._database.read(query))

    def _check_around(
        self, tx: Tx, principal: Principal, definition: Definition, own_id: str | None
    ) -> Iterator[Problem]:
        """The problems that depend on other workflows, and on the settings of its own."""
        lookup, closures = Lookup(tx, principal.org_id, principal), self._gate.closures
        if any(node.type == calls.CALL for node in definition.nodes.values()):
            yield from call_circles.find_problems(lookup, closures, definition, own_id)
        row = lookup.find(own_id) if own_id is not None and principal.may_use_workflow(own_id) else None
        if row is not None:
            triggers, specs = self._catalog.triggers, self._catalog.specs()
            yield from guarded_triggers.find_problems(lookup, closures, definition, row, triggers, specs)

    # --- changing ---

    async def _pinned(self, principal: Principal, definition: Definition) -> Definition:
        """The definition with its nodes of imported types pinned to the operations in use, where they are not yet."""
        if not imported_types.has_imported(definition):
            return definition
        return await self._database.read(lambda tx: imported_types.pinned(tx, principal.org_id, definition))

    async def create(self, principal: Principal, new: NewWorkflow) -> Workflow:
        """Creates a workflow with version 1 as its draft."""
        principal.need_every_workflow("make another")
        new = replace(new, definition=await self._pinned(principal, new.definition))
        row = make_row(principal, new)
        moved: Sequence[KeyRow] = ()

        def unit(tx: Tx) -> Workflow:
            nonlocal moved
            if new.unique_name:
                _need_free_name(tx, row)
            rows.insert(tx, row)
            version = make_version(row.id, 1, new.definition, principal)
            version_rows.insert(tx, version)
            calls.need_callable(tx, principal, version)
            need_connectors_within(principal, version.definition)
            hands.note(tx, principal, "name", row.id, is_new=True)
            audit.record(tx, principal, "workflow.create", row.id, name=row.name)
            if new.template is not None:
                template_rows.note_use(tx, *new.template, row.id, row.created_at)
            moved = reckon_reach(tx, principal) if row.folder or row.tags else ()
            return _load(tx, row, 1)

        def committed(done: Workflow) -> None:
            self.on_changed(done.row.org_id, done.row.id)
            self.on_moved(moved)

        return await idempotency.write(self._writer, unit, committed, creates=("id", row.id))

    async def update(
        self,
        principal: Principal,
        workflow_id: str,
        *,
        changes: Changes,
        definition: Definition | None,
        expected: int | None,
        session: str | None = None,
    ) -> Workflow:
        """Updates the given fields; a definition that differs from the current one becomes a new draft version.
        `session`: names the editing session whose autosave this is."""

        definition = await self._pinned(principal, definition) if definition is not None else None
        content = make_version(workflow_id, 0, definition, principal) if definition is not None else None

        def decide(tx: Tx, row: WorkflowRow) -> Changes:
            need_not_archived(row)
            need_version(row, expected, row.current_version, "expectedCurrentVersion")
            return self.decide_update(tx, principal, row, changes, content, session)

        return await self._change(principal, workflow_id, "workflow.update", decide)

    def decide_update(
        self,
        tx: Tx,
        principal: Principal,
        row: WorkflowRow,
        changes: Changes,
        content: VersionRow | None,
        session: str | None = None,
    ) -> Changes:
        """The changes of an update, with the new draft that it inserts; raises if the caller may not make them."""
        wanted = dict(changes)
        if "max_runs" in wanted and wanted["max_runs"] != row.max_runs:
            wanted |= decide_max_runs(row, wanted["max_runs"])
        self._gate.check_loosening(Lookup(tx, row.org_id), principal, row, wanted)
        if not PLACE.isdisjoint(changed(row, wanted)):
            principal.need_every_workflow("move workflows into folders, or tag them")
        if content is not None:
            current = get_version(tx, row, row.current_version)
            need_objects_within(tx, principal, current.definition, content.definition)
            autosave = Autosave(principal.key_id, session, content.created_at) if session is not None else None
            wanted |= _new_draft(tx, principal, row, content, autosave)
        return wanted

    async def rollback(self, principal: Principal, workflow_id: str, target: int, expected: int | None) -> Workflow:
        """Copies an old version to a new draft; creates none if the current version is equal."""

        def decide(tx: Tx, row: WorkflowRow) -> Changes:
            need_not_archived(row)
            need_version(row, expected, row.current_version, "expectedCurrentVersion")
            old = get_version(tx, row, target)
            by_caller = replace(
                old,
                created_by=principal.key_id,
                created_at=clock.now_ms(),
                published_at=None,
                published_by=None,
                author_wallets=principal.spendable,
            )
            return _new_draft(tx, principal, row, by_caller)

        return await self._change(principal, workflow_id, "workflow.rollback", decide, targetVersion=target)

    async def publish(self, principal: Principal, workflow_id: str, expected: int | None) -> Workflow:
        """Publishes the draft if it is valid, accepted, and has the rehearsals that the workflow requires."""
        draft, warnings = await self._checked_draft(principal, workflow_id, expected)
        checked, heads = draft.version, await self.arming.ask_heads(definition_of(draft))

        def decide(tx: Tx, row: WorkflowRow) -> Changes:
            self._need_publishable(Lookup(tx, row.org_id, principal), row, expected, checked)
            need_calls_within(principal, get_version(tx, row, checked).definition)
            version_rows.mark_published(tx, row.id, checked, at_ms=clock.now_ms(), by=principal.key_id)
            live = {"live_version": checked, "draft_version": None, "autosave": None}
            return {"status": ACTIVE, "paused_reason": None, **live}

        return await self._change(principal, workflow_id, "workflow.publish", decide, warnings, heads, version=checked)

    def _need_publishable(self, lookup: Lookup, row: WorkflowRow, expected: int | None, checked: int) -> None:
        """Again, on the row of the transaction: the draft may have moved since it was validated."""
        draft_to_publish(row, expected)
        need_version(row, checked, row.draft_version, "expectedVersion")
        if self._gate.admit(lookup, Mode.LIVE, row, checked) is None:
            _need_rung(lookup.tx, row, checked)

    async def _checked_draft(
        self, principal: Principal, workflow_id: str, expected: int | None
    ) -> tuple[VersionRow, Sequence[Problem]]:
        """Validates the draft outside any transaction and returns it with what to warn of; raises `Invalid` with
        every problem."""

        def query(tx: Tx) -> VersionRow:
            row = get_workflow(tx, principal, workflow_id)
            return get_version(tx, row, draft_to_publish(row, expected))

        draft = await self._database.read(query)
        found = await self.find_problems(principal, definition_of(draft), workflow_id)
        problems = [problem for problem in found if problem.severity == "error"]
        if not problems:
            found += await self.arming.check(principal, definition_of(draft))
            problems = [problem for problem in found if problem.severity == "error"]
        if problems:
            raise Invalid(
                "The definition is invalid.",
                code=Code.DEFINITION_INVALID,
                details=problems if principal.may("workflow:read") else [_unread(problems)],
            )
        await self._gate.prepare(principal.org_id, workflow_id, draft.version)
        return draft, found

    async def pause(self, principal: Principal, workflow_id: str) -> Workflow:
        """Pauses the workflow: its triggers stop."""
        return await self._change(principal, workflow_id, "workflow.pause", lambda _, row: decide_pause(row))

    async def resume(self, principal: Principal, workflow_id: str) -> Workflow:
        """Resumes the workflow: its triggers start again."""
        heads = await self._live_heads(principal, workflow_id)
        return await self._change(
            principal, workflow_id, "workflow.resume", lambda _, row: decide_resume(row), heads=heads
        )

    async def _live_heads(self, principal: Principal, workflow_id: str) -> Heads:
        """The newest blocks of the chains that the live version's triggers watch."""

        def query(tx: Tx) -> VersionRow | None:
            row = get_workflow(tx, principal, workflow_id)
            return get_version(tx, row, row.live_version) if row.live_version is not None else None

        live = await self._database.read(query)
        return await self.arming.ask_heads(definition_of(live)) if live is not None else {}

    async def discard_draft(self, principal: Principal, workflow_id: str) -> Workflow:
        """Discards the draft of a workflow that has a live version."""
        return await self._change(principal, workflow_id, "workflow.discard-draft", lambda _, row: decide_discard(row))

    async def archive(self, principal: Principal, workflow_id: str) -> Workflow:
        """Archives the workflow; nothing is deleted."""
        return await self._change(principal, workflow_id, "workflow.archive", lambda _, row: decide_archive(row))

    async def unarchive(self, principal: Principal, workflow_id: str) -> Workflow:
        """Restores an archived workflow as a draft."""
        return await self._change(principal, workflow_id, "workflow.unarchive", lambda _, row: decide_unarchive(row))

    async def refill(self, principal: Principal, workflow_id: str, remain_runs: int) -> Workflow:
        """Sets the number of runs that triggers may still start."""
        return await self._change(
            principal,
            workflow_id,
            "workflow.refill",
            lambda _, row: decide_refill(row, remain_runs),
            heads=await self._live_heads(principal, workflow_id),
            remainRuns=remain_runs,
        )

    async def set_ui_metadata(
        self,
        principal: Principal,
        workflow_id: str,
        ui_metadata: dict[str, Any],
        expected: int | None,
        expected_layout: str | None = None,
    ) -> Workflow:
        """Updates the editor's layout without creating a version."""

        def decide(_tx: Tx, row: WorkflowRow) -> Changes:
            need_not_archived(row)
            need_version(row, expected, row.current_version, "expectedCurrentVersion")
            need_layout(row, expected_layout)
            return {"ui_metadata": json_text(ui_metadata)}

        return await self._change(principal, workflow_id, "workflow.ui-metadata", decide)

    async def _change(
        self,
        principal: Principal,
        workflow_id: str,
        action: str,
        decide: Callable[[Tx, WorkflowRow], Changes],
        warnings: Sequence[Problem] = (),
        heads: Heads | None = None,
        **detail: Any,
    ) -> Workflow:
        """Reads the row, decides, and writes the differences and the audit row in one unit."""

        principal.need_workflow(workflow_id)
        is_changed = False
        moved: Sequence[KeyRow] = ()

        def unit(tx: Tx) -> Workflow:
            nonlocal is_changed, moved
            row = rows.find_to_change(tx, principal.org_id, workflow_id)
            if row is None:
                raise NotFound(f'There is no workflow "{workflow_id}".', code=Code.WORKFLOW_UNKNOWN)
            changes = changed(row, decide(tx, row))
            is_changed = bool(changes)
            if changes:
                changes["updated_at"] = clock.now_ms()
                rows.update(tx, row.id, **changes)
                audit.record(tx, principal, action, row.id, changed=sorted(changes), **detail)
                note_pause(tx, row, changes)
                note_choice(tx, principal, row, changes)
                if "name" in changes:
                    hands.note(tx, principal, "name", row.id)
                before, row = row, replace(row, **changes)
                self.arming.settle(tx, principal, before, row, heads or {})
                moved = () if PLACE.isdisjoint(changes) else reckon_reach(tx, principal)
            return replace(_load(tx, row, row.current_version), warnings=warnings)

        def committed(done: Workflow) -> None:
            self.arming.committed(done.row.id)
            if is_changed:
                self.on_changed(done.row.org_id, done.row.id)
                self.on_moved(moved)

        return await idempotency.write(self._writer, unit, committed)


def note_pause(tx: Tx, row: WorkflowRow, changes: Changes) -> None:
    """Tells hooks of a workflow that is paused in this unit."""
    if changes.get("status") == PAUSED:
        data = {"name": row.name, "reason": changes.get("paused_reason")}
        reading.add(tx, org_id=row.org_id, type_=WORKFLOW_PAUSED, at=clock.now_ms(), data=data, workflow_id=row.id)


def note_choice(tx: Tx, principal: Principal, row: WorkflowRow, changes: Changes) -> None:
    """Keeps who chose the version that calls of a workflow run, by publishing, archiving or restoring it; and who set
    its guards: a call that they refuse has failed, and a branch of its caller may wait for that."""
    if "live_version" in changes or ARCHIVED in (row.status, changes.get("status")):
        hands.note(tx, principal, "version", row.id, is_new=True)
    if not changes.keys().isdisjoint(GUARDS):
        hands.note(tx, principal, "guards", row.id, is_new=True)


def _unread(problems: list[Problem]) -> Problem:
    """The problems to a key that may not read what has them."""
    message = f'has {len(problems)} problems; a key with "workflow:read" is told which'
    return Problem("definition", message, "hidden")


def _load(tx: Tx, row: WorkflowRow, version: int) -> Workflow:
    return Workflow(row, get_version(tx, row, version), rows.ladder(tx, row.id, version))


def _need_free_name(tx: Tx, row: WorkflowRow) -> None:
    same = rows.list_named(tx, row.org_id, row.name)
    if same:
        message = f'There is already a workflow "{same[0].name}" ({same[0].id}).'
        raise Conflict(message, code=Code.NAME_TAKEN, details=[Problem("name", f"taken by {same[0].id}")])


def make_row(principal: Principal, new: NewWorkflow) -> WorkflowRow:
    """The row of a new workflow."""
    now = clock.now_ms()
    return WorkflowRow(
        id=new.id or ids.new_id("wf"),
        org_id=principal.org_id,
        name=new.name,
        description=new.description,
        status=DRAFT,
        paused_reason=None,
        latest_version=1,
        draft_version=1,
        live_version=None,
        max_runs=new.max_runs,
        remain_runs=new.max_runs,
        cooldown_ms=new.cooldown_ms,
        require_rehearsal=new.require_rehearsal,
        concurrency=json_text(new.concurrency),
        enforce_rehearsal=json_text(new.enforce_rehearsal),
        acceptances=new.acceptances,
        ui_metadata=json_text(new.ui_metadata),
        owner=principal.key_id,
        created_at=now,
        updated_at=now,
        folder=new.folder,
        tags=tags_text(new.tags),
    )


def _new_draft(
    tx: Tx, principal: Principal, row: WorkflowRow, content: VersionRow, autosave: Autosave | None = None
) -> Changes:
    """Inserts the content as the next version and makes it the draft, unless it equals the current version."""
    if content.definition_hash == get_version(tx, row, row.current_version).definition_hash:
        return {}
    changes, replaced = decide_draft(row, autosave)
    if replaced is not None and not calls.names_version(content, row.id, replaced):
        version_rows.delete_unused(tx, row.id, replaced)
    version_rows.insert(tx, replace(content, version=changes["draft_version"]))
    calls.need_callable(tx, principal, content)
    need_connectors_within(principal, content.definition)
    return changes


def _need_rung(tx: Tx, row: WorkflowRow, version: int) -> None:
    """A version that cannot spend has passed as a whole, or has not."""
    wanted = row.require_rehearsal
    if wanted != "none" and wanted not in rows.ladder(tx, row.id, version):
        flag = "dustTest" if wanted == Mode.DUST.value else "simulate"
        raise Conflict(
            f'Publishing requires a passed run of version {version} in mode "{wanted}" (requireRehearsal): start '
            "one with "
            f'POST /v1/workflows/{row.id}/run {{"{flag}": true, "version": {version}}}, then publish.',
            code=Code.REHEARSAL_MISSING,
            details=[Problem("requireRehearsal", f'no passed run in mode "{wanted}" of version {version}')],
        )
