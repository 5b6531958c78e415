"""May a run start? Every refusal of a start, in the order in which they are asked.

| | asks | refuses |
|---|---|---|
| 1 | `check_caller` | a key that does not reach the workflow, or may not start runs in that mode |
| 2 | the same | both modes at once, a malformed run id |
| 3 | `check_retryable` | of a retry: a run that is still open, or ended well |
| 4 | `WorkflowCache.find`, `check_snapshot` | an unknown workflow, an archived one |
| 5 | `find_version`, `check_inline` | an unknown version; an inline definition without a manual trigger |
| 6 | `CompiledWorkflow.runnable` | a definition with problems |
| 7 | `StartGuard.check_program` | hosts that nobody has named; connectors and wallets beyond the key's |
| 8 | `StartGuard.admit`, `admit_unsaved`, `admit_retry` | what is not accepted, or not rehearsed (`spend_gate.py`) |
| 9 | `trigger_of`, `accept` | an unknown trigger, a payload against its schema |
| 10 | `concurrency_key_of` | a payload from which the workflow's concurrency key cannot be computed |
| 11 | `check_room`; `RunQuotas.need_room` | a server that is busy or stopping; an organisation that keeps too much |
| 12 | in the transaction: `StartCondition.before` | what a trigger's limits or a form's link refuse |
| 13 | `check_message`, `check_chain` | an unknown message; a retry chain with an open run or transaction |
| 14 | `check_created` | a run id that is used |
| 15 | `make_room` | with `onLimit: skip`, more unfinished runs than the workflow's limit |

A called run is asked 4 to 15 in the name of the run that calls it (`subworkflow.py`), but not for the quotas of runs:
what is under way, perhaps with money, goes on to its end.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from dustrun import clock
from dustrun.catalog import Catalog
from dustrun.core.expression import ExpressionError, parse_template
from dustrun.core.json_schema.check import PayloadCheck
from dustrun.core.run.state import RUN_RETRYABLE, Mode, RunStatus
from dustrun.core.validate import suggest
from dustrun.core.values.exact_json import is_large
from dustrun.core.workflow.definition import ANY_WALLET
from dustrun.core.workflow.program import Program
from dustrun.errors import Code, Conflict, Forbidden, Invalid, NotFound, Problem, Temporary
from dustrun.sdk.threads import run_beside
from dustrun.sdk.trigger import Trigger
from dustrun.services.access.principal import Principal
from dustrun.services.connectors.read_hosts import ReadHosts
from dustrun.services.runs.engine_port import Engine, RunFacts
from dustrun.services.runs.start_request import (
    Concurrency,
    PreparedRun,
    RunRequest,
    SnapshotOutdated,
    WorkflowSnapshot,
    check_current,
    verify,
)
from dustrun.services.workflows.closure import Lookup
from dustrun.services.workflows.compiled import CompiledWorkflow, CompiledWorkflows
from dustrun.services.workflows.spend_gate import SpendGate
from dustrun.storage.db.database import Database
from dustrun.storage.db.statement import Tx
from dustrun.storage.money import transactions as transaction_rows
from dustrun.storage.runs import called_runs
from dustrun.storage.runs import runs as rows
from dustrun.storage.runs.runs import RunRow

T = TypeVar("T")
_RUN_ID = re.compile(r"run_[A-Za-z0-9_-]{1,64}")


# Before anything is looked up.


def check_caller(principal: Principal, workflow_id: str | None, request: RunRequest, *, by_trigger: bool) -> None:
    """Raises `Forbidden` or `Invalid`; without `workflow_id` of an inline run. What a trigger may start was decided
    when its version was published."""
    if workflow_id is None:
        principal.need_every_workflow("run a definition that belongs to none")
    else:
        principal.need_workflow(workflow_id)
    if request.simulate and request.dust_test:
        raise Invalid(
            "`simulate` and `dustTest` exclude each other; send one of them.",
            code=Code.BOTH_MODES,
            details=[Problem("dustTest", "cannot be true together with simulate")],
        )
    if request.run_id is not None and not _RUN_ID.fullmatch(request.run_id):
        raise Invalid(
            "The runId is malformed.",
            code=Code.RUN_ID_MALFORMED,
            details=[Problem("runId", "must be run_ and 1 to 64 of A-Z a-z 0-9 _ -, for example run_order-17")],
        )
    if not by_trigger:
        principal.need_mode(is_simulated=request.simulate)


def check_retryable(row: RunRow) -> None:
    """Raises `Conflict` unless the run ended and may be retried."""
    if RunStatus(row.status) not in RUN_RETRYABLE:
        message = f'The run is "{row.status}"; only a failed, partial or cancelled one can be retried.'
        raise Conflict(message, code=Code.RUN_NOT_RETRYABLE)


# The workflow and its version.


def check_snapshot(snapshot: WorkflowSnapshot) -> None:
    """Raises `Invalid` for an archived workflow."""
    if snapshot.status == "archived":
        raise Invalid(
            f"The workflow is archived. POST /v1/workflows/{snapshot.id}/unarchive brings it back.",
            code=Code.WORKFLOW_ARCHIVED,
        )


async def find_version(
    programs: CompiledWorkflows, snapshot: WorkflowSnapshot, version: int, of: str = "The workflow"
) -> CompiledWorkflow:
    """The compiled version. The draft and the live version exist as long as the snapshot is current, which the run's
    creation verifies; any other is looked up. Raises `NotFound`, or `SnapshotOutdated` if those two do not exist."""
    is_kept = version in (snapshot.draft_version, snapshot.live_version)
    if is_kept:
        found = programs.find_kept(snapshot.id, version) or await programs.find(snapshot.id, version)
    else:
        found = await programs.find_stored(snapshot.id, version)
    if found is None and is_kept:  # an autosave has replaced that draft
        raise SnapshotOutdated
    if found is None:
        raise NotFound(f"{of} has no version {version}.", code=Code.VERSION_UNKNOWN)
    return found


def check_inline(compiled: CompiledWorkflow) -> None:
    """Raises `Invalid` unless an inline definition can be started by hand."""
    root = compiled.definition.nodes.get("root")
    if root is None or root.type != "manual":
        raise Invalid('An inline run needs a node "root" of type "manual".', code=Code.TRIGGER_NOT_MANUAL)


# What the program reads and spends.


class StartGuard:
    """Asks what needs the store. `read_hosts`: what keys that only simulate may read from; None: anything."""

    def __init__(self, database: Database, gate: SpendGate, read_hosts: ReadHosts | None = None) -> None:
        self._database = database
        self._gate = gate
        self._read_hosts = read_hosts

    async def check_snapshot(self, snapshot: WorkflowSnapshot) -> None:
        """Raises `Invalid` for an archived workflow, and `SnapshotOutdated` when it is no longer so."""
        if snapshot.status == "archived":
            await self._database.read(lambda tx: verify(tx, snapshot))
            check_snapshot(snapshot)

    async def check_program(self, principal: Principal, program: Program, *, is_simulated: bool) -> None:
        """Raises `Refused` for a host that the key may not read from, and `Forbidden` for a connector that it may not
        use, and for a wallet that it may not spend from."""
        if principal.connector_ids is not None:
            check_connectors(principal, program)
        if self._read_hosts is not None:
            await self._read_hosts.check(principal, program.definition)
        if program.wallets and not is_simulated:
            await self._database.look_up(lambda tx: check_spending(tx, principal, program))

    async def admit(
        self,
        principal: Principal,
        mode: Mode,
        program: Program,
        version: tuple[str, int],
        snapshot: WorkflowSnapshot | None = None,
    ) -> str | None:
        """The digest of what the run can reach, if that can spend; raises `Conflict` when it may not in that mode, and
        `SnapshotOutdated` instead of judging a version that the workflow no longer runs."""

        def query(tx: Tx) -> str | None:
            lookup = _lookup(tx, principal)
            workflow = lookup.find(version[0])
            if snapshot is not None:
                check_current(workflow, snapshot)
            return self._gate.admit(lookup, mode, workflow, version[1]) if workflow is not None else None

        return await self._ask_gate(program, query)

    async def admit_unsaved(self, principal: Principal, mode: Mode, program: Program, text: str) -> None:
        """Raises `Conflict` when a definition that is not saved may not run in that mode."""
        await self._ask_gate(
            program, lambda tx: self._gate.check_unsaved(_lookup(tx, principal), mode, text, principal)
        )

    async def admit_retry(self, principal: Principal, program: Program, old: RunRow) -> str | None:
        """As `admit`, for what a run of before executes; raises `Conflict` also unless what had called it may still
        spend with it."""
        if old.workflow_id is None:
            await self._ask_gate(program, lambda tx: self._gate.check_run(_lookup(tx, principal), old))
        if old.workflow_id is None or old.version is None:
            return None
        mode = Mode(old.mode)
        digest = await self.admit(principal, mode, program, (old.workflow_id, old.version))
        if digest is not None and mode is not Mode.SIMULATE:
            await self._gate.slicing(lambda: self._database.read(lambda tx: self._check_callers(tx, principal, old)))
        return digest

    def _check_callers(self, tx: Tx, principal: Principal, row: RunRow) -> None:
        """Raises `Conflict` unless what called the run, or one that it retries, may still spend with what it called."""
        call = called_runs.find_call(tx, row)
        if call is None or call.parent_pk is None or row.workflow_id is None or row.version is None:
            return
        lookup, called = Lookup(tx, principal.org_id, principal), (row.workflow_id, row.version)
        self._gate.check_callers(lookup, Mode(row.mode), call.parent_pk, called)

    async def _ask_gate(self, program: Program, query: Callable[[Tx], T]) -> T | None:
        """The answer to a question about whose hands a program's spends are in; None if it has none."""
        if not (program.wallets or program.calls):
            return None
        look = self._database.read if program.calls else self._database.look_up
        return await self._gate.slicing(lambda: look(query))


def _lookup(tx: Tx, principal: Principal) -> Lookup:
    return Lookup(tx, principal.org_id, principal)


def check_spending(tx: Tx, principal: Principal, program: Program) -> None:
    """Raises `Forbidden` unless the caller may spend from every wallet that the program can use."""
    principal.need("wallet:spend")
    if ANY_WALLET in program.wallets and principal.wallet_ids is not None:
        raise Forbidden(
            "The key is limited to some wallets (walletIds), and an expression of this workflow may name any wallet. "
            "List those that it may name in `connector.oneOf`."
        )
    for wallet_id in program.wallets if principal.wallet_ids is not None else ():
        known = wallet_id or rows.find_default_wallet(tx, principal.org_id)
        if known is not None and not principal.may_use_wallet(known):
            raise Forbidden(f'The key is limited to some wallets (walletIds); it may not spend from "{known}".')


def check_connectors(principal: Principal, program: Program) -> None:
    """Raises `Forbidden` unless the caller may use every connector that the program names, in whatever mode."""
    beyond = sorted(name for name in program.connectors if not principal.may_use_connector(name))
    if beyond:
        names = ", ".join(f'"{name}"' for name in beyond)
        raise Forbidden(f"The key is limited to some connectors (connectorIds); it may not use {names}.")


# The trigger and its payload.


def trigger_of(compiled: CompiledWorkflow, request: RunRequest) -> str:
    """The trigger that counts as fired: the requested one, else the manual one, else the first."""
    triggers = compiled.definition.trigger_node_ids
    wanted = request.trigger_node_id
    if wanted is None:
        nodes = compiled.definition.nodes
        return next((node_id for node_id in triggers if nodes[node_id].type == "manual"), triggers[0])
    if wanted not in triggers:
        message = (
            f'"{wanted}" names no trigger of this version; it has: {", ".join(triggers)}.{suggest(wanted, triggers)}'
        )
        raise Invalid(message, code=Code.TRIGGER_NODE_UNKNOWN, details=[Problem("triggerNodeId", message)])
    return wanted


async def accept(
    catalog: Catalog, compiled: CompiledWorkflow, trigger_id: str, payload: dict[str, Any]
) -> dict[str, Any]:
    """The payload as the trigger accepts it; raises `Invalid` when it does not match the trigger's schema."""
    trigger = catalog.triggers[compiled.definition.nodes[trigger_id].type]
    accepted: dict[str, Any] = await accept_by(trigger, compiled.trigger_configs[trigger_id], payload)
    return accepted


async def accept_by(trigger: Trigger, config: Any, payload: Any) -> Any:
    """The result of `trigger.accept`: computed beside the event loop if that may take long, whatever makes it long, the
    payload or the schema."""
    check = getattr(config, "compiled", None)
    is_quick = check.is_quick(payload) if isinstance(check, PayloadCheck) else not is_large(payload)
    return trigger.accept(config, payload) if is_quick else await run_beside(trigger.accept, config, payload)


class KeyRoots:
    """The roots of a concurrency key: the trigger's payload and the props."""

    def __init__(self, payload: Mapping[str, Any], props: Mapping[str, Any]) -> None:
        self._roots: dict[str, Any] = {
            "$trigger": {**payload, "body": dict(payload)},
            "$inputs": dict(payload),
            "$props": dict(props),
        }

    def root(self, name: str) -> Any:
        """The value behind a root."""
        return self._roots[name]


def concurrency_key_of(concurrency: Concurrency, prepared: PreparedRun) -> str:
    """The value by which the workflow limits its unfinished runs; raises `Invalid` if it cannot be computed."""
    if concurrency.key is None:
        return ""
    roots = KeyRoots(prepared.payload, prepared.facts.prop_values)
    try:
        return str(parse_template(concurrency.key).evaluate(roots))
    except ExpressionError as error:
        raise Invalid(
            "The workflow's concurrency key cannot be computed from this payload.",
            code=Code.PAYLOAD_INVALID,
            details=[Problem("payload", error.message)],
        ) from None


def check_room(engine: Engine) -> None:
    """Raises `Temporary` if the engine takes no more runs now."""
    if not engine.has_room():
        raise Temporary("The server is busy or stopping; nothing was started.", retry_after_s=2)


# In the transaction that creates the run.


def check_message(tx: Tx, org_id: str, message_id: str) -> None:
    """Raises `Invalid` for a message that the organisation does not have."""
    if not rows.has_message(tx, org_id, message_id):
        message = f'"{message_id}" names no message of this organisation.'
        raise Invalid(message, code=Code.CHAT_MESSAGE_UNKNOWN, details=[Problem("chatMessageId", message)])


def check_chain(tx: Tx, org_id: str, root_run_id: str) -> None:
    """Raises `Conflict` while a run of the retry chain is open, or anything that it signed may still be included:
    paying again could pay twice."""
    if rows.chain_is_open(tx, org_id, root_run_id):
        message = "Another run of this retry chain has not ended; wait for it or cancel it."
        raise Conflict(message, code=Code.RUN_NOT_RETRYABLE)
    unsettled = transaction_rows.find_unsettled(tx, org_id, root_run_id)
    if unsettled is not None:
        message = (
            f'The transaction "{unsettled}" of this retry chain is still open; wait until it is final, or cancel it '
            f"(POST /v1/transactions/{unsettled}/cancel)."
        )
        raise Conflict(message, code=Code.TRANSACTION_OPEN, details=[{"field": "transactionId", "message": unsettled}])


def check_created(run_pk: int | None, run_id: str) -> int:
    """The row of the run that was inserted; raises `Invalid` if the id was used already."""
    if run_pk is None:
        message = f'The runId "{run_id}" is already used; choose another one.'
        raise Invalid(message, code=Code.RUN_ID_USED, details=[Problem("runId", message)])
    return run_pk


def make_room(tx: Tx, limit: Concurrency, facts: RunFacts, run_pk: int) -> int | None:
    """Applies the workflow's limit to the run just inserted: None when it fits or may queue, else the oldest run, now
    asked to cancel. Raises `Conflict` when the workflow says to skip."""
    if limit.on_limit == "queue":
        return None
    assert facts.workflow_id is not None
    assert facts.concurrency_key is not None
    others = [pk for pk in rows.list_open_of(tx, facts.workflow_id, facts.concurrency_key) if pk != run_pk]
    if len(others) < limit.max:
        return None
    if limit.on_limit == "skip":
        message = f"The workflow already has {len(others)} unfinished runs; its limit is {limit.max}."
        raise Conflict(message, code=Code.STATE_CONFLICT)
    rows.request_cancel(tx, others[0], clock.now_ms())
    return others[0]
