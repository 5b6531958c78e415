"""`/v1/workflows`: workflows and their life cycle."""

from __future__ import annotations

import asyncio
import functools
from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import Field

from dustrun import ids
from dustrun.core.validate.ignored import ignored_fields
from dustrun.core.workflow.placement import tags_text
from dustrun.errors import Code, Invalid, Problem
from dustrun.operations.declaration.answers import Answer, PageAnswer, page_shape
from dustrun.operations.declaration.fields import ANY_OF, MAX_INTEGER, Commas, Paged
from dustrun.operations.declaration.operation import Group, Noun
from dustrun.operations.declaration.parts import Call
from dustrun.operations.shapes.workflows import (
    HELLO,
    CreateWorkflow,
    Folder,
    ImportAnswer,
    ImportWorkflow,
    PublishWorkflow,
    RefillWorkflow,
    RollbackWorkflow,
    SetUiMetadata,
    Status,
    UpdateWorkflow,
    ValidateWorkflow,
    ValidationAnswer,
    WorkflowAnswer,
    WorkflowContent,
    WorkflowCounts,
    WorkflowExport,
    WorkflowListItem,
    counts_shape,
    imported_shape,
    listed_shape,
    validation_shape,
    workflow_shape,
)
from dustrun.services.access.paging import Page
from dustrun.services.workflows import import_export, pins
from dustrun.services.workflows.import_export import ExportedFile, ImportedDraft
from dustrun.services.workflows.workflows import Counts, NewWorkflow, Workflow, json_text
from dustrun.storage.workflows.workflows import ListedWorkflow, WorkflowFilters

noun = Noun("Workflows")

_MAX_FILTERS = 50
_PLAIN = ("name", "description", "max_runs", "cooldown_ms", "require_rehearsal", "acceptances", "folder")

Include = Annotated[
    list[Literal["lastRun", "ladder"]] | None,
    Commas,
    Field(
        description=f"What to add to each workflow, {ANY_OF}: `lastRun`, its newest run; `ladder`, the newest passed "
        "run of its current version, by mode."
    ),
]


def _listed(name: str, values: list[str] | None, most: int = _MAX_FILTERS) -> tuple[str, ...]:
    found = tuple(part.strip() for value in values or () for part in value.split(",") if part.strip())
    if len(found) > most:
        problem = Problem(name, f"at most {most} values")
        raise Invalid("A parameter is not valid.", code=Code.PARAMETER_INVALID, details=[problem])
    return found


class WorkflowQuery(Group):
    """Which workflows are listed."""

    q: str | None = Field(None, max_length=256, description="Text in the name or description.")
    type: str | None = Field(None, max_length=128, description="Trigger type.")
    actions: list[str] | None = Field(None, description="Any of these; repeated or comma-separated.")
    connectors: list[str] | None = Field(None, description="Any of these; repeated or comma-separated.")
    folder: Folder | None = Field(None, description="In this folder, or one inside it.")
    tags: list[str] | None = Field(None, description="With any of these tags; repeated or comma-separated.")
    ids: list[str] | None = Field(None, description="Only these; at most 100, repeated or comma-separated.")
    owner: str = Field("org", pattern="^(yours|org|public)$", description="`yours`: created by this key.")

    def filters(self, call: Call) -> WorkflowFilters:
        """The same for the store."""
        return WorkflowFilters(
            org_id=call.principal.org_id,
            q=self.q,
            type=self.type,
            actions=_listed("actions", self.actions),
            connectors=_listed("connectors", self.connectors),
            folder=self.folder,
            tags=_listed("tags", self.tags),
            ids=_listed("ids", self.ids, 100),
            only=None if call.principal.workflow_ids is None else tuple(sorted(call.principal.workflow_ids)),
            owner={"yours": call.principal.key_id, "org": None}.get(self.owner, ""),
        )


Version = Annotated[
    int | None, Field(ge=1, le=MAX_INTEGER, description="Default: the draft, or the live version if there is no draft.")
]
Format = Annotated[str, Field(pattern="^(json|yaml)$", description="`json` or `yaml`.")]


def _concurrency(body: WorkflowContent | UpdateWorkflow) -> dict[str, Any] | None:
    return body.concurrency.model_dump(by_alias=True) if body.concurrency else None


def _guard(body: WorkflowContent | UpdateWorkflow) -> dict[str, Any] | None:
    return body.enforce_rehearsal.model_dump(by_alias=True) if body.enforce_rehearsal else None


def _changes(body: UpdateWorkflow) -> dict[str, Any]:
    """The columns that the body sets."""
    given = body.model_fields_set
    changes = {name: getattr(body, name) for name in _PLAIN if name in given}
    if "concurrency" in given:
        changes["concurrency"] = json_text(_concurrency(body))
    if "enforce_rehearsal" in given:
        changes["enforce_rehearsal"] = json_text(_guard(body))
    if "tags" in given:
        changes["tags"] = tags_text(body.tags)
    if "ui_metadata" in given:
        changes["ui_metadata"] = json_text(body.ui_metadata)
    return changes


@noun.post(
    "/v1/workflows",
    permission="workflow:create",
    answers=WorkflowAnswer,
    shape=workflow_shape,
    refusals=[Code.DEFINITION_INVALID, Code.NAME_TAKEN],
    example={"name": "Hello", "description": "Says hello.", "definition": HELLO},
)
async def create_workflow(call: Call, body: CreateWorkflow) -> Workflow:
    """Create a workflow.

    It starts as a draft with version 1. A draft may be incomplete: it must have the shape of a definition, and is fully
    validated when it is published or run. Workflows and versions that it calls must exist already.
    """
    new = replace(new_workflow(body), folder=body.folder, tags=body.tags)
    return await call.parts.workflows.create(call.principal, new)


def new_workflow(body: WorkflowContent, workflow_id: str | None = None) -> NewWorkflow:
    """The content of a new workflow."""
    return NewWorkflow(
        id=workflow_id,
        name=body.name,
        description=body.description,
        definition=body.definition,
        max_runs=body.max_runs,
        cooldown_ms=body.cooldown_ms,
        require_rehearsal=body.require_rehearsal,
        acceptances=body.acceptances,
        concurrency=_concurrency(body),
        enforce_rehearsal=_guard(body),
        ui_metadata=body.ui_metadata,
        unique_name=body.unique_name,
    )


@noun.post(
    "/v1/workflows/import",
    permission="workflow:create",
    reads="workflow:read",
    needed=[
        *("workflow", "toBind", "problems", "warnings"),
        *("name", "kind", "type", "target", "fields", "field", "message", "code", "nodeId"),
    ],
    answers=ImportAnswer,
    shape=imported_shape,
    refusals=[Code.DEFINITION_INVALID, Code.NAME_TAKEN],
    example={
        "content": "dustrunWorkflow: 1\nname: Hello\ndefinition: {nodes: {root: {type: manual}}}\n",
        "bindings": {},
    },
)
async def import_workflow(call: Call, body: ImportWorkflow) -> ImportedDraft:
    """Import an exported file as a draft.

    Nothing is executed or published, and no trigger is started. References of the definition (connectors, wallets,
    other workflows, secrets) are bound by `bindings`, else to the object whose name is their `target`; what has neither
    is listed in `toBind`. A `target` that does not exist, or is not the only one, is refused with 400001 unless
    `leaveUnbound` lists the reference. A version that a call names becomes the version here with the same content;
    without one the import is refused. Unknown node types and other validation
    errors are listed in `problems`; fix them before you publish or run the draft. An unreadable file is refused with
    400001, a malformed definition with 400228.
    """
    own_id = ids.new_id("wf")
    parsed = await asyncio.to_thread(import_export.parse, body.content)
    bound, versions = await call.parts.workflow_files.resolve(
        call.principal, parsed.references, body.leave_unbound, body.bindings
    )
    rename = functools.partial(pins.rename, found=versions)
    read = await asyncio.to_thread(import_export.read, body.content, bound, own_id, rename)
    content = {**read.content, **({"name": body.name} if body.name is not None else {})}
    create = WorkflowContent.model_validate(
        {"description": "", **content, "definition": read.definition, "uniqueName": body.unique_name}
    )
    call.ignored += ignored_fields(create)
    problems = await call.parts.workflows.find_problems(call.principal, read.definition, own_id)
    imported = functools.partial(ImportedDraft, to_bind=read.to_bind, problems=problems)
    call.answer_around(imported)
    return imported(await call.parts.workflows.create(call.principal, new_workflow(create, own_id)))


@noun.get(
    "/v1/workflows/{id}/export",
    permission="workflow:read",
    answers=WorkflowExport,
    refusals=[Code.WORKFLOW_UNKNOWN, Code.VERSION_UNKNOWN],
)
async def export_workflow(call: Call, id: str, format: Format = "json", version: Version = None) -> ExportedFile:
    """Export a version as one file.

    `content` is the file's text. Connectors, wallets, workflows and secrets are replaced by `unbound:` names, which the
    file lists in `references`, with the name of the object (`target`) if the key may see it.
    """
    workflow = await call.parts.workflows.get_at(call.principal, id, version)
    names = await call.parts.workflow_files.find_names(call.principal, workflow)
    pinned = await call.parts.workflow_files.find_pins(call.principal, workflow)
    specs = call.parts.catalog.specs()
    return await asyncio.to_thread(import_export.export, workflow, format, specs, names, pinned)


@noun.get(
    "/v1/workflows",
    permission="workflow:read",
    answers=PageAnswer[WorkflowListItem],
    shape=page_shape(listed_shape),
)
async def list_workflows(
    call: Call,
    query: WorkflowQuery,
    paging: Paged,
    status: Annotated[Status | None, Field(description="Default: all except archived ones.")] = None,
    sort: Annotated[str, Field(pattern="^(updatedAt|createdAt|name|runs):(asc|desc)$")] = "updatedAt:desc",
    include: Include = None,
) -> Page[ListedWorkflow]:
    """List workflows, without their definitions.

    `include=lastRun` needs `run:read`.
    """
    wanted = set(include or ())
    if "lastRun" in wanted:
        call.principal.need("run:read")
    return await call.parts.workflows.list_page(
        replace(query.filters(call), status=status),
        sort,
        paging,
        last_run="lastRun" in wanted,
        ladder="ladder" in wanted,
    )


@noun.get("/v1/workflows/counts", permission="workflow:read", answers=WorkflowCounts, shape=counts_shape)
async def count_workflows(call: Call, query: WorkflowQuery) -> Counts:
    """Count workflows by status, with the same filters as the list."""
    return await call.parts.workflows.count(query.filters(call))


@noun.post(
    "/v1/workflows/validate",
    permission="workflow:read",
    answers=ValidationAnswer,
    shape=validation_shape,
    example={"definition": HELLO},
)
async def validate_workflow(call: Call, body: ValidateWorkflow) -> list[Problem]:
    """Validate an unsaved definition.

    The call succeeds even if the definition has problems: `valid` is then false, and `errors` lists all of them.
    """
    problems = await call.parts.workflows.validate(call.principal, body.definition, body.workflow_id)
    if "name" in body.model_fields_set and not (isinstance(body.name, str) and 1 <= len(body.name) <= 255):
        problems.insert(0, Problem("name", "must be a text of 1 to 255 characters", "name_invalid"))
    return problems


@noun.get(
    "/v1/workflows/{id}",
    permission="workflow:read",
    answers=WorkflowAnswer,
    shape=workflow_shape,
    refusals=[Code.WORKFLOW_UNKNOWN],
)
async def get_workflow(call: Call, id: str) -> Workflow:
    """Get a workflow with its draft, or its live version if there is no draft."""
    return await call.parts.workflows.get(call.principal, id)


@noun.get(
    "/v1/workflows/{id}/draft",
    permission="workflow:read",
    answers=WorkflowAnswer,
    shape=workflow_shape,
    refusals=[Code.WORKFLOW_UNKNOWN, Code.DRAFT_UNKNOWN],
)
async def get_draft(call: Call, id: str) -> Workflow:
    """Get a workflow with its draft version."""
    return await call.parts.workflows.get_draft(call.principal, id)


@noun.get(
    "/v1/workflows/{id}/live",
    permission="workflow:read",
    answers=WorkflowAnswer,
    shape=workflow_shape,
    refusals=[Code.WORKFLOW_UNKNOWN, Code.LIVE_UNKNOWN],
)
async def get_live(call: Call, id: str) -> Workflow:
    """Get a workflow with its live version."""
    return await call.parts.workflows.get_live(call.principal, id)


class IncomingLinks(Answer):
    """Workflows that call one."""

    ids: list[str]


@noun.get(
    "/v1/workflows/{id}/incoming-links",
    permission="workflow:read",
    answers=IncomingLinks,
    shape=lambda found: {"ids": found},
    refusals=[Code.WORKFLOW_UNKNOWN],
)
async def list_incoming_links(call: Call, id: str) -> list[str]:
    """List the workflows that call this one: look before you archive it or change its input.

    Those whose draft or live version has a `call-workflow` node that names it, and that the key may read. A workflow
    whose name a call computes when it runs is not known before.
    """
    return await call.parts.versions.list_callers(call.principal, id)


@noun.put(
    "/v1/workflows/{id}",
    permission="workflow:update",
    reads="workflow:read",
    answers=WorkflowAnswer,
    shape=workflow_shape,
    refusals=[Code.DEFINITION_INVALID, Code.WORKFLOW_UNKNOWN, Code.VERSION_MOVED, Code.STATE_CONFLICT],
    example={"definition": HELLO, "expectedCurrentVersion": 3},
)
async def update_workflow(call: Call, id: str, body: UpdateWorkflow) -> Workflow:
    """Change a workflow.

    A definition that differs from the current one becomes a new draft version; an equal one (as canonical JSON) does
    not. Absent fields stay as they are. Loosening `requireRehearsal`, `enforceRehearsal` or `acceptances` needs
    `wallet:spend` on the wallets that the workflow reaches, and `wallet:admin` too while `acceptances` is set.
    `folder` and `tags` decide which limited keys access it: a limited key cannot change them, and no key gives others
    more than it has.
    """
    return await call.parts.workflows.update(
        call.principal,
        id,
        changes=_changes(body),
        definition=body.definition if "definition" in body.model_fields_set else None,
        expected=body.expected_current_version,
        session=body.autosave,
    )


@noun.patch(
    "/v1/workflows/{id}/ui-metadata",
    permission="workflow:update",
    reads="workflow:read",
    needed=["uiRevision"],
    answers=WorkflowAnswer,
    shape=workflow_shape,
    refusals=[Code.WORKFLOW_UNKNOWN, Code.VERSION_MOVED, Code.STATE_CONFLICT],
    example={"uiMetadata": {"root": {"x": 0, "y": 0}}},
)
async def set_ui_metadata(call: Call, id: str, body: SetUiMetadata) -> Workflow:
    """Set the editor's layout, without a new version."""
    return await call.parts.workflows.set_ui_metadata(
        call.principal, id, body.ui_metadata, body.expected_current_version, body.expected_ui_revision
    )


@noun.post(
    "/v1/workflows/{id}/publish",
    permission="workflow:publish",
    reads="workflow:read",
    answers=WorkflowAnswer,
    shape=workflow_shape,
    refusals=[
        Code.DEFINITION_INVALID,
        Code.WORKFLOW_UNKNOWN,
        Code.VERSION_MOVED,
        Code.STATE_CONFLICT,
        Code.REHEARSAL_MISSING,
        Code.VERSION_NOT_ACCEPTED,
    ],
    example={"expectedVersion": 3},
)
async def publish_workflow(call: Call, id: str, body: PublishWorkflow | None = None) -> Workflow:
    """Publish the draft.

    The draft must be valid, be accepted if its author may not spend what it spends, and have the rehearsals that
    `requireRehearsal` demands.
    """
    expected = body.expected_version if body else None
    return await call.parts.workflows.publish(call.principal, id, expected)


_LIFE = [Code.WORKFLOW_UNKNOWN, Code.STATE_CONFLICT]


@noun.post(
    "/v1/workflows/{id}/pause",
    permission="workflow:publish",
    reads="workflow:read",
    answers=WorkflowAnswer,
    shape=workflow_shape,
    refusals=_LIFE,
)
async def pause_workflow(call: Call, id: str) -> Workflow:
    """Pause an active workflow: its triggers stop, nothing is deleted."""
    return await call.parts.workflows.pause(call.principal, id)


@noun.post(
    "/v1/workflows/{id}/resume",
    permission="workflow:publish",
    reads="workflow:read",
    answers=WorkflowAnswer,
    shape=workflow_shape,
    refusals=_LIFE,
)
async def resume_workflow(call: Call, id: str) -> Workflow:
    """Activate a paused workflow: its triggers start again."""
    return await call.parts.workflows.resume(call.principal, id)


@noun.delete(
    "/v1/workflows/{id}/draft",
    permission="workflow:update",
    reads="workflow:read",
    answers=WorkflowAnswer,
    shape=workflow_shape,
    refusals=[*_LIFE, Code.DRAFT_UNKNOWN, Code.NO_LIVE_VERSION],
)
async def discard_draft(call: Call, id: str) -> Workflow:
    """Discard the draft of a workflow that has a live version."""
    return await call.parts.workflows.discard_draft(call.principal, id)


@noun.post(
    "/v1/workflows/{id}/rollback",
    permission="workflow:update",
    reads="workflow:read",
    answers=WorkflowAnswer,
    shape=workflow_shape,
    refusals=[*_LIFE, Code.DEFINITION_INVALID, Code.VERSION_UNKNOWN, Code.VERSION_MOVED],
    example={"targetVersion": 2},
)
async def rollback_workflow(call: Call, id: str, body: RollbackWorkflow) -> Workflow:
    """Copy an old version into a new draft."""
    return await call.parts.workflows.rollback(call.principal, id, body.target_version, body.expected_current_version)


@noun.delete(
    "/v1/workflows/{id}",
    permission="workflow:delete",
    reads="workflow:read",
    answers=WorkflowAnswer,
    shape=workflow_shape,
    refusals=[Code.WORKFLOW_UNKNOWN],
)
async def archive_workflow(call: Call, id: str) -> Workflow:
    """Archive a workflow; archiving it again changes nothing."""
    return await call.parts.workflows.archive(call.principal, id)


@noun.post(
    "/v1/workflows/{id}/unarchive",
    permission="workflow:delete",
    reads="workflow:read",
    answers=WorkflowAnswer,
    shape=workflow_shape,
    refusals=_LIFE,
)
async def unarchive_workflow(call: Call, id: str) -> Workflow:
    """Restore an archived workflow as a draft."""
    return await call.parts.workflows.unarchive(call.principal, id)


@noun.post(
    "/v1/workflows/{id}/refill",
    permission="workflow:update",
    reads="workflow:read",
    answers=WorkflowAnswer,
    shape=workflow_shape,
    refusals=_LIFE,
    example={"remainRuns": 100},
)
async def refill_workflow(call: Call, id: str, body: RefillWorkflow) -> Workflow:
    """Set how many runs triggers may still start.

    A workflow that was paused with `max_runs_exhausted` becomes active again.
    """
    return await call.parts.workflows.refill(call.principal, id, body.remain_runs)
