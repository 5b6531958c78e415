"""The closure of a version: its definition and the definitions of all that it calls, as they resolve now.

One digest stands for it, so a rehearsal or an acceptance holds for exactly what was looked at, called workflows
included.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import field
from typing import Any

from dustrun.core.values import exact_json
from dustrun.core.workflow.definition import ConnectorReference
from dustrun.core.workflow.model_tools import raw_tools
from dustrun.core.workflow.specs import Specs
from dustrun.records import dataclass
from dustrun.services.access.principal import Principal
from dustrun.storage.db.statement import Tx
from dustrun.storage.workflows import versions as version_rows
from dustrun.storage.workflows import workflows as workflow_rows
from dustrun.storage.workflows.versions import VersionRow
from dustrun.storage.workflows.workflows import WorkflowRow

_KEPT = 2000
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
class Content:
    """What a version does with money. `calls`: workflows and versions that its nodes name; None is the live one, else
    the draft. `calls_any`: a call computes its workflow or version, so it can reach every workflow."""

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
class Member:
    """A version in a closure."""

    workflow: WorkflowRow
    version: int
    content: Content

    @property
    def key(self) -> tuple[str, int]:
        """The workflow's id and the version."""
        return self.workflow.id, self.version


@dataclass(frozen=True, slots=True)
class Closure:
    """The versions that a version can reach, itself first."""

    members: tuple[Member, ...]
    digest: str

    @property
    def root(self) -> Member:
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

    def spends(self) -> Iterator[tuple[Member, SpendNode]]:
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
        self._kept: OrderedDict[tuple[str, int], Content] = OrderedDict()

    def resolve(self, lookup: Lookup, workflow: WorkflowRow, version: int) -> Closure | None:
        """The closure of a version; None when the workflow has no such version. Missing and archived workflows are left
        out: a call of them fails."""
        members: dict[tuple[str, int], Member] = {}
        waiting: list[tuple[WorkflowRow, int]] = [(workflow, version)]
        while waiting:
            row, number = waiting.pop(0)
            content = self.find(lookup.tx, row.id, number) if (row.id, number) not in members else None
            if content is not None:
                members[row.id, number] = Member(row, number, content)
                waiting += _called(lookup, content)
        if (workflow.id, version) not in members:
            return None
        found = tuple(members.values())
        return Closure(found, _digest(found))

    def find(self, tx: Tx, workflow_id: str, version: int) -> Content | None:
        """What a version does with money."""
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


def _called(lookup: Lookup, content: Content) -> Iterator[tuple[WorkflowRow, int]]:
    for workflow_id, version in content.calls:
        row = lookup.find(workflow_id)
        if row is not None and row.status != "archived":
            yield row, version or version_called(row)


def version_called(row: WorkflowRow) -> int:
    """The version that a call runs when it names none: the live one, else the draft."""
    return row.live_version or row.draft_version or row.latest_version


def _digest(members: tuple[Member, ...]) -> str:
    """SHA-256 over canonical JSON: the hash of the version's definition, and those of what it calls by workflow."""
    called: dict[str, list[str]] = {}
    for member in members[1:]:
        called.setdefault(member.workflow.id, []).append(member.content.hash)
    document = {
        "definition": members[0].content.hash,
        "calls": {workflow_id: sorted(hashes) for workflow_id, hashes in called.items()},
    }
    return hashlib.sha256(exact_json.dumps(document, canonical=True)).hexdigest()


def _content(row: VersionRow, specs: Specs) -> Content:
    nodes = exact_json.loads(row.definition)["nodes"]
    calls = [call_of(node) for node in nodes.values() if node["type"] == "call-workflow"]
    return Content(
        hash=row.definition_hash,
        spends=tuple(_spend_of(node_id, node) for node_id, node in nodes.items() if spends(node, specs)),
        calls=tuple(call for call in calls if call is not None),
        calls_any=None in calls,
        created_by=row.created_by,
        author_wallets=row.author_wallets,
        reads=tuple(dict.fromkeys(_reads(nodes.values(), row.definition))),
        webhooks=tuple(node_id for node_id, node in nodes.items() if node["type"] == "webhook"),
        follows=any(node["type"] in FOLLOWERS for node in nodes.values()),
        tables=tuple(dict.fromkeys(_tables(nodes.values()))),
        watched=tuple(str(node.get("payload", {}).get("table")) for node in nodes.values() if node["type"] in WATCHERS),
    )


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
