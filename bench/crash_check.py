"""What must hold after all kills: the tables, what the streams' readers saw, and what the sink recorded agree."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import sqlalchemy as sa

from bench.crash_load import Findings, Seen
from testkit.crash_workflows import CHILD_SUFFIX
from testkit.sink import Record

_FINAL = frozenset({"success", "partial", "failure", "cancelled"})
_SETTLES = frozenset({"node_succeeded", "node_failed", "node_skipped", "node_cancelled"})


@dataclass(slots=True)
class StoredRun:
    """A run as the tables have it."""

    id: str
    status: str
    last_seq: int
    tag: str
    events: list[tuple[int, str, int, str]] = field(default_factory=list)
    executions: list[dict[str, Any]] = field(default_factory=list)


class Store:
    """Everything that the tables say, read after the server has ended."""

    def __init__(self, url: str) -> None:
        engine = sa.create_engine(url)
        with engine.connect() as connection:

            def rows(query: str) -> list[dict[str, Any]]:
                return [dict(row) for row in connection.execute(sa.text(query)).mappings()]

            is_sqlite = engine.dialect.name == "sqlite"
            self.integrity = rows("PRAGMA integrity_check")[0]["integrity_check"] if is_sqlite else "ok"
            by_pk = {row["pk"]: _stored(row) for row in rows("SELECT * FROM runs")}
            for row in rows("SELECT * FROM events ORDER BY run_pk, seq"):
                by_pk[row["run_pk"]].events.append((row["seq"], row["type"], row["at"], row["data"]))
            for row in rows("SELECT * FROM executions ORDER BY run_pk, path, attempt"):
                by_pk[row["run_pk"]].executions.append(row)
            self.activity = [
                (row["id"], by_pk[row["run_pk"]].id, row["seq"]) for row in rows("SELECT * FROM activity ORDER BY id")
            ]
            self.counter = sum(json.loads(row["value"]) for row in rows("SELECT value FROM variables WHERE name = 'n'"))
            self.counted = {row["status"]: int(row["total"]) for row in rows(_COUNTS)}
        engine.dispose()
        self.runs = {run.id: run for run in by_pk.values()}


_COUNTS = "SELECT status, sum(total) AS total FROM run_counts GROUP BY status"


def _stored(row: dict[str, Any]) -> StoredRun:
    return StoredRun(row["id"], row["status"], row["last_seq"], json.loads(row["payload"]).get("tag", ""))


def check(store: Store, users: Iterable[Seen], records: list[Record], findings: Findings) -> None:
    """Holds everything against everything else; what does not fit becomes a failure."""
    if store.integrity != "ok":
        findings.fail(f"integrity_check: {store.integrity}")
    for run in store.runs.values():
        _check_run(run, findings)
    _check_counts(store, findings)
    tags = Counter(run.tag for run in store.runs.values())
    for seen in users:
        if not seen.accepted:
            findings.fail(f"run {seen.tag} was never accepted")
        elif tags[seen.tag] != 1:
            findings.fail(f"run {seen.tag} is stored {tags[seen.tag]} times")
        elif seen.run_id in store.runs:
            _check_seen(seen, store.runs[seen.run_id], findings)
            if seen.kind.name == "calls" and tags[seen.tag + CHILD_SUFFIX] != 1:
                findings.fail(f"run {seen.run_id} has {tags[seen.tag + CHILD_SUFFIX]} children")
        else:
            findings.fail(f"run {seen.run_id} was accepted and is not stored")
    _check_sink(store, records, findings)
    _check_counter(store, findings)


def _check_counter(store: Store, findings: Findings) -> None:
    """A counter that many runs add to lost no step and made none twice."""
    steps = sum(
        execution["status"] == "success"
        for run in store.runs.values()
        for execution in run.executions
        if execution["node_id"] in ("one", "two")
    )
    findings.counts["counter_steps"] = steps
    if store.counter != steps:
        findings.fail(f"the counter stands at {store.counter} after {steps} steps")


def _check_run(run: StoredRun, findings: Findings) -> None:
    """One run for itself: ended once, numbered without gaps, each attempt begun and settled at most once."""
    types = [event[1] for event in run.events]
    if run.status not in _FINAL:
        findings.fail(f"run {run.id} has not ended: {run.status}")
    if types.count("run_finished") != 1 or types[-1:] != ["run_finished"]:
        findings.fail(f"run {run.id} has {types.count('run_finished')} run_finished, the last event is {types[-1:]}")
    if types[:1] != ["run_started"] or types.count("run_started") != 1:
        findings.fail(f"run {run.id} does not begin with its one run_started")
    if [event[0] for event in run.events] != list(range(1, run.last_seq + 1)):
        findings.fail(f"run {run.id} has gaps: {[event[0] for event in run.events]} up to {run.last_seq}")
    if run.events and json.loads(run.events[-1][3]).get("status") != run.status:
        findings.fail(f"run {run.id} is {run.status}, its last event says {run.events[-1][3]}")
    begun, settled = Counter[tuple[str, int]](), Counter[str]()
    for _, kind, _, text in run.events:
        data = json.loads(text)
        if kind == "node_started":
            begun[(data["path"], data["attempt"])] += 1
        elif kind in _SETTLES:
            settled[data["path"]] += 1
        elif kind == "node_uncertain":
            findings.counts["nodes_uncertain"] += 1
    findings.counts["nodes_executed"] += len(begun)
    for what, times in (*begun.items(), *settled.items()):
        if times != 1:
            findings.fail(f"run {run.id}: {what} began or settled {times} times")


def _check_counts(store: Store, findings: Findings) -> None:
    counted = {status: total for status, total in store.counted.items() if total}
    actual = dict(Counter(run.status for run in store.runs.values()))
    if counted != actual:
        findings.fail(f"run_counts says {counted}, there are {actual}")


def _check_seen(seen: Seen, run: StoredRun, findings: Findings) -> None:
    """What its reader saw is what is stored, and the run came to what its workflow says."""
    stored = [_as_sent(run, *event) for event in run.events]
    sent = [(seq, kind, json.loads(data)) for seq, kind, data in seen.events]
    if sent != stored:
        differing = next((pair for pair in zip(sent, stored, strict=False) if pair[0] != pair[1]), "length")
        findings.fail(
            f"stream of {run.id} differs from the table: {differing} ({len(sent)} seen, {len(stored)} stored)"
        )
    if run.status not in seen.kind.ends:
        findings.fail(f"run {run.id} ended as {run.status}: {run.events[-1][3]}")
    said = [json.loads(event[3]) for event in run.events if event[1] == "log"]
    if seen.kind.says is not None and [line["message"] for line in said if line["path"] == "say"] != [seen.kind.says]:
        findings.fail(f"run {run.id} said {said}")
    if seen.cancel_answered and run.status != "cancelled":
        findings.counts["cancels_overtaken_by_the_end"] += 1


def _as_sent(run: StoredRun, seq: int, kind: str, at: int, text: str) -> tuple[int, str, dict[str, Any]]:
    from dustrun import clock

    head = {"type": kind, "seq": seq, "runId": run.id, "at": clock.to_rfc3339(at)}
    return seq, kind, {**head, **json.loads(text)}


def check_activity(store: Store, entries: list[tuple[int, str, int]], findings: Findings) -> None:
    """The organisation's stream showed every start, wait and end once, in order."""
    if entries != store.activity:
        findings.fail(f"the activity stream showed {len(entries)} entries, {len(store.activity)} are stored")


# --- the outside world ---


def _check_sink(store: Store, records: list[Record], findings: Findings) -> None:
    """No effect without a record of its start, at most one request per attempt, one key per node of a run."""
    requests: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        requests[record.path].append(record)
    known: set[str] = set()
    paths_of_key: dict[str, set[str]] = defaultdict(set)
    for run in store.runs.values():
        attempts: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for execution in run.executions:
            attempts[execution["path"]].append(execution)
        for path, executions in attempts.items():
            sent_to = _url_path(executions[0])
            if sent_to is None:
                continue
            known.add(sent_to)
            _check_node(f"{run.id} {path}", executions, requests[sent_to], findings)
            for record in requests[sent_to]:
                if record.key is not None:
                    paths_of_key[record.key].add(sent_to)
    for path in requests:
        if path not in known and requests[path]:
            findings.fail(f"the sink saw {path}, which no execution stands for")
    for key, paths in paths_of_key.items():
        if len(paths) != 1:
            findings.fail(f"the key {key} was used for {sorted(paths)}")


def _url_path(execution: dict[str, Any]) -> str | None:
    found = json.loads(execution["input"] or "{}") or {}
    return urlsplit(found["url"]).path if isinstance(found, dict) and "url" in found else None


def _check_node(name: str, executions: list[dict[str, Any]], requests: list[Record], findings: Findings) -> None:
    payload = json.loads(executions[0]["input"])
    succeeded = executions[-1]["status"] == "success"
    if succeeded and not requests:
        findings.fail(f"{name} succeeded and the sink never saw it")
    if payload["method"] == "GET":
        findings.counts["reads"] += len(requests)
        return
    keys = {record.key for record in requests}
    if len(keys) > 1 or None in keys:
        findings.fail(f"{name} came with {len(keys)} keys: {keys}")
    if payload.get("idempotent"):
        findings.counts["keyed_writes"] += 1
        findings.counts["keyed_requests"] += len(requests)
    else:
        findings.counts["plain_writes"] += 1
        findings.counts["plain_requests"] += len(requests)
        if len(requests) > len(executions):
            findings.fail(f"{name} has {len(executions)} attempts and the sink saw {len(requests)} requests")
        if len(requests) > 1 and _retried_once_only(executions):
            times = {"sent": [request.at for request in requests], "attempts": [_times(one) for one in executions]}
            findings.fail(f"{name} was resolved truthfully and was still sent {len(requests)} times: {times}")


def _times(execution: dict[str, Any]) -> list[float | None]:
    """When an attempt began and ended, in seconds like the sink's."""
    return [None if at is None else at / 1000 for at in (execution["started_at"], execution["finished_at"])]


def _retried_once_only(executions: list[dict[str, Any]]) -> bool:
    """Whether every attempt but the last was said not to have happened, so that the effect must be single."""
    errors = [json.loads(execution["error"] or "null") or {} for execution in executions[:-1]]
    return all(error.get("code") == "NOT_HAPPENED" for error in errors)
