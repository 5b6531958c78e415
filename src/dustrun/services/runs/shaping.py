"""Sources of a run's spend, as policies name them: the slice of its node, in all that led to the run."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import reduce
from operator import or_
from typing import Final, TypeVar

from dustrun.chain.networks import get_network
from dustrun.core.evm.network import Network
from dustrun.core.money.tokens import read_asset_text
from dustrun.core.run.journal import RESUMED_BY, ROW_SOURCES
from dustrun.core.sources.kept import Parts, joined, kept_of, of_json, of_part
from dustrun.core.sources.slicer import NOWHERE, Place, workflow_of
from dustrun.core.sources.source import ANY, Source
from dustrun.core.sources.spend_slice import SpendSlice
from dustrun.core.values.exact_json import loads_own
from dustrun.errors import Conflict, Invalid
from dustrun.services.access.api_keys import is_good, principal_of
from dustrun.services.access.hands import UNKNOWN, Hand, is_free_to_spend
from dustrun.services.access.principal import ALL_WALLETS
from dustrun.services.wallets.budget import Shaped
from dustrun.services.workflows.closure import UNSAVED, Lookup, key_of_run
from dustrun.services.workflows.spend_gate import SpendGate
from dustrun.storage.access import keys as key_rows
from dustrun.storage.data import managed_tables, store_sources
from dustrun.storage.db.statement import Tx
from dustrun.storage.runs import approvals, called_runs
from dustrun.storage.runs import runs as run_rows
from dustrun.storage.runs.called_runs import CalledNode
from dustrun.storage.runs.runs import RunRow

T = TypeVar("T")
STARTER: Final = "starter"
_FORM: Final = "form"
_MOST_INPUTS: Final = 100
"""Inputs of one node in a run that are looked at; one with more of them may have asked any contract."""


class RunShaping:
    """Finds the sources of spends for policies."""

    def __init__(self, gate: SpendGate, networks: Mapping[int, Network]) -> None:
        self._gate = gate
        self._networks = networks
        self._listed = frozenset(
            f"contract:{network.chain_id}/{address}".lower()
            for network in networks.values()
            for _, address in network.addresses()
        )
        self._last: tuple[tuple[Tx, str, int, str], Shaped] | None = None

    async def slicing(self, judge: Callable[[], Awaitable[T]]) -> T:
        """Does what may need slices, again once they are there."""
        return await self._gate.slicing(judge)

    def shaped(self, tx: Tx, org_id: str, run_pk: int, path: str) -> Shaped:
        """The sources of each money field, but for what a definition that nobody saved says itself: that is its
        caller's. Raises `Unsliced`."""
        asked = (tx, org_id, run_pk, path)
        last = self._last  # a node that makes many transactions is judged for each of them in one unit
        if last is None or last[0] != asked:
            self._last = last = (asked, self._find_shaped(*asked))
        return last[1]

    def _find_shaped(self, tx: Tx, org_id: str, run_pk: int, path: str) -> Shaped:
        led = list(called_runs.list_callers(tx, run_rows.get(tx, run_pk)))
        run, node_id, lookup = led[0], path.rpartition(".")[2], Lookup(tx, org_id)
        for place, caller in reversed([*enumerate(led)]):
            found = self._find(lookup, caller, (key_of_run(run), node_id))
            if found is not None:
                told = self._told(lookup, found, led[: place + 1], path, is_first=caller is led[-1])
                every = frozenset[str]().union(*told.values())
                return told, frozenset(one.lower() for one in every if one.lower() in self._listed)
        return None, frozenset()

    def why_unaccepted(self, tx: Tx, org_id: str, run_pk: int) -> str | None:
        """Whose hand in what is stored a run may not spend by; None if there is none. Raises `Unsliced`."""
        try:
            self._gate.check_stored(Lookup(tx, org_id), run_rows.get(tx, run_pk))
        except Conflict as refused:
            return refused.message
        return None

    def written(self, tx: Tx, org_id: str, run_pk: int, path: str) -> tuple[Parts, list[Hand]]:
        """The sources of what a node of a run writes to a store, by part; and the hands of whom it waited for. Raises
        `Unsliced`."""
        led = list(called_runs.list_callers(tx, run_rows.get(tx, run_pk)))
        run, node_id, lookup = led[0], path.rpartition(".")[2], Lookup(tx, org_id)
        for place, caller in reversed([*enumerate(led)]):
            closure = self._gate.closures.of_running(lookup, caller)
            if closure is None:
                continue
            writes = self._gate.shapes.writes(lookup, replace(closure, fired=caller.trigger_node_id))
            found = writes.get((key_of_run(run), node_id))
            if found is not None:
                ran = _Ran(tx, org_id, found, led[: place + 1], self)
                is_by_key = caller is led[-1] and _is_by_key(lookup, led[-1])
                parts = {part: bits if part else bits | found.deciding for part, bits in found.bits.items()}
                answers = ran.answered(parts.values(), found.bits.values())
                told = {part: ran.sources(bits) - answers.keys() for part, bits in parts.items()}
                named = {part: {_name_kept(one, is_by_key) for one in some} for part, some in told.items()}
                kept = {part: kept_of(named[part] | ran.kept(bits)) for part, bits in parts.items()}
                hands = sorted({one for one in answers.values() if one is not None}, key=lambda one: one.key_id)
                return kept, hands
        return {"": frozenset(("system:*",))}, []  # the workflow is deleted, so nobody can tell any more

    def _find(self, lookup: Lookup, caller: RunRow, place: tuple[str, str]) -> SpendSlice | None:
        closure = self._gate.closures.of_running(lookup, caller)
        if closure is None:
            return None
        shapes = self._gate.shapes.get(lookup, replace(closure, fired=caller.trigger_node_id))
        return next((one.slice for one in shapes if one.slice is not None and one.slice.place == place), None)

    def _told(
        self, lookup: Lookup, found: SpendSlice, led: Sequence[RunRow], path: str, *, is_first: bool
    ) -> Mapping[str, frozenset[str]]:
        """The sources of each field, but of those that a person who may spend has seen and approved. `led`: the run,
        and what called it, up to the one whose slice it is. `is_first`: nothing called that one."""
        run, by_key = led[0], is_first and _is_by_key(lookup, led[-1])
        ran = _Ran(lookup.tx, lookup.org_id, found, led, self)
        told = {}
        for money, bits in found.bits.items():
            told[money] = frozenset(_name(one, by_key) for one in ran.sources(bits)) | ran.kept(bits)
        for approval, fields in found.shown.items():
            if fields & told.keys() and _is_endorsed(lookup, run, path, approval):
                told |= dict.fromkeys(fields, frozenset[str]())
        return told

    def address(self, source: Source) -> Source | None:
        """A contract by the number of its chain and its address, as policies name it; None for a coin, which is no
        contract."""
        if source.kind != "contract" or ANY in (source.name, *source.path):
            return source
        try:
            network = get_network(self._networks, source.name)
            address = read_asset_text(network, source.path[0])
        except (Invalid, ValueError):
            return source
        return Source("contract", str(network.chain_id), (address,)) if address is not None else None


class _Ran:
    """The meaning of a slice, as the runs went that led to it: which contracts were asked, which rows were read, who
    answered. `led`: the run of the node, and what called it, up to the one whose slice it is."""

    def __init__(self, tx: Tx, org_id: str, found: SpendSlice, led: Sequence[RunRow], names: RunShaping) -> None:
        self._tx, self._org_id, self._found, self._names = tx, org_id, found, names
        self._runs = _with_retried(tx, led)
        self._oldest = _oldest(self._runs)
        self._contracts: dict[Place, frozenset[Source]] = {}
        self._rows: dict[Place, Parts | None] = {}

    def sources(self, bits: int) -> frozenset[Source]:
        """The sources of a set, without what a definition that nobody saved says."""
        found = self._found
        sources = set(found.names.named_apart(bits))
        for source, place, _ in found.names.of_run(bits):
            if source.kind != "contract":
                sources.add(source)
                continue
            if place not in self._contracts:
                self._contracts[place] = self._asked_by(place, source)
            sources |= self._contracts[place]
        exact = {self._names.address(one) for one in sources if not _is_unsaved(one)}
        return frozenset(one for one in exact if one is not None)

    def kept(self, bits: int) -> frozenset[str]:
        """The sources of a set's rows and variables, when runs wrote them."""
        names, found = self._found.names, set[str]()
        for source, place, column in names.of_run(bits):
            if source.kind == "table":
                found |= of_part(self._read_by(place, source), column)
        for source in names.named_apart(bits):
            if source.kind == "variable" and source.path == (ANY,):
                found |= store_sources.list_under(self._tx, f"{source.name}/", self._oldest)
            elif source.kind == "variable":
                variable = f"{source.name}/{source.path[0]}"
                found |= of_part(store_sources.list_of(self._tx, variable, oldest=self._oldest), ANY)
        return frozenset(found)

    def answered(self, whole: Iterable[int], data: Iterable[int]) -> dict[Source, Hand | None]:
        """Who answered the waits of sets, and who said something that is data with an approval: None who may spend from
        every wallet. Whether something goes on is for approvers to say."""
        names = self._found.names
        waits = {one for one in names.named_apart(reduce(or_, whole, 0)) if one.kind == "resume"}
        asked = {one for one in names.named_apart(reduce(or_, data, 0)) if one.kind == "approval" and one.path[1:]}
        return {one: self._hand_of((one.name, one.node)) for one in waits | asked if one.node is not None}

    def _hand_of(self, place: Place) -> Hand | None:
        texts = self._of_node(place, called_runs.list_facts)
        if texts is None:
            return UNKNOWN
        answers = {loads_own(text).get(RESUMED_BY) for text in texts if text is not None} - {None}
        for key_id in sorted(answers):
            key = key_rows.find(self._tx, self._org_id, key_id)
            if key is None:
                return UNKNOWN
            hand = Hand(key.id, principal_of(key).spendable)
            if not is_good(key) or not is_free_to_spend(self._tx, self._org_id, hand):
                return hand
        return None

    def _read_by(self, place: Place, source: Source) -> Parts:
        """The sources of the rows that a node has read; if that is not known, of any row of the table."""
        if place not in self._rows:
            texts = self._of_node(place, called_runs.list_facts) if place != NOWHERE else None
            facts = (loads_own(text) for text in texts or () if text is not None)
            self._rows[place] = joined(of_json(one.get(ROW_SOURCES)) for one in facts) if texts else None
        known = self._rows[place]
        if known is not None:
            return known
        table = managed_tables.find(self._tx, self._org_id, source.name) if source.name != ANY else None
        if table is not None:
            return store_sources.list_of(self._tx, table.id, self._runs[0].pk)
        return {"": store_sources.list_under(self._tx, "tbl_")} if source.name == ANY else {}

    def _asked_by(self, place: Place, source: Source) -> frozenset[Source]:
        """The contracts that a node has really asked in the run whose slice it is, in what that called, and in what
        they retry; the source as it is if that cannot be told, as when the node has not run here."""
        inputs = self._of_node(place, called_runs.list_inputs)
        if not inputs:
            return frozenset((source,))
        given = (loads_own(text) if text else None for text in inputs)
        return frozenset(one for some in given for one in self._found.contracts(place, some))

    def _of_node(
        self, place: Place, look: Callable[[Tx, RunRow, CalledNode, int], set[str | None] | None]
    ) -> set[str | None] | None:
        key, node_id = place
        workflow, version = workflow_of(key), int(key.rpartition("@")[2])
        node = CalledNode(None if workflow == UNSAVED else workflow, version, node_id, self._found.is_in_loop(place))
        found = set[str | None]()
        for run in self._runs:
            some = look(self._tx, run, node, _MOST_INPUTS)
            if some is None:
                return None
            found |= some
        return found


def _with_retried(tx: Tx, led: Sequence[RunRow]) -> list[RunRow]:
    """Where what led to a spend may have run: below the last of these, and below the runs that they retry."""
    found = [led[-1]]
    for one in led:
        run: RunRow | None = one
        while run is not None and run.source_run_id is not None:
            found.append(run)
            run = run_rows.find(tx, run.org_id, run.source_run_id)
        if run is not None and run is not one:
            found.append(run)
    return found


def _oldest(runs: Sequence[RunRow]) -> int:
    """The pk of the first run that may have read what a spend hangs on; 0 if one that was retried is gone."""
    ids = {one.id for one in runs}
    is_whole = all(one.source_run_id is None or one.source_run_id in ids for one in runs)
    return min(one.pk for one in runs) if is_whole else 0


def _is_by_key(lookup: Lookup, top: RunRow) -> bool:
    """Whether a key that may spend gave what a run began with: not a form, of whose run it may be a retry."""
    first = top if top.source_run_id is None else run_rows.find(lookup.tx, top.org_id, top.root_run_id)
    return first is not None and first.trigger_source != _FORM


def _is_unsaved(source: Source) -> bool:
    return source.kind == "definition" and source.workflow == UNSAVED


def _name(source: Source, by_key: bool) -> str:
    """The starter's own: what a key gave that may spend. Keys start no spends, and resume none, without that right."""
    is_given = source.kind == "props" or (source.kind == "trigger" and source.name == "manual")
    return STARTER if source.kind == "resume" or (is_given and by_key) else str(source)


def _name_kept(source: Source, by_key: bool) -> str:
    """A source as a store keeps it. A key may start a run that only writes without the right to spend, and is kept as a
    hand."""
    return str(source) if source.kind == "resume" else _name(source, by_key)


def _is_endorsed(lookup: Lookup, run: RunRow, path: str, approval: Source) -> bool:
    """Whether the node's question in this run, or in the same item of a loop, was approved by who may spend."""
    if approval.name != key_of_run(run):
        return False
    frame = path[: path.rfind(".") + 1]
    for place in dict.fromkeys((f"{frame}{approval.node}", str(approval.node))):
        asked = approvals.find_approved(lookup.tx, run.pk, place)
        if asked is not None and asked.decided_by is not None:
            key = key_rows.find(lookup.tx, lookup.org_id, asked.decided_by)
            return key is not None and is_good(key) and principal_of(key).spendable == ALL_WALLETS
    return False
