"""Request and response models of workflows and versions."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, WithJsonSchema

from dustrun.core.run.state import Mode, RunStatus
from dustrun.core.values import exact_json
from dustrun.core.values.fields import Fields, ignored
from dustrun.core.workflow.definition import Definition
from dustrun.core.workflow.placement import FOLDER_PATTERN, TAG_PATTERN
from dustrun.errors import Problem
from dustrun.operations.declaration.answers import Answer, From, Time, time
from dustrun.operations.declaration.encoding import data_of
from dustrun.operations.declaration.fields import Description, Name, Text, Version
from dustrun.operations.shapes.findings import Ignoring, ValidationItem, finding_shape, with_warnings
from dustrun.services.workflows.files import AppliedFiles
from dustrun.services.workflows.import_export import FileReference, ImportedDraft
from dustrun.services.workflows.transitions import layout_revision
from dustrun.services.workflows.workflows import Counts, Workflow
from dustrun.storage.workflows.latest_runs import Latest
from dustrun.storage.workflows.versions import VersionRow
from dustrun.storage.workflows.workflows import ListedWorkflow, WorkflowRow

MaxRuns = Annotated[int, Field(strict=True, ge=1, le=99_999)]
CooldownMs = Annotated[int, Field(strict=True, ge=1000, le=10**12)]
EditingSession = Annotated[str, Field(strict=True, min_length=1, max_length=64)]
Needed = Annotated[int, Field(strict=True, ge=0, le=10)]
Folder = Annotated[str, StringConstraints(pattern=FOLDER_PATTERN)]
Tag = Annotated[str, StringConstraints(pattern=TAG_PATTERN)]
Tags = Annotated[list[Tag], Field(max_length=20)]
_FOLDER = "Where it is kept: up to five names with slashes between them. Null: in no folder."
_TAGS = "Tags: small letters, digits, `.`, `_` and `-`."
_ABSENT: Any = None  # the default of what may be left out but may not be null
Status = Literal["draft", "active", "paused", "archived"]
Rehearsal = Literal["none", "simulate", "dust"]

HELLO = {
    "nodes": {
        "root": {"type": "manual", "children": ["say"]},
        "say": {"type": "log", "payload": {"message": "Hello, {{$trigger.body.name}}!"}},
    },
    "triggerNodeIds": ["root"],
}
"""A small definition, for examples of bodies."""
EXAMPLE_DEFINITION = {
    "nodes": {
        "root": {"type": "manual", "children": ["price"]},
        "price": {"type": "http-request", "payload": {"url": "https://example.com/price.json"}, "children": ["say"]},
        "say": {"type": "log", "payload": {"message": "The price is {{$nodes.price.result.body.usd}}"}},
    },
    "triggerNodeIds": ["root"],
}


class Concurrency(Fields):
    """How many runs of a workflow execute at once."""

    max: Annotated[int, Field(strict=True, ge=1, le=10_000)] = Field(description="Maximum number of runs at once.")
    key: Annotated[Text, StringConstraints(max_length=1000)] | None = Field(
        None, description="An expression; runs with the same value share the limit."
    )
    on_limit: Literal["queue", "skip", "cancel-oldest"] = Field(
        "queue", description="What happens to a run above the limit."
    )


class RehearsalGuard(Fields):
    """Live runs may spend only what a rehearsal showed: before signing, each intent is compared with the newest passed
    simulation of the same version and payload, by node path and item."""

    tolerance_percent: Annotated[Decimal, WithJsonSchema({"type": "number"}, mode="serialization")] = Field(
        Decimal(0),
        ge=0,
        le=1000,
        max_digits=12,
        description="How much an amount may exceed the simulated one, in percent.",
        json_schema_extra={"default": 0},
    )
    max_age_ms: int | None = Field(
        None, ge=1000, strict=True, description="Maximum age of the simulation; null: no maximum."
    )


class WorkflowContent(Fields):
    """A workflow, as files have it too."""

    name: Name = Field(description="Display name.", examples=["Tell the price"])
    description: Description = Field(description="Free text.", examples=["Looks up a price and logs it."])
    definition: Definition = Field(description="The definition.", examples=[EXAMPLE_DEFINITION])
    max_runs: MaxRuns | None = Field(None, description="Maximum number of runs that triggers start.")
    cooldown_ms: CooldownMs | None = Field(None, description="Minimum time between runs that triggers start.")
    require_rehearsal: Rehearsal = Field("none", description="Rehearsal that every spend needs before a live run.")
    concurrency: Concurrency | None = Field(None, description="Limit on concurrent runs.")
    enforce_rehearsal: RehearsalGuard | None = Field(
        None, description="Limits live spends to those of a passed simulation."
    )
    acceptances: Needed = Field(
        0, description="Number of keys, besides the author's, that must accept a version that can spend."
    )
    ui_metadata: dict[str, Any] | None = Field(None, description="The editor's layout.")
    unique_name: bool = Field(
        False, strict=True, description="Answers 409 if a workflow that is not archived has this name."
    )
    conversation_id: Any = ignored()
    session_id: Any = ignored()
    template_id: Any = ignored()


class CreateWorkflow(WorkflowContent):
    """A new workflow."""

    folder: Folder | None = Field(None, description=_FOLDER, examples=["payroll/europe"])
    tags: Tags = Field(default=[], description=_TAGS)


class UpdateWorkflow(Fields):
    """Fields to change; absent fields stay as they are, and `null` clears optional ones."""

    expected_current_version: Version | None = Field(None, description="Answers 409 unless this is the current value.")
    name: Name = Field(_ABSENT, description="Display name.")
    description: Description = Field(_ABSENT, description="Free text.")
    definition: Definition = Field(_ABSENT, description="The definition; a changed one becomes a new draft version.")
    max_runs: MaxRuns | None = Field(None, description="Maximum number of runs that triggers start.")
    cooldown_ms: CooldownMs | None = Field(None, description="Minimum time between runs that triggers start.")
    require_rehearsal: Rehearsal = Field(_ABSENT, description="Rehearsal that every spend needs before a live run.")
    concurrency: Concurrency | None = Field(None, description="Limit on concurrent runs.")
    enforce_rehearsal: RehearsalGuard | None = Field(
        None, description="Limits live spends to those of a passed simulation."
    )
    acceptances: Needed = Field(
        _ABSENT, description="Number of keys, besides the author's, that must accept a version that can spend."
    )
    ui_metadata: dict[str, Any] | None = Field(None, description="The editor's layout.")
    folder: Folder | None = Field(None, description=_FOLDER)
    tags: Tags = Field(_ABSENT, description=_TAGS)
    autosave: EditingSession | None = Field(
        None,
        description="For editors that save by themselves: any text that names the editing session. The draft that the "
        "same key saved in the same session at most 10 minutes ago gives way to this one, unless a run, a call, an "
        "acceptance or a back-test has used it, or its span of 30 minutes is over. Its number is not given again.",
        examples=["tab-7f3a91"],
    )
    skip_ai_generation: Any = ignored("skipAIGeneration")


class PublishWorkflow(Fields):
    """Options for publishing."""

    expected_version: Version | None = Field(None, description="Answers 409 unless this is the draft's version.")


class RollbackWorkflow(Fields):
    """The version to copy."""

    target_version: Version = Field(description="The version to copy into a new draft.", examples=[1])
    expected_current_version: Version | None = Field(None, description="Answers 409 unless this is the current value.")


class RefillWorkflow(Fields):
    """The new value of the counter."""

    remain_runs: MaxRuns = Field(description="Number of runs that triggers may still start.", examples=[100])


class SetUiMetadata(Fields):
    """The editor's layout."""

    ui_metadata: dict[str, Any] = Field(
        description="The whole layout. The web app keeps `v` (1), `nodes` (`{id: {x, y}}`), `notes` "
        "(`{id: {x, y, text}}`) and `groups` (`{id: {title, nodes}}`) in it, and gives other fields back as they are.",
        examples=[{"zoom": 1}],
    )
    expected_current_version: Version | None = Field(None, description="Answers 409 unless this is the current value.")
    expected_ui_revision: Text | None = Field(
        None, description="Answers 409 unless this is `uiRevision`: somebody else has saved a layout meanwhile."
    )


class ValidateWorkflow(Fields):
    """An unsaved definition of any shape; the answer lists its problems."""

    definition: Any = Field(description="The definition.", examples=[EXAMPLE_DEFINITION])
    name: Any = Field(None, description="A name to check as well.", examples=["Tell the price"])
    workflow_id: str | None = Field(
        None,
        max_length=64,
        description="The workflow that the definition is for: its calls must not lead back to it.",
        examples=["wf_01k4w8qz3v6m2t9r5y7n0b1c2d"],
    )


class ImportWorkflow(Fields):
    """A file to import."""

    content: Text = Field(description="The file's text (JSON or YAML), as exported.")
    name: Name | None = Field(None, description="Name of the new workflow. Default: the name in the file.")
    unique_name: bool = Field(
        False, strict=True, description="Answers 409 if a workflow that is not archived has this name."
    )
    bindings: dict[str, Text] = Field(
        default_factory=dict,
        description="Values for the file's references, by their names.",
        examples=[{"connector-1": "conn_01k9w3x7q2c4v6b8n0m1a2s3d4"}],
    )
    leave_unbound: list[Text] = Field(
        default_factory=list,
        max_length=1000,
        description="References to leave unbound, although the file names their `target`.",
    )


class ApplyFile(Fields):
    """One file of a folder."""

    path: Text = Field(min_length=1, max_length=1024, description="Names the file in the answer.")
    content: Text = Field(
        description="A definition, a document with name and description, or an exported file; JSON or YAML."
    )


class ApplyFiles(Fields):
    """A folder of workflow files."""

    files: list[ApplyFile] = Field(max_length=1000, description="Every file; a workflow's name is its identity.")
    prune: bool = Field(False, strict=True, description="Archives every workflow that no file has.")
    dry_run: bool = Field(False, strict=True, description="Shows the changes and makes none.")
    expected_digest: Text | None = Field(None, description="Answers 409 unless the changes have this digest.")


class ChangeItem(Answer):
    """A difference at one path; a missing side is omitted."""

    path: str
    before: Any = None
    after: Any = None


class AppliedItem(Answer):
    """The change of one workflow by applying files."""

    path: str | None = Field(description="The file; null for a workflow that no file has.")
    name: str
    action: Literal["create", "update", "unchanged", "archive"]
    workflow_id: str | None = Field(description="Null for one that a dry run would create.")
    settings: list[ChangeItem] = Field(description="Changed settings, by column.")
    definition: Any = Field(description="As `versions/{n}/diff`, against the current version; null if equal.")


class AppliedAnswer(Ignoring):
    """The changes, in the order of the files."""

    dry_run: bool
    digest: str = Field(description="Identifies these changes; send it as `expectedDigest` to make exactly them.")
    changes: list[AppliedItem]


class WorkflowExport(Answer):
    """A workflow as a file."""

    format: Literal["json", "yaml"]
    file_name: str = Field(examples=["tell-the-price.yaml"])
    content: str


class Ladder(Answer):
    """The newest passed run of this version, by mode."""

    simulate: str | None
    dust: str | None
    live: str | None


class LastRunAnswer(Answer):
    """The newest run of a workflow, in any mode and of any version."""

    id: str
    status: RunStatus
    mode: Mode
    workflow_version: Annotated[int | None, From("version")]
    started_at: Time
    finished_at: Time | None


class WorkflowSummary(Answer):
    """A workflow without its definition."""

    id: str
    organization_id: str
    name: str
    description: str
    status: Status
    type: str = Field(description="Trigger type of the first trigger.")
    trigger_type: str
    version: int
    max_runs: int | None
    remain_runs: int | None
    cooldown_ms: int | None
    require_rehearsal: Rehearsal
    paused_reason: str | None
    has_draft: bool
    has_live_version: bool
    draft_version: int | None
    live_version: int | None
    node_count: int
    node_types: list[str]
    folder: str | None
    tags: list[str]
    owner: str
    created_at: Time
    updated_at: Time


class WorkflowAnswer(WorkflowSummary, Ignoring):
    """A workflow with the definition of one version."""

    warnings: list[ValidationItem] = Field(
        default_factory=list,
        description="Fields of the request that were accepted and ignored; of a publication also what validation warns "
        "of. Absent without any.",
    )
    definition: Any
    ui_metadata: dict[str, Any] | None
    ui_revision: str = Field(description="Changes with `uiMetadata`, which raises no version.")
    concurrency: Concurrency | None
    enforce_rehearsal: RehearsalGuard | None
    acceptances: int
    ladder: Ladder


class WorkflowListItem(WorkflowSummary):
    """A workflow in a list."""

    connector_types: list[str]
    last_run: LastRunAnswer | None = Field(None, description="With `include=lastRun`; null if it has never run.")
    ladder: Ladder | None = Field(None, description="With `include=ladder`; as in `GET /v1/workflows/{id}`.")


class VersionAnswer(Answer):
    """One version of a workflow."""

    id: str = Field(description="Id of the workflow.")
    name: str
    status: Status
    version: int
    definition: Any
    is_draft: bool
    is_live: bool
    trigger_type: str
    node_count: int
    node_types: list[str]
    version_created_by: str
    created_at: Time
    published_at: Time | None
    published_by: str | None


class WorkflowCounts(Answer):
    """Totals by status. `total` does not include archived workflows, like a list without a status."""

    draft: int
    active: int
    paused: int
    archived: int
    total: int
    available_types: list[str]
    available_connectors: list[str]
    available_folders: list[str]
    available_tags: list[str]


class ValidationAnswer(Answer):
    """Whether a definition can run. Warnings do not prevent it."""

    valid: bool
    errors: list[ValidationItem]
    warnings: list[ValidationItem]


class ImportAnswer(Answer):
    """The imported workflow, and what must be done before it can run."""

    workflow: WorkflowAnswer
    to_bind: list[FileReference]
    problems: list[ValidationItem]
    warnings: list[ValidationItem]


def _row_shape(row: WorkflowRow, version: int) -> dict[str, Any]:
    return {
        "id": row.id,
        "organizationId": row.org_id,
        "name": row.name,
        "description": row.description,
        "status": row.status,
        "version": version,
        "maxRuns": row.max_runs,
        "remainRuns": row.remain_runs,
        "cooldownMs": row.cooldown_ms,
        "requireRehearsal": row.require_rehearsal,
        "pausedReason": row.paused_reason,
        "hasDraft": row.draft_version is not None,
        "hasLiveVersion": row.live_version is not None,
        "draftVersion": row.draft_version,
        "liveVersion": row.live_version,
        "folder": row.folder,
        "tags": row.tags.split(),
        "owner": row.owner,
        "createdAt": time(row.created_at),
        "updatedAt": time(row.updated_at),
    }


def _content_shape(version: VersionRow) -> dict[str, Any]:
    return {
        "definition": exact_json.loads(version.definition),
        "triggerType": version.trigger_type,
        "nodeCount": version.node_count,
        "nodeTypes": version.node_types.split(),
    }


def _json(text: str | None) -> Any:
    return None if text is None else exact_json.loads(text)


def workflow_shape(workflow: Workflow) -> dict[str, Any]:
    """Shapes a workflow."""
    row, version = workflow.row, workflow.version
    found = {
        **_row_shape(row, version.version),
        **_content_shape(version),
        "type": version.trigger_type,
        "uiMetadata": _json(row.ui_metadata),
        "uiRevision": layout_revision(row),
        "concurrency": _json(row.concurrency),
        "enforceRehearsal": _json(row.enforce_rehearsal),
        "acceptances": row.acceptances,
        "ladder": _ladder_shape(workflow.ladder),
    }
    return dict(with_warnings(found, workflow.warnings))


def _ladder_shape(ladder: Mapping[str, str]) -> dict[str, Any]:
    return {mode.value: ladder.get(mode.value) for mode in (Mode.SIMULATE, Mode.DUST, Mode.LIVE)}


def _latest_shape(latest: Latest | None) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if latest is not None and latest.has_last_run:
        found["lastRun"] = None if latest.last_run is None else data_of(LastRunAnswer, latest.last_run)
    if latest is not None and latest.ladder is not None:
        found["ladder"] = _ladder_shape(latest.ladder)
    return found


def listed_shape(item: ListedWorkflow) -> dict[str, Any]:
    """Shapes a workflow for a list."""
    return {
        **_row_shape(item.row, item.row.current_version),
        "type": item.trigger_type,
        "triggerType": item.trigger_type,
        "nodeCount": item.node_count,
        "nodeTypes": item.node_types,
        "connectorTypes": item.connector_types,
        **_latest_shape(item.latest),
    }


def version_shape(row: WorkflowRow, version: VersionRow) -> dict[str, Any]:
    """Shapes a version."""
    return {
        **_content_shape(version),
        "id": row.id,
        "name": row.name,
        "status": row.status,
        "version": version.version,
        "isDraft": version.version == row.draft_version,
        "isLive": version.version == row.live_version,
        "versionCreatedBy": version.created_by,
        "createdAt": time(version.created_at),
        "publishedAt": time(version.published_at),
        "publishedBy": version.published_by,
    }


def counts_shape(counts: Counts) -> dict[str, Any]:
    """Shapes totals."""
    by_status = {name: counts.by_status.get(name, 0) for name in ("draft", "active", "paused", "archived")}
    return {
        **by_status,
        "total": sum(by_status.values()) - by_status["archived"],
        "availableTypes": counts.types,
        "availableConnectors": counts.connectors,
        "availableFolders": counts.folders,
        "availableTags": counts.tags,
    }


def validation_shape(problems: list[Problem]) -> dict[str, Any]:
    """Shapes problems."""
    errors = [finding_shape(problem) for problem in problems if problem.severity == "error"]
    warnings = [finding_shape(problem) for problem in problems if problem.severity != "error"]
    return {"valid": not errors, "errors": errors, "warnings": warnings}


def applied_shape(applied: AppliedFiles) -> dict[str, Any]:
    """Shapes the changes of applied files."""
    changes = [
        {
            "path": one.path,
            "name": one.name,
            "action": one.action,
            "workflowId": None if applied.dry_run and one.action == "create" else one.workflow_id,
            "settings": one.settings,
            "definition": one.definition,
        }
        for one in applied.changes
    ]
    return {"dryRun": applied.dry_run, "digest": applied.digest, "changes": changes}


def imported_shape(imported: ImportedDraft) -> dict[str, Any]:
    """Shapes an import."""
    found = validation_shape(imported.problems)
    return {
        "workflow": workflow_shape(imported.workflow),
        "toBind": [reference.model_dump(by_alias=True) for reference in imported.to_bind],
        "problems": found["errors"],
        "warnings": found["warnings"],
    }
