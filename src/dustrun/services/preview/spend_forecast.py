"""Forecasts a workflow's spends before it runs: what is known of their inputs, and their wallets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final

from pydantic import ValidationError

from dustrun.catalog import Catalog
from dustrun.core.money.movements import Spot, Unknown, find_spots
from dustrun.core.values.fields import Fields
from dustrun.core.workflow.definition import choose
from dustrun.core.workflow.forecast import Forecast, ForecastInput, forecast_nodes
from dustrun.core.workflow.program import Program
from dustrun.errors import DustrunError, Invalid, Refused
from dustrun.records import dataclass
from dustrun.sdk import Action
from dustrun.sdk.chain import WalletView
from dustrun.services.access.principal import Principal
from dustrun.services.runs.start_request import check_calls
from dustrun.services.wallets.wallets import Wallets
from dustrun.services.workflows.compiled import CompiledWorkflows
from dustrun.services.workflows.versions import get_version, get_workflow
from dustrun.storage.db.database import Database
from dustrun.storage.db.statement import Tx

_MOST_SCOPES: Final = 200
_CALL: Final = "call-workflow"
_Wallet = tuple[WalletView | None, str | None]
"""A wallet, or why there is none."""
_CALL_DEFAULTS: Final[Mapping[str, Any]] = {"version": None, "payload": {}, "propValues": {}}


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
    workflow_id: str | None = None

    @property
    def spots(self) -> list[Spot]:
        """Every amount that its input names."""
        wire: Mapping[str, Any] = {**_defaults(self.action), **self.seen.wire}
        if self.seen.unknowns:
            wire = self.action.input.complete(wire) if issubclass(self.action.input, Fields) else wire
        else:
            with suppress(ValidationError):  # the run says what is wrong with its input
                wire = self.action.input.model_validate(wire).model_dump(by_alias=True)
        return [spot for movement in self.action.funds_movement for spot in find_spots(movement, wire)]


@dataclass(frozen=True, slots=True)
class ForecastScope:
    """One passage through a workflow: the forecast one itself, or one that it calls, at any depth. `call` is the node
    of `caller` that calls it; `workflow_ids` are the workflows from the top down to this one.
    """

    program: Program
    given: ForecastInput
    workflow_ids: tuple[str, ...]
    caller: ForecastScope | None = None
    call: Forecast | None = None

    @property
    def path(self) -> str:
        """The path of the call, empty for the forecast workflow itself."""
        return self.call.path if self.call is not None else ""

    @property
    def workflow_id(self) -> str | None:
        """The workflow; None for a definition that is not stored."""
        return self.workflow_ids[-1] or None

    def forecast_nodes(self, node_ids: Sequence[str]) -> list[Forecast]:
        """The executions of some nodes, as seen from the top."""
        repeats = self.call.repeats if self.call is not None else None
        found = forecast_nodes(self.program, self.given, node_ids)
        return [replace(seen, within=self.path, repeats=seen.repeats or repeats) for seen in found]


@dataclass(frozen=True, slots=True)
class Closure:
    """A workflow and what it calls, callers first. `unknown` are the calls that could not be followed, and why."""

    scopes: tuple[ForecastScope, ...]
    unknown: tuple[tuple[ForecastScope, Forecast, str], ...]


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
        kept = self._programs.find_kept(workflow_id, number) or await self._programs.compile_text(
            principal.org_id, text
        )
        return SpendForecast(kept.runnable(), workflow_id, number)

    async def of_definition(self, principal: Principal, document: Any) -> SpendForecast:
        """A definition that is not stored; raises `Invalid` if it does not validate."""
        pinned = await self._programs.pinned(principal.org_id, document)
        return SpendForecast((await self._programs.compile_text(principal.org_id, pinned)).runnable())

    async def closure(self, principal: Principal, forecast: SpendForecast, given: ForecastInput) -> Closure:
        """The workflow and all that it calls, in the versions that a run would take now."""
        pending = [ForecastScope(forecast.program, given, (forecast.workflow_id or "",))]
        scopes: list[ForecastScope] = []
        unknown: list[tuple[ForecastScope, Forecast, str]] = []
        while pending:
            scope = pending.pop()
            scopes.append(scope)
            called: list[ForecastScope] = []
            for call in scope.forecast_nodes([n for n, node in scope.program.nodes.items() if node.node.type == _CALL]):
                try:
                    if len(scopes) + len(pending) + len(called) >= _MOST_SCOPES:
                        raise Refused(f"The forecast follows at most {_MOST_SCOPES} workflows, and not this call.")
                    called.append(await self._follow(principal, scope, call))
                except DustrunError as error:
                    unknown.append((scope, call, error.message))
            pending += reversed(called)
        return Closure(tuple(scopes), tuple(unknown))

    async def _follow(self, principal: Principal, scope: ForecastScope, call: Forecast) -> ForecastScope:
        """The scope of a call; raises `DustrunError` if what is called is not known, or the call would be refused."""
        wire = {**_CALL_DEFAULTS, **call.wire}
        for name in ("workflowId", "version"):
            if isinstance(wire[name], Unknown):
                raise Refused(f"{name} {wire[name].why}")
        workflow_id = str(wire["workflowId"])
        check_calls(scope.workflow_ids, workflow_id)

        def query(tx: Tx) -> int:
            row = get_workflow(tx, principal, workflow_id)
            return int(wire["version"] or row.live_version or row.draft_version or row.latest_version)

        version = await self._database.read(query)
        compiled = await self._programs.find(workflow_id, version)
        if compiled is None:
            raise Refused(f'The workflow "{workflow_id}" has no version {version}.')
        payload, props = (wire[name] if isinstance(wire[name], Mapping) else None for name in ("payload", "propValues"))
        return ForecastScope(
            compiled.runnable(), ForecastInput(payload, props or {}), (*scope.workflow_ids, workflow_id), scope, call
        )

    async def spends(self, principal: Principal, scope: ForecastScope) -> list[ForecastSpend]:
        """Every execution of a workflow's spending nodes, as far as it is known."""
        nodes = scope.program.nodes
        wanted = [node_id for node_id, node in nodes.items() if node.spec.effect == "spend"]
        wallets: dict[str | None, _Wallet] = {}
        found = []
        for seen in scope.forecast_nodes(wanted):
            wallet_id, wallet = _named(seen)
            if wallet is None:
                wallet = wallets.get(wallet_id) or await self._wallet(principal, wallet_id)
                wallets[wallet_id] = wallet
            action = self.catalog.actions[seen.node.node.type]
            found.append(ForecastSpend(seen, action, *wallet, workflow_id=scope.workflow_id))
        return found

    async def _wallet(self, principal: Principal, wallet_id: str | None) -> _Wallet:
        view = await self._wallets.find_view(principal.org_id, wallet_id)
        if view is not None and principal.may_use_wallet(view.id):
            return view, None
        if wallet_id is None:
            return None, "there is no default wallet that this key reaches; make one, or name a wallet in the node"
        return None, f'there is no wallet "{wallet_id}" that this key reaches and that can sign'


def _named(seen: Forecast) -> tuple[str | None, _Wallet | None]:
    """The id of the wallet that a node names, or why its expression names none."""
    reference = seen.node.node.connector
    if reference is None or seen.node.wallet is None:
        return reference.id if reference is not None else None, None
    if isinstance(seen.connector_id, Unknown):
        return None, (None, f"connector.id {seen.connector_id.why}")
    try:
        return choose(reference, seen.connector_id).id, None
    except Invalid as error:
        return None, (None, error.message)


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
