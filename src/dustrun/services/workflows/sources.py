"""Whose hands shape what a version spends, and who has accepted that.

A spend goes unasked only if every hand in it could spend from its wallets when it wrote, or if somebody who can has
accepted what it wrote since. A hand is a key as it was then; keys of one origin are one hand (`access/hands.py`)."""

from __future__ import annotations

from collections.abc import Iterator

from dustrun.core.values.exact_json import loads
from dustrun.records import dataclass
from dustrun.services.access.api_keys import is_good, principal_of
from dustrun.services.access.hands import hand_of, is_one_hand
from dustrun.services.access.principal import ALL_WALLETS
from dustrun.services.workflows.closure import Closure, Closures, Lookup, Member
from dustrun.storage.access import keys as key_rows
from dustrun.storage.runs import runs as run_rows
from dustrun.storage.workflows import acceptances
from dustrun.storage.workflows.acceptances import AcceptanceRow

_KEPT = 10_000


@dataclass(frozen=True, slots=True)
class Hand:
    """A key, and what it could spend from when it wrote: None nothing, `*` every wallet, else a JSON list."""

    key_id: str
    wallets: str | None


@dataclass(frozen=True, slots=True)
class Source:
    """What shapes a spend, and the hand that wrote it. `needed`: how many others must accept it."""

    member: Member
    hand: Hand
    needed: int


@dataclass(frozen=True, slots=True)
class SourceStatus:
    """A source with the acceptances of it that count: none of its own hand, none twice."""

    source: Source
    accepted_by: tuple[AcceptanceRow, ...]

    @property
    def lacking(self) -> int:
        """How many acceptances are missing."""
        return max(0, self.source.needed - len(self.accepted_by))


class SpendSources:
    """Finds the sources of what a version can spend, and judges their hands."""

    def __init__(self, closures: Closures) -> None:
        self._closures = closures
        self._limits: dict[str, frozenset[str] | None] = {}

    def statuses(self, lookup: Lookup, closure: Closure) -> list[SourceStatus]:
        """Every source of what a closure can spend, its own definition first."""
        if not closure.can_spend:
            return []
        own = self.accepting(lookup, closure)
        return [self._status(lookup, closure, source, own) for source in self._sources(lookup, closure)]

    def _sources(self, lookup: Lookup, closure: Closure) -> Iterator[Source]:
        """The definitions that the closure has. Those that cannot spend themselves may decide what the others do."""
        wanted = closure.root.workflow.acceptances
        for member in closure.members:
            hand = Hand(member.content.created_by, member.content.author_wallets)
            yield Source(member, hand, max(0 if self.may_spend(lookup, hand, closure) else 1, wanted))

    def may_spend(self, lookup: Lookup, hand: Hand, closure: Closure) -> bool:
        """Whether a hand could spend all that the closure spends, in the workflows that do."""
        if not covers(lookup, hand.wallets, closure):
            return False
        limits = self._limits_of(lookup, hand.key_id)
        return limits is None or {closure.root.workflow.id, *(m.workflow.id for m, _ in closure.spends())} <= limits

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

    def _status(self, lookup: Lookup, closure: Closure, source: Source, own: list[AcceptanceRow]) -> SourceStatus:
        """What a called version can spend by itself may be accepted with that version."""
        counted = _count(lookup, own, source)
        if len(counted) < source.needed and source.member is not closure.root:
            inner = self._closures.resolve(lookup, source.member.workflow, source.member.version)
            if inner is not None and inner.can_spend:
                counted = _count(lookup, [*own, *self.accepting(lookup, inner)], source)
        return SourceStatus(source, counted)

    def accepting(self, lookup: Lookup, closure: Closure) -> list[AcceptanceRow]:
        """The acceptances of a closure whose keys are still good, and may still spend from every wallet of it."""
        found = []
        for row in acceptances.list_of(lookup.tx, *closure.root.key, closure.digest):
            key = key_rows.find(lookup.tx, lookup.org_id, row.key_id)
            if key is not None and is_good(key) and covers(lookup, principal_of(key).spendable, closure):
                found.append(row)
        return found


def _count(lookup: Lookup, rows: list[AcceptanceRow], source: Source) -> tuple[AcceptanceRow, ...]:
    if not rows:
        return ()
    hands, found = {hand_of(lookup.tx, lookup.org_id, source.hand.key_id)}, []
    for row in rows:
        hand = hand_of(lookup.tx, lookup.org_id, row.key_id)
        if hand not in hands:
            hands.add(hand)
            found.append(row)
    return tuple(found)


def can_help(lookup: Lookup, key_id: str, statuses: list[SourceStatus]) -> bool:
    """Whether an acceptance by a key would count for anything that needs one; if nothing does, whether it is not the
    author's."""
    wanting = [one.source for one in statuses if one.source.needed] or [one.source for one in statuses[:1]]
    return not wanting or any(not is_one_hand(lookup.tx, lookup.org_id, key_id, one.hand.key_id) for one in wanting)


def covers(lookup: Lookup, wallets: str | None, closure: Closure) -> bool:
    """Whether the wallets include every one that the closure spends from."""
    if wallets is None or wallets == ALL_WALLETS:
        return wallets is not None
    if closure.calls_any:
        return False
    named = {wallet_id for _, node in closure.spends() for wallet_id in node.wallets}
    if None in named:
        named.add(run_rows.find_default_wallet(lookup.tx, lookup.org_id))
    return named - {None} <= set(loads(wallets))  # ANY_WALLET is in no list
