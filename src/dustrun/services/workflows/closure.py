"""The closure of a version: its definition and the definitions of all that it calls, as they resolve now.

One digest stands for it, so a rehearsal or an acceptance holds for exactly what was looked at, called workflows
included.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import field, fields, replace
from functools import lru_cache
from typing import Any

from dustrun.core.values import exact_json
from dustrun.core.workflow.definition import ConnectorReference
from dustrun.core.workflow.model_tools import raw_tools
from dustrun.core.workflow.specs import Specs
from dustrun.records import dataclass
from dustrun.services.access.api_keys import principal_of
from dustrun.services.access.hands import UNKNOWN, Hand
from dustrun.services.access.principal import Principal
from dustrun.storage.access import keys as key_rows
from dustrun.storage.db.statement import Tx
from dustrun.storage.runs import called_runs
from dustrun.storage.runs import runs as run_rows
from dustrun.storage.runs.runs import RunRow
from dustrun.storage.workflows import versions as version_rows
from dustrun.storage.workflows import workflows as workflow_rows
from dustrun.storage.workflows.versions import VersionRow
from dustrun.storage.workflows.workflows import WorkflowRow

_KEPT = 2000
_KEPT_UNSAVED = 50
UNSAVED = "inline"
"""Stands for the workflow of a definition that is not saved, with version 0."""
FOLLOWERS = frozenset({"workflow-finished", "run-finished"})
"""The triggers that fire when runs end."""
WATCHERS = frozenset({"table-row"})
"""The triggers that fire when rows of tables change."""


@dataclass(frozen=True, slots=True)
class SpendNode:
    """A node that spends. `wallets`: those it can use; None is the organisation's default wallet, `ANY_WALLET` each."""

    node_id: str
    type: str
    wallets: tuple[str | None, ...]


@dataclass(frozen=True, slots=True)
class VersionContent:
    """The spends and calls of a version. `calls`: workflows and versions that its nodes name; None is the live one,
    else the draft. `calls_any`: a call computes its workflow or version, so it can reach every workflow."""

    hash: str
    spends: tuple[SpendNode, ...]
    calls: tuple[tuple[str, int | None], ...]
    calls_any: bool
    created_by: str
    author_wallets: str | None
    reads: tuple[tuple[str, str], ...] = ()
    """Kind and name of the stored things that its nodes may read: `connector` by id, `table` by name or id, and
    `variable`, of its workflow, without a name."""
    webhooks: tuple[str, ...] = ()
    """The nodes by which inbound webhooks start it."""
    follows: bool = False
    """Whether ends of other workflows' runs start it."""
    tables: tuple[str, ...] = ()
    """The tables that its nodes name, also those that they write."""
    watched: tuple[str, ...] = ()
    """The tables whose rows start it."""


@dataclass(frozen=True, slots=True)
class ClosureMember:
    """A version in a closure."""

    workflow: WorkflowRow
    version: int
    content: VersionContent

    @property
    def key(self) -> tuple[str, int]:
        """The workflow's id and the version."""
        return self.workflow.id, self.version


@dataclass(frozen=True, slots=True)
class Closure:
    """The versions that a version can reach, itself first."""

    members: tuple[ClosureMember, ...]
    digest: str
    unsaved: str | None = None
    """The text of the version's definition, if it belongs to a run alone."""
    ran: tuple[tuple[tuple[str, str], tuple[str, ...]], ...] = ()
    """Of a run, whose calls may have run other versions than those of now: by calling version and node, what it ran."""
    fired: str | None = None
    """The trigger that started a run; None: any may."""

    @property
    def root(self) -> ClosureMember:
        """The version itself."""
        return self.members[0]

    @property
    def calls_any(self) -> bool:
        """Whether a call in it computes which workflow it runs."""
        return any(member.content.calls_any for member in self.members)

    @property
    def can_spend(self) -> bool:
        """Whether a spend can be reached."""
        return self.calls_any or any(member.content.spends for member in self.members)

    def spends(self) -> Iterator[tuple[ClosureMember, SpendNode]]:
        """Every spending node with the version that has it."""
        for member in self.members:
            for node in member.content.spends:
                yield member, node


@dataclass(slots=True)
class Lookup:
    """The workflows that one transaction has read. `reader`: who is told what is refused; None may read everything."""

    tx: Tx
    org_id: str
    reader: Principal | None = None
    rows: dict[str, WorkflowRow | None] = field(default_factory=dict)

    def find(self, workflow_id: str) -> WorkflowRow | None:
        """The workflow, read once."""
        if workflow_id not in self.rows:
            self.rows[workflow_id] = workflow_rows.find(self.tx, self.org_id, workflow_id)
        return self.rows[workflow_id]

    def may_tell(self, workflow_id: str) -> bool:
        """Whether a refusal may name the workflow and its nodes."""
        return self.reader is None or self.reader.may_read_workflow(workflow_id)


class Closures:
    """Resolves closures; a version never changes, so what it does with money is kept in memory."""

    def __init__(self, specs: Specs) -> None:
        self._specs = specs
        self._kept: OrderedDict[tuple[str, int], VersionContent] = OrderedDict()
        self._unsaved: OrderedDict[str, VersionContent] = OrderedDict()

    def resolve(self, lookup: Lookup, workflow: WorkflowRow, version: int) -> Closure | None:
        """The closure of a version; None when the workflow has no such version. Missing and archived workflows are left
        out: a call of them fails."""
        content = self.find(lookup.tx, workflow.id, version)
        return None if content is None else self._closure(lookup, ClosureMember(workflow, version, content))

    def of_run(self, lookup: Lookup, run: RunRow) -> Closure | None:
        """The closure of what a run executes; None when that is deleted."""
        if run.workflow_id is None:
            return None if run.definition is None else self.of_unsaved(lookup, run.definition, _first_hand(lookup, run))
        workflow = lookup.find(run.workflow_id)
        return self.resolve(lookup, workflow, run.version) if workflow is not None and run.version is not None else None

    def of_running(self, lookup: Lookup, run: RunRow) -> Closure | None:
        """The closure of a run under way: with what its calls have run, though that may have been edited since."""
        closure = self.of_run(lookup, run)
        if closure is None:
            return None
        began = min(one.started_at for one in called_runs.list_retried(lookup.tx, run))
        if not any(_may_be_edited(lookup, member, began) for member in closure.members):
            return closure
        members = {member.key: member for member in closure.members}
        ran: dict[tuple[str, str], set[str]] = {}
        for call in called_runs.list_versions(lookup.tx, run):
            place = key_of(call.caller_id or UNSAVED, call.caller_version), call.node_id
            ran.setdefault(place, set()).add(key_of(call.workflow_id, call.version))
            workflow = lookup.find(call.workflow_id)
            if workflow is not None:
                self._add(lookup, members, workflow, call.version)
        shown = tuple(sorted((place, tuple(sorted(keys))) for place, keys in ran.items()))
        return replace(closure, members=tuple(members.values()), ran=shown)

    def _add(
        self, lookup: Lookup, members: dict[tuple[str, int], ClosureMember], workflow: WorkflowRow, version: int
    ) -> None:
        """Adds a version and what it calls."""
        waiting = [(workflow, version)]
        while waiting:
            row, number = waiting.pop(0)
            content = self.find(lookup.tx, row.id, number) if (row.id, number) not in members else None
            if content is not None:
                members[row.id, number] = ClosureMember(row, number, content)
                waiting += _called(lookup, content)

    def of_unsaved(self, lookup: Lookup, text: str, hand: Hand) -> Closure:
        """The closure of a definition that is not saved, which a hand gave. Nothing but its caller starts it."""
        hashed = hashlib.sha256(text.encode()).hexdigest()
        content = self._unsaved.get(hashed)
        if content is None:
            content = self._unsaved[hashed] = _content_of(text, hashed, self._specs)
            if len(self._unsaved) > _KEPT_UNSAVED:
                self._unsaved.popitem(last=False)
        content = replace(content, created_by=hand.key_id, author_wallets=hand.wallets)
        found = self._closure(lookup, ClosureMember(_unsaved_workflow(lookup.org_id), 0, content))
        return replace(found, unsaved=text)

    def _closure(self, lookup: Lookup, root: ClosureMember) -> Closure:
        members = {root.key: root}
        for row, number in _called(lookup, root.content):
            self._add(lookup, members, row, number)
        found = tuple(members.values())
        return Closure(found, _digest(found))

    def find(self, tx: Tx, workflow_id: str, version: int) -> VersionContent | None:
        """The spends and calls of a version."""
        key = (workflow_id, version)
        content = self._kept.get(key)
        if content is None:
            row = version_rows.find(tx, workflow_id, version)
            if row is None:
                return None
            content = self._kept[key] = _content(row, self._specs)
            if len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return content


def _may_be_edited(lookup: Lookup, member: ClosureMember, began: int) -> bool:
    """Whether what a member calls may have run another version than now since then."""
    called = (lookup.find(workflow_id) for workflow_id, version in member.content.calls if version is None)
    return member.content.calls_any or any(row is None or row.updated_at >= began for row in called)


def _called(lookup: Lookup, content: VersionContent) -> Iterator[tuple[WorkflowRow, int]]:
    for workflow_id, version in content.calls:
        row = lookup.find(workflow_id)
        if row is not None and row.status != "archived":
            yield row, version or version_called(row)


def key_of(workflow_id: str, version: int) -> str:
    """A version as slices name it."""
    return f"{workflow_id}@{version}"


def key_of_run(run: RunRow) -> str:
    """The version that a run executes, as slices name it."""
    return key_of(run.workflow_id or UNSAVED, run.version or 0)


def version_called(row: WorkflowRow) -> int:
    """The version that a call runs when it names none: the live one, else the draft."""
    return row.live_version or row.draft_version or row.latest_version


def _digest(members: tuple[ClosureMember, ...]) -> str:
    """SHA-256 over canonical JSON: the hash of the version's definition, and those of what it calls by workflow."""
    called: dict[str, list[str]] = {}
    for member in members[1:]:
        called.setdefault(member.workflow.id, []).append(member.content.hash)
    document = {
        "definition": members[0].content.hash,
        "calls": {workflow_id: sorted(hashes) for workflow_id, hashes in called.items()},
    }
    return hashlib.sha256(exact_json.dumps(document, canonical=True)).hexdigest()


def _content(row: VersionRow, specs: Specs) -> VersionContent:
    nodes = exact_json.loads(row.definition)["nodes"]
    return replace(
        _content_of(row.definition, row.definition_hash, specs),
        created_by=row.created_by,
        author_wallets=row.author_wallets,
        webhooks=tuple(node_id for node_id, node in nodes.items() if node["type"] == "webhook"),
        follows=any(node["type"] in FOLLOWERS for node in nodes.values()),
        watched=tuple(str(node.get("payload", {}).get("table")) for node in nodes.values() if node["type"] in WATCHERS),
    )


def _content_of(text: str, hashed: str, specs: Specs) -> VersionContent:
    """The spends and calls of a definition, without its author and what starts it."""
    nodes = exact_json.loads(text)["nodes"]
    calls = [call_of(node) for node in nodes.values() if node["type"] == "call-workflow"]
    return VersionContent(
        hash=hashed,
        spends=tuple(_spend_of(node_id, node) for node_id, node in nodes.items() if spends(node, specs)),
        calls=tuple(call for call in calls if call is not None),
        calls_any=None in calls,
        created_by="",
        author_wallets=None,
        reads=tuple(dict.fromkeys(_reads(nodes.values(), text))),
        tables=tuple(dict.fromkeys(_tables(nodes.values()))),
    )


def _first_hand(lookup: Lookup, run: RunRow) -> Hand:
    """The key that gave the definition of a run: with the first of its retries, and with what it may spend now."""
    first = run_rows.find(lookup.tx, lookup.org_id, run.root_run_id)
    key = key_rows.find(lookup.tx, lookup.org_id, first.triggered_by) if first is not None else None
    return Hand(key.id, principal_of(key).spendable) if key is not None else UNKNOWN


@lru_cache(maxsize=_KEPT)
def _unsaved_workflow(org_id: str) -> WorkflowRow:
    """Stands for the workflow that a definition would be of."""
    nothing = dict.fromkeys(field.name for field in fields(WorkflowRow))
    given = {"id": UNSAVED, "org_id": org_id, "name": "", "acceptances": 0, "require_rehearsal": "none"}
    return WorkflowRow(**{**nothing, **given, "status": "draft", "latest_version": 0})  # type: ignore[arg-type]


def _reads(nodes: Iterable[Mapping[str, Any]], text: str) -> Iterator[tuple[str, str]]:
    if "$vars" in text or "-variable" in text:
        yield "variable", ""
    for node in nodes:
        for part in (node, *(tool for _, tool in raw_tools(node))):
            connector, table = part.get("connector"), (part.get("payload") or {}).get("table")
            if isinstance(connector, dict) and connector.get("type") != "wallet":
                yield "connector", str(connector.get("id"))
            if part.get("type") in ("read-table", *WATCHERS) and isinstance(table, str):
                yield "table", table


def _tables(nodes: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    for node in nodes:
        for part in (node, *(tool for _, tool in raw_tools(node))):
            table = (part.get("payload") or {}).get("table")
            if part.get("type") in ("read-table", "write-table") and isinstance(table, str):
                yield table


def spends(node: Mapping[str, Any], specs: Specs) -> bool:
    """Whether a node of a definition's document spends."""
    spec = specs.get(node["type"])
    return spec is not None and spec.effect == "spend"


def _spend_of(node_id: str, node: Mapping[str, Any]) -> SpendNode:
    connector = node.get("connector")
    wallets = ConnectorReference.model_validate(connector).wallets if connector else (None,)
    return SpendNode(node_id, node["type"], wallets)


def call_of(node: Mapping[str, Any]) -> tuple[str, int | None] | None:
    """The workflow and version that a call names; None when it computes one of them."""
    payload = node.get("payload") or {}
    workflow_id, version = payload.get("workflowId", ""), payload.get("version")
    if not isinstance(workflow_id, str) or "{{" in workflow_id or isinstance(version, str):
        return None
    return workflow_id, version
