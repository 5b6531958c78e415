"""Whose hands are in what a run writes to a table or a variable: others may spend by it."""

from __future__ import annotations

from collections.abc import Iterator

from dustrun.services.access.api_keys import is_good, principal_of
from dustrun.services.access.hands import UNKNOWN, Hand, is_free_to_spend, note_hand, table_object
from dustrun.services.runs.engine_port import RunFacts
from dustrun.services.workflows.closure import Closure, Closures, Lookup
from dustrun.storage.access import hands as rows
from dustrun.storage.access import keys as key_rows
from dustrun.storage.db.statement import Tx
from dustrun.storage.runs import called_runs
from dustrun.storage.runs import runs as run_rows
from dustrun.storage.workflows import acceptances

_KEPT = 10_000


class HandsOfRuns:
    """Keeps the hands of runs with what these write: of the key that started the run, of the authors of all that it and
    its callers can run, and of those who wrote what these read."""

    def __init__(self, closures: Closures) -> None:
        self._closures = closures
        self._free: dict[tuple[int, str, str], None] = {}

    def note(self, tx: Tx, facts: RunFacts, kind: str, object_: str, *, is_new: bool = False) -> None:
        """Notes a run's hands in the transaction of its write."""
        place = (facts.pk, kind, object_)
        if place in self._free:
            return
        was_free = True
        for hand in self._hands(tx, facts):
            is_marked = note_hand(tx, facts.org_id, kind, object_, hand, is_new=is_new)
            was_free, is_new = was_free and not is_marked, True
        was_free = was_free and not self._copy(tx, facts, kind, object_)
        if was_free:  # then further writes of this run change nothing
            if len(self._free) >= _KEPT:
                self._free.clear()
            self._free[place] = None

    def _hands(self, tx: Tx, facts: RunFacts) -> list[Hand]:
        """The starter, and the authors of what it and its callers can run. An accepted version is its acceptor's."""
        found = {facts.triggered_by: _starter(tx, facts)}
        for lookup, closure in self._closures_of(tx, facts):
            accepted = _free_acceptor(lookup, closure)
            for member in closure.members if accepted is None else ():
                hand = Hand(member.content.created_by, member.content.author_wallets)
                if not is_free_to_spend(tx, facts.org_id, hand) or hand.key_id not in found:
                    found[hand.key_id] = hand
        return list(found.values())

    def _closures_of(self, tx: Tx, facts: RunFacts) -> Iterator[tuple[Lookup, Closure]]:
        lookup = Lookup(tx, facts.org_id)
        for run in called_runs.list_callers(tx, run_rows.get(tx, facts.pk)):
            closure = self._closures.of_run(lookup, run)
            if closure is not None:
                yield lookup, closure

    def _copy(self, tx: Tx, facts: RunFacts, kind: str, object_: str) -> bool:
        """Copies the hands of what the run's versions read, if these have written since. Whether there are any that may
        not spend from every wallet."""
        own = {row.key_id: row.changed_at for row in rows.list_of(tx, facts.org_id, kind, object_)}
        found = False
        for read in {one for lookup, closure in self._closures_of(tx, facts) for one in things_read(lookup, closure)}:
            if read == (kind, object_):
                continue
            for row in rows.list_of(tx, facts.org_id, *read):
                if row.writes:
                    found = True
                    if row.changed_at > own.get(row.key_id, -1):
                        note_hand(tx, facts.org_id, kind, object_, Hand(row.key_id, row.wallets), is_new=True)
        return found


def things_read(lookup: Lookup, closure: Closure) -> Iterator[tuple[str, str]]:
    """The stored things that a closure may read: connectors, tables, and variables of its workflows; and the choices of
    the versions that its calls run."""
    if closure.calls_any:
        for kind in ("version", "guards"):
            yield from ((kind, one) for one in rows.list_objects(lookup.tx, lookup.org_id, kind, ""))
    for member in closure.members:
        yield from (("version", workflow_id) for workflow_id, version in member.content.calls if version is None)
        yield from (("guards", workflow_id) for workflow_id, _ in member.content.calls)
        for kind, name in member.content.reads:
            if kind == "table" and "{{" in name:
                yield from ((kind, one) for one in rows.list_objects(lookup.tx, lookup.org_id, kind, ""))
            elif kind == "table":
                yield kind, table_object(lookup.tx, lookup.org_id, name)
            elif kind == "variable":
                for one in rows.list_objects(lookup.tx, lookup.org_id, kind, f"{member.workflow.id}/"):
                    yield kind, one
            else:
                yield from ((kind, name), (kind, rows.deleted(name)))


def _starter(tx: Tx, facts: RunFacts) -> Hand:
    """The key that started the run, as it is now: it may write what it likes in a payload."""
    key = key_rows.find(tx, facts.org_id, facts.triggered_by)
    return Hand(key.id, principal_of(key).spendable) if key is not None else UNKNOWN


def _free_acceptor(lookup: Lookup, closure: Closure) -> str | None:
    """A key that may spend from every wallet and has accepted exactly this."""
    for row in acceptances.list_of(lookup.tx, *closure.root.key, closure.digest):
        key = key_rows.find(lookup.tx, lookup.org_id, row.key_id)
        if key is None or not is_good(key):
            continue
        if is_free_to_spend(lookup.tx, lookup.org_id, Hand(key.id, principal_of(key).spendable)):
            return key.id
    return None
