"""Reports of what a run did or would do, and of differences between two runs, behind the API's answers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, TypeVar

from dustrun import clock
from dustrun.chain.chains import Chains
from dustrun.core.evm.network import Network
from dustrun.core.run import effects
from dustrun.core.run.compare import comparison
from dustrun.core.run.compare.findings import Side
from dustrun.core.run.effects import Part
from dustrun.core.run.journal import KEPT_FROM, ROW_SOURCES, ReportedExecution
from dustrun.core.run.state import Mode, NodeStatus
from dustrun.core.sources.kept import Parts as SourceParts
from dustrun.core.sources.kept import joined, of_json
from dustrun.core.sources.report import report_of
from dustrun.core.sources.slicer import ClosedPrograms, Key, Place
from dustrun.core.sources.spend_slice import slices_of
from dustrun.core.values.exact_json import loads, loads_own
from dustrun.core.workflow.definition import Node
from dustrun.core.workflow.specs import Specs
from dustrun.errors import Conflict, NotFound
from dustrun.services.access.principal import Principal
from dustrun.services.runs.reporting.report_parts import Parts, ReportParts
from dustrun.services.runs.runs import Run, Runs
from dustrun.services.workflows.closure import UNSAVED, key_of_run
from dustrun.services.workflows.slices import MOST_BESIDE, Slices
from dustrun.storage.db.database import Database
from dustrun.storage.db.statement import Tx
from dustrun.storage.money import contracts as contract_rows
from dustrun.storage.money import wallets as wallet_rows
from dustrun.storage.money.wallets import WalletRow
from dustrun.storage.runs.approvals import ApprovalRow
from dustrun.storage.runs.runs import RunRow

# What shaped the spends of one run: the slices of what really ran, with the inputs that it was given.


K = TypeVar("K")
V = TypeVar("V")
_BEGUN: Final = frozenset(
    (
        NodeStatus.RUNNING,
        NodeStatus.WAITING,
        NodeStatus.SUCCESS,
        NodeStatus.PARTIAL,
        NodeStatus.FAILURE,
        NodeStatus.UNCERTAIN,
    )
)
_REPORTED: Final = "resolvedBy"
"""Fact of a result that a person reported."""
_MOST_PATHS: Final = 100


def explain(found: Parts, specs: Specs, may_tell: Callable[[str], bool]) -> list[Json]:
    """The spends that a run came to with their sources, each with the `paths` in the report of effects that it stands
    for: the items of a loop share one slice."""
    begun = list(_begun(found))
    closed = ClosedPrograms(
        root=key_of_run(found.versions[0][0]),
        programs={key_of_run(row): one.program for row, one in found.versions if one.program is not None},
        ran=_grouped((place, one.input if isinstance(one.input, dict) else {}) for place, one in begun),
        calls=_grouped(_calls(found)),
        kept=_grouped(kept for place, one in begun for kept in _kept(place, one)),
        simulated=found.versions[0][0].mode == Mode.SIMULATE.value,
        fired=found.versions[0][0].trigger_node_id,
        rows={place: joined(some) for place, some in _grouped(_rows(begun)).items()},
    )
    if closed.root not in closed.programs:
        return []
    paths = _grouped((place, one.path) for place, one in begun)
    return [
        report_of(one, may_tell, with_stops=False)
        | {"paths": paths[one.place][:_MOST_PATHS], "count": len(paths[one.place])}
        for one in slices_of(closed, specs)
    ]


def _begun(found: Parts) -> Iterator[tuple[Place, ReportedExecution]]:
    for part, (row, _) in zip(found.parts, found.versions, strict=True):
        for one in part.executions:
            if one.status in _BEGUN:
                yield (key_of_run(row), one.node_id), one


def _calls(found: Parts) -> Iterator[tuple[Place, Key]]:
    """Which versions the calls ran."""
    rows = {row.pk: row for row, _ in found.versions}
    for row, _ in found.versions[1:]:
        if row.parent_pk in rows and row.parent_path:
            yield (key_of_run(rows[row.parent_pk]), row.parent_path.rpartition(".")[2]), key_of_run(row)


def _kept(place: Place, one: ReportedExecution) -> Iterator[tuple[Place, tuple[str, str]]]:
    """The run that gave a result which a retry kept or a person reported."""
    facts = one.facts or {}
    if KEPT_FROM in facts or _REPORTED in facts:
        yield place, (one.run_id, one.path)


def _rows(begun: list[tuple[Place, ReportedExecution]]) -> Iterator[tuple[Place, SourceParts]]:
    """The sources of the rows that nodes read, when other runs wrote them."""
    for place, one in begun:
        if one.facts is not None and ROW_SOURCES in one.facts:
            yield place, of_json(one.facts[ROW_SOURCES])


def _grouped(pairs: Iterator[tuple[K, V]]) -> Mapping[K, list[V]]:
    found: dict[K, list[V]] = {}
    for key, value in pairs:
        found.setdefault(key, []).append(value)
    return found


Json = dict[str, Any]
_MOST_WALLETS, _AT_ONCE = 1_000, 500
_ONLY_OF_THE_RUN = ("mode", "assumed", "assets", "warnings")


class RunReports:
    """Reports of runs. Their facts were recorded when they happened; only names of addresses are current."""

    def __init__(self, database: Database, runs: Runs, chains: Chains, slices: Slices) -> None:
        self._slices = slices
        self._database = database
        self._runs = runs
        self._chains = chains
        self._parts = ReportParts(database, runs)

    async def effects(self, principal: Principal, run_id: str, *, with_sources: bool = False) -> Json:
        """The effects of a run, also with what shaped its spends; raises `NotFound`."""
        run = await self._runs.get(principal, run_id)
        report = await self._report(principal, run)
        return report | ({"sources": await self._sources(principal, run)} if with_sources else {})

    async def sources(self, principal: Principal, run_id: str) -> list[Json]:
        """The sources of a run's spends; raises `NotFound`."""
        return await self._sources(principal, await self._runs.get(principal, run_id))

    async def sources_asked(self, principal: Principal, asked: ApprovalRow) -> list[Json]:
        """The sources of the spends that a question is about: the one that asks, those of a rehearsal that is to be
        launched, or before a run comes to any, those that its version can make; none of what is deleted."""
        with suppress(NotFound):
            run = await self._runs.get(principal, asked.run_id)
            found = await self._sources(principal, run)
            if asked.binding is not None and asked.launch is None:
                place = (asked.workflow_id or UNSAVED, asked.path.rpartition(".")[2])
                return [one for one in found if (one["workflowId"], one["nodeId"]) == place]
            if found or run.row.workflow_id is None:
                return found[:MOST_BESIDE]
            return await self._slices.beside(principal, run.row.workflow_id, run.row.version)
        return []

    async def _sources(self, principal: Principal, run: Run) -> list[Json]:
        """The slice of each spend that the run came to, and of those of the runs that it called."""
        found = await self._parts.of(principal, run, with_results=True)
        spends = await asyncio.to_thread(explain, found, self._runs.catalog.specs(), principal.may_use_workflow)
        oldest = run.row.pk if run.row.source_run_id is None else 0  # a retry keeps what earlier runs have read
        return await self._slices.stores.add_to(principal, spends, oldest)

    async def compare(self, principal: Principal, run_id: str, other_id: str) -> tuple[Run, Run, Json]:
        """What differs between two runs of a workflow; raises `NotFound`, and `Conflict` for runs of different ones."""
        left, right = await self._runs.get(principal, run_id), await self._runs.get(principal, other_id)
        if left.row.workflow_id != right.row.workflow_id:
            raise Conflict("The runs are of different workflows; compare two runs of one.")
        (one, unseen), (other, unseen_too) = [await self._side(principal, run) for run in (left, right)]
        compared = await asyncio.to_thread(comparison.compare, one, other)
        compared["notes"] += [{"path": None, **warned} for warned in (*unseen, *unseen_too)]
        return left, right, compared | {"names": await self._names(principal, [one.report, other.report])}

    async def _side(self, principal: Principal, run: Run) -> tuple[Side, list[Json]]:
        """A run with all that its retry chain and the runs that it called did, by path, and what is left out."""
        found = await self._earlier(principal, run, with_results=True)
        found.append(await self._parts.of(principal, run, with_results=True))
        parts = [part for one in found for part in one.parts]
        row, specs, mode = run.row, self._runs.catalog.specs(), Mode(run.row.mode)

        def fold() -> Side:
            return Side(
                executions={one.path: one for part in parts for one in part.executions},
                report=effects.fold(parts, specs, mode),
                facts=effects.transactions_of(parts),
                mode=row.mode,
                version=row.version,
                ids=frozenset(part.run_id for part in parts),
                payload=loads(row.payload),
                triggers=_of_kind(parts, lambda node: specs[node.type].kind == "trigger"),
                delays=_of_kind(parts, lambda node: node.type == "delay"),
                answers=_of_kind(parts, lambda node: node.type in ("wait", "approve")),
            )

        left_out = [{"code": one["code"], "message": one["message"]} for one in _left_out(row.id, found[-1])]
        return await asyncio.to_thread(fold), left_out

    async def _report(self, principal: Principal, run: Run) -> Json:
        found, earlier = await self._parts.of(principal, run), await self._earlier(principal, run)
        own, before = effects.split_earlier(found.parts, [part for one in earlier for part in one.parts])
        mode, passed = Mode(run.row.mode), None if run.row.passed is None else bool(run.row.passed)
        specs = self._runs.catalog.specs()

        def fold() -> tuple[Json, Json | None]:
            past = effects.fold(before, specs, mode) if before else None
            ids = [one["id"] for one in past["transactions"] if one.get("id")] if past is not None else ()
            return effects.fold(own, specs, mode, frozenset(ids)), past

        report, past = await asyncio.to_thread(fold)
        both = [report] if past is None else [report, past]
        report["warnings"] = [*_left_out(run.row.id, found), *report["warnings"]]
        return {
            "runId": run.row.id,
            "workflowId": run.row.workflow_id or "",
            "workflowName": run.row.workflow_name,
            "workflowVersion": run.row.version,
            "status": run.row.status,
            "passed": passed,
            "notPassed": [*_past(run.row), *effects.why_not_passed(mode, own, report["assumed"])],
            **report,
            "called": found.called(),
            "earlier": None if past is None else _apart(past, earlier),
            "chains": self._report_chains(both, run),
            "names": await self._names(principal, both),
        }

    async def _earlier(self, principal: Principal, run: Run, *, with_results: bool = False) -> list[Parts]:
        """The earlier runs of the chain; none of a simulation, whose retry starts on the current state."""
        if run.row.mode == Mode.SIMULATE.value:
            return []
        return await self._parts.earlier(principal, run, with_results=with_results)

    def _report_chains(self, reports: Sequence[Mapping[str, Any]], run: Run) -> list[Json]:
        """The chains of the transactions, and the block that a simulation is pinned to."""
        forks = {fork.chain_id: loads_own(fork.state) for fork in run.forks}
        found = sorted(_chain_ids(reports))
        chains = []
        for chain_id in found:
            network = self._chains.networks.get(chain_id)
            one: Json = {"chainId": chain_id, "name": network.name if network is not None else f"chain {chain_id}"}
            one["symbol"] = network.native.symbol if network is not None else None
            one["explorer"] = network.explorer if network is not None else None
            if chain_id in forks:
                one["simulatedOn"] = {"blockNumber": forks[chain_id]["number"], "strategy": forks[chain_id]["strategy"]}
            chains.append(one)
        return chains

    async def _names(self, principal: Principal, reports: Sequence[Mapping[str, Any]]) -> dict[str, Json]:
        """The names of a report's addresses: the wallets that the key may read, contracts that its organisation
        has named, and those that chains' files name."""
        addresses = {address for report in reports for address in _addresses(report)}
        if not addresses:
            return {}
        chain_ids = _chain_ids(reports)
        names = dict(self._contracts(chain_ids))
        if principal.may("wallet:read"):
            names |= await self._registered(principal, chain_ids, addresses)
            names |= await self._wallets(principal)
        return {address: names[address] for address in sorted(addresses) if address in names}

    async def _registered(
        self, principal: Principal, chain_ids: Iterable[int], addresses: Collection[str]
    ) -> dict[str, Json]:
        """The contracts that the organisation has named. One address of several chains has the name of the lowest."""
        wanted = sorted(addresses)
        asked = [wanted[start : start + _AT_ONCE] for start in range(0, len(wanted), _AT_ONCE)]

        def query(tx: Tx) -> dict[str, str]:
            found: dict[str, str] = {}
            for chain_id in sorted(chain_ids, reverse=True):
                for some in asked:
                    found |= contract_rows.find_names(tx, principal.org_id, chain_id, some)
            return found

        found = await self._database.read(query)
        return {address: {"name": name, "kind": "contract"} for address, name in found.items()}

    async def _wallets(self, principal: Principal) -> dict[str, Json]:
        rows = await self._database.read(
            lambda tx: wallet_rows.list_page(tx, principal.org_id, with_archived=True, limit=_MOST_WALLETS, offset=0)
        )
        return {row.address: _wallet(row) for row in reversed(rows) if principal.may_use_wallet(row.id)}

    def _contracts(self, chain_ids: Iterable[int]) -> Iterator[tuple[str, Json]]:
        for chain_id in sorted(chain_ids):
            network = self._chains.networks.get(chain_id)
            if network is not None:
                yield from _known(network)


def _known(network: Network) -> Iterator[tuple[str, Json]]:
    """The contracts that a chain's file names."""
    dex = network.dex
    named: Mapping[str, str | None] = {
        "Multicall3": network.multicall3,
        "Uniswap V2 router": dex.v2_router,
        "Uniswap V3 router": dex.v3_router,
    }
    for token in network.tokens:
        yield token.address, {"name": token.symbol, "kind": "token"}
    if network.wrapped_native is not None:
        yield network.wrapped_native, {"name": f"W{network.native.symbol}", "kind": "token"}
    for name, address in named.items():
        if address is not None:
            yield address, {"name": name, "kind": "contract"}


def _chain_ids(reports: Iterable[Mapping[str, Any]]) -> set[int]:
    found = (transaction["chainId"] for report in reports for transaction in report["transactions"])
    return {chain_id for chain_id in found if isinstance(chain_id, int)}


def _of_kind(parts: Iterable[Part], is_wanted: Callable[[Node], bool]) -> frozenset[str]:
    """The paths of some nodes' executions."""
    return frozenset(one.path for part in parts for one in part.executions if is_wanted(part.nodes[one.node_id]))


def _past(row: RunRow) -> list[Json]:
    """Why a back-test never passes."""
    if row.as_of is None:
        return []
    at = clock.to_rfc3339(loads_own(row.as_of)["at"])
    message = f"It was simulated as of {at}; only a run on the present state counts as a rehearsal."
    return [{"runId": row.id, "code": "PAST", "path": None, "message": message}]


def _apart(past: Json, earlier: Sequence[Parts]) -> Json:
    """The effects of the earlier runs of a retry chain, beside the report of the retry."""
    shown = {name: value for name, value in past.items() if name not in _ONLY_OF_THE_RUN}
    return {"runIds": [one.parts[0].run_id for one in earlier], **shown}


def _left_out(run_id: str, found: Parts) -> list[Json]:
    """Warns of called runs that the report does not cover."""
    rest = found.total - found.hidden - len(found.parts) + 1
    told = {
        "CALLED_RUNS_HIDDEN": f"{found.hidden} called runs belong to workflows that this key cannot see.",
        "CALLED_RUNS_LEFT_OUT": f"{rest} of {found.total} called runs are too many for one report; read their own.",
    }
    counts = {"CALLED_RUNS_HIDDEN": found.hidden, "CALLED_RUNS_LEFT_OUT": rest}
    place = {"runId": run_id, "nodeId": None, "path": None}
    return [{"code": code, **place, "message": message} for code, message in told.items() if counts[code]]


def _wallet(row: WalletRow) -> Json:
    return {"name": row.name, "kind": "wallet", "walletId": row.id}


def _addresses(report: Mapping[str, Any]) -> Iterator[str]:
    """Every address that a report shows beside amounts."""
    for transaction in report["transactions"]:
        yield from (str(transaction[name]) for name in ("from", "to") if transaction.get(name))
        yield from (movement["counterparty"] for movement in transaction["movements"])
        yield from (change["address"] for change in transaction["balanceChanges"])
    for signature in report["signatures"]:
        yield from (movement["counterparty"] for movement in signature["movements"])
    for approval in report["approvals"]:
        yield from (approval["owner"], approval["spender"])
