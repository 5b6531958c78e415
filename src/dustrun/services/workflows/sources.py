"""Whose hands shape what a version spends, and who has accepted that.

A spend goes unasked only if every hand in it could spend from its wallets when it wrote, or if somebody who can has
accepted what it wrote since. Keys of one origin are one hand (`access/hands.py`); what they wrote are the definitions,
connectors, tables, variables and settings in the slice of the spend (`shapes.py`). Systems are judged by policies."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from dustrun.core.sources.source import ANY
from dustrun.core.values.exact_json import loads
from dustrun.core.workflow.definition import ANY_WALLET
from dustrun.records import dataclass
from dustrun.services.access.api_keys import is_good, principal_of
from dustrun.services.access.hands import (
    UNKNOWN,
    Hand,
    hands_behind,
    hands_of,
    is_of_account,
    is_one_hand,
    table_object,
)
from dustrun.services.access.principal import ALL_WALLETS
from dustrun.services.workflows.closure import UNSAVED, Closure, ClosureMember, Closures, Lookup, key_of
from dustrun.services.workflows.shapes import Shape, Shapes, Thing
from dustrun.storage.access import hands as hand_rows
from dustrun.storage.access import keys as key_rows
from dustrun.storage.data import connectors, managed_tables
from dustrun.storage.data import variables as variable_rows
from dustrun.storage.runs import runs as run_rows
from dustrun.storage.triggers import webhook_secrets
from dustrun.storage.workflows import acceptances
from dustrun.storage.workflows import versions as version_rows
from dustrun.storage.workflows.acceptances import AcceptanceRow

_KEPT = 10_000
_BY_WORKFLOWS = ("workflow:create", "workflow:update", "workflow:publish", "workflow:execute")
_WRITERS: Mapping[str, tuple[str, ...]] = {
    "connector": ("connector:write",),
    "import": ("connector:write",),
    "setting": ("wallet:write",),
    "version": ("workflow:publish", "workflow:delete"),
    "guards": ("workflow:update",),
    "name": ("workflow:update",),
    "table": (*_BY_WORKFLOWS, "table:write"),
}
"""By kind of thing, the permissions that let a key write it; else those of workflows."""


@dataclass(frozen=True, slots=True)
class ShapingSource:
    """A thing that shapes spends of the version `payer`, and a hand that wrote it. `needed`: how many others must
    accept that."""

    thing: Thing
    hand: Hand
    needed: int
    payer: ClosureMember


@dataclass(frozen=True, slots=True)
class SourceStatus:
    """A source with the acceptances of it that count: none of its own hand, none twice."""

    source: ShapingSource
    accepted_by: tuple[AcceptanceRow, ...] = ()

    @property
    def lacking(self) -> int:
        """How many acceptances are missing."""
        return max(0, self.source.needed - len(self.accepted_by))


class SpendSources:
    """Finds the sources of what a version can spend, and judges their hands."""

    def __init__(self, closures: Closures, shapes: Shapes) -> None:
        self._closures = closures
        self._shapes = shapes
        self._limits: dict[str, frozenset[str] | None] = {}

    def statuses(self, lookup: Lookup, closure: Closure) -> list[SourceStatus]:
        """Every source of what a closure can spend, its own definition first. Raises `Unsliced`."""
        return [self._status(lookup, closure, source) for source in self._sources(lookup, closure)]

    def is_by_spenders(self, lookup: Lookup, closure: Closure) -> bool:
        """Whether all that is written in the versions of a closure was written by who may spend what it spends."""
        named = {wallet for _, node in closure.spends() for wallet in node.wallets}
        where = {closure.root.workflow.id, *(member.workflow.id for member, _ in closure.spends())}
        authors = (Hand(one.content.created_by, one.content.author_wallets) for one in closure.members)
        return all(self._may_spend(lookup, hand, named, where) for hand in authors)

    def seen(self, lookup: Lookup, closure: Closure) -> dict[str, dict[str, int]]:
        """The writes that an acceptance of a closure has seen besides its definitions: their count by thing and key."""
        things = {thing for shape in self._shapes.get(lookup, closure) for thing in shape.things}
        return {
            ":".join(thing): {hand.key_id: hand.writes for hand in self._hands(lookup, closure, thing)}
            for thing in sorted(things)
            if thing[0] != "definition"
        }

    def _sources(self, lookup: Lookup, closure: Closure) -> Iterator[ShapingSource]:
        if not closure.can_spend:
            return
        members = {member.key: member for member in closure.members}
        paid: dict[tuple[tuple[str, int], Thing], set[str | None]] = {}
        for shape in (*self._shapes.get(lookup, closure), *_of_computed_calls(closure)):
            for thing in shape.things:
                paid.setdefault((shape.member, thing), set()).update(shape.wallets)
        own = ("definition", key_of(*closure.root.key))
        hands: dict[Thing, list[Hand]] = {}
        for (payer, thing), wallets in sorted(paid.items(), key=lambda one: (one[0][1] != own, one[0])):
            if thing not in hands:
                hands[thing] = list(self._hands(lookup, closure, thing))
            wanted = closure.root.workflow.acceptances if thing[0] == "definition" else 0
            where = {closure.root.workflow.id, payer[0]}
            for hand in hands[thing]:
                is_free = self._may_spend(lookup, hand, wallets, where)
                if hand.key_id == UNKNOWN.key_id:
                    is_free = not hand_rows.others_could(
                        lookup.tx, lookup.org_id, _WRITERS.get(thing[0], _BY_WORKFLOWS)
                    )
                yield ShapingSource(thing, hand, max(0 if is_free else 1, wanted), members[payer])

    def may_answer(self, lookup: Lookup, wallets: str | None, closure: Closure, wait: Thing) -> bool:
        """Whether wallets include all that a closure spends from where the answer to a `wait` or `approve` shapes
        it."""
        shapes = self._shapes.get(lookup, closure) if closure.can_spend else ()
        paid = {wallet for shape in shapes if wait in shape.things for wallet in shape.wallets}
        return not paid or _covers(lookup, wallets, paid)

    # --- who wrote a thing ---

    def _hands(self, lookup: Lookup, closure: Closure, thing: Thing) -> Iterable[Hand]:
        kind, name = thing
        tx, org_id = lookup.tx, lookup.org_id
        if kind == "definition":
            content = next(one.content for one in closure.members if key_of(*one.key) == name)
            return [Hand(content.created_by, content.author_wallets)]
        if kind == "called":
            authors = version_rows.list_authors(tx, org_id, None if name == ANY else name)
            return [UNKNOWN, *(Hand(*author) for author in authors)]
        if kind == "finished":
            return [UNKNOWN]
        if kind == "version" and name != ANY and not hand_rows.list_of(tx, org_id, kind, name):
            return _publishers(lookup, name)
        if (kind == "name" and name == UNSAVED) or (kind == "guards" and not self._stored(lookup, kind, name)):
            return []
        if kind in ("resume", "approval", "comment"):
            return []
        if kind == "webhook":
            workflow_id, _, node_id = name.partition("/")
            return hands_of(tx, org_id, kind, name) if webhook_secrets.list_of(tx, workflow_id, node_id) else []
        found = [hand for one in self._stored(lookup, kind, name) for hand in hands_of(tx, org_id, kind, one)]
        writes = Counter[str]()
        for hand in found:
            writes[hand.key_id] += hand.writes
        return [replace(hand, writes=writes[hand.key_id]) for hand in found]

    @staticmethod
    def _stored(lookup: Lookup, kind: str, name: str) -> list[str]:
        """The stored things that a name stands for, or their deletions; none if there is nothing to read yet."""
        tx, org_id = lookup.tx, lookup.org_id
        if name == ANY and kind in ("table", "version", "guards"):
            return hand_rows.list_objects(tx, org_id, kind, "")
        if kind == "guards":
            return [name] if hand_rows.list_of(tx, org_id, kind, name) else []
        if kind == "table":
            return [table_object(tx, org_id, name)]
        if kind == "connector":
            return [name] if connectors.find(tx, org_id, name) is not None else [name, hand_rows.deleted(name)]
        if kind == "variable":
            workflow_id, _, variable = name.partition("/")
            if variable == ANY:
                return [f"{workflow_id}/{one.name}" for one in variable_rows.list_variables(tx, workflow_id)]
            is_known = variable_rows.find(tx, workflow_id, variable) or hand_rows.list_of(tx, org_id, kind, name)
            return [name] if is_known else []  # its deletion is a write
        return [name]

    def _may_spend(self, lookup: Lookup, hand: Hand, wallets: set[str | None], where: set[str]) -> bool:
        """Whether a hand could spend from wallets, in the workflows that do."""
        if not _covers(lookup, hand.wallets, wallets):
            return False
        limits = self._limits_of(lookup, hand.key_id)
        return limits is None or where <= limits

    def _limits_of(self, lookup: Lookup, key_id: str) -> frozenset[str] | None:
        """The workflows that a key is limited to, which never changes; None: it is not limited."""
        if key_id not in self._limits:
            row = key_rows.find(lookup.tx, lookup.org_id, key_id)
            if row is None:
                return frozenset()
            if len(self._limits) >= _KEPT:
                self._limits.clear()
            self._limits[key_id] = principal_of(row).workflow_ids
        return self._limits[key_id]

    # --- who has accepted it ---

    def _status(self, lookup: Lookup, closure: Closure, source: ShapingSource) -> SourceStatus:
        """The status of one source. A spend of a called version may also be accepted with that version."""
        if not source.needed:
            return SourceStatus(source)
        counted = _count(lookup, self._accepting(lookup, closure), source)
        if len(counted) < source.needed and source.payer is not closure.root:
            inner = self._closures.resolve(lookup, source.payer.workflow, source.payer.version)
            if inner is not None and (source.thing[0] != "definition" or has(inner, source.thing)):
                rows = [*self._accepting(lookup, closure), *self._accepting(lookup, inner)]
                counted = _count(lookup, rows, source)
        return SourceStatus(source, counted)

    def _accepting(self, lookup: Lookup, closure: Closure) -> list[AcceptanceRow]:
        """The acceptances of a closure whose keys are still good, and may still spend from every wallet of it."""
        found = []
        for row in acceptances.list_of(lookup.tx, *closure.root.key, closure.digest):
            key = key_rows.find(lookup.tx, lookup.org_id, row.key_id)
            if key is not None and is_good(key) and covers(lookup, principal_of(key).spendable, closure):
                found.append(row)
        return found


def _publishers(lookup: Lookup, workflow_id: str) -> list[Hand]:
    """Who chose the version that calls of a workflow run, where no hand of that was kept yet: who published the live
    one, with what that key may spend now. Of what was published and is not live any more nobody is known."""
    tx, row = lookup.tx, lookup.find(workflow_id)
    if row is None or row.live_version is None:
        return [UNKNOWN] if version_rows.was_published(tx, workflow_id) else []
    version = version_rows.find(tx, workflow_id, row.live_version)
    key = key_rows.find(tx, lookup.org_id, version.published_by or "") if version is not None else None
    return [Hand(key.id, principal_of(key).spendable)] if key is not None else [UNKNOWN]


def _count(lookup: Lookup, rows: list[AcceptanceRow], source: ShapingSource) -> tuple[AcceptanceRow, ...]:
    if not rows:
        return ()
    hands, found = {*hands_behind(lookup.tx, lookup.org_id, source.hand.key_id)}, []
    for row in rows:
        behind = hands_behind(lookup.tx, lookup.org_id, row.key_id)
        if behind.isdisjoint(hands) and _has_seen(row, source):
            hands |= behind
            found.append(row)
    return tuple(found)


def _has_seen(row: AcceptanceRow, source: ShapingSource) -> bool:
    """Whether an acceptance is of what a hand has written until now. The digest stands for definitions."""
    if source.thing[0] == "definition":
        return True
    seen = loads(row.seen or "{}").get(":".join(source.thing), {})
    return bool(seen.get(source.hand.key_id, -1) >= source.hand.writes)


def _of_computed_calls(closure: Closure) -> Iterator[Shape]:
    """The shapes of computed calls: each may spend from every wallet, beside its own spends."""
    if closure.calls_any:
        things = frozenset(("definition", key_of(*member.key)) for member in closure.members)
        yield Shape(closure.root.key, "", (ANY_WALLET,), things)


def can_help(lookup: Lookup, key_id: str, statuses: list[SourceStatus]) -> bool:
    """Whether an acceptance by a key would count for anything that needs one; if nothing does, whether it is not the
    author's. A service account's never does."""
    if is_of_account(lookup.tx, lookup.org_id, key_id):
        return False
    wanting = [one.source for one in statuses if one.source.needed] or [one.source for one in statuses[:1]]
    return not wanting or any(not is_one_hand(lookup.tx, lookup.org_id, key_id, one.hand.key_id) for one in wanting)


def covers(lookup: Lookup, wallets: str | None, closure: Closure) -> bool:
    """Whether the wallets include every one that the closure spends from."""
    named = {wallet for _, node in closure.spends() for wallet in node.wallets}
    return _covers(lookup, wallets, named | ({ANY_WALLET} if closure.calls_any else set()))


def _covers(lookup: Lookup, wallets: str | None, named: set[str | None]) -> bool:
    if wallets is None or wallets == ALL_WALLETS:
        return wallets is not None
    known = {run_rows.find_default_wallet(lookup.tx, lookup.org_id) if one is None else one for one in named}
    return known - {None} <= set(loads(wallets))  # ANY_WALLET is in no list


def name_of(member: ClosureMember) -> str:
    """A version with its workflow, for messages."""
    if member.workflow.id == UNSAVED:
        return "a definition that is not saved"
    return f'version {member.version} of "{member.workflow.name}" ({member.workflow.id})'


def describe(lookup: Lookup, closure: Closure, thing: Thing) -> str:
    """A thing as messages call it, for those who may read the workflow."""
    kind, name = thing
    if kind == "definition":
        member = next(one for one in closure.members if key_of(*one.key) == name)
        return name_of(member) if lookup.may_tell(member.workflow.id) else "a workflow that it calls"
    if kind == "connector":
        row = connectors.find(lookup.tx, lookup.org_id, name)
        return (
            f'the connector "{row.name}" ({name})' if row is not None else f'the connector "{name}", which is deleted'
        )
    if kind == "variable":
        return f'the variable "{name.partition("/")[2]}"'
    if kind == "table":
        is_there = name == ANY or managed_tables.find(lookup.tx, lookup.org_id, name) is not None
        return f'the table "{name}"' if is_there else f'the table "{name}", which is deleted'
    return {
        "version": "which version of a workflow its calls run",
        "guards": "what a workflow that it calls requires (rehearsals, acceptances)",
        "import": f'the imported document "{name}"',
        "setting": "the default wallet",
        "name": "the name of the workflow",
        "webhook": "the address of its webhook",
        "called": "whatever a call that computes its workflow may run",
        "finished": "the run of the workflow that it follows",
    }[kind]


def has(closure: Closure, thing: Thing) -> bool:
    """Whether a definition is one of a closure's."""
    return any(key_of(*member.key) == thing[1] for member in closure.members)
