"""What a run did or would do, and what differs between two runs: the reports behind the API's answers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from dustrun.chain.chains import Chains
from dustrun.core.evm.network import Network
from dustrun.core.run import assumptions, comparison, effects
from dustrun.core.run.findings import Side
from dustrun.core.run.state import Mode
from dustrun.core.values.exact_json import loads, loads_own
from dustrun.errors import Conflict
from dustrun.services.access.principal import Principal
from dustrun.services.runs.runs import Run, Runs, newest
from dustrun.storage.db.database import Database
from dustrun.storage.money import wallets as wallet_rows
from dustrun.storage.money.wallets import WalletRow

Json = dict[str, Any]
_MOST_WALLETS = 1_000


class RunReports:
    """Reports of runs. Their facts were recorded when they happened; only names of addresses are current."""

    def __init__(self, database: Database, runs: Runs, chains: Chains) -> None:
        self._database = database
        self._runs = runs
        self._chains = chains

    async def effects(self, principal: Principal, run_id: str) -> Json:
        """What a run did or would do; raises `NotFound`."""
        return await self._report(principal, await self._runs.get(principal, run_id))

    async def compare(self, principal: Principal, run_id: str, other_id: str) -> tuple[Run, Run, Json]:
        """What differs between two runs of a workflow; raises `NotFound`, and `Conflict` for runs of different ones."""
        left, right = await self._runs.get(principal, run_id), await self._runs.get(principal, other_id)
        if left.row.workflow_id != right.row.workflow_id:
            raise Conflict("The runs are of different workflows; compare two runs of one.")
        sides = [await self._side(principal, run) for run in (left, right)]
        compared = comparison.compare(*sides)
        return left, right, compared | {"names": {**sides[0].report["names"], **sides[1].report["names"]}}

    async def _side(self, principal: Principal, run: Run) -> Side:
        assert run.definition is not None
        row, nodes, specs = run.row, run.definition.nodes, self._runs.catalog.specs()
        return Side(
            executions=newest(run.executions),
            report=await self._report(principal, run),
            facts=effects.transactions_of(run.executions),
            mode=row.mode,
            version=row.version,
            ids=frozenset({row.id}),
            payload=loads(row.payload),
            triggers=frozenset(name for name, node in nodes.items() if specs[node.type].kind == "trigger"),
            delays=frozenset(name for name, node in nodes.items() if node.type == "delay"),
        )

    async def _report(self, principal: Principal, run: Run) -> Json:
        assert run.definition is not None
        program = (await self._runs.compiled(run.row)).program
        references = assumptions.references_of(program) if program is not None else {}
        mode, passed = Mode(run.row.mode), None if run.row.passed is None else bool(run.row.passed)
        specs = self._runs.catalog.specs()
        report = effects.fold(run.executions, run.definition.nodes, specs, mode, references)
        why = assumptions.why_not_passed(mode, run.row.status, passed, run.executions, report["assumed"])
        return {
            "runId": run.row.id,
            "workflowId": run.row.workflow_id or "",
            "workflowName": run.row.workflow_name,
            "workflowVersion": run.row.version,
            "status": run.row.status,
            "passed": passed,
            "notPassed": why,
            **report,
            "chains": self._report_chains(report, run),
            "names": await self._names(principal, report),
        }

    def _report_chains(self, report: Json, run: Run) -> list[Json]:
        """The chains of the transactions, and the block that a simulation is pinned to."""
        forks = {fork.chain_id: loads_own(fork.state) for fork in run.forks}
        found = sorted({t["chainId"] for t in report["transactions"] if isinstance(t["chainId"], int)})
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

    async def _names(self, principal: Principal, report: Json) -> dict[str, Json]:
        """What the addresses of a report are called: the organisation's wallets and contracts that chains' files
        name."""
        addresses = set(_addresses(report))
        if not addresses:
            return {}
        rows = await self._database.read(
            lambda tx: wallet_rows.list_page(tx, principal.org_id, with_archived=True, limit=_MOST_WALLETS, offset=0)
        )
        names = dict(self._contracts({t["chainId"] for t in report["transactions"]}))
        names |= {row.address: _wallet(row) for row in reversed(rows) if principal.may_use_wallet(row.id)}
        return {address: names[address] for address in sorted(addresses) if address in names}

    def _contracts(self, chain_ids: Iterable[Any]) -> Iterator[tuple[str, Json]]:
        for chain_id in sorted(chain for chain in chain_ids if isinstance(chain, int)):
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


def _wallet(row: WalletRow) -> Json:
    return {"name": row.name, "kind": "wallet", "walletId": row.id}


def _addresses(report: Json) -> Iterator[str]:
    """Every address that a report shows beside amounts."""
    for transaction in report["transactions"]:
        yield from (str(transaction[name]) for name in ("from", "to") if transaction.get(name))
        yield from (movement["counterparty"] for movement in transaction["movements"])
        yield from (change["address"] for change in transaction["balanceChanges"])
    for signature in report["signatures"]:
        yield from (movement["counterparty"] for movement in signature["movements"])
    for approval in report["approvals"]:
        yield from (approval["owner"], approval["spender"])
