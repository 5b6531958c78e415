"""Writes a run's progress: executions, events and the run's row in one transaction, guarded by the run's fence.

Events get their sequence numbers from the run's row, whoever writes them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields
from operator import itemgetter
from typing import Any, NamedTuple, Self

import sqlalchemy as sa
from sqlalchemy import bindparam as b

from dustrun.core.run.journal import Execution
from dustrun.core.run.state import NodeStatus, RunStatus
from dustrun.core.stream_events import OF_ACTIVITY
from dustrun.core.text.masking import Redaction, hide
from dustrun.core.values.exact_json import MOST, dumps_text, loads_own, weigh
from dustrun.log import LINK, mask_links
from dustrun.records import dataclass
from dustrun.storage.db.statement import Change, Insertion, PendingResult, Row, Rows, Statement, Tx
from dustrun.storage.db.tables import COUNTED_TOGETHER, activity, events, executions, run_is_open, run_signals, runs
from dustrun.storage.runs import forks as fork_rows
from dustrun.storage.runs import waits as wait_rows
from dustrun.storage.runs.forks import Fork
from dustrun.storage.runs.large_values import LARGE, MARK, LargeValues, StoredValues
from dustrun.storage.runs.waits import ChildResult, Waits

SHORT_BYTES = 1_048_576
SHORT_REDACTED_BYTES = 65_536
"""Of a run that has signatures, which are searched for in everything that is written."""
_DATA = itemgetter(2)
ACTIVITY = frozenset(OF_ACTIVITY)


class StaleFence(Exception):
    """The run was taken over with a newer fence, or has ended; the batch was not written."""


class Event(NamedTuple):
    """One committed event. `data` is a JSON object without `type`, `seq`, `runId` and `at`.

    `cursor` is the position in the organisation's activity of a start, wait or end that was just written."""

    seq: int
    type: str
    at: int
    data: str
    cursor: PendingResult | None = None


_new_event: Callable[[tuple[Any, ...]], Event] = functools.partial(tuple.__new__, Event)
"""An event of its five values: a named tuple's own constructor costs three times as much."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How a run ended. `calls`: it may have called runs that nothing waits for any more; `summary`: the message of the
    `stop` node that ended it."""

    status: RunStatus
    at: int
    passed: bool
    error: dict[str, Any] | None = None
    child_result: ChildResult | None = None
    calls: bool = False
    summary: str | None = None


class Batch:
    """Everything to write in one transaction. `texts` holds encoded results by (path, attempt),
    `input_weights` the units of inputs that were weighed when they were resolved.

    `redaction` hides what must not be stored in the clear. Not a dataclass: each step of a run makes one, and default
    factories cost four times as much."""

    __slots__ = (
        "added",
        "changed",
        "ending",
        "events",
        "executed",
        "forks",
        "input_weights",
        "large",
        "redaction",
        "sets_status",
        "signals_used",
        "status",
        "texts",
        "waits",
        "wake_at",
    )

    def __init__(self, status: RunStatus = RunStatus.RUNNING, redaction: Redaction | None = None) -> None:
        self.added: dict[tuple[str, int], Execution] = {}
        self.changed: dict[tuple[str, int], Execution] = {}
        self.events: list[tuple[str, int, str]] = []
        self.texts: dict[tuple[str, int], str] = {}
        self.input_weights: dict[tuple[str, int], int] = {}
        self.signals_used: list[int] = []
        self.large: LargeValues | None = None
        self.executed = 0
        self.status = status
        self.wake_at: int | None = None
        self.sets_status = False
        """Whether `status` or `wake_at` differ from what the run's row has."""

        self.ending: Ending | None = None
        self.waits: Waits | None = None
        self.forks: list[Fork] = []
        self.redaction = Redaction({}) if redaction is None else redaction

    def fold(self, text: str, value: Any) -> str:
        """The text to store for a large value, of which `large` then has parts."""
        if self.large is None:
            self.large = LargeValues()
        return self.large.fold(text, value)

    @property
    def is_own(self) -> bool:
        """Whether it touches no rows that another run's batch may touch at the same time."""
        tells = self.ending is not None and (self.ending.child_result is not None or self.ending.calls)
        return not (tells or self.forks or self.waits is not None)

    def is_empty(self) -> bool:
        """Whether the batch contains nothing to write."""
        return not (self.events or self.added or self.changed or self.signals_used or self.ending)

    def is_short(self) -> bool:
        """Whether it is encoded and written within a few milliseconds."""
        size = sum(map(len, self.texts.values())) + sum(map(len, map(_DATA, self.events)))
        if size > (SHORT_REDACTED_BYTES if self.redaction.secrets else SHORT_BYTES):
            return False
        return self._units_to_encode() <= MOST

    def _units_to_encode(self) -> int:
        """The texts that are not JSON yet, in units; it stops counting beyond the most that is short."""
        units = sum(self.input_weights.values())
        for key, one in self.added.items():
            if one.input and key not in self.input_weights:
                units += weigh(one.input)
            units += self._units_of_outcome(key, one)
            if units > MOST:
                return units
        for key, one in self.changed.items():
            units += self._units_of_outcome(key, one)
            if units > MOST:
                return units
        return units

    def _units_of_outcome(self, key: tuple[str, int], one: Execution) -> int:
        units = weigh(one.facts) if one.facts else 0
        if one.error:
            units += weigh(one.error)
        if one.result and key not in self.texts:
            units += weigh(one.result)
        return units


_STEP = (
    sa.update(runs)
    .where(
        runs.c.pk == b("the_pk"),
        runs.c.fence == b("the_fence"),
        run_is_open,
    )
    .values(last_seq=runs.c.last_seq + b("events"), nodes_executed=runs.c.nodes_executed + b("executed"))
)
_NEWEST_SEQ = sa.select(runs.c.last_seq).where(runs.c.pk == b("the_pk"))
_STEP_TO = _STEP.values(status=b("to_status"), wake_at=b("to_wake_at", type_=sa.BigInteger))
_STILL = runs.c.last_seq == b("known_seq")
_ADVANCE = Change(
    _STEP, _NEWEST_SEQ, _STILL
)  # most steps; naming the status would write the indexes that contain it anew
_ADVANCE_TO = Change(_STEP_TO, _NEWEST_SEQ, _STILL)
_END = Change(
    _STEP_TO.values(
        finished_at=b("to_finished_at", type_=sa.BigInteger),
        passed=b("to_passed"),
        error=b("to_error"),
        summary=b("to_summary"),
    ),
    _NEWEST_SEQ,
    _STILL,
)
_LOCK = Statement(sa.select(runs.c.fence).where(runs.c.pk == b("the_pk")).with_for_update())
_AFTER = Statement(
    sa.select(events.c.seq, events.c.type, events.c.at, events.c.data)
    .where(events.c.run_pk == b("the_pk"), events.c.seq > b("after"))
    .order_by(events.c.seq)
)
_ADD_TO_SEQ = sa.update(runs).where(runs.c.pk == b("the_pk")).values(last_seq=runs.c.last_seq + b("events"))
_ADD_TO_SEQ_OF = Statement(_ADD_TO_SEQ)
_HEAD = Statement(sa.select(runs.c.last_seq, runs.c.status, runs.c.cancel_requested_at).where(runs.c.pk == b("the_pk")))
_OPEN = ("running", "waiting")
_NUMBER = Change(_ADD_TO_SEQ, _NEWEST_SEQ)
_NUMBER_OPEN = Change(_ADD_TO_SEQ.where(run_is_open), _NEWEST_SEQ)
_ADD_EVENT = Rows(sa.insert(events), ("run_pk", "seq", "type", "at", "data"))
_NEW_ACTIVITY = sa.insert(activity).values(
    org_id=b("org_id"), workflow_id=b("workflow_id"), run_pk=b("run_pk"), seq=b("seq")
)
_ADD_ACTIVITY = Insertion(_NEW_ACTIVITY, _NEW_ACTIVITY.returning(activity.c.id))
_OUTCOME = ("status", "branch", "result", "error", "facts", "assumed", "wake_at", "finished_at")
_ADD_EXECUTION = Rows(sa.insert(executions), (*_OUTCOME, "run_pk", "path", "attempt", "node_id", "input", "started_at"))
_CHANGE_EXECUTION = Rows(
    sa.update(executions)
    .where(executions.c.run_pk == b("run_pk_"), executions.c.path == b("path_"), executions.c.attempt == b("attempt_"))
    .values(
        status=b("status"),
        branch=b("branch"),
        result=b("result"),
        error=b("error"),
        facts=b("facts"),
        assumed=b("assumed"),
        wake_at=b("wake_at", type_=sa.BigInteger),
        finished_at=b("finished_at", type_=sa.BigInteger),
    ),
    (*_OUTCOME, "run_pk_", "path_", "attempt_"),
)
_COUNT_END = Statement(
    sa.text(
        "INSERT INTO run_counts (org_id, workflow_id, status, mode, bucket, total)"
        " VALUES (:org_id, :workflow_id, :status, :mode, :bucket, :total)"
        " ON CONFLICT (org_id, workflow_id, status, mode, bucket)"
        " DO UPDATE SET total = run_counts.total + excluded.total"
    )
)
_KEEP_WORDS = Statement(
    sa.text(
        "INSERT INTO run_words (run_pk, words) SELECT pk, substr(replace(org_id, '_', '') || ' ' || id || ' ' ||"
        " workflow_name || ' ' || coalesce(summary, '') || ' ' || coalesce(error, ''), 1, 2000) FROM runs"
        " WHERE pk = :the_pk ON CONFLICT (run_pk) DO NOTHING"
    )
)
_USE_SIGNAL = Statement(sa.delete(run_signals).where(run_signals.c.id == b("id_")))
_SUCCEEDED = (NodeStatus.SUCCESS, NodeStatus.PARTIAL)
COLUMNS = tuple(field.name for field in fields(Execution))
"""The columns that `executions_of` reads, in order."""
_COLUMNS = [executions.c[name] for name in COLUMNS]
_TEXTS = slice(COLUMNS.index("input"), COLUMNS.index("facts") + 1)
_LIST = Statement(
    sa.select(*_COLUMNS).where(executions.c.run_pk == b("run_pk")).order_by(executions.c.path, executions.c.attempt)
)
_LIST_OF_NODE = Statement(
    sa.select(*_COLUMNS)
    .where(
        executions.c.run_pk == b("run_pk"),
        sa.or_(
            executions.c.node_id == b("the_node"),
            sa.func.substr(executions.c.path, 1, b("chars", type_=sa.Integer)) == b("items", type_=sa.Text),
        ),
    )
    .order_by(executions.c.path, executions.c.attempt)
)
_FIND = Statement(
    sa.select(*_COLUMNS)
    .where(executions.c.run_pk == b("run_pk"), executions.c.path == b("the_path"))
    .order_by(executions.c.attempt.desc())
    .limit(1)
)


def _text(redaction: Redaction, value: Any, batch: Batch | None = None) -> str | None:
    """The text to store for a value; with what is large in it in `batch.large`, if a batch is given."""
    if value is None:
        return None
    if redaction.secrets:
        value = redaction.value(value)
    text = dumps_text(value)
    if LINK in text:
        return mask_links(text)
    return text if batch is None or len(text) < LARGE else batch.fold(text, value)


def _outcome(execution: Execution, text: str | None, batch: Batch) -> Row:
    """The values of `_OUTCOME`."""
    redaction = batch.redaction
    if execution.status in _SUCCEEDED:
        result = redaction.value(execution.result) if redaction.secrets else execution.result
        if text is None or result is not execution.result:
            text = dumps_text(result)
        if len(text) >= LARGE:
            text = batch.fold(text, result)
    return (
        str(execution.status),  # not `value`, which costs three times as much
        execution.branch,
        text,
        None if execution.error is None else _text(redaction, execution.error),
        None if execution.facts is None else _text(redaction, execution.facts, batch),
        int(execution.assumed),
        execution.wake_at,
        execution.finished_at,
    )


class BatchTarget(NamedTuple):
    """The run that a batch belongs to. `fence`: under which it is advanced; `known_seq`: its newest event as far as
    the writer knows, who is spared a query if that is so."""

    run_pk: int
    org_id: str
    workflow_id: str | None
    mode: str
    fence: int
    known_seq: int


def write(tx: Tx, place: BatchTarget, batch: Batch) -> list[Event]:
    """Writes a batch under its fence and returns its numbered events; raises `StaleFence`."""
    run_pk, org_id, workflow_id = place.run_pk, place.org_id, place.workflow_id
    last_seq = _advance(tx, place, batch)
    if last_seq is None:
        raise StaleFence
    for fork in batch.forks:
        fork_rows.keep(tx, fork)
    if batch.waits is not None and not wait_rows.write(tx, run_pk, batch.waits, batch.events[-1][1]):
        raise StaleFence
    if batch.ending is not None:
        note_end(tx, run_pk, org_id, workflow_id, batch.ending, place.mode)
        if batch.ending.child_result is not None:
            wait_rows.report_to_caller(tx, batch.ending.child_result, batch.ending.at)
        if batch.ending.calls and batch.waits is not None:
            batch.waits.cancelled.extend(wait_rows.cancel_called(tx, run_pk, batch.ending.at))
    write_executions(tx, run_pk, batch)
    for signal_id in batch.signals_used:
        tx.do(_USE_SIGNAL, id_=signal_id)
    first = last_seq - len(batch.events) + 1
    return write_events(tx, run_pk, org_id, workflow_id, first, batch.events)


def note_end(tx: Tx, run_pk: int, org_id: str, workflow_id: str | None, ending: Ending, mode: str) -> None:
    """Counts a run that ends in this transaction, and keeps what a search finds it by if it says something."""
    key = {"org_id": org_id, "workflow_id": workflow_id or "", "status": str(ending.status), "mode": mode}
    tx.count(_COUNT_END, **key, bucket=run_pk // COUNTED_TOGETHER)
    if ending.error is not None or ending.summary is not None:
        tx.do(_KEEP_WORDS, the_pk=run_pk)


def end_columns(ending: Ending, redaction: Redaction) -> dict[str, Any]:
    """The columns of a run's row that its end sets, besides the status."""
    return {
        "finished_at": ending.at,
        "passed": int(ending.passed),
        "error": _text(redaction, ending.error),
        "summary": None if ending.summary is None else mask_links(redaction.text(ending.summary)),
    }


def _advance(tx: Tx, place: BatchTarget, batch: Batch) -> int | None:
    """Updates the run's row under its fence; returns its newest sequence number, or None if the fence is stale."""
    ending, added = batch.ending, len(batch.events)
    values: dict[str, Any] = {
        "the_pk": place.run_pk,
        "the_fence": place.fence,
        "events": added,
        "executed": batch.executed,
    }
    statement = _ADVANCE
    if ending is not None or batch.sets_status:
        statement = _ADVANCE_TO
        values |= {"to_status": str(ending.status if ending else batch.status), "to_wake_at": batch.wake_at}
    if ending is not None:
        statement = _END
        columns = end_columns(ending, batch.redaction)
        values |= {f"to_{name}": value for name, value in columns.items()}
    row = tx.change(statement, expected=(place.known_seq + added,), known_seq=place.known_seq, **values)
    return None if row is None else int(row[0])


def find_written(tx: Tx, run_pk: int, after: int, batch: Batch) -> list[Event] | None:
    """Finds the events of a batch whose commit had an unknown outcome, if they were committed after number `after`.

    Locks the run's row first, to wait for a transaction that wrote it and has not ended yet.
    """
    tx.one(_LOCK, the_pk=run_pk)
    size = len(batch.events)
    if size == 0:
        return None  # only row changes, which are safe to repeat
    found = [Event(*row) for row in tx.all(_AFTER, the_pk=run_pk, after=after)]
    plain = [(event.type, event.at, event.data) for event in found]
    first = next((i for i in range(len(found) - size + 1) if plain[i : i + size] == batch.events), None)
    return None if first is None else found[first : first + size]


def write_executions(tx: Tx, run_pk: int, batch: Batch, *, is_new: bool = False) -> None:
    """Writes a batch's executions; `is_new`: of a run that is created with them."""
    texts = batch.texts
    added = [
        (
            *_outcome(one, texts.get(key), batch),
            run_pk,
            *key,
            one.node_id,
            _text(batch.redaction, one.input, batch),
            one.started_at,
        )
        for key, one in batch.added.items()
    ]
    tx.rows(_ADD_EXECUTION, added)
    changed = [(*_outcome(one, texts.get(key), batch), run_pk, *key) for key, one in batch.changed.items()]
    tx.rows(_CHANGE_EXECUTION, changed)
    if batch.large is not None:
        batch.large.write(tx, run_pk, is_new=is_new)


def write_events(
    tx: Tx, run_pk: int, org_id: str, workflow_id: str | None, first: int, written: Sequence[tuple[str, int, str]]
) -> list[Event]:
    """Writes events with consecutive sequence numbers from `first`."""
    rows = [(run_pk, seq, *event) for seq, event in enumerate(written, first)]
    tx.rows(_ADD_EVENT, rows)
    numbered = [_new_event((seq, *event, None)) for seq, event in enumerate(written, first)]
    shown = [event.seq for event in numbered if event.type in ACTIVITY]
    if shown:
        place = {"org_id": org_id, "workflow_id": workflow_id, "run_pk": run_pk}
        for seq, cursor in zip(shown, tx.last(_ADD_ACTIVITY, [{**place, "seq": seq} for seq in shown]), strict=True):
            numbered[seq - first] = numbered[seq - first]._replace(cursor=cursor)
    return numbered


def append(
    tx: Tx, *, run_pk: int, org_id: str, workflow_id: str | None, written: Sequence[tuple[str, int, str]]
) -> list[Event]:
    """Writes events from outside the run's engine, numbered by the run's row."""
    row = tx.change(_NUMBER, the_pk=run_pk, events=len(written))
    assert row is not None
    return write_events(tx, run_pk, org_id, workflow_id, row[0] - len(written) + 1, written)


def append_open(
    tx: Tx, *, run_pk: int, org_id: str, workflow_id: str | None, written: Sequence[tuple[str, int, str]]
) -> list[Event]:
    """Like `append`, but writes nothing once the run has ended: its last event must be the end."""
    row = tx.change(_NUMBER_OPEN, the_pk=run_pk, events=len(written))
    if row is None:
        return []
    return write_events(tx, run_pk, org_id, workflow_id, row[0] - len(written) + 1, written)


class RunHeads:
    """Numbers events of open runs in a unit that no other changes those runs beside: their rows are read at its
    beginning, so that nothing waits for the numbers later. Used `with`, which writes the events at the end."""

    def __init__(self, tx: Tx, run_pks: Iterable[int | None]) -> None:
        self._tx = tx
        self._asked = {pk: tx.soon(_HEAD, the_pk=pk) for pk in dict.fromkeys(run_pks) if pk is not None}
        self._written: dict[int, int] = {}
        self._rows: list[Row] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, error: object, *_: object) -> None:
        if error is None:
            of_runs = [{"the_pk": pk, "events": count} for pk, count in self._written.items()]
            self._tx.many(_ADD_TO_SEQ_OF, of_runs)
            self._tx.rows(_ADD_EVENT, self._rows)

    def goes_on(self, run_pk: int) -> bool:
        """Whether a run is open and not being cancelled; only then may it start anything."""
        _, status, cancelled_at = self._asked[run_pk].value
        return status in _OPEN and cancelled_at is None

    def append(self, run_pk: int, written: Sequence[tuple[str, int, str]]) -> list[Event]:
        """Like `append_open`, after a wait, for events that no activity shows."""
        last_seq, status, _ = self._asked[run_pk].value
        if status not in _OPEN:
            return []
        before = self._written.get(run_pk, 0)
        self._written[run_pk] = before + len(written)
        found = [_new_event((seq, *event, None)) for seq, event in enumerate(written, int(last_seq) + before + 1)]
        self._rows += [(run_pk, *event[:4]) for event in found]
        return found


@dataclass(frozen=True, slots=True)
class Reading:
    """How texts of executions become values. `values`: for rows with a large text, which is one with a mark or of at
    least so many characters. `unseal` resolves signatures, which stay placeholder marks otherwise."""

    values: Callable[[], StoredValues]
    unseal: Callable[[str], str] = hide
    least: int = LARGE


def reading_of(tx: Tx, run_pk: int, unseal: Callable[[str], str] = hide) -> Reading:
    """How the executions of a run are read for the core. They may share what is large in them: nobody may change it."""
    return Reading(functools.partial(StoredValues, tx, run_pk, unseal), unseal)


def executions_of(rows: Sequence[Row], reading: Reading) -> list[Execution]:
    """Converts stored executions."""
    for row in rows:
        for text in row[_TEXTS]:
            if text is not None and (len(text) >= reading.least or MARK in text):
                return _with_large(rows, reading.values())

    def load(text: str) -> Any:
        return loads_own(reading.unseal(text))

    return [_execution_of(row, load, load, load, load) for row in rows]


def _with_large(rows: Sequence[Row], values: StoredValues) -> list[Execution]:
    values.prepare(rows)
    loads = values.load_input, values.load_result, values.load, values.load_facts
    return [_execution_of(row, *loads) for row in rows]


Load = Callable[[str], Any]


def _execution_of(row: Row, load_input: Load, load_result: Load, load_error: Load, load_facts: Load) -> Execution:
    path, node_id, attempt, status, branch, input_, result, error, facts, assumed, wake_at, started, finished = row
    return Execution(
        path=path,
        node_id=node_id,
        attempt=attempt,
        status=NodeStatus(status),
        branch=branch,
        input=None if input_ is None else load_input(input_),
        result=None if result is None else load_result(result),
        error=None if error is None else load_error(error),
        facts=None if facts is None else load_facts(facts),
        assumed=bool(assumed),
        wake_at=wake_at,
        started_at=started,
        finished_at=finished,
    )


def list_executions_of(tx: Tx, run_pk: int, node_ids: Iterable[str], reading: Reading) -> list[Execution]:
    """Lists every attempt of some nodes, and of what is inside them if they are loops at the top."""
    found: dict[tuple[str, int], Execution] = {}
    for node_id in node_ids:
        items = f"{node_id}["
        rows = tx.all(_LIST_OF_NODE, run_pk=run_pk, the_node=node_id, chars=len(items), items=items)
        found |= {(one.path, one.attempt): one for one in executions_of(rows, reading)}
    return [found[key] for key in sorted(found)]


def find_execution(tx: Tx, run_pk: int, path: str) -> Execution | None:
    """Finds the newest attempt of a path."""
    row = tx.one(_FIND, run_pk=run_pk, the_path=path)
    return executions_of([row], reading_of(tx, run_pk))[0] if row is not None else None


def list_executions(tx: Tx, run_pk: int, reading: Reading | None = None) -> list[Execution]:
    """Lists every attempt of every execution of a run."""
    return executions_of(tx.all(_LIST, run_pk=run_pk), reading_of(tx, run_pk) if reading is None else reading)
