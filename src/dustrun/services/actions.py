"""One action outside a workflow: an inline run of a manual trigger and one node, which obeys all that a run does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Final

from dustrun.catalog import Catalog
from dustrun.core.workflow.control import CONTROL
from dustrun.core.workflow.definition import WALLET
from dustrun.core.workflow.specs import api_of
from dustrun.errors import Code, Invalid, Problem
from dustrun.records import dataclass
from dustrun.services.access.principal import Principal
from dustrun.services.runs.engine_port import CreatedRun
from dustrun.services.runs.start import Starts
from dustrun.services.runs.start_request import RunRequest
from dustrun.storage.data import connectors
from dustrun.storage.db.database import Database
from dustrun.storage.db.statement import Tx
from dustrun.storage.money import wallets

NODE: Final = "action"
"""Id of the node that carries out the action."""
TEST: Final = "action-test"
"""The origin of a run that only tests an action."""
_INPUTS, _CONNECTOR = f"nodes.{NODE}.payload", f"nodes.{NODE}.connector"


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionCall:
    """An action with its inputs. `connector_id`: the connector or wallet that it uses; `connector_type`: what it must
    be, if the caller says so; `is_test`: lists of runs can leave it out."""

    type: str
    inputs: dict[str, Any]
    connector_id: str | None = None
    connector_type: str | None = None
    simulate: bool = False
    dust_test: bool = False
    is_test: bool = False


class ActionCalls:
    """Starts runs of single actions."""

    def __init__(self, database: Database, catalog: Catalog, starts: Starts) -> None:
        self._database = database
        self._catalog = catalog
        self._starts = starts

    async def start(self, principal: Principal, call: ActionCall) -> CreatedRun:
        """Starts the run; raises `NotFound` for an unknown type, and `Invalid` for one that cannot run alone and for
        inputs that do not fit."""
        principal.need_every_workflow("run an action outside a workflow")
        self._check_type(call.type)
        node: dict[str, Any] = {"type": call.type, "payload": call.inputs}
        if call.connector_id is not None:
            node["connector"] = await self._reference(principal, call, call.connector_id)
        nodes = {"root": {"type": "manual", "children": [NODE]}, NODE: node}
        source = TEST if call.is_test else "api"
        request = RunRequest(simulate=call.simulate, dust_test=call.dust_test, source=source)
        try:
            return await self._starts.start_inline(principal, {"nodes": nodes}, request)
        except Invalid as error:
            if error.code is not Code.DEFINITION_INVALID:
                raise
            raise _of_inputs(call, error.details) from None

    def _check_type(self, kind: str) -> None:
        if kind in CONTROL:
            message = f'"{kind}" steers a workflow and does nothing alone; run it as a node (POST /v1/runs).'
        elif kind in self._catalog.triggers:
            message = f'"{kind}" is a trigger, not an action; POST /v1/triggers/{kind}/test tests its config.'
        else:
            if api_of(kind) is None:  # of an imported type the definition is told to be wrong, if it is
                self._catalog.public_action(kind, summary=True)
            return
        raise Invalid(message, code=Code.PARAMETER_INVALID, details=[Problem("type", message)])

    async def _reference(self, principal: Principal, call: ActionCall, connector_id: str) -> dict[str, str]:
        """How a node names a connector or wallet of the organisation."""

        def query(tx: Tx) -> str | None:
            row = connectors.find(tx, principal.org_id, connector_id)
            if row is not None:
                return row.type if principal.may_use_connector(row.id) else None
            return WALLET if wallets.find(tx, principal.org_id, connector_id) is not None else None

        kind, at = call.type, _place_of(call)
        type_ = await self._database.read(query)
        takes_wallet, taken = self._catalog.actions[kind].needs_wallet, self._catalog.specs()[kind].connectors
        if not takes_wallet and not taken:
            whole = at.partition(".")[0]
            raise _refused(whole, f'"{kind}" uses neither a connector nor a wallet; leave {whole} out.')
        if type_ is None:
            raise _refused(at, f'There is no connector or wallet "{connector_id}".')
        if call.connector_type not in (None, type_):
            raise _refused("connector.type", f'"{connector_id}" is of type "{type_}", not "{call.connector_type}".')
        if type_ == WALLET and not takes_wallet:
            raise _refused(at, f'"{kind}" uses no wallet; put a connector of type {", ".join(taken)} here.')
        if type_ != WALLET and not taken:
            raise _refused(at, f'"{kind}" uses no connector; put the id of a wallet here.')
        return {"type": type_, "id": connector_id}


def _place_of(call: ActionCall) -> str:
    """The field of the request that names the connector."""
    return "connectorId" if call.connector_type is None else "connector.id"


def _refused(field: str, message: str) -> Invalid:
    return Invalid(message, code=Code.ACTION_INPUT_INVALID, details=[Problem(field, message)])


def _of_inputs(call: ActionCall, details: Sequence[Problem | dict[str, Any]]) -> Invalid:
    """The problems of the node as problems of the request."""
    message = f'The inputs of "{call.type}" are not valid. GET /v1/actions/{call.type} has their schema.'
    return Invalid(message, code=Code.ACTION_INPUT_INVALID, details=list(_placed(call, details)))


def _placed(call: ActionCall, details: Sequence[Problem | dict[str, Any]]) -> Iterator[Problem | dict[str, Any]]:
    for one in details:
        if isinstance(one, Problem):
            yield replace(one, field=_field(call, one.field), node_id=None)
        else:
            yield one


def _field(call: ActionCall, path: str) -> str:
    """Where in the request it is."""
    if path.startswith(_CONNECTOR):
        return _place_of(call)
    return "inputs" + path.removeprefix(_INPUTS) if path.startswith(_INPUTS) else path
