"""Applies the outcomes of attempts to one run's journal and plan."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dustrun import ids
from dustrun.core.run import retry
from dustrun.core.run.journal import (
    AHEAD,
    ANSWER,
    ASSUMED_CHILD,
    RESUMED_BY,
    Execution,
    Journal,
    decides,
    frame_of,
    item_frame,
)
from dustrun.core.run.plan import Holds, Start
from dustrun.core.run.state import NodeStatus, RunStatus
from dustrun.core.stream_events import RUN_RESPONDED
from dustrun.core.values.exact_json import dumps_text, is_large, loads_own
from dustrun.core.workflow.program import Program
from dustrun.engine.node import control
from dustrun.engine.node.outcome import Failed, OpenedLoop, Outcome, Settled, Suspended, Unknown, encoded
from dustrun.engine.node.store_effects import started
from dustrun.engine.run.run_context import RunContext
from dustrun.errors import Code
from dustrun.records import dataclass
from dustrun.services.runs.approvals import new_row
from dustrun.storage.runs.runs import Signal
from dustrun.storage.runs.waits import ClosedApproval, Waits

# The result of a loop: the results of its items, in the items' order.
#
# A loop never fails because its result is too large: beyond the limit of a node's result, results of later items are
# omitted (their status stays), with very many items the items themselves; the counts always stay.


Json = dict[str, Any]
_ROOM = 512


@dataclass(slots=True)
class LoopResult:
    """`text` is `result` as JSON; `failed` is the first item that failed."""

    result: Json
    text: str
    failed: Json | None
    assumed: bool


def result_of(program: Program, journal: Journal, path: str, count: int, most_bytes: int) -> LoopResult:
    """The result of a loop whose items have all ended."""
    loop = journal.by_path[path]
    body = program.graph.scopes[loop.node_id].node_ids
    items: list[Json] = []
    texts: list[str] = []
    assumed = loop.assumed
    counts = dict.fromkeys(("success", "partial", "failure", "skipped"), 0)
    for index in range(count):
        executed = _executed(journal, item_frame(path, index), body)
        assumed = assumed or any(execution.assumed for execution in executed)
        item = _iteration(program, index, executed, len(body))
        counts[item["status"]] += 1
        items.append(item)
        texts.append(dumps_text(item))
    failed = next((item for item in items if item["status"] == "failure"), None)
    further = _fit(items, texts, most_bytes - _ROOM)
    rest: Json = {"iterationCount": count, "counts": counts, **further}
    text = f'{{"iterations":[{",".join(texts)}],{dumps_text(rest)[1:]}'
    return LoopResult({"iterations": items, **rest}, text, failed, assumed)


def _executed(journal: Journal, frame: str, body: tuple[str, ...]) -> list[Execution]:
    found = (journal.by_path.get(frame + node_id) for node_id in body)
    return [execution for execution in found if execution is not None]


def _iteration(program: Program, index: int, executed: list[Execution], nodes: int) -> Json:
    """`nodes`: how many the body has. One that was cut off has fewer executions, or a cancelled one, and is partial."""
    iteration: Json = {"index": index, "status": "success" if executed or not nodes else "skipped"}
    if executed and (len(executed) < nodes or any(execution.status is N.CANCELLED for execution in executed)):
        iteration["status"] = "partial"
    iteration["results"] = {e.node_id: e.result for e in executed if e.status in (N.SUCCESS, N.PARTIAL)}
    for execution in executed:
        on_error = program.nodes[execution.node_id].node.on_error
        if execution.status is N.FAILURE and on_error == "fail":
            iteration["status"], iteration["error"] = "failure", execution.error
            break
        if execution.status is N.PARTIAL or (execution.status is N.FAILURE and on_error == "continue"):
            iteration["status"] = "partial"
    return iteration


def _fit(items: list[Json], texts: list[str], most: int) -> Json:
    """Shortens both lists in place until they fit in `most` bytes; the fields that report the omissions."""
    if _size(texts) <= most:
        return {}
    short = [{"index": item["index"], "status": item["status"], "resultsOmitted": True} for item in items]
    short_texts = [dumps_text(item) for item in short]
    left = most - _size(short_texts)
    omitted = 0
    for position, text in enumerate(texts):
        more = len(text.encode()) - len(short_texts[position])
        if more <= 0:
            continue
        if more <= left:
            left -= more
        else:
            items[position], texts[position] = short[position], short_texts[position]
            omitted += 1
    said: Json = {"resultsOmitted": omitted}
    if left < 0:
        said["iterationsOmitted"] = _cut(items, texts, most)
    return said


def _cut(items: list[Json], texts: list[str], most: int) -> int:
    size, kept = 0, 0
    while kept < len(texts) and size + len(texts[kept]) + 1 <= most:
        size += len(texts[kept]) + 1
        kept += 1
    cut = len(texts) - kept
    del items[kept:], texts[kept:]
    return cut


def _size(texts: list[str]) -> int:
    return sum(len(text) if text.isascii() else len(text.encode()) for text in texts) + len(texts)


N = NodeStatus


class Results:
    """Applies outcomes. `kept_bytes` is the approximate size of the results in memory."""

    def __init__(self, run: RunContext) -> None:
        self.kept_bytes = 0
        self._run = run

    def apply(self, start: Start, outcome: Outcome) -> None:
        """Records the outcome of an attempt and updates the plan."""
        execution = self._run.journal.by_path[start.path]
        if isinstance(outcome, Settled):
            if outcome.secrets:
                self._run.redaction.learn(outcome.secrets)
            self.succeed(execution, outcome)
        elif isinstance(outcome, Failed):
            self._fail(start, execution, outcome)
        elif isinstance(outcome, Unknown):
            self._uncertain(start, execution, outcome)
        elif isinstance(outcome, Suspended):
            self._pause(start, execution, outcome)
        elif isinstance(outcome, OpenedLoop):
            execution.facts = outcome.facts()
            execution.assumed = outcome.assumed
            self._run.recorder.changed(execution)
            self._run.plan.opened_by(start.path, execution.facts)
        else:
            execution.facts = outcome.facts or execution.facts
            self.cut_off(start.path, outcome.message)

    def _pause(self, start: Start, execution: Execution, outcome: Suspended) -> None:
        execution.status, execution.wake_at, execution.facts = N.WAITING, outcome.until, outcome.facts
        note = None
        if outcome.asked is not None and outcome.until is not None:
            asked, message = outcome.asked, self._run.redaction.text(outcome.asked.message)
            facts, now = self._run.facts, self._run.state.now()
            barred = None if asked.allows_starter else facts.triggered_by
            row = new_row(facts, start.path, start.attempt, message, asked.approvers, now, outcome.until, barred)
            self.beside().asked.append(row)
            execution.facts = {**(outcome.facts or {}), "approvalId": row.id}
            note = {"approval": {"id": row.id, "message": row.message}}
        if outcome.facts is not None and "child" in outcome.facts:
            note = {"child": {"runId": outcome.facts["child"]["runId"]}}
        note = outcome.note or note
        self._run.recorder.became(execution, note)
        self._run.plan.waits(Start(start.path, start.node_id, start.attempt, wake=True), outcome.until, outcome.holds)
        self._run.state.is_poked = self._run.state.is_poked or outcome.answerable

    def succeed(self, execution: Execution, outcome: Settled) -> None:
        """Settles an attempt with its result, or fails it when the result cannot be kept."""
        is_answer = self._take_answer(outcome)
        kept = encoded(outcome, self._run.deps.settings.max_result_bytes)
        if not isinstance(kept, Settled):
            assert isinstance(kept, Failed), "encoding either keeps a result or fails"
            self._settle_failure(execution, kept)
            return
        text = kept.text or ""
        execution.status = outcome.status
        execution.result = outcome.result
        execution.branch = outcome.branch
        execution.assumed = outcome.assumed
        execution.facts = outcome.facts or execution.facts
        execution.wake_at = None
        execution.finished_at = self._run.state.now()
        if outcome.facts and "clock" in outcome.facts:
            self._run.state.simulated_now = max(self._run.state.simulated_now, outcome.facts["clock"])
        self.kept_bytes += len(text)
        if execution.assumed and decides(execution):
            self._run.state.is_assumed = True
        if outcome.expired:
            self.beside().expired.append(execution.path)
        self._close_question(execution, outcome.branch or "cancelled")
        self._run.recorder.batch.texts[(execution.path, execution.attempt)] = text
        self._run.recorder.became(execution, outcome.note)
        if is_answer:
            self._note_answer(execution)
        if outcome.stop is not None:
            if outcome.stop is RunStatus.FAILURE:
                self._note_error(execution, {"code": "STOPPED", "message": outcome.result["message"]})
            self._run.plan.stopped(outcome.stop)
        self._run.plan.settled(execution.path, outcome.status, outcome.branch)

    def _take_answer(self, outcome: Settled) -> bool:
        """Whether an outcome answers the run's request: the first `respond` of a run does, the others change nothing
        but say so."""
        if outcome.facts is None or ANSWER not in outcome.facts:
            return False
        if self._run.state.has_responded:
            outcome.facts, outcome.text = None, None
            outcome.result = {**outcome.result, "headers": {}, "body": None, "isEffective": False}
            return False
        return True

    def _note_answer(self, execution: Execution) -> None:
        """Tells whoever waits for the answer; it is in the execution, which the same commit writes."""
        self._run.state.has_responded = True
        place = {"nodeId": execution.node_id, "path": execution.path, "attempt": execution.attempt}
        status = execution.result["status"]
        self._run.recorder.event(RUN_RESPONDED, {**place, "status": status}, self._run.state.now())

    def _fail(self, start: Start, execution: Execution, outcome: Failed) -> None:
        at = self._retry_at(start, retryable=outcome.retryable, after_ms=outcome.after_ms)
        if at is not None:
            execution.facts = outcome.facts or execution.facts  # what it spent before it failed stays spent
            self.schedule(start, execution, at, outcome.public())
        else:
            self._settle_failure(execution, outcome)

    def _retry_at(self, start: Start, *, retryable: bool, after_ms: int | None = None) -> int | None:
        """When the next attempt is due; None when there is none."""
        if self._run.state.is_cancelling:
            return None
        decision = retry.decide(
            self._run.program.nodes[start.node_id].node.retry,
            start.attempt,
            retryable=retryable,
            now=self._run.state.now(),
            jitter=ids.jitter(),
            after_ms=after_ms,
        )
        return decision.at if isinstance(decision, retry.RetryAt) else None

    def _is_idempotent(self, execution: Execution) -> bool:
        """Whether repeating an attempt under its idempotency key equals doing it once."""
        action = self._run.deps.catalog.actions.get(self._run.program.nodes[execution.node_id].node.type)
        return action is not None and action.is_idempotent(execution.input)

    def schedule(self, start: Start, execution: Execution, at: int, error: dict[str, Any] | None) -> None:
        """Schedules the next attempt at `at`; a simulated clock advances to it at once."""
        execution.status, execution.error, execution.finished_at = N.SCHEDULED, error, self._run.state.now()
        if self._run.mode.has_simulated_clock:
            self._run.state.simulated_now, at = max(self._run.state.simulated_now, at), 0
        execution.wake_at = at
        self._run.recorder.became(execution)
        self._run.plan.waits(Start(start.path, start.node_id, start.attempt + 1), at)

    def _settle_failure(self, execution: Execution, outcome: Failed) -> None:
        execution.status = N.FAILURE
        execution.error = outcome.public()
        execution.facts = outcome.facts or execution.facts
        execution.wake_at = None
        execution.finished_at = self._run.state.now()
        on_error = self._run.program.nodes[execution.node_id].node.on_error
        execution.branch = "error" if on_error == "branch" else None
        if decides(execution):
            self._run.state.is_assumed = True
        if execution.error["code"] == Code.SIM_FORK_LOST.name:
            self._note_error(execution, execution.error)
            self._run.plan.stopped(RunStatus.FAILURE)
        if on_error == "fail":
            self._note_error(execution, execution.error)
        self._run.recorder.became(execution)
        self._run.plan.settled(execution.path, N.FAILURE, execution.branch)

    def _uncertain(self, start: Start, execution: Execution, outcome: Unknown) -> None:
        """The outcome is unknown: the attempt is repeated if the other side deduplicates, else the node's `onUncertain`
        decides, else a person."""
        policy = self._run.program.nodes[start.node_id].node.on_uncertain
        execution.facts = outcome.facts or execution.facts
        if self._is_idempotent(execution) and (at := self._retry_at(start, retryable=True)) is not None:
            error = {"code": "UNCERTAIN", "message": outcome.message, "retryable": True}
            self.schedule(start, execution, at, error)
        elif policy == "fail" and not self._run.state.is_cancelling:
            self._settle_failure(execution, Failed("UNCERTAIN", outcome.message, facts=execution.facts))
        elif policy == "retry" and not self._run.state.is_cancelling:
            error = {"code": "UNCERTAIN", "message": outcome.message, "retryable": True}
            self.schedule(start, execution, self._run.state.now(), error)
        else:
            execution.status = N.UNCERTAIN
            execution.error = {"code": "UNCERTAIN", "message": outcome.message, "retryable": False}
            self._run.recorder.became(execution)
            self._run.plan.waits(start, None, Holds.FAILURE)

    def cut_off(self, path: str, message: str) -> None:
        execution = self._run.journal.by_path[path]
        was_uncertain = execution.status is N.UNCERTAIN
        execution.status, execution.wake_at, execution.finished_at = N.CANCELLED, None, self._run.state.now()
        if not was_uncertain:
            execution.error = {"code": "CUT_OFF", "message": message, "retryable": False}
        if execution.facts is not None and "pk" in execution.facts.get("child", ()):
            self.beside().cancelled.append(execution.facts["child"]["pk"])
        self._close_question(execution, "cancelled")
        self._run.recorder.became(execution)
        self._run.plan.settled(path, N.CANCELLED)

    def skip(self, path: str) -> None:
        if path in self._run.journal.by_path:
            return  # a retry kept its result
        now = self._run.state.now()
        node_id = path[len(frame_of(path)) :]
        execution = Execution(path, node_id, 1, N.SKIPPED, started_at=now, finished_at=now)
        self._run.journal.by_path[path] = execution
        self._run.recorder.batch.added[(path, 1)] = execution
        self._run.recorder.became(execution)

    def close_loop(self, path: str, found: LoopResult) -> None:
        """All items of a loop have ended: its result is theirs, in the items' order."""
        execution = self._run.journal.by_path[path]
        status = self._run.plan.loop(path).outcome
        if status is N.FAILURE:
            first = found.failed
            where = f" Item {first['index']} failed first: {first['error']['message']}" if first else ""
            self._settle_failure(execution, Failed("ITEM_FAILED", f"An item of the loop failed.{where}"))
            return
        facts = execution.facts
        self.succeed(execution, Settled(found.result, status, assumed=found.assumed, facts=facts, text=found.text))

    def loop_result(self, path: str) -> LoopResult:
        """The result of a loop whose items have all ended."""
        execution = self._run.journal.by_path[path]
        assert execution.facts is not None
        count, most = len(execution.facts["items"]), self._run.deps.settings.max_result_bytes
        return result_of(self._run.program, self._run.journal, path, count, most)

    def grow_loop(self, path: str, item: Any) -> None:
        """The test of a `while` holds: the next iteration, with its item, unless that is one too many."""
        execution = self._run.journal.by_path[path]
        assert execution.facts is not None
        items, most = execution.facts["items"], execution.facts["mostItems"]
        if len(items) >= most:
            message = f"The test still holds after {most} iterations (maxItems, setting max_loop_items)."
            self.fail_loop(path, Failed("LIMIT", message, facts=execution.facts))
            return
        items.append(item)
        self._run.recorder.changed(execution)
        self._run.plan.grew(path)

    def end_assumed_loop(self, path: str) -> None:
        """The test of a `while` rests on an assumed value: the loop ends, and the rehearsal has not passed."""
        execution = self._run.journal.by_path[path]
        execution.assumed, execution.facts = True, {**(execution.facts or {}), "assumedEnd": True}
        self._run.state.is_assumed = True
        self._run.plan.ended(path)

    def fail_loop(self, path: str, outcome: Failed) -> None:
        """A `while` cannot go on."""
        self._settle_failure(self._run.journal.by_path[path], outcome)

    def beside(self) -> Waits:
        """Writes of the next batch to other tables than this run's journal."""
        if self._run.recorder.batch.waits is None:
            self._run.recorder.batch.waits = Waits()
        return self._run.recorder.batch.waits

    def _close_question(self, execution: Execution, status: str) -> None:
        """Closes the node's open approvals; a decision has been recorded already."""
        facts = execution.facts
        if not facts:
            return
        asked = [facts["approvalId"]] if "approvalId" in facts else []
        if status == "cancelled":  # of a loop that asked ahead; the outbox closes those of its own transactions
            asked += facts.get(AHEAD, {}).get("approvals", ())
        for approval_id in asked:
            self.beside().closed.append(ClosedApproval(approval_id, status, self._run.state.now()))

    def _note_error(self, execution: Execution, error: dict[str, Any]) -> None:
        if self._run.state.error is None:
            self._run.state.error = {**error, "nodeId": execution.node_id, "path": execution.path}


# Turns signals into outcomes of waiting nodes: a resume, a decision, the end of a called run.


_TOO_LARGE = (
    "The results of the called run {} have more than {} bytes, the most that are kept (setting max_result_bytes)."
)


def outcome_of(signal: Signal, execution: Execution) -> Outcome | None:
    """The outcome of a waiting node for a signal, or of an uncertain one that happened; None when the signal is for
    another kind of wait, or says that nothing happened."""
    facts, answer = execution.facts or {}, loads_own(signal.data)
    if signal.kind == "resolve":
        happened = answer["outcome"] == "happened"
        return Settled(answer.get("result"), note={"resolvedBy": answer["by"]}) if happened else None
    if signal.kind == "resume" and "wait" in facts:
        result = control.resumed(facts["wait"]["timeoutMs"], answer["data"], answer["source"])
        return Settled(result, branch="resumed", facts=_answered(facts, answer), note={"resumedBy": answer["by"]})
    if signal.kind == "resume" and "approve" in facts:
        data = answer["data"]
        message = facts["approve"]["message"]
        result = control.decided(message, data["decision"], answer["by"], data.get("comment"), answer["at"])
        note = {"resumedBy": answer["by"]}
        return Settled(result, branch=data["decision"], facts=_answered(facts, answer), note=note)
    if signal.kind == "child" and "child" in facts and facts["child"]["runId"] == answer["runId"]:
        return _called(facts["child"], answer)
    return None


def _answered(facts: Mapping[str, Any], answer: Mapping[str, Any]) -> dict[str, Any]:
    return {**facts, RESUMED_BY: answer["by"]}


def _called(child: Mapping[str, Any], answer: Mapping[str, Any]) -> Outcome:
    """The outcome of a calling node when its called run has ended."""
    status = RunStatus(answer["status"])
    facts = {"child": dict(child)}
    if child["mode"] == "start":  # only a simulation waits for such a call
        facts |= {} if answer["passed"] else ASSUMED_CHILD
        return Settled(started(child), assumed=bool(child["assumed"] or not answer["passed"]), facts=facts)
    if answer.get("clock") is not None and child["simulated"]:
        facts["clock"] = answer["clock"]
    if status in (RunStatus.SUCCESS, RunStatus.PARTIAL):
        if "most" in answer:
            return Failed("LIMIT", _TOO_LARGE.format(answer["runId"], answer["most"]), facts=facts)
        result = {name: answer[name] for name in ("runId", "status", "result", "results")}
        result = {"runId": result.pop("runId"), "workflowId": child["workflowId"], **result}
        decisive, shown = bool(answer.get("assumed")), bool(answer.get("hasAssumedResult"))
        facts |= ASSUMED_CHILD if decisive else {}
        return Settled(result, status=N(status.value), assumed=child["assumed"] or decisive or shown, facts=facts)
    error = answer.get("error") or {}
    why = f": {error['message']}" if error.get("message") else "."
    code = "CHILD_CANCELLED" if status is RunStatus.CANCELLED else "CHILD_FAILED"
    details = [{"field": "runId", "message": answer["runId"]}]
    ended = "was cancelled" if status is RunStatus.CANCELLED else "failed"
    return Failed(code, f"The called run {answer['runId']} {ended}{why}", details=details, facts=facts)


def child_result(
    run_id: str, program: Program, journal: Journal, ending: Mapping[str, Any], most_bytes: int
) -> dict[str, Any]:
    """The signal of a called run to its caller: how it ended, and the results of its last nodes. `assumed`: an
    important part of it depends on an assumed value; `hasAssumedResult`: one of the results does. `most`: in place of
    results that have more than `most_bytes` bytes for certain, which a node cannot keep.
    """
    leaves = journal.list_last(program.graph)
    results = {node_id: execution.result for node_id, execution in leaves.items()}
    only = next(iter(results.values())) if len(results) == 1 else None
    has_assumed = any(execution.assumed for execution in leaves.values())
    if is_large(results, most_bytes // 2):  # each unit has two bytes of JSON at least
        return {"runId": run_id, **ending, "most": most_bytes, "hasAssumedResult": has_assumed}
    return {"runId": run_id, **ending, "result": only, "results": results, "hasAssumedResult": has_assumed}
