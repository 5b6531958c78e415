"""Variables of workflows: reads and writes by runs, and changes by hand.

A node writes exactly once, even across crashes: its write key is its path in the retry chain. A simulation writes to an
overlay that only it and the runs it calls can see. A value of a run is seen by it and its retries; what only they, or
only one simulation, can see counts as written for nobody else.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from dustrun import clock
from dustrun.core.run.state import Mode
from dustrun.core.values.exact_json import dumps_text, loads
from dustrun.core.workflow import variables
from dustrun.core.workflow.definition import Definition, VariableDef
from dustrun.errors import Code, Conflict, Invalid, NotFound, Problem, Temporary
from dustrun.log import mask_links
from dustrun.records import dataclass
from dustrun.services.access import audit, hands, idempotency
from dustrun.services.access.paging import Page, Paging, page_of
from dustrun.services.access.principal import Principal
from dustrun.services.data.hands_of_runs import HandsOfRuns
from dustrun.services.runs.engine_port import RunFacts
from dustrun.services.runs.shaping import RunShaping
from dustrun.services.workflows.versions import get_version, get_workflow
from dustrun.storage.data import store_sources
from dustrun.storage.data import variables as rows
from dustrun.storage.data.variables import RUN, WORKFLOW, RunVariable, VariableRow, WriteRow
from dustrun.storage.db.database import Database
from dustrun.storage.db.statement import Tx
from dustrun.storage.db.writer import Writer
from dustrun.storage.runs import runs as run_rows
from dustrun.storage.workflows.workflows import WorkflowRow

MAX_VALUE_BYTES = 262_144


@dataclass(frozen=True, slots=True)
class VariableView:
    """A variable as a run sees it; `exists`: it was written or declared."""

    value: Any
    assumed: bool = False
    exists: bool = True


@dataclass(frozen=True, slots=True)
class VariableRequest:
    """A node's request to write. `key` is the same for every attempt, restart and retry run."""

    name: str
    op: str
    value: Any
    scope: str | None
    path: str
    key: str
    assumed: bool
    at: int


@dataclass(frozen=True, slots=True)
class VariableWrite:
    """The result of a write."""

    scope: str
    previous: Any
    value: Any


@dataclass(frozen=True, slots=True)
class Variable:
    """A variable as the API shows it."""

    name: str
    defined: VariableDef | None
    row: VariableRow | None

    @property
    def has_value(self) -> bool:
        """Whether a value has been written."""
        return self.row is not None and self.row.value is not None

    @property
    def value(self) -> Any:
        """The value that the next run sees."""
        if self.row is not None and self.row.value is not None:
            return loads(self.row.value)
        return self.defined.default if self.defined is not None else None


def _own_definition(row: VariableRow) -> VariableDef | None:
    return None if row.definition is None else VariableDef.model_validate(loads(row.definition))


def _declared(definition: Definition, kept: list[VariableRow]) -> dict[str, VariableDef]:
    return variables.declared(definition, [found for row in kept if (found := _own_definition(row)) is not None])


def look(tx: Tx, facts: RunFacts, definition: Definition) -> dict[str, VariableView]:
    """Every variable as a run sees it now."""
    workflow_id = facts.workflow_id or ""
    kept = rows.list_variables(tx, workflow_id) if workflow_id else []
    declared = _declared(definition, kept)
    seen = {name: VariableView(defined.default) for name, defined in declared.items()}
    for row in kept:
        if row.value is not None and variables.lifetime_of(declared.get(row.name), None) == variables.PERSIST:
            seen[row.name] = VariableView(loads(row.value))
    held = rows.list_held(tx, facts.pk, RUN, workflow_id)
    if facts.mode is Mode.SIMULATE:
        held = [*rows.list_held(tx, facts.top_pk, WORKFLOW, workflow_id), *held]
    for found in held:
        seen[found.name] = VariableView(loads(found.value), bool(found.assumed))
    return seen


def _write(
    tx: Tx, facts: RunFacts, definition: Definition, request: VariableRequest, most_bytes: int, keeping: Keeping
) -> VariableWrite:
    if not run_rows.holds(tx, facts.pk, facts.fence):
        raise Temporary("Another server process has taken over this run.")
    workflow_id = facts.workflow_id or ""
    kept = rows.find(tx, workflow_id, request.name) if workflow_id else None
    defined = _declared(definition, [kept] if kept is not None else []).get(request.name)
    lifetime = variables.lifetime_of(defined, request.scope)
    scope = WORKFLOW if lifetime == variables.PERSIST and workflow_id else RUN
    done = _find_done(tx, facts, scope, request.key)
    if done is not None:
        return VariableWrite(done.scope, _loaded(done.old_value), _loaded(done.new_value))
    old = _stored(tx, facts, scope, kept, request.name)
    default = defined.default if defined is not None else None
    value = _new_value(request, default if old is None else loads(old), defined)
    text = mask_links(dumps_text(value))
    if len(text) > most_bytes:
        raise Invalid(f"The value has {len(text)} bytes; a variable may have at most {most_bytes}.")
    if scope == WORKFLOW and facts.mode is not Mode.SIMULATE:
        is_new = kept is None or kept.version == 0
        keeping.note(tx, facts, f"{workflow_id}/{request.name}", request, is_new=is_new)
    _store(tx, facts, scope, kept, request, text)
    previous = old if old is not None else None if default is None else dumps_text(default)
    rows.add_write(tx, _history(facts, scope, request, previous, text))
    return VariableWrite(scope, _loaded(previous), loads(text))


def _find_done(tx: Tx, facts: RunFacts, scope: str, key: str) -> WriteRow | None:
    """The write that the node has already made for what this run sees."""
    for one in _keys(tx, facts, scope, key):
        done = rows.find_write(tx, one)
        if done is not None:
            return done
    earlier = rows.find_write(tx, key)  # an earlier version of the server kept all writes under this key
    return earlier if earlier is not None and earlier.run_pk == facts.pk else None


def _keys(tx: Tx, facts: RunFacts, scope: str, key: str) -> Iterator[str]:
    """The keys under which the node may have written already what this run sees, its own first."""
    yield _own_key(facts, scope, key)
    if scope == RUN and facts.mode is not Mode.SIMULATE:  # a retried simulation keeps nothing
        run = run_rows.get(tx, facts.pk)
        while run.source_run_id is not None:
            earlier = run_rows.find(tx, run.org_id, run.source_run_id)
            if earlier is None:
                return
            yield f"{key}/{earlier.pk}"
            run = earlier


def _own_key(facts: RunFacts, scope: str, key: str) -> str:
    if scope == RUN:
        return f"{key}/{facts.pk}"
    return f"{key}/{facts.top_pk}" if facts.mode is Mode.SIMULATE else key


def _loaded(text: str | None) -> Any:
    return None if text is None else loads(text)


def _stored(tx: Tx, facts: RunFacts, scope: str, kept: VariableRow | None, name: str) -> str | None:
    workflow_id = facts.workflow_id or ""
    if scope == RUN:
        held = rows.find_held(tx, facts.pk, RUN, workflow_id, name)
        return held.value if held is not None else None
    if facts.mode is Mode.SIMULATE:
        held = rows.find_held(tx, facts.top_pk, WORKFLOW, workflow_id, name)
        if held is not None:
            return held.value
    return kept.value if kept is not None else None


def _new_value(request: VariableRequest, before: Any, defined: VariableDef | None) -> Any:
    if request.op == "set":
        value = request.value
    else:
        try:
            value = variables.incremented(before, request.value)
        except ValueError as error:
            raise Invalid(f'The variable "{request.name}": {error}.') from None
    wrong = variables.misfit(defined, request.name, value)
    if wrong is not None:
        raise Invalid(wrong)
    return value


def _store(tx: Tx, facts: RunFacts, scope: str, kept: VariableRow | None, request: VariableRequest, text: str) -> None:
    workflow_id = facts.workflow_id or ""
    if scope == WORKFLOW and facts.mode is not Mode.SIMULATE:
        row = kept or VariableRow(workflow_id, request.name, None, None, 0, 0, None)
        rows.put(tx, replace(row, value=text, version=row.version + 1, updated_at=clock.now_ms(), last_run_id=facts.id))
        return
    owner_pk = facts.pk if scope == RUN else facts.top_pk
    rows.hold(tx, owner_pk, workflow_id, RunVariable(scope, request.name, text, request.assumed))


def _history(facts: RunFacts, scope: str, request: VariableRequest, old: str | None, new: str) -> WriteRow:
    return WriteRow(
        workflow_id=facts.workflow_id or "",
        name=request.name,
        op=request.op,
        scope=scope,
        old_value=old,
        new_value=new,
        run_pk=facts.pk,
        run_id=facts.id,
        path=request.path,
        simulated=int(facts.mode is Mode.SIMULATE),
        written_at=request.at,
        write_key=_own_key(facts, scope, request.key),
    )


@dataclass(frozen=True, slots=True)
class Keeping:
    """Keeps who and what shaped what a run writes to a variable."""

    hands: HandsOfRuns
    shaping: RunShaping

    def note(self, tx: Tx, facts: RunFacts, variable: str, request: VariableRequest, *, is_new: bool) -> None:
        """Keeps it in the transaction of the write; what is set forgets what shaped it before. Raises `Unsliced`."""
        self.hands.note(tx, facts, "variable", variable, is_new=is_new)
        parts, answering = self.shaping.written(tx, facts.org_id, facts.pk, request.path)
        if request.op == "set":
            store_sources.replace(tx, variable, parts)
        else:
            store_sources.add(tx, variable, 0, parts, is_change=True)
        for hand in answering:
            hands.note_hand(tx, facts.org_id, "variable", variable, hand)


class Variables:
    """Use cases of variables."""

    def __init__(self, database: Database, writer: Writer, keeping: Keeping, most_bytes: int = MAX_VALUE_BYTES) -> None:
        self._database = database
        self._writer = writer
        self._keeping = keeping
        self._most_bytes = most_bytes

    # --- for runs ---

    async def read_for(self, facts: RunFacts, definition: Definition) -> dict[str, VariableView]:
        """Every variable as a run sees it now."""
        return await self._database.read(lambda tx: look(tx, facts, definition))

    async def write_for(self, facts: RunFacts, definition: Definition, request: VariableRequest) -> VariableWrite:
        """Performs a node's write exactly once; raises `Invalid` if the value does not match type or limits."""

        def unit(tx: Tx) -> VariableWrite:
            return _write(tx, facts, definition, request, self._most_bytes, self._keeping)

        return await self._keeping.shaping.slicing(lambda: self._writer.write(unit))

    # --- for people ---

    async def list_all(self, principal: Principal, workflow_id: str) -> list[Variable]:
        """Lists a workflow's variables by name."""

        def query(tx: Tx) -> list[Variable]:
            row = get_workflow(tx, principal, workflow_id)
            kept = {found.name: found for found in rows.list_variables(tx, row.id)}
            declared = _declared(_definition(tx, row), list(kept.values()))
            return [Variable(name, declared.get(name), kept.get(name)) for name in sorted({*kept, *declared})]

        return await self._database.read(query)

    async def declare(self, principal: Principal, workflow_id: str, defined: VariableDef) -> Variable:
        """Declares or redeclares a variable of the workflow; its value is kept and must match the new type."""
        wrong = variables.misfit(defined, defined.name, defined.default)
        if wrong is not None:
            raise _unfit("default", wrong)

        def change(tx: Tx, row: WorkflowRow, known: Variable | None) -> VariableRow | None:
            self._refuse_fixed(tx, row, defined.name)
            kept = known.row if known is not None else None
            if kept is not None and kept.value is not None:
                misfit = variables.misfit(defined, defined.name, loads(kept.value))
                if misfit is not None:
                    raise Conflict(f"{misfit} Reset the variable first.")
            text = dumps_text(defined.model_dump(by_alias=True, exclude_unset=True))
            fresh = kept or VariableRow(row.id, defined.name, None, None, 0, 0, None)
            return replace(fresh, definition=text, updated_at=clock.now_ms())

        return await self._change(principal, workflow_id, defined.name, "declare", change, create=True)

    async def remove(self, principal: Principal, workflow_id: str, name: str) -> Variable:
        """Deletes a variable that was declared for the workflow or only written; its history is kept."""

        def change(tx: Tx, row: WorkflowRow, known: Variable | None) -> VariableRow | None:
            self._refuse_fixed(tx, row, name)
            return None

        return await self._change(principal, workflow_id, name, "delete", change)

    async def set_value(self, principal: Principal, workflow_id: str, name: str, value: Any) -> Variable:
        """Sets a value by hand."""
        text = mask_links(dumps_text(value))
        if len(text) > self._most_bytes:
            raise _unfit("value", f"The value has {len(text)} bytes; a variable may have at most {self._most_bytes}.")

        def change(tx: Tx, row: WorkflowRow, known: Variable | None) -> VariableRow | None:
            assert known is not None
            wrong = variables.misfit(known.defined, name, value)
            if wrong is not None:
                raise _unfit("value", wrong)
            return self._write_by_hand(tx, principal, row, known, "manual_set", text)

        return await self._change(principal, workflow_id, name, "set", change)

    async def reset(self, principal: Principal, workflow_id: str, name: str) -> Variable:
        """Resets a variable to its default."""

        def change(tx: Tx, row: WorkflowRow, known: Variable | None) -> VariableRow | None:
            assert known is not None
            return self._write_by_hand(tx, principal, row, known, "manual_reset", None)

        return await self._change(principal, workflow_id, name, "reset", change)

    async def history(self, principal: Principal, workflow_id: str, name: str, paging: Paging) -> Page[WriteRow]:
        """Lists the writes of a variable, newest first."""

        def query(tx: Tx) -> list[WriteRow]:
            row = get_workflow(tx, principal, workflow_id)
            found = rows.list_history(tx, row.id, name, paging.peek, paging.offset)
            if not found and self._find(tx, row, name) is None:
                raise _unknown(name)
            return found

        return page_of(await self._database.read(query), paging)

    async def writes_of(self, principal: Principal, run_id: str, paging: Paging) -> Page[WriteRow]:
        """Lists the writes of a run, oldest first."""

        def query(tx: Tx) -> list[WriteRow]:
            run = run_rows.find(tx, principal.org_id, run_id)
            if run is None or not principal.may_use_workflow(run.workflow_id):
                raise NotFound(f'There is no run "{run_id}".', code=Code.RUN_UNKNOWN)
            return rows.list_of_run(tx, run.pk, paging.peek, paging.offset)

        return page_of(await self._database.read(query), paging)

    # --- internal ---

    @staticmethod
    def _find(tx: Tx, row: WorkflowRow, name: str) -> Variable | None:
        kept = rows.find(tx, row.id, name)
        defined = _declared(_definition(tx, row), [kept] if kept is not None else []).get(name)
        return Variable(name, defined, kept) if kept is not None or defined is not None else None

    @staticmethod
    def _refuse_fixed(tx: Tx, row: WorkflowRow, name: str) -> None:
        if name in variables.declared(_definition(tx, row)):
            raise Conflict(f'The definition itself declares "{name}" in variableDefs; change it there.')

    @staticmethod
    def _write_by_hand(
        tx: Tx, principal: Principal, row: WorkflowRow, known: Variable, op: str, text: str | None
    ) -> VariableRow:
        if variables.lifetime_of(known.defined, None) == variables.RESET:
            raise Conflict(
                f'The variable "{known.name}" starts from its default in every run, so there is no value to set.'
            )
        kept = known.row or VariableRow(row.id, known.name, None, None, 0, 0, None)
        now = clock.now_ms()
        rows.add_write(
            tx,
            WriteRow(
                workflow_id=row.id,
                name=known.name,
                op=op,
                scope=WORKFLOW,
                old_value=kept.value,
                new_value=text,
                key_id=principal.key_id,
                written_at=now,
            ),
        )
        return replace(kept, value=text, version=kept.version + 1, updated_at=now, last_run_id=None)

    async def _change(
        self, principal: Principal, workflow_id: str, name: str, verb: str, change: Any, *, create: bool = False
    ) -> Variable:
        def unit(tx: Tx) -> Variable:
            row = get_workflow(tx, principal, workflow_id)
            known = self._find(tx, row, name)
            if known is None and not create:
                raise _unknown(name)
            fresh: VariableRow | None = change(tx, row, known)
            is_new = known is None or known.row is None or known.row.version == 0
            hands.note(tx, principal, "variable", f"{row.id}/{name}", is_new=is_new)
            if fresh is None:
                rows.delete(tx, row.id, name)
            else:
                rows.put(tx, fresh)
            if verb != "declare":  # then the value is this key's, which is a hand
                store_sources.replace(tx, f"{row.id}/{name}", {})
            audit.record(tx, principal, f"variable.{verb}", row.id, name=name)
            return self._find(tx, row, name) or Variable(name, None, None)

        return await idempotency.write(self._writer, unit)


def _definition(tx: Tx, row: WorkflowRow) -> Definition:
    number = row.draft_version or row.live_version or row.latest_version
    return Definition.model_validate(loads(get_version(tx, row, number).definition))


def _unknown(name: str) -> NotFound:
    return NotFound(f'The workflow has no variable "{name}".', code=Code.VARIABLE_UNKNOWN)


def _unfit(field: str, message: str) -> Invalid:
    return Invalid(message, code=Code.VARIABLE_INVALID, details=[Problem(field, message)])
