"""How far a version has come: which of its spends were rehearsed, who accepted it, and what it can spend that the last
accepted version could not."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from dustrun import clock
from dustrun.core.run.state import Mode
from dustrun.core.values import exact_json
from dustrun.core.workflow.specs import Specs
from dustrun.errors import Code, Conflict, Forbidden, NotFound, Problem
from dustrun.records import dataclass
from dustrun.services.access import audit, idempotency
from dustrun.services.access.hands import is_one_hand, need_person
from dustrun.services.access.principal import Principal
from dustrun.services.workflows import spend_gate
from dustrun.services.workflows.closure import Closure, ClosureMember, Lookup, SpendNode, spends
from dustrun.services.workflows.slices import Slices
from dustrun.services.workflows.sources import SourceStatus, can_help, covers
from dustrun.services.workflows.spend_gate import SpendGate
from dustrun.services.workflows.versions import changes_between, get_version, get_workflow
from dustrun.storage.db.database import Database
from dustrun.storage.db.statement import Tx
from dustrun.storage.db.writer import Writer
from dustrun.storage.workflows import acceptances as rows
from dustrun.storage.workflows import versions as version_rows
from dustrun.storage.workflows import workflows as workflow_rows
from dustrun.storage.workflows.acceptances import AcceptanceRow
from dustrun.storage.workflows.workflows import WorkflowRow

Json = dict[str, Any]
Key = tuple[str, int]
_MODES = (Mode.SIMULATE.value, Mode.DUST.value, Mode.LIVE.value)
_NOT_MEANT = frozenset(["titleOverride", "description"])  # what a node says of itself and does not do
_SEARCHED = 200


@dataclass(frozen=True, slots=True)
class Baseline:
    """The last accepted version, and the versions that it reached then."""

    version: int
    members: tuple[Key, ...]


@dataclass(frozen=True, slots=True)
class AcceptanceStatus:
    """Whether a version is accepted, and what is new in it. `differences`: as the API shows them."""

    closure: Closure
    sources: list[SourceStatus]
    against: int | None
    differences: Json

    @property
    def is_accepted(self) -> bool:
        """Whether enough keys have accepted everything that shapes its spends."""
        return not any(one.lacking for one in self.sources)

    @property
    def needed(self) -> int:
        """How many must accept what lacks the most."""
        return self._worst.source.needed if self._worst is not None else 0

    @property
    def accepted_by(self) -> Sequence[AcceptanceRow]:
        """Who has accepted what lacks the most."""
        return self._worst.accepted_by if self._worst is not None else ()

    @property
    def _worst(self) -> SourceStatus | None:
        return max(self.sources, key=lambda one: (one.lacking, one.source.needed), default=None)


@dataclass(frozen=True, slots=True)
class Ladder:
    """A version's status and, by spending node and mode, where it was last carried out; `principal` is who asks.
    `reasons`: the sources of its first spends, as the API shows them."""

    status: AcceptanceStatus
    carried: Mapping[str, Mapping[spend_gate.Place, spend_gate.LastSpend]]
    principal: Principal
    reasons: Sequence[Json] = ()

    def spends(self) -> Iterator[tuple[ClosureMember, SpendNode]]:
        """The spending nodes of the workflows that the caller can access."""
        return (one for one in self.status.closure.spends() if self.principal.may_use_workflow(one[0].workflow.id))

    @property
    def is_rehearsed(self) -> bool:
        """Whether every spending node has the rehearsal that the workflow requires."""
        closure = self.status.closure
        wanted = closure.root.workflow.require_rehearsal
        places = {spend_gate.place_of(member, node) for member, node in closure.spends()}
        return wanted == "none" or places <= self.carried[wanted].keys()


class Acceptances:
    """Shows how far a version has come, and accepts it."""

    def __init__(self, database: Database, writer: Writer, gate: SpendGate, specs: Specs, slices: Slices) -> None:
        self._slices = slices
        self._database = database
        self._writer = writer
        self._gate = gate
        self._specs = specs

    async def ladder(self, principal: Principal, workflow_id: str, version: int | None) -> Ladder:
        """How far a version has come, by default the draft, else the live one; raises `NotFound`."""

        def query(tx: Tx) -> Ladder:
            row = get_workflow(tx, principal, workflow_id)
            lookup, closure = self._closure(tx, row, version or row.current_version)
            carried = {mode: self._gate.carried_out(tx, closure, mode) for mode in _MODES}
            return Ladder(_visible(principal, self._status(lookup, closure)), carried, principal)

        found = await self._gate.slicing(lambda: self._database.read(query))
        closure = found.status.closure
        return replace(found, reasons=await self._slices.beside(principal, workflow_id, closure.root.version))

    async def accept(
        self, principal: Principal, workflow_id: str, version: int, expected: str | None
    ) -> AcceptanceStatus:
        """Accepts a version as it resolves now. Raises `Forbidden` for its author, for a service account and for a key
        that may not spend from every wallet it reaches, and `Conflict` when its digest is not the expected one."""
        principal.need("wallet:spend")
        principal.need("workflow:read")

        def unit(tx: Tx) -> AcceptanceStatus:
            need_person(tx, principal, "accept a version")
            get_workflow(tx, principal, workflow_id)
            row = workflow_rows.find_to_change(tx, principal.org_id, workflow_id)
            assert row is not None
            lookup, closure = self._closure(tx, row, version)
            before = self._status(lookup, closure)
            _check(lookup, principal, before, expected)
            for member in closure.members:
                workflow_rows.keep_draft(tx, principal.org_id, *member.key)
            if rows.put(tx, _acceptance(principal, closure, self._gate.sources.seen(lookup, closure))):
                audit.record(tx, principal, "workflow.accept", workflow_id, version=version, digest=closure.digest)
            return replace(before, sources=self._gate.sources.statuses(lookup, closure))

        await self._gate.prepare(principal.org_id, workflow_id, version)
        return await idempotency.write(self._writer, unit)

    async def withdraw(self, principal: Principal, workflow_id: str, version: int) -> AcceptanceStatus:
        """Takes back what the caller's hand has accepted of a version, as it resolves now and as it did before.
        An administrator takes back everybody's. Raises `NotFound` if nobody has, and `Forbidden` if others have."""
        principal.need("workflow:read")

        def unit(tx: Tx) -> AcceptanceStatus:
            get_workflow(tx, principal, workflow_id)
            row = workflow_rows.find_to_change(tx, principal.org_id, workflow_id)
            assert row is not None
            lookup, closure = self._closure(tx, row, version)
            keys = sorted({one.key_id for one in rows.list_all(tx, workflow_id) if one.version == version})
            own = [one for one in keys if principal.may("admin") or is_one_hand(tx, row.org_id, one, principal.key_id)]
            if not keys:
                raise NotFound(f"Nobody has accepted version {version}.", code=Code.ACCEPTANCE_UNKNOWN)
            if not own:
                raise Forbidden("Who accepted the version withdraws that, with a key of the same hand, or `admin`.")
            for key_id in own:
                rows.delete(tx, workflow_id, version, key_id)
                audit.record(tx, principal, "workflow.unaccept", workflow_id, version=version, acceptedBy=key_id)
            return _visible(principal, self._status(lookup, closure))

        await self._gate.prepare(principal.org_id, workflow_id, version)
        return await idempotency.write(self._writer, unit)

    def _closure(self, tx: Tx, row: WorkflowRow, version: int) -> tuple[Lookup, Closure]:
        get_version(tx, row, version)
        lookup = Lookup(tx, row.org_id)
        closure = self._gate.closures.resolve(lookup, row, version)
        assert closure is not None
        return lookup, closure

    def _status(self, lookup: Lookup, closure: Closure) -> AcceptanceStatus:
        baseline = self._baseline(lookup, closure)
        old = baseline.members if baseline is not None else ()
        differences = _differences(lookup, old, tuple(member.key for member in closure.members), self._specs)
        sources = self._gate.sources.statuses(lookup, closure)
        return AcceptanceStatus(closure, sources, baseline.version if baseline else None, differences)

    def _baseline(self, lookup: Lookup, closure: Closure) -> Baseline | None:
        """The newest accepted version that is not this very closure: accepted by somebody, or written by one who may
        spend what it spends."""
        workflow, number = closure.root.key
        accepted = [
            Baseline(one.version, tuple((key[0], key[1]) for key in exact_json.loads(one.members)))
            for one in rows.list_all(lookup.tx, workflow)
            if one.version < number or (one.version == number and one.digest != closure.digest)
        ]
        own = self._written_by_spender(lookup, closure)
        found = [*accepted[:1], *([own] if own is not None else [])]
        return max(found, key=lambda one: one.version, default=None)

    def _written_by_spender(self, lookup: Lookup, closure: Closure) -> Baseline | None:
        workflow, number = closure.root.workflow, closure.root.version
        for version in version_rows.list_numbers_below(lookup.tx, workflow.id, number, limit=_SEARCHED):
            earlier = self._gate.closures.resolve(lookup, workflow, version)
            if earlier is not None and self._gate.sources.is_by_spenders(lookup, earlier):
                return Baseline(version, tuple(member.key for member in earlier.members))
        return None


def _check(lookup: Lookup, principal: Principal, status: AcceptanceStatus, expected: str | None) -> None:
    closure = status.closure
    if expected is not None and expected != closure.digest:
        raise Conflict(
            "The version, or what it calls, is no longer what was looked at: read its ladder again.",
            code=Code.VERSION_MOVED,
            details=[Problem("expectedDigest", f"the digest is {closure.digest}")],
        )
    if not can_help(lookup, principal.key_id, status.sources):
        raise Forbidden(
            "The author of a version cannot accept it, nor can a key that the author made, or that comes from the same "
            "key; another must."
        )
    if not all(principal.may_use_workflow(member.workflow.id) for member in closure.members):
        raise Forbidden("The key is limited to some workflows (workflowIds); the version calls others.")
    if not covers(lookup, principal.spendable, closure):
        raise Forbidden("The key is limited to some wallets (walletIds); the version can spend from others.")


def _visible(principal: Principal, status: AcceptanceStatus) -> AcceptanceStatus:
    """Without nodes of workflows that the caller cannot access."""
    differences = {
        name: [one for one in found if principal.may_use_workflow(one["workflowId"])]
        for name, found in status.differences.items()
    }
    return replace(status, differences=differences)


def _acceptance(principal: Principal, closure: Closure, seen: dict[str, dict[str, int]]) -> AcceptanceRow:
    workflow_id, version = closure.root.key
    return AcceptanceRow(
        workflow_id=workflow_id,
        version=version,
        digest=closure.digest,
        key_id=principal.key_id,
        members=exact_json.dumps_text([list(member.key) for member in closure.members]),
        accepted_at=clock.now_ms(),
        seen=exact_json.dumps_text(seen),
    )


def _differences(lookup: Lookup, old: tuple[Key, ...], new: tuple[Key, ...], specs: Specs) -> Json:
    """Spending nodes added, removed and changed, and the other nodes that differ: they may decide what is spent."""
    before, after = (_nodes(lookup, members) for members in (old, new))

    def shown(places: list[tuple[str, str]], nodes: Mapping[tuple[str, str], Json]) -> list[Json]:
        return [_place(place) | _about(nodes[place]) for place in places if spends(nodes[place], specs)]

    added, removed = [p for p in after if p not in before], [p for p in before if p not in after]
    changed = {p: found for p in after if p in before and (found := _meant(before[p], after[p]))}

    def is_spend(place: tuple[str, str]) -> bool:
        return spends(after.get(place) or before[place], specs)

    return {
        "added": shown(added, after),
        "removed": shown(removed, before),
        "changed": [_place(p) | {"changes": found} for p, found in changed.items() if is_spend(p)],
        "otherNodes": [_place(p) for p in _others([*added, *removed, *changed], is_spend)],
    }


def _others(places: list[tuple[str, str]], is_spend: Callable[[tuple[str, str]], bool]) -> Iterator[tuple[str, str]]:
    return (place for place in sorted(places) if not is_spend(place))


def _nodes(lookup: Lookup, members: tuple[Key, ...]) -> dict[tuple[str, str], Json]:
    """The nodes of all members, by workflow and id; of two versions of one workflow the later listed one."""
    found: dict[tuple[str, str], Json] = {}
    for workflow_id, version in members:
        row = version_rows.find(lookup.tx, workflow_id, version)
        document = exact_json.loads(row.definition) if row is not None else {"nodes": {}}
        found |= {(workflow_id, node_id): node for node_id, node in document["nodes"].items()}
    return found


def _meant(before: Json, after: Json) -> list[Json]:
    old, new = ({name: value for name, value in node.items() if name not in _NOT_MEANT} for node in (before, after))
    return changes_between(old, new)


def _place(place: tuple[str, str]) -> Json:
    return {"workflowId": place[0], "nodeId": place[1]}


def _about(node: Json) -> Json:
    connector = node.get("connector")
    wallet_id, one_of = (connector["id"], connector.get("oneOf")) if connector else (None, None)
    return {"type": node["type"], "walletId": wallet_id, "oneOf": one_of, "payload": node.get("payload", {})}
