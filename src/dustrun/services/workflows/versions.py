"""The numbered versions of a workflow: creating, reading and comparing them."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator
from typing import Any

from dustrun import clock
from dustrun.core.values import exact_json
from dustrun.core.workflow.definition import Definition
from dustrun.core.workflow.model_tools import with_tools
from dustrun.errors import Code, NotFound
from dustrun.services.access.paging import Page, Paging, page_of
from dustrun.services.access.principal import Principal
from dustrun.services.workflows import calls
from dustrun.storage.db.database import Database
from dustrun.storage.db.statement import Tx
from dustrun.storage.workflows import versions as rows
from dustrun.storage.workflows import workflows
from dustrun.storage.workflows.versions import VersionRow
from dustrun.storage.workflows.workflows import WorkflowRow


def document_of(definition: Definition) -> dict[str, Any]:
    """The definition as its author wrote it: wire names, original key order, no defaults filled in."""
    return definition.model_dump(by_alias=True, exclude_unset=True)


def hash_of(document: dict[str, Any]) -> str:
    """The SHA-256 of the canonical JSON: equal for equal documents."""
    return hashlib.sha256(exact_json.dumps(document, canonical=True)).hexdigest()


def _spaced(names: set[str]) -> str:
    return f" {' '.join(sorted(names))} " if names else ""


def make_version(workflow_id: str, number: int, definition: Definition, by: Principal) -> VersionRow:
    """Builds a version row, including what lists and filters use and what its author may spend from."""
    document = document_of(definition)
    nodes = definition.nodes
    first = nodes.get(definition.trigger_node_ids[0])
    return VersionRow(
        workflow_id=workflow_id,
        version=number,
        definition=exact_json.dumps_text(document),
        definition_hash=hash_of(document),
        trigger_type=first.type if first else "",
        node_types=_spaced({node.type for node in nodes.values()}),
        connector_types=_spaced({one.connector.type for one in with_tools(nodes.values()) if one.connector}),
        node_count=len(nodes),
        created_by=by.key_id,
        created_at=clock.now_ms(),
        author_wallets=by.spendable,
    )


def get_workflow(tx: Tx, principal: Principal, workflow_id: str) -> WorkflowRow:
    """Reads a workflow of the caller's organisation; raises `NotFound`, also if the key cannot access it."""
    principal.need_workflow(workflow_id)
    row = workflows.find(tx, principal.org_id, workflow_id)
    if row is None:
        raise NotFound(f'There is no workflow "{workflow_id}".', code=Code.WORKFLOW_UNKNOWN)
    return row


def get_version(tx: Tx, row: WorkflowRow, number: int) -> VersionRow:
    """Reads one version of the workflow; raises `NotFound`."""
    version = rows.find(tx, row.id, number)
    if version is None:
        raise NotFound(f'The workflow "{row.id}" has no version {number}.', code=Code.VERSION_UNKNOWN)
    return version


def _in_use(tx: Tx, row: WorkflowRow) -> Iterator[VersionRow]:
    """The draft and the live version, as far as there are."""
    for number in (row.draft_version, row.live_version):
        if number is not None:
            yield get_version(tx, row, number)


class Versions:
    """Read-only use cases of versions; those that write are in `workflows.py`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list_page(
        self, principal: Principal, workflow_id: str, paging: Paging, *, published: bool = False
    ) -> tuple[WorkflowRow, Page[VersionRow]]:
        """Reads the workflow and a page of its versions, or of those that were published, newest first; raises
        `NotFound`."""

        def query(tx: Tx) -> tuple[WorkflowRow, list[VersionRow]]:
            row = get_workflow(tx, principal, workflow_id)
            return row, rows.list_page(tx, row.id, published=published, limit=paging.peek, offset=paging.offset)

        row, found = await self._database.read(query)
        return row, page_of(found, paging)

    async def get(self, principal: Principal, workflow_id: str, number: int) -> tuple[WorkflowRow, VersionRow]:
        """Reads the workflow and one of its versions; raises `NotFound`."""

        def query(tx: Tx) -> tuple[WorkflowRow, VersionRow]:
            row = get_workflow(tx, principal, workflow_id)
            return row, get_version(tx, row, number)

        return await self._database.read(query)

    async def count(self, principal: Principal, workflow_id: str) -> int:
        """Counts the workflow's versions; raises `NotFound`."""

        def query(tx: Tx) -> int:
            return rows.count(tx, get_workflow(tx, principal, workflow_id).id)

        return await self._database.read(query)

    async def list_callers(self, principal: Principal, workflow_id: str) -> list[str]:
        """The workflows whose draft or live version calls this one, of those that the caller may read; raises
        `NotFound`."""

        def query(tx: Tx) -> list[str]:
            row = get_workflow(tx, principal, workflow_id)
            found = [one for one in workflows.list_callers(tx, row) if principal.may_read_workflow(one.id)]
            return [one.id for one in found if any(calls.names_workflow(it, row.id) for it in _in_use(tx, one))]

        return await self._database.read(query)

    async def _before(self, workflow_id: str, number: int) -> int:
        """The version before that one, or the first one itself. Numbers of replaced autosaves are missing."""
        found = await self._database.read(lambda tx: rows.list_numbers_below(tx, workflow_id, number, limit=1))
        return found[0] if found else number

    async def diff(self, principal: Principal, workflow_id: str, number: int, against: int | None) -> dict[str, Any]:
        """Compares version `number` with `against` (default: the one before it); raises `NotFound`."""
        row, new = await self.get(principal, workflow_id, number)
        earlier = await self._before(row.id, number) if against is None else against
        _, old = await self.get(principal, workflow_id, earlier)
        found = await asyncio.to_thread(_differences, old.definition, new.definition)
        return {"from": earlier, "to": number, "equal": old.definition_hash == new.definition_hash, **found}


def _differences(old: str, new: str) -> dict[str, Any]:
    return differences(exact_json.loads(old), exact_json.loads(new))


def differences(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """The nodes added, removed and changed (by path) between two documents, and all other changes."""
    before, after = old["nodes"], new["nodes"]
    changed = {
        node_id: changes
        for node_id in after
        if node_id in before
        if (changes := changes_between(before[node_id], after[node_id]))
    }
    rest_before = {name: value for name, value in old.items() if name != "nodes"}
    rest_after = {name: value for name, value in new.items() if name != "nodes"}
    return {
        "nodesAdded": [node_id for node_id in after if node_id not in before],
        "nodesRemoved": [node_id for node_id in before if node_id not in after],
        "nodesChanged": [{"nodeId": node_id, "changes": changes} for node_id, changes in changed.items()],
        "otherChanges": changes_between(rest_before, rest_after),
    }


def changes_between(before: Any, after: Any) -> list[dict[str, Any]]:
    """The differences between two values, by path."""
    return list(_walk(before, after, ""))


def _walk(before: Any, after: Any, path: str) -> Iterator[dict[str, Any]]:
    """Compares objects key by key and other values as a whole; a missing side is omitted from the change."""
    if isinstance(before, dict) and isinstance(after, dict):
        for name in (*before, *(name for name in after if name not in before)):
            inner = f"{path}.{name}" if path else name
            if name not in after:
                yield {"path": inner, "before": before[name]}
            elif name not in before:
                yield {"path": inner, "after": after[name]}
            else:
                yield from _walk(before[name], after[name], inner)
    elif type(before) is not type(after) or before != after:
        yield {"path": path, "before": before, "after": after}
