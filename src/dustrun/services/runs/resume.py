"""Resuming a `wait` or an `approve` from outside: by its signed link, or by a key.

A resume is used once. One that comes before its node waits is kept and applied when the wait begins.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dustrun import clock
from dustrun.core.run.journal import item_frame
from dustrun.core.run.state import RUN_OPEN, Mode, NodeStatus, RunStatus
from dustrun.core.values.exact_json import dumps_text
from dustrun.core.workflow.control import RESUMABLE
from dustrun.core.workflow.graph import Graph
from dustrun.errors import Code, Forbidden, Invalid, NotFound, Problem, Unauthenticated
from dustrun.records import dataclass
from dustrun.sdk.threads import run_beside
from dustrun.services.access import audit, idempotency
from dustrun.services.access.api_keys import need_good
from dustrun.services.access.principal import Principal
from dustrun.services.runs import approvals
from dustrun.services.runs.engine_port import Engine
from dustrun.services.runs.resume_links import ResumeLinks
from dustrun.services.runs.runs import Runs
from dustrun.services.workflows.closure import Lookup
from dustrun.storage.db.database import Database
from dustrun.storage.db.statement import Tx
from dustrun.storage.db.writer import Writer
from dustrun.storage.runs import approvals as approval_rows
from dustrun.storage.runs import journal as journal_rows
from dustrun.storage.runs import runs as rows
from dustrun.storage.runs.runs import RunRow
from dustrun.storage.runs.waits import is_answered

BY_LINK = "link"
RESUMED, SKIPPED = "resumed", "skipped"


@dataclass(frozen=True, slots=True)
class ResumeResult:
    """The result of a resume; `reason`: why it was skipped, or that it is kept until the node waits."""

    action: str
    reason: str | None
    run_pk: int


class Resumes:
    """Resumes waiting nodes."""

    def __init__(self, database: Database, writer: Writer, runs: Runs, links: ResumeLinks, engine: Engine) -> None:
        self._database = database
        self._writer = writer
        self._runs = runs
        self._links = links
        self._engine = engine

    def principal_of(self, token: str, org_id: str, run_id: str, path: str) -> Principal:
        """The principal of a valid link; raises `Unauthenticated`."""
        if not self._links.is_good(token, org_id, run_id, path):
            raise Unauthenticated("The link's token does not belong to this node.", code=Code.LINK_INVALID)
        return Principal(BY_LINK, org_id, frozenset())

    async def resume(
        self, principal: Principal, run_id: str, node: str, stack: Sequence[tuple[str, int]] | None, data: Any
    ) -> ResumeResult:
        """Resumes a waiting node with `data`; `stack` names the enclosing loop items, outermost first."""
        run = await self._runs.get(principal, run_id, slim=True)
        graph = (await self._runs.compiled(run.row)).runnable().graph
        path, node_id = _place(graph, node, stack)
        checked = await self._check(graph, node_id, data)
        if run.row.mode != Mode.SIMULATE.value:
            await self._check_hand(principal, run.row, graph.nodes[node_id].type, node_id)

        def unit(tx: Tx) -> ResumeResult:
            return self._decide(tx, principal, rows.get(tx, run.row.pk), graph, path, node_id, checked)

        return await idempotency.write(self._writer, unit, lambda done: self._engine.wake(done.run_pk))

    async def _check_hand(self, principal: Principal, run: RunRow, kind: str, node_id: str) -> None:
        gate = self._runs.gate
        check = gate.check_decision if kind == "approve" else gate.check_resume

        def query(tx: Tx) -> None:
            check(Lookup(tx, principal.org_id), principal, run, node_id)

        await gate.slicing(lambda: self._database.read(query))

    async def _check(self, graph: Graph, node_id: str, data: Any) -> Any:
        """The data as the node accepts it; raises `Invalid` when it does not match."""
        node = graph.nodes[node_id]
        if node.type == "approve":
            return _decision(data)
        kind = node.payload.get("triggerType")
        if kind is None:
            return data
        trigger = self._runs.catalog.triggers[kind]
        given = node.payload.get("triggerConfig") or {}
        return await run_beside(lambda: trigger.accept(trigger.config.model_validate(given), data))

    def _decide(
        self, tx: Tx, principal: Principal, run: RunRow, graph: Graph, path: str, node_id: str, data: Any
    ) -> ResumeResult:
        is_approval = graph.nodes[node_id].type == "approve"
        if RunStatus(run.status) not in RUN_OPEN:
            return ResumeResult(SKIPPED, f'the run has ended (it is "{run.status}")', run.pk)
        execution = journal_rows.find_execution(tx, run.pk, path)
        if execution is not None and execution.is_settled:
            return ResumeResult(SKIPPED, f'the node no longer waits (it is "{execution.status.value}")', run.pk)
        if is_answered(tx, run.pk, path):
            return ResumeResult(SKIPPED, "the node has been resumed already", run.pk)
        if execution is None:
            _check_item(tx, run, path)
        now = clock.now_ms()
        if is_approval:
            self._note_decision(tx, principal, run, path, execution.attempt if execution is not None else 1, data, now)
            stored = approvals.decision_data(data["decision"], data["comment"], principal.key_id, now)
        else:
            source = "link" if principal.key_id == BY_LINK else "api"
            stored = dumps_text({"data": data, "source": source, "by": principal.key_id, "at": now})
        rows.add_signal(tx, run.pk, "resume", path, stored, now)
        waits = execution is not None and execution.status is NodeStatus.WAITING
        return ResumeResult(RESUMED, None if waits else "kept until the node waits", run.pk)

    @staticmethod
    def _note_decision(
        tx: Tx, principal: Principal, run: RunRow, path: str, attempt: int, data: dict[str, Any], now: int
    ) -> None:
        """A key needs `approval:decide` and must be one of the approvers; a link is given out by the workflow."""
        by_link = principal.key_id == BY_LINK
        if not by_link:
            need_good(tx, principal)
            principal.need("approval:decide")
        approval_id = approvals.id_of(run.org_id, run.pk, path, attempt)
        row = approval_rows.find(tx, run.org_id, approval_id)
        if row is None:
            if not by_link:
                raise Invalid("Nobody is asked yet; decide when the approval is listed.", code=Code.NODE_NOT_RESUMABLE)
            return
        if not by_link and not approvals.may_decide(row, principal.key_id):
            raise Forbidden("The node names who may decide, and this key is not among them.")
        if not by_link:
            approvals.check_other_hand(tx, principal, row)
        approval_rows.close(tx, row.id, data["decision"], now, principal.key_id, data["comment"])
        audit.record(tx, principal, f"approval.{data['decision']}", row.id, runId=run.id, path=path)


def _decision(data: Any) -> dict[str, Any]:
    found = data if isinstance(data, dict) else {}
    decision, comment = found.get("decision"), found.get("comment")
    if decision not in (approvals.APPROVED, approvals.REJECTED):
        problem = Problem("data.decision", 'must be "approved" or "rejected"')
        raise Invalid("An approval takes a decision.", details=[problem])
    if comment is not None and (not isinstance(comment, str) or len(comment) > 2000):
        raise Invalid("The comment is not valid.", details=[Problem("data.comment", "must be at most 2000 characters")])
    return {"decision": decision, "comment": comment}


def _place(graph: Graph, node: str, stack: Sequence[tuple[str, int]] | None) -> tuple[str, str]:
    """The path of a node and its id, from a path like `each[3].ask`, or from an id and the loop items around it."""
    node_id = node.rpartition(".")[2]
    if node_id not in graph.nodes:
        raise NotFound(f'The run has no node "{node[:100]}".', code=Code.NODE_UNKNOWN)
    if graph.nodes[node_id].type not in RESUMABLE:
        message = f'"{node_id}" is of type "{graph.nodes[node_id].type}"; only a wait or an approve can be resumed.'
        raise Invalid(message, code=Code.NODE_NOT_RESUMABLE)
    loops = tuple(reversed(graph.loops_around(node_id)))
    if stack is not None:
        if node != node_id:
            raise _misplaced("give either a path or forEachContext, not both")
        if tuple(loop for loop, _ in stack) != loops:
            around = ", ".join(loops) or "none"
            raise _misplaced(f'the loops around "{node_id}" are, outermost first: {around}')
        frame = ""
        for loop, index in stack:
            frame = item_frame(frame + loop, index)
        return frame + node_id, node_id
    named = tuple(part.partition("[")[0] for part in node.split(".")[:-1])
    if named != loops:
        around = " → ".join(loops)
        raise _misplaced(
            f'"{node_id}" lies in {around}: name the items around it' if loops else f"no path {node[:100]!r}"
        )
    canonical = "".join(f"{loop}[{_index(part)}]." for loop, part in zip(loops, node.split("."), strict=False))
    return canonical + node_id, node_id


def _index(part: str) -> int:
    text = part.partition("[")[2].removesuffix("]")
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise _misplaced(f"{part[:100]!r} names no loop item")
    return int(text)


def _misplaced(message: str) -> Invalid:
    problem = Problem("forEachContext", message)
    return Invalid(f"It is not clear which item is meant: {message}.", code=Code.NODE_NOT_RESUMABLE, details=[problem])


def _check_item(tx: Tx, run: RunRow, path: str) -> None:
    """Refuses an item beyond the end of a loop whose items are known."""
    frame = path[: path.rfind(".") + 1]
    while frame:
        loop_path, _, index = frame[:-2].rpartition("[")
        loop = journal_rows.find_execution(tx, run.pk, loop_path)
        items = (loop.facts or {}).get("items") if loop is not None else None
        if items is not None and int(index) >= len(items):
            raise _misplaced(f'"{loop_path}" has {len(items)} items, counted from 0')
        frame = loop_path[: loop_path.rfind(".") + 1]
