"""What shaped the spend of a run, as policies name it: the slice of its node, in all that led to the run."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final, TypeVar

from dustrun.chain.networks import get_network
from dustrun.core.evm.network import Network
from dustrun.core.money.tokens import read_asset_text
from dustrun.core.sources.slicer import Place, workflow_of
from dustrun.core.sources.source import ANY, Source
from dustrun.core.sources.spend_slice import SpendSlice
from dustrun.core.values.exact_json import loads_own
from dustrun.errors import Conflict, Invalid
from dustrun.services.access.api_keys import is_good, principal_of
from dustrun.services.access.principal import ALL_WALLETS
from dustrun.services.wallets.budget import Shaped
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
        asked: dict[Place, frozenset[Source]] = {}
        told = {}
        for money, bits in found.bits.items():
            sources = set(found.names.named_apart(bits))
            for source, place in found.names.inputs_of(bits):
                if place not in asked:
                    asked[place] = self._asked_by(lookup.tx, found, led, place, source)
                sources |= asked[place]
            exact = {self._address(one) for one in sources if not _is_unsaved(one)} - {None}
            told[money] = frozenset(_name(one, by_key) for one in exact if one is not None)
        for approval, fields in found.shown.items():
            if fields & told.keys() and _is_endorsed(lookup, run, path, approval):
                told |= dict.fromkeys(fields, frozenset[str]())
        return told

    @staticmethod
    def _asked_by(tx: Tx, found: SpendSlice, led: Sequence[RunRow], place: Place, source: Source) -> frozenset[Source]:
        """The contracts that a node has really asked in the run whose slice it is, in what that called, and in what
        they retry; the source as it is if that cannot be told, as when the node has not run here."""
        key, node_id = place
        workflow, version = workflow_of(key), int(key.rpartition("@")[2])
        own = None if workflow == UNSAVED else workflow
        in_loop, inputs = found.is_in_loop(place), set[str | None]()
        for run in _with_retried(tx, led):
            some = called_runs.list_inputs(tx, run, own, version, node_id, in_loop=in_loop, most=_MOST_INPUTS)
            if some is None:
                return frozenset((source,))
            inputs |= some
        if not inputs:
            return frozenset((source,))
        asked = {one for text in inputs for one in found.contracts(place, loads_own(text) if text else None)}
        return frozenset(asked)

    def _address(self, source: Source) -> Source | None:
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


def _is_by_key(lookup: Lookup, top: RunRow) -> bool:
    """Whether a key that may spend gave what a run began with: not a form, of whose run it may be a retry."""
    first = top if top.source_run_id is None else run_rows.find(lookup.tx, top.org_id, top.root_run_id)
    return first is not None and first.trigger_source != _FORM


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
            return key is not None and is_good(key) and principal_of(key).spendable == ALL_WALLETS
    return False
