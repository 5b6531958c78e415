"""Names of the objects that a portable file refers to: from ids to names for an export, and back for an import."""

from __future__ import annotations

import re
from collections.abc import Mapping

from dustrun.core.workflow.definition import UNBOUND
from dustrun.errors import Problem
from dustrun.services.access.principal import Principal
from dustrun.services.workflows.import_export import NAMED, Reference
from dustrun.services.workflows.pins import Pin, Pins
from dustrun.storage.data import named
from dustrun.storage.db.statement import Tx
from dustrun.storage.workflows import workflows
from dustrun.storage.workflows.workflows import WorkflowRow

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
        return principal.may("connector:read") and principal.workflow_ids is None
    return principal.may_read_workflow(object_id)


def resolve(
    tx: Tx, principal: Principal, references: Mapping[int, Reference], siblings: Mapping[str, str]
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
    tx: Tx, principal: Principal, references: Mapping[int, Reference], values: Mapping[str, str], hashes: Pins
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


def _candidates(tx: Tx, principal: Principal, one: Reference, name: str, siblings: Mapping[str, str]) -> list[str]:
    org_id = principal.org_id
    if one.kind == "connector":
        return named.list_connectors(tx, org_id, name, one.type or "")
    if one.kind == "wallet":
        return [found for found in named.list_wallets(tx, org_id, name) if principal.may_use_wallet(found)]
    if name.lower() in siblings:
        return [siblings[name.lower()]]
    found = [row.id for row in workflows.list_named(tx, org_id, name)]
    return [one_id for one_id in found if principal.may_use_workflow(one_id)]
