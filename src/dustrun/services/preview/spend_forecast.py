"""Forecasts a workflow's spends before it runs: what is known of their inputs, and their wallets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dustrun.catalog import Catalog
from dustrun.core.money.movements import Spot, Unknown, find_spots
from dustrun.core.values.exact_json import loads
from dustrun.core.workflow.forecast import Forecast, Given, forecast_nodes
from dustrun.core.workflow.program import Program
from dustrun.sdk import Action
from dustrun.sdk.chain import WalletView
from dustrun.services.access.principal import Principal
from dustrun.services.wallets.wallets import Wallets
from dustrun.services.workflows.compiled import CompiledWorkflows
from dustrun.services.workflows.versions import get_version, get_workflow
from dustrun.storage.db.database import Database
from dustrun.storage.db.statement import Tx


@dataclass(frozen=True, slots=True)
class SpendForecast:
    """A version that validates, or a definition that is not stored."""

    program: Program
    workflow_id: str | None = None
    version: int | None = None


@dataclass(frozen=True, slots=True)
class ForecastSpend:
    """One execution of a node that spends. Without a wallet, `no_wallet` says why."""

    seen: Forecast
    action: Action
    wallet: WalletView | None
    no_wallet: str | None

    @property
    def spots(self) -> list[Spot]:
        """Every amount that its input names."""
        wire = {**_defaults(self.action), **self.seen.wire}
        return [spot for movement in self.action.funds_movement for spot in find_spots(movement, wire)]


class SpendForecasts:
    """Finds workflows and what they would spend."""

    def __init__(self, database: Database, programs: CompiledWorkflows, catalog: Catalog, wallets: Wallets) -> None:
        self._database = database
        self._programs = programs
        self.catalog = catalog
        self._wallets = wallets

    async def of_workflow(self, principal: Principal, workflow_id: str, version: int | None) -> SpendForecast:
        """A version of a workflow: the given one, else the draft, else the live one. Raises `NotFound`, or `Invalid` if
        it does not validate."""

        def query(tx: Tx) -> tuple[int, str]:
            row = get_workflow(tx, principal, workflow_id)
            wanted = version or row.draft_version or row.live_version or row.latest_version
            return wanted, get_version(tx, row, wanted).definition

        number, text = await self._database.read(query)
        kept = self._programs.find_kept(workflow_id, number) or self._programs.compile(loads(text))
        return SpendForecast(kept.runnable(), workflow_id, number)

    def of_definition(self, document: Any) -> SpendForecast:
        """A definition that is not stored; raises `Invalid` if it does not validate."""
        return SpendForecast(self._programs.compile(document).runnable())

    async def spends(self, principal: Principal, forecast: SpendForecast, given: Given) -> list[ForecastSpend]:
        """Every execution of a node that spends, as far as it is known."""
        nodes = forecast.program.nodes
        wanted = [node_id for node_id, node in nodes.items() if node.spec.effect == "spend"]
        wallets: dict[str | None, tuple[WalletView | None, str | None]] = {}
        found = []
        for seen in forecast_nodes(forecast.program, given, wanted):
            connector = seen.node.node.connector
            wallet_id = connector.id if connector is not None else None
            if wallet_id not in wallets:
                wallets[wallet_id] = await self._wallet(principal, wallet_id)
            found.append(ForecastSpend(seen, self.catalog.actions[seen.node.node.type], *wallets[wallet_id]))
        return found

    async def _wallet(self, principal: Principal, wallet_id: str | None) -> tuple[WalletView | None, str | None]:
        view = await self._wallets.find_view(principal.org_id, wallet_id)
        if view is not None and principal.may_use_wallet(view.id):
            return view, None
        if wallet_id is None:
            return None, "there is no default wallet that this key reaches; make one, or name a wallet in the node"
        return None, f'there is no wallet "{wallet_id}" that this key reaches and that can sign'


def _defaults(action: Action) -> dict[str, Any]:
    """Defaults of fields that the payload leaves out, by wire name."""
    fields = action.input.model_fields
    return {info.alias or name: info.get_default() for name, info in fields.items() if not info.is_required()}


def unknown_in(spot: Spot) -> str | None:
    """Why an amount is unknown before the run; None if amount, chain and token are known."""
    for value in (spot.amount, spot.chain, spot.token):
        if isinstance(value, Unknown):
            return value.why
    return None
