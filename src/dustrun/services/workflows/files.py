"""Workflows kept as files: applies a folder of them in one transaction, and finds what their references mean.

A workflow's name is its identity. A dry run is the same transaction, rolled back.
"""

from __future__ import annotations

import contextlib
import graphlib
import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from pydantic import ValidationError
from pydantic.alias_generators import to_camel

from dustrun import clock, ids
from dustrun.core.values import exact_json
from dustrun.core.workflow.definition import UNBOUND, Definition
from dustrun.core.workflow.specs import Specs
from dustrun.errors import Code, Conflict, Invalid, Problem
from dustrun.records import dataclass
from dustrun.services.access import audit, idempotency
from dustrun.services.access.principal import Principal
from dustrun.services.imports import imported_types
from dustrun.services.problems import errors_in, problems_of
from dustrun.services.workflows import calls, import_export
from dustrun.services.workflows.checks.limited_keys import need_connectors_within
from dustrun.services.workflows.import_export import NAMED, FileReference
from dustrun.services.workflows.pins import Pin, Pins, pins_of, rename
from dustrun.services.workflows.transitions import Changes, changed, decide_archive
from dustrun.services.workflows.versions import changes_between, differences, document_of, get_version, make_version
from dustrun.services.workflows.workflows import NewWorkflow, Workflow, Workflows, json_text, make_row, note_choice
from dustrun.storage.data import named
from dustrun.storage.db.database import Database
from dustrun.storage.db.statement import Tx
from dustrun.storage.db.writer import Writer
from dustrun.storage.workflows import versions as version_rows
from dustrun.storage.workflows import workflows
from dustrun.storage.workflows import workflows as rows
from dustrun.storage.workflows.versions import VersionRow
from dustrun.storage.workflows.workflows import WorkflowFilters, WorkflowRow

# Names of the objects that a portable file refers to: from ids to names for an export, and back for an import.


_ID = re.compile(r"\b(?:conn|wal|wf)_[0-9a-hjkmnp-tv-z]{26}\b")


def find_names(tx: Tx, principal: Principal, definition: str) -> dict[str, str]:
    """The names, by id, of the objects in a definition (JSON) that the caller may see."""
    ids = {found for found in _ID.findall(definition) if _may_see(principal, found)}
    names = {one: named.find_name(tx, principal.org_id, one) for one in sorted(ids)}
    return {one: name for one, name in names.items() if name is not None}


def _may_see(principal: Principal, object_id: str) -> bool:
    if object_id.startswith("wal_"):
        return principal.may("wallet:read") and principal.may_use_wallet(object_id)
    if object_id.startswith("conn_"):  # a key limited to some workflows may not see those that others use
        is_reached = principal.workflow_ids is None and principal.may_use_connector(object_id)
        return principal.may("connector:read") and is_reached
    return principal.may_read_workflow(object_id)


def resolve(
    tx: Tx, principal: Principal, references: Mapping[int, FileReference], siblings: Mapping[str, str]
) -> tuple[dict[str, str], list[Problem]]:
    """Finds the objects that references name by `target`: values by `unbound:` text, and a problem for every target
    that is missing or not the only one. `references`: by place in the file; `siblings`: ids of workflows that the same
    call makes or changes, by lower-case name."""
    values: dict[str, str] = {}
    problems: list[Problem] = []
    for index, one in references.items():
        if one.target is None or one.kind not in NAMED:
            continue
        found = _candidates(tx, principal, one, one.target, siblings)
        if len(found) == 1:
            values[f"{UNBOUND}{one.name}"] = found[0]
        else:
            count = f"{len(found)} objects have that name{_listed(principal, found)}" if found else "there is none"
            message = f'"{one.name}" means the {one.type or ""} {one.kind} "{one.target}", but {count}'
            problems.append(Problem(f"references[{index}].target", " ".join(message.split()), "unknown_target"))
    return values, problems


def _listed(principal: Principal, found: list[str]) -> str:
    told = [one for one in found if _may_see(principal, one)]
    return f": {', '.join(told[:5])}" if told else ""


def resolve_versions(
    tx: Tx, principal: Principal, references: Mapping[int, FileReference], values: Mapping[str, str], hashes: Pins
) -> tuple[dict[Pin, int], list[Problem]]:
    """Finds the versions that calls mean by their content: numbers by `unbound:` text and exported number, and a
    problem for every one that is missing. `values`: ids by `unbound:` text."""
    found: dict[Pin, int] = {}
    problems: list[Problem] = []
    for index, one in references.items():
        placeholder = f"{UNBOUND}{one.name}"
        workflow = find_workflow(tx, principal, values.get(placeholder, UNBOUND))
        if workflow is None:
            continue
        for place, pinned in enumerate(one.versions):
            number = hashes.find(workflow.id, pinned)
            if number is not None:
                found[placeholder, pinned.number] = number
                continue
            is_shown = principal.may_read_workflow(workflow.id)
            name = f'"{workflow.name}" ({workflow.id})' if is_shown else f'"{one.target or workflow.id}"'
            message = (
                f"{name} has no version with the content of version {pinned.number} of the export; import that "
                "version first, or call it without a version"
            )
            problems.append(Problem(f"references[{index}].versions[{place}]", message, "unknown_version"))
    return found, problems


def find_workflow(tx: Tx, principal: Principal, workflow_id: str) -> WorkflowRow | None:
    """The workflow, if there is one that the caller may use."""
    return workflows.find(tx, principal.org_id, workflow_id) if principal.may_use_workflow(workflow_id) else None


def _candidates(tx: Tx, principal: Principal, one: FileReference, name: str, siblings: Mapping[str, str]) -> list[str]:
    org_id = principal.org_id
    if one.kind == "connector":
        found = named.list_connectors(tx, org_id, name, one.type or "")
        return [one_id for one_id in found if principal.may_use_connector(one_id)]
    if one.kind == "wallet":
        return [found for found in named.list_wallets(tx, org_id, name) if principal.may_use_wallet(found)]
    if name.lower() in siblings:
        return [siblings[name.lower()]]
    found = [row.id for row in workflows.list_named(tx, org_id, name)]
    return [one_id for one_id in found if principal.may_use_workflow(one_id)]


_ALL = 1_000_000
_SHOWN_IDS = 5  # in a message
_JSON = ("concurrency", "enforce_rehearsal", "ui_metadata")
_SETTINGS = (
    "description",
    "max_runs",
    "cooldown_ms",
    "require_rehearsal",
    "acceptances",
    "concurrency",
    "enforce_rehearsal",
)


@dataclass(frozen=True, slots=True)
class WorkflowFile:
    """One file: its path as the caller named it, its content and its references."""

    path: str
    new: NewWorkflow
    references: Sequence[FileReference]


@dataclass(frozen=True, slots=True)
class FileChange:
    """The change of one workflow by applying files. `path`: None for a workflow that no file has."""

    path: str | None
    name: str
    action: str
    workflow_id: str | None
    settings: list[dict[str, Any]]
    definition: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class AppliedFiles:
    """The changes in the order of the files, and a digest of all that they were decided on."""

    changes: list[FileChange]
    digest: str
    dry_run: bool


@dataclass(frozen=True, slots=True)
class _BoundFile:
    """A file whose references are bound, with the workflow of its name."""

    file: WorkflowFile
    row: WorkflowRow | None
    version: VersionRow
    outside: dict[str, str]


class _RolledBack(Exception):
    """Ends the transaction of a dry run."""

    def __init__(self, applied: AppliedFiles) -> None:
        super().__init__()
        self.applied = applied


class WorkflowFiles:
    """Use cases of files."""

    def __init__(self, database: Database, writer: Writer, workflows: Workflows, specs: Specs) -> None:
        self._database = database
        self._writer = writer
        self._workflows = workflows
        self._specs = specs

    async def find_names(self, principal: Principal, workflow: Workflow) -> dict[str, str]:
        """The names, by id, of the objects that the shown version refers to, as far as the caller may see them."""
        return await self._database.read(lambda tx: find_names(tx, principal, workflow.version.definition))

    async def find_pins(self, principal: Principal, workflow: Workflow) -> dict[Pin, str]:
        """The hashes of the versions that calls of the shown version name, as far as the caller may see them."""

        def query(tx: Tx) -> dict[Pin, str]:
            document = exact_json.loads(workflow.version.definition)
            pins = {pin for _, pin in pins_of(document) if pin[0] != workflow.row.id}
            hashes = Pins(tx, principal.org_id, self._specs)
            seen = (pin for pin in pins if find_workflow(tx, principal, pin[0]) is not None)
            return {pin: content for pin in seen if (content := hashes.hash_of(*pin)) is not None}

        return await self._database.read(query)

    async def resolve(
        self,
        principal: Principal,
        references: Sequence[FileReference],
        leave_unbound: Sequence[str],
        bindings: Mapping[str, str],
    ) -> tuple[dict[str, str], dict[Pin, int]]:
        """Ids by reference, and the versions that calls mean; raises `Invalid` for what cannot be found."""
        principal.need_every_workflow("make another")
        given = {name: f"{UNBOUND}{name}" for name in leave_unbound} | dict(bindings)
        bound = await self._find_targets(principal, references, given) | dict(bindings)
        return bound, await self._find_versions(principal, references, bound)

    async def _find_versions(
        self, principal: Principal, references: Sequence[FileReference], ids: Mapping[str, str]
    ) -> dict[Pin, int]:
        """The versions here with the content that calls mean, by `unbound:` name; raises `Invalid` for those that are
        missing. `ids`: what the references are bound to."""
        values = {f"{UNBOUND}{name}": value for name, value in ids.items()}

        def query(tx: Tx) -> tuple[dict[Pin, int], list[Problem]]:
            hashes = Pins(tx, principal.org_id, self._specs)
            return resolve_versions(tx, principal, dict(enumerate(references)), values, hashes)

        found, problems = await self._database.read(query)
        if problems:
            raise Invalid("The file calls versions that cannot be found.", details=problems)
        return found

    async def _find_targets(
        self, principal: Principal, references: Sequence[FileReference], given: Mapping[str, str]
    ) -> dict[str, str]:
        """Ids by reference for those that have a `target` and no given binding; raises `Invalid` for a target that
        cannot be found."""
        asked = {index: one for index, one in enumerate(references) if one.name not in given}
        found, problems = await self._database.read(lambda tx: resolve(tx, principal, asked, {}))
        if problems:
            raise Invalid("The file refers to objects that cannot be found.", details=problems)
        return {name.removeprefix(UNBOUND): value for name, value in found.items()}

    async def apply(
        self, principal: Principal, files: Sequence[WorkflowFile], *, prune: bool, dry_run: bool, expected: str | None
    ) -> AppliedFiles:
        """Makes the organisation's workflows those of the files: all of them, or nothing.

        `prune` archives every workflow that no file has. Raises `Conflict` if `expected` is not the digest."""
        _need_rights(principal, prune)
        _need_distinct(files)

        def unit(tx: Tx) -> AppliedFiles:
            applied = _Apply(tx, principal, self._workflows, self._specs).run(files, prune=prune, dry_run=dry_run)
            if dry_run:
                raise _RolledBack(applied)
            if expected is not None and expected != applied.digest:
                message = "The workflows have changed since the changes were shown; nothing was applied."
                raise Conflict(message, code=Code.VERSION_MOVED, details=[Problem("expectedDigest", "is out of date")])
            return applied

        def committed(applied: AppliedFiles) -> None:
            for change in applied.changes:
                if change.workflow_id is None or change.action == "unchanged":
                    continue
                if change.action == "archive":
                    self._workflows.arming.committed(change.workflow_id)
                self._workflows.on_changed(principal.org_id, change.workflow_id)

        try:
            return await idempotency.write(self._writer, unit, committed)
        except _RolledBack as rolled_back:
            return rolled_back.applied


def _need_rights(principal: Principal, prune: bool) -> None:
    principal.need_every_workflow("apply files")
    principal.need("workflow:update")
    if prune:
        principal.need("workflow:delete")


def _need_distinct(files: Sequence[WorkflowFile]) -> None:
    seen: dict[str, str] = {}
    for file in files:
        other = seen.setdefault(file.new.name.lower(), file.path)
        if other != file.path:
            message = f'"{file.new.name}" is also the name in {other}'
            raise Invalid("Two files have one name.", details=[Problem(f"{file.path}: name", message)])


class _Apply:
    """One application of files, in one transaction."""

    def __init__(self, tx: Tx, principal: Principal, workflows: Workflows, specs: Specs) -> None:
        self._tx = tx
        self._principal = principal
        self._workflows = workflows
        self._specs = specs

    def run(self, files: Sequence[WorkflowFile], *, prune: bool, dry_run: bool) -> AppliedFiles:
        found = {file.path: self._find(file) for file in files}
        siblings = {
            file.new.name.lower(): row.id if row else ids.new_id("wf") for file in files for row in [found[file.path]]
        }
        pruned = self._prune(set(siblings.values())) if prune else []
        bound: dict[str, _BoundFile] = {}
        changed: dict[str, FileChange] = {}
        for file in _called_first(files):
            one = bound[file.path] = self._bind(file, found[file.path], siblings)
            changed[file.path] = self._create(one) if one.row is None else self._update(one)
        changes = [changed[file.path] for file in files]
        for one in bound.values():
            with _of_file(one.file):
                calls.need_callable(self._tx, self._principal, one.version)
                need_connectors_within(self._principal, one.version.definition)
        digest = _digest([*changes, *pruned], [bound[file.path] for file in files])
        return AppliedFiles([*changes, *pruned], digest, dry_run)

    def _find(self, file: WorkflowFile) -> WorkflowRow | None:
        same = rows.list_named(self._tx, self._principal.org_id, file.new.name)
        if len(same) > 1:
            names = ", ".join(row.id for row in same[:_SHOWN_IDS]) + (", …" if len(same) > _SHOWN_IDS else "")
            message = f'{len(same)} workflows are named "{file.new.name}": {names}; rename or delete all but one'
            raise Conflict("A name is not the only one.", details=[Problem(f"{file.path}: name", message)])
        row = same[0] if same else None
        return None if row is None else rows.find_to_change(self._tx, row.org_id, row.id)

    def _prune(self, kept: set[str]) -> list[FileChange]:
        listed = rows.list_page(
            self._tx, WorkflowFilters(org_id=self._principal.org_id), sort="name:asc", limit=_ALL, offset=0
        )
        gone = [item.row for item in listed if item.row.id not in kept]
        for row in gone:
            self._save(row, decide_archive(row), "workflow.archive")
        return [FileChange(None, row.name, "archive", row.id, [], None) for row in gone]

    def _bind(self, file: WorkflowFile, row: WorkflowRow | None, siblings: Mapping[str, str]) -> _BoundFile:
        workflow_id = siblings[file.new.name.lower()]
        references = dict(enumerate(file.references))
        values, problems = resolve(self._tx, self._principal, references, siblings)
        hashes = Pins(self._tx, self._principal.org_id, self._specs)
        versions, missing = resolve_versions(self._tx, self._principal, references, values, hashes)
        problems += missing
        outside = {name: value for name, value in values.items() if value not in siblings.values()}
        document = import_export.bind(
            rename(document_of(file.new.definition), versions),
            {**values, f"{UNBOUND}{import_export.SELF}": workflow_id},
        )
        named = {f"{UNBOUND}{one.name}" for one in file.references if one.target is not None}
        problems += [
            Problem(name, f'"{UNBOUND}{name}" stands for nothing; {_HINT}', "unbound")
            for name in sorted(set(import_export.unbound_names(document)))
            if f"{UNBOUND}{name}" not in named
        ]
        with _of_file(file):
            if problems:
                raise Invalid("A file refers to objects that cannot be found.", details=problems)
            definition = imported_types.pinned(self._tx, self._principal.org_id, _definition(document))
            version = make_version(workflow_id, 1, definition, self._principal)
        return _BoundFile(file, row, version, outside)

    def _create(self, one: _BoundFile) -> FileChange:
        row = make_row(self._principal, replace(one.file.new, id=one.version.workflow_id))
        rows.insert(self._tx, row)
        version_rows.insert(self._tx, one.version)
        audit.record(self._tx, self._principal, "workflow.create", row.id, name=row.name)
        return FileChange(one.file.path, row.name, "create", row.id, [], None)

    def _update(self, one: _BoundFile) -> FileChange:
        row, new = one.row, one.file.new
        assert row is not None
        wanted = _settings(new)
        current = get_version(self._tx, row, row.current_version)
        definition = differences(exact_json.loads(current.definition), exact_json.loads(one.version.definition))
        before = {name: getattr(row, name) for name in wanted}
        with _of_file(one.file):
            changes = changed(row, self._workflows.decide_update(self._tx, self._principal, row, wanted, one.version))
        self._save(row, changes, "workflow.update")
        settings = changes_between(_shown(before), _shown(wanted)) if changes else []
        differs = current.definition_hash != one.version.definition_hash
        action = "update" if changes else "unchanged"
        return FileChange(one.file.path, row.name, action, row.id, settings, definition if differs else None)

    def _save(self, row: WorkflowRow, changes: Changes, action: str) -> None:
        if changes:
            rows.update(self._tx, row.id, **changes, updated_at=clock.now_ms())
            note_choice(self._tx, self._principal, row, changes)
            self._workflows.arming.settle(self._tx, self._principal, row, replace(row, **changes))
            audit.record(self._tx, self._principal, action, row.id, changed=sorted(changes))


_HINT = "give its reference a `target`, or keep a secret in a connector"


def _called_first(files: Sequence[WorkflowFile]) -> list[WorkflowFile]:
    """The files, those before others of which the others name a version."""
    by_name = {file.new.name.lower(): file for file in files}
    sorter = graphlib.TopologicalSorter[str]()
    for file in files:
        pinned = (one.target.lower() for one in file.references if one.target is not None and one.versions)
        sorter.add(file.new.name.lower(), *(name for name in pinned if name in by_name))
    try:
        return [by_name[name] for name in sorter.static_order()]
    except graphlib.CycleError as error:
        path = by_name[error.args[1][0]].path
        message = "its calls lead back to itself, each with a version"
        raise Invalid("Files call each other.", details=[Problem(f"{path}: references", message)]) from None


def _settings(new: NewWorkflow) -> Changes:
    """The columns that a file sets; the editor's layout only if the file has one."""
    wanted = {name: getattr(new, name) for name in _SETTINGS}
    wanted |= {name: json_text(wanted[name]) for name in ("concurrency", "enforce_rehearsal")}
    return wanted if new.ui_metadata is None else {**wanted, "ui_metadata": json_text(new.ui_metadata)}


def _shown(columns: Changes) -> dict[str, Any]:
    """Columns under their wire names, JSON decoded."""
    return {
        to_camel(name): exact_json.loads(value) if name in _JSON and value is not None else value
        for name, value in columns.items()
    }


def _definition(document: Any) -> Definition:
    try:
        return Definition.model_validate(document)
    except ValidationError as error:
        found = errors_in(error, document, Definition.model_validate)
        details = problems_of(found, whole="definition", model=Definition)
        raise Invalid("The definition is invalid.", code=Code.DEFINITION_INVALID, details=details) from None


@contextlib.contextmanager
def _of_file(file: WorkflowFile) -> Iterator[None]:
    """Names the file in the problems of what is raised."""
    try:
        yield
    except Invalid as error:
        details = [
            replace(one, field=f"{file.path}: {one.field}") if isinstance(one, Problem) else one
            for one in error.details
        ]
        raise Invalid(error.message, code=error.code, details=details) from None


def _digest(changes: Sequence[FileChange], bound: Sequence[_BoundFile]) -> str:
    """SHA-256 over canonical JSON; without the ids of new workflows, which every attempt draws anew."""
    documents = [
        [one.file.path, document_of(one.file.new.definition), one.outside, one.row and one.row.current_version]
        for one in bound
    ]
    told = [
        [one.path, one.name, one.action, None if one.action == "create" else one.workflow_id, one.settings]
        for one in changes
    ]
    return hashlib.sha256(exact_json.dumps([documents, told], canonical=True)).hexdigest()
