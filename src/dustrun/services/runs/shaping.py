"""What shaped the spend of a run, as policies name it: the slice of its node, in all that led to the run."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Final, TypeVar

from dustrun.core.sources.source import Source
from dustrun.core.sources.spend_slice import SpendSlice
from dustrun.errors import Conflict
from dustrun.services.access.api_keys import principal_of
from dustrun.services.access.principal import ALL_WALLETS
from dustrun.services.workflows.closure import UNSAVED, Lookup, key_of_run
from dustrun.services.workflows.spend_gate import SpendGate
from dustrun.storage.access import keys as key_rows
from dustrun.storage.db.statement import Tx
from dustrun.storage.runs import approvals, called_runs
from dustrun.storage.runs import runs as run_rows
from dustrun.storage.runs.runs import RunRow

T = TypeVar("T")
STARTER: Final = "starter"
_FORM: Final = "form"


class RunShaping:
    """Finds the sources of spends for policies."""

    def __init__(self, gate: SpendGate) -> None:
        self._gate = gate

    async def slicing(self, judge: Callable[[], Awaitable[T]]) -> T:
        """Does what may need slices, again once they are there."""
        return await self._gate.slicing(judge)

    def shaped(self, tx: Tx, org_id: str, run_pk: int, path: str) -> Mapping[str, frozenset[str]] | None:
        """The sources of each money field, but for what a definition that nobody saved says itself: that is its
        caller's. Raises `Unsliced`."""
        led = list(_led_to(tx, run_rows.get(tx, run_pk)))
        run, node_id, lookup = led[0], path.rpartition(".")[2], Lookup(tx, org_id)
        for caller in reversed(led):
            found = self._find(lookup, caller, (key_of_run(run), node_id))
            if found is not None:
                return self._told(lookup, found, caller, run, path)
        return None

    def why_unaccepted(self, tx: Tx, org_id: str, run_pk: int) -> str | None:
        """Whose hand in what is stored a run may not spend by; None if there is none. Raises `Unsliced`."""
        try:
            self._gate.check_stored(Lookup(tx, org_id), run_rows.get(tx, run_pk))
        except Conflict as refused:
            return refused.message
        return None

    def _find(self, lookup: Lookup, caller: RunRow, place: tuple[str, str]) -> SpendSlice | None:
        closure = self._gate.closures.of_run(lookup, caller)
        shapes = self._gate.shapes.get(lookup, closure) if closure is not None else ()
        return next((one.slice for one in shapes if one.slice is not None and one.slice.place == place), None)

    def _told(
        self, lookup: Lookup, found: SpendSlice, top: RunRow, run: RunRow, path: str
    ) -> Mapping[str, frozenset[str]]:
        """The sources of each field, but of those that a person who may spend has seen and approved."""
        by_key = top.trigger_source != _FORM
        told = {
            money: frozenset(_name(one, by_key) for one in sources if not _is_unsaved(one))
            for money, sources in found.fields.items()
        }
        for approval, fields in found.shown.items():
            if fields & told.keys() and _is_endorsed(lookup, run, path, approval):
                told |= dict.fromkeys(fields, frozenset[str]())
        return told


def _led_to(tx: Tx, run: RunRow) -> Iterator[RunRow]:
    """A run, what called it, and so on up to the first."""
    yield run
    while (call := called_runs.find_call(tx, run)) is not None and call.parent_pk is not None:
        run = run_rows.get(tx, call.parent_pk)
        yield run


def _is_unsaved(source: Source) -> bool:
    return source.kind == "definition" and source.workflow == UNSAVED


def _name(source: Source, by_key: bool) -> str:
    """What a key gave that may spend is the starter's: keys start no spends, and resume none, without that right."""
    is_given = source.kind == "props" or (source.kind == "trigger" and source.name == "manual")
    return STARTER if source.kind == "resume" or (is_given and by_key) else str(source)


def _is_endorsed(lookup: Lookup, run: RunRow, path: str, approval: Source) -> bool:
    """Whether the node's question in this run, or in the same item of a loop, was approved by who may spend."""
    if approval.name != key_of_run(run):
        return False
    frame = path[: path.rfind(".") + 1]
    for place in dict.fromkeys((f"{frame}{approval.node}", str(approval.node))):
        asked = approvals.find_approved(lookup.tx, run.pk, place)
        if asked is not None and asked.decided_by is not None:
            key = key_rows.find(lookup.tx, lookup.org_id, asked.decided_by)
            return key is not None and principal_of(key).spendable == ALL_WALLETS
    return False
