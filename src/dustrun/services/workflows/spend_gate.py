"""The needs of a version before it may spend: the rehearsals that its workflow requires, and the acceptance of somebody
who may spend from its wallets."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any, TypeVar

from dustrun.core.run.state import Mode
from dustrun.core.values.exact_json import loads
from dustrun.core.workflow.specs import Specs
from dustrun.errors import Code, Conflict, Forbidden, Problem
from dustrun.records import dataclass
from dustrun.services.access.hands import Hand
from dustrun.services.access.principal import Principal
from dustrun.services.workflows.closure import UNSAVED, Closure, ClosureMember, Closures, Lookup, SpendNode, key_of_run
from dustrun.services.workflows.compiled import CompiledWorkflows
from dustrun.services.workflows.shapes import ClosureUnsliced, Shapes, Thing
from dustrun.services.workflows.sources import SourceStatus, SpendSources, covers, describe, has, name_of
from dustrun.storage.db.database import Database
from dustrun.storage.db.statement import Tx
from dustrun.storage.runs import called_runs, rehearsals
from dustrun.storage.runs import runs as run_rows
from dustrun.storage.runs.runs import RunRow
from dustrun.storage.workflows.workflows import WorkflowRow

Place = tuple[str, str, str]
"""A spending node: workflow, hash of its definition, id."""

T = TypeVar("T")

_KEPT = 10_000
_TRIES = 5
GUARDS = frozenset({"require_rehearsal", "enforce_rehearsal", "acceptances"})
"""The settings of a workflow that refuse runs or spends of it."""
_FLAGS = {Mode.SIMULATE.value: "simulate", Mode.DUST.value: "dustTest"}
_STRICTNESS = {"none": 0, "simulate": 1, "dust": 2}
_CARRIED_OUT = frozenset(["simulated", "final"])


@dataclass(frozen=True, slots=True)
class LastSpend:
    """When and how a node last really spent."""

    run_id: str
    path: str
    at: int | None


class SpendGate:
    """Decides whether a version may spend. Only what was found to be rehearsed is remembered: it stays so."""

    def __init__(self, specs: Specs, programs: CompiledWorkflows, database: Database) -> None:
        self.closures = Closures(specs)
        self.shapes = Shapes(specs, programs)
        self.sources = SpendSources(self.closures, self.shapes)
        self._database = database
        self._specs = specs
        self._rehearsed: dict[tuple[str, str, str], None] = {}

    def admit(self, lookup: Lookup, mode: Mode, workflow: WorkflowRow, version: int) -> str | None:
        """The digest of a version that is about to run, None if it cannot spend; raises `Conflict` when it may not
        run in that mode. A simulation always may."""
        return self._admit(lookup, mode, self.closures.resolve(lookup, workflow, version))

    def check_unsaved(self, lookup: Lookup, mode: Mode, text: str, principal: Principal) -> None:
        """Raises `Conflict` when a definition that is not saved may not run in that mode; who starts it has written
        it."""
        self._admit(lookup, mode, self.closures.of_unsaved(lookup, text, Hand(principal.key_id, principal.spendable)))

    def check_run(self, lookup: Lookup, run: RunRow) -> None:
        """Raises `Conflict` unless what a run executes may still run in its mode."""
        self._admit(lookup, Mode(run.mode), self.closures.of_run(lookup, run))

    def check_stored(self, lookup: Lookup, run: RunRow) -> None:
        """Raises `Conflict` unless the connectors, tables, variables and settings that shape what a run, or one that
        led to it, spends are still by who may spend it, or accepted: they may have changed since it began. Definitions
        were judged at the start and at each call, and a run keeps its own. Raises `ClosureUnsliced`."""
        for one in called_runs.list_callers(lookup.tx, run):
            closure = self.closures.of_running(lookup, one)
            if closure is not None and one.mode != Mode.SIMULATE.value:
                self._check_accepted(lookup, closure, lambda thing: thing[0] != "definition")

    def _admit(self, lookup: Lookup, mode: Mode, closure: Closure | None) -> str | None:
        if closure is None or not closure.can_spend:
            return None
        if mode is not Mode.SIMULATE:
            self.check_accepted(lookup, closure)
        if mode is Mode.LIVE:
            self.check_rehearsed(lookup, closure, closure.root.workflow.require_rehearsal)
        return closure.digest

    def check_callers(self, lookup: Lookup, mode: Mode, parent_pk: int, called: tuple[str, int]) -> None:
        """Raises `Conflict` unless everything that led to a call may still spend with what it calls now: a called
        workflow may have been edited since the run began."""
        for run in called_runs.list_callers(lookup.tx, run_rows.get(lookup.tx, parent_pk)):
            closure = self.closures.of_run(lookup, run)
            self._admit(lookup, mode, closure)
            if mode is Mode.LIVE and closure is not None:
                self._check_computed(lookup, closure, called)

    def _check_computed(self, lookup: Lookup, closure: Closure, called: tuple[str, int]) -> None:
        """A call that computes its workflow is in no closure, so the called version is judged by its own rehearsals."""
        if any(member.key == called for member in closure.members):
            return
        workflow = lookup.find(called[0])
        inner = self.closures.resolve(lookup, workflow, called[1]) if workflow is not None else None
        if inner is not None and inner.can_spend:
            self.check_rehearsed(lookup, inner, closure.root.workflow.require_rehearsal)

    def check_steering(self, lookup: Lookup, principal: Principal, run: RunRow) -> None:
        """Raises `Forbidden` unless the caller may spend whatever the run, and what called it, can spend: the result
        that somebody reports for a node can decide on that."""
        for one in called_runs.list_callers(lookup.tx, run):
            closure = self.closures.of_run(lookup, one)
            if closure is not None and closure.can_spend and not covers(lookup, principal.spendable, closure):
                message = "The result of a node can decide on what this run, or one that called it, spends"
                raise Forbidden(f'{message}: telling it needs "wallet:spend" on the wallets.')

    def check_resume(self, lookup: Lookup, principal: Principal, run: RunRow, node_id: str) -> None:
        """Raises `Forbidden` unless the caller may spend what the resume of a `wait` shapes, in this run or in one that
        led to it. The holder of a signed link is nobody who may spend. Raises `ClosureUnsliced`."""
        if not self._may_answer(lookup, principal.spendable, run, "resume", node_id):
            raise Forbidden(
                f'What resumes "{node_id}" shapes what this run, or one that called it, spends: that needs a key '
                'with "wallet:spend" on the wallets. A signed link is nobody\'s.'
            )

    def check_decision(self, lookup: Lookup, principal: Principal, run: RunRow, node_id: str) -> None:
        """Raises `Forbidden` if the decision of an `approve` shapes what this run, or one that led to it, spends, and
        the caller holds only a signed link, which is nobody's, or a key that cannot use those wallets. Where its
        comment can say how much or to whom, only who may spend decides. Raises `ClosureUnsliced`."""
        if not self._may_answer(lookup, principal.spendable, run, "comment", node_id):
            raise Forbidden(
                f'What is said with the decision at "{node_id}" shapes what this run, or one that called it, spends: '
                'that needs a key with "wallet:spend" on the wallets.'
            )
        by_key = principal.may("approval:decide")
        if self._may_answer(lookup, principal.usable_wallets if by_key else None, run, "approval", node_id):
            return
        shaped = f'What is decided at "{node_id}" shapes what this run, or one that called it, spends'
        if by_key:
            raise Forbidden(f"{shaped}, and the key is limited to other wallets (walletIds).")
        raise Forbidden(f'{shaped}: that needs a key with "approval:decide". A signed link is nobody\'s.')

    def _may_answer(self, lookup: Lookup, wallets: str | None, run: RunRow, kind: str, node_id: str) -> bool:
        """Whether wallets include all that the answer to a node shapes, in its run and in those that led to it."""
        thing = (kind, f"{key_of_run(run)}#{node_id}")
        closures = (self.closures.of_run(lookup, one) for one in called_runs.list_callers(lookup.tx, run))
        return all(one is None or self.sources.may_answer(lookup, wallets, one, thing) for one in closures)

    # --- rehearsals ---

    def check_rehearsed(self, lookup: Lookup, closure: Closure, wanted: str) -> None:
        """Raises `Conflict` unless passed runs in the wanted mode carried out every spending node of the closure."""
        known = (closure.root.workflow.id, closure.digest, wanted)
        if wanted == "none" or known in self._rehearsed:
            return
        carried = self.carried_out(lookup.tx, closure, wanted)
        missing = [(member, node) for member, node in closure.spends() if place_of(member, node) not in carried]
        if missing:
            raise _unrehearsed(lookup, closure, wanted, missing)
        if len(self._rehearsed) >= _KEPT:
            self._rehearsed.clear()
        self._rehearsed[known] = None

    def carried_out(self, tx: Tx, closure: Closure, mode: str) -> dict[Place, LastSpend]:
        """By spending node, where a passed run of this closure last carried it out, in that mode."""
        missing = {place_of(member, node) for member, node in closure.spends()}
        found: dict[Place, LastSpend] = {}
        root = closure.root.workflow.id
        for pk in rehearsals.list_passed(tx, root, closure.digest, mode) if missing else ():
            found |= dict(self._carried_by(tx, pk, missing - found.keys()))
            if len(found) == len(missing):
                break
        return found

    def _carried_by(self, tx: Tx, run_pk: int, missing: set[Place]) -> Iterator[tuple[Place, LastSpend]]:
        for run in rehearsals.list_called(tx, run_pk):
            if run.workflow_id is None or run.version is None:
                continue
            content = self.closures.find(tx, run.workflow_id, run.version)
            for place in missing:
                if content is not None and place[:2] == (run.workflow_id, content.hash):
                    for done in rehearsals.list_done(tx, run.pk, place[2]):
                        if has_spent(done.facts):
                            yield place, LastSpend(run.id, done.path, done.at)

    # --- acceptance ---

    def check_accepted(self, lookup: Lookup, closure: Closure) -> None:
        """Raises `Conflict` unless everything that shapes a spend of the closure was written by who may spend it, or is
        accepted: also a called version that cannot spend by itself. Raises `ClosureUnsliced`."""
        self._check_accepted(lookup, closure, lambda _: True)

    def _check_accepted(self, lookup: Lookup, closure: Closure, is_judged: Callable[[Thing], bool]) -> None:
        for own in (closure, *self._with_acceptances(lookup, closure)):
            for status in self.sources.statuses(lookup, own):
                if status.lacking and is_judged(status.source.thing):
                    raise _unaccepted(lookup, own, status, self.closures)

    def _with_acceptances(self, lookup: Lookup, closure: Closure) -> Iterator[Closure]:
        """The called closures that need acceptances of their own."""
        for member in closure.members[1:]:
            if member.workflow.acceptances:
                own = self.closures.resolve(lookup, member.workflow, member.version)
                if own is not None and own.can_spend:
                    yield own

    async def prepare(self, org_id: str, workflow_id: str, version: int) -> None:
        """Slices what a version reaches, before a transaction that judges it."""

        def query(tx: Tx) -> None:
            lookup = Lookup(tx, org_id)
            workflow = lookup.find(workflow_id)
            closure = self.closures.resolve(lookup, workflow, version) if workflow is not None else None
            for own in (closure, *self._with_acceptances(lookup, closure)) if closure is not None else ():
                self.sources.statuses(lookup, own)

        await self.slicing(lambda: self._database.read(query))

    async def slicing(self, judge: Callable[[], Awaitable[T]]) -> T:
        """Does what may need slices, again once they are there."""
        for _ in range(_TRIES):
            try:
                return await judge()
            except ClosureUnsliced as missing:
                await self.shapes.add(missing)
        return await judge()

    def check_loosening(
        self, lookup: Lookup, principal: Principal, row: WorkflowRow, changes: Mapping[str, Any]
    ) -> None:
        """Raises `Forbidden` when the changes loosen the workflow's guards and the caller may not spend from every
        wallet that the workflow reaches."""
        loosened = list(_loosened(row, changes))
        if not loosened:
            return
        doing = f"Loosening {', '.join(loosened)}"
        if row.acceptances > 0 and not principal.may("wallet:admin"):
            raise Forbidden(f'{doing} of a workflow with `acceptances` needs the permission "wallet:admin".')
        if not principal.may("wallet:spend"):
            raise Forbidden(f'{doing} needs the permission "wallet:spend": it decides what is spent.')
        for version in {row.current_version, row.live_version or row.current_version}:
            closure = self.closures.resolve(lookup, row, version)
            if closure is not None and not covers(lookup, principal.spendable, closure):
                raise Forbidden(f"{doing} needs a key that may spend from every wallet of version {version}.")


def has_spent(facts: Mapping[str, Any]) -> bool:
    """Whether an execution really carried a spend out: a transaction on a chain or a fork, or a signature that the
    policy let through. A pinned or skipped node has neither."""
    transactions = facts.get("transactions") or ()
    return any(one["status"] in _CARRIED_OUT for one in transactions) or bool(facts.get("signatures"))


def place_of(member: ClosureMember, node: SpendNode) -> Place:
    """The identity of a spending node across versions with the same definition."""
    return member.workflow.id, member.content.hash, node.node_id


def _loosened(row: WorkflowRow, changes: Mapping[str, Any]) -> Iterator[str]:
    """The guards that the changes weaken."""
    rehearsal = changes.get("require_rehearsal", row.require_rehearsal)
    if _STRICTNESS[rehearsal] < _STRICTNESS[row.require_rehearsal]:
        yield "`requireRehearsal`"
    enforced = changes.get("enforce_rehearsal", row.enforce_rehearsal)
    if row.enforce_rehearsal is not None and _is_looser(enforced, loads(row.enforce_rehearsal)):
        yield "`enforceRehearsal`"
    if changes.get("acceptances", row.acceptances) < row.acceptances:
        yield "`acceptances`"


def _is_looser(new_text: str | None, old: Mapping[str, Any]) -> bool:
    if new_text is None:
        return True
    new = loads(new_text)
    if new["tolerancePercent"] > old["tolerancePercent"]:
        return True
    oldest, before = new.get("maxAgeMs"), old.get("maxAgeMs")
    return before is not None and (oldest is None or oldest > before)


def _unrehearsed(
    lookup: Lookup, closure: Closure, wanted: str, missing: list[tuple[ClosureMember, SpendNode]]
) -> Conflict:
    workflow, version = closure.root.workflow, closure.root.version
    told = [(member, node) for member, node in missing if lookup.may_tell(member.workflow.id)]
    shown = [f'"{node.node_id}" of {name_of(member)}' for member, node in told[:5]]
    if len(missing) > len(shown):
        shown.append(f"{len(missing) - len(shown)} {'more ' if shown else ''}nodes that spend")
    flag = _FLAGS[wanted]
    return Conflict(
        f'requireRehearsal: no passed run in mode "{wanted}" carried out {" and ".join(shown)} with '
        "exactly these definitions. Skipped, pinned and unreached spends do not count. With a payload that reaches "
        f'them, start POST /v1/workflows/{workflow.id}/run {{"{flag}": true, "version": {version}}}; '
        f"GET /v1/workflows/{workflow.id}/ladder?version={version} shows what is missing.",
        code=Code.REHEARSAL_MISSING,
        details=[_lack(member, node, wanted) for member, node in told],
    )


def _lack(member: ClosureMember, node: SpendNode, wanted: str) -> Problem:
    message = f'{name_of(member)}: not carried out by a passed run in mode "{wanted}"'
    return Problem(f"nodes.{node.node_id}", message, node_id=node.node_id)


def _unaccepted(lookup: Lookup, closure: Closure, status: SourceStatus, closures: Closures) -> Conflict:
    """Which source it is, whose hand wrote it, and what must be accepted: the version that spends, if the source is
    part of that, else the whole."""
    source = status.source
    member, inner = closure.root, closures.resolve(lookup, source.payer.workflow, source.payer.version)
    if source.thing[0] == "definition" and inner is not None and has(inner, source.thing):
        member = source.payer
    workflow_id = member.workflow.id
    path = f"/v1/workflows/{workflow_id}/versions/{member.version}/accept"
    who = "one more key" if status.lacking == 1 else f"{status.lacking} more keys"
    name = f"version {member.version} of {workflow_id}"
    how = f"POST {path} accepts it as it is now, with the workflows that it calls."
    if workflow_id == UNSAVED:
        name, how = "this definition", "Save it as a workflow: then a version of it can be accepted."
    elif lookup.may_tell(workflow_id):
        name = name_of(member)
    elif lookup.reader is not None and not lookup.reader.may_use_workflow(workflow_id):
        name, how = "a workflow that it calls", "A key that reaches that workflow accepts it."
    whose = "its author's"
    if source.thing != ("definition", f"{workflow_id}@{member.version}"):
        by = f'the key "{source.hand.key_id}"' if source.hand.key_id else "somebody who is not known"
        what = describe(lookup, closure, source.thing) if lookup.may_tell(workflow_id) else "something that it reads"
        whose = f"that of who wrote {what}: it may decide what is spent, and {by} wrote it without the right to spend"
    return Conflict(
        f"{name} can spend and is not accepted: it needs {who} with wallet:spend on its wallets, other "
        f"than {whose}. {how}",
        code=Code.VERSION_NOT_ACCEPTED,
        details=[Problem("version", f"not accepted; missing acceptances: {status.lacking}")],
    )
