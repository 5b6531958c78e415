"""What a run did or would do, and what differs between two runs: the reports behind the API's answers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from dustrun import clock
from dustrun.chain.chains import Chains
from dustrun.core.evm.network import Network
from dustrun.core.run import effects
from dustrun.core.run.compare import comparison
from dustrun.core.run.compare.findings import Side
from dustrun.core.run.effects import Part
from dustrun.core.run.state import Mode
from dustrun.core.values.exact_json import loads, loads_own
from dustrun.core.workflow.definition import Node
from dustrun.errors import Conflict
from dustrun.services.access.principal import Principal
from dustrun.services.runs.reporting.report_parts import Parts, ReportParts
from dustrun.services.runs.reporting.run_sources import explain
from dustrun.services.runs.runs import Run, Runs
from dustrun.storage.db.database import Database
from dustrun.storage.money import wallets as wallet_rows
from dustrun.storage.money.wallets import WalletRow
from dustrun.storage.runs.runs import RunRow

Json = dict[str, Any]
_MOST_WALLETS = 1_000
_ONLY_OF_THE_RUN = ("mode", "assumed", "assets", "warnings")


class RunReports:
    """Reports of runs. Their facts were recorded when they happened; only names of addresses are current."""

    def __init__(self, database: Database, runs: Runs, chains: Chains) -> None:
        self._database = database
        self._runs = runs
        self._chains = chains
        self._parts = ReportParts(database, runs)

    async def effects(self, principal: Principal, run_id: str, *, with_sources: bool = False) -> Json:
        """What a run did or would do, also with what shaped its spends; raises `NotFound`."""
        run = await self._runs.get(principal, run_id)
        report = await self._report(principal, run)
        return report | ({"sources": await self._sources(principal, run)} if with_sources else {})

    async def sources(self, principal: Principal, run_id: str) -> list[Json]:
        """What shaped the spends of a run; raises `NotFound`."""
        return await self._sources(principal, await self._runs.get(principal, run_id))

    async def _sources(self, principal: Principal, run: Run) -> list[Json]:
        """The slice of each spend that the run came to, and of those of the runs that it called."""
        found = await self._parts.of(principal, run, with_results=True)
        return await asyncio.to_thread(explain, found, self._runs.catalog.specs(), principal.may_use_workflow)

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
        """What the addresses of a report are called: the wallets that the key may read, and contracts that chains'
        files name."""
        addresses = {address for report in reports for address in _addresses(report)}
        if not addresses:
            return {}
        names = dict(self._contracts(_chain_ids(reports)))
        if principal.may("wallet:read"):
            names |= await self._wallets(principal)
        return {address: names[address] for address in sorted(addresses) if address in names}

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
    """What the earlier runs of a retry chain did, beside the report of the retry."""
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
