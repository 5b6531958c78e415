"""Whether a rehearsal shows what a launch would do, and the hash that a decision is bound to. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import field
from typing import Any, Final

from dustrun.core.run.state import Mode
from dustrun.core.values.exact_json import dumps, loads
from dustrun.errors import Code, Conflict, Problem
from dustrun.records import dataclass
from dustrun.storage.runs.runs import RunRow

OLDEST_MS: Final = 3_600_000
_DIGITS_OF_RUN = 40
_SIMULATE_AGAIN = "Simulate this version with this payload again, look at its report, then launch with that run."


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchRequest:
    """What is to be started, and the simulation that showed it. `version` and payload are those that it ran with."""

    workflow_id: str
    version: int
    mode: Mode
    rehearsal_run_id: str
    payload: dict[str, Any] = field(default_factory=dict)
    prop_values: dict[str, Any] = field(default_factory=dict)
    chat_message_id: str | None = None


def check(asked: LaunchRequest, payload: Mapping[str, Any], rehearsal: RunRow, now: int) -> None:
    """Raises `Conflict` unless the run is a fresh passed simulation of just what is asked; `payload` is the asked one
    as the trigger accepts it."""
    found = list(_differences(asked, payload, rehearsal, now))
    if found:
        raise mismatch(rehearsal.id, found)


def mismatch(run_id: str, found: list[Problem]) -> Conflict:
    """The refusal of a launch whose rehearsal does not show what it would do."""
    return Conflict(
        f'"{run_id}" is no matching rehearsal: {found[0].message}. {_SIMULATE_AGAIN}',
        code=Code.REHEARSAL_MISMATCH,
        details=found,
    )


def _differences(asked: LaunchRequest, payload: Mapping[str, Any], run: RunRow, now: int) -> Iterator[Problem]:
    if run.workflow_id != asked.workflow_id:
        yield Problem("workflowId", "the run is of another workflow")
    elif run.version != asked.version:
        yield Problem("version", f"the run is of version {run.version}")
    if run.mode != Mode.SIMULATE.value:
        yield Problem("rehearsalRunId", f'the run\'s mode is "{run.mode}", not "{Mode.SIMULATE}"')
    elif run.as_of is not None or run.parent_run_id is not None or run.source_run_id is not None:
        yield Problem("rehearsalRunId", "a back-test, a called run and a retry are no rehearsal of a launch")
    elif not run.passed:
        yield Problem("rehearsalRunId", "the run has not passed" if run.finished_at else "the run has not ended")
    if not _is_same(loads(run.payload), payload):
        yield Problem("payload", "the run had another payload")
    if not _is_same(loads(run.prop_values), asked.prop_values):
        yield Problem("propValues", "the run had other values")
    if now - run.started_at > OLDEST_MS:
        yield Problem("rehearsalRunId", f"the run is older than {OLDEST_MS // 60_000} minutes")


def _is_same(one: Any, other: Any) -> bool:
    """Equal as exact JSON: `1`, `1.0` and `true` differ."""
    return dumps(one, canonical=True) == dumps(other, canonical=True)


def digest_of(report: Mapping[str, Any]) -> str:
    """The SHA-256 of a report, without names, which may change."""
    kept = {name: value for name, value in report.items() if name != "names"}
    return hashlib.sha256(dumps(kept, canonical=True)).hexdigest()


def binding_of(asked: LaunchRequest, payload: Mapping[str, Any], report: Mapping[str, Any]) -> str:
    """The SHA-256 of what a decision starts."""
    document = {
        "workflowId": asked.workflow_id,
        "version": asked.version,
        "mode": asked.mode.value,
        "payload": payload,
        "propValues": asked.prop_values,
        "rehearsalRunId": asked.rehearsal_run_id,
        "report": digest_of(report),
    }
    return hashlib.sha256(dumps(document, canonical=True)).hexdigest()


def run_id_of(binding: str) -> str:
    """The id of the run that a binding starts: the same one, however often it is started."""
    return f"run_{binding[:_DIGITS_OF_RUN]}"


def approval_id_of(org_id: str, rehearsal_pk: int) -> str:
    """The id of the question about a rehearsal; each serves one launch."""
    digest = hashlib.sha256(f"{org_id}\nlaunch\n{rehearsal_pk}".encode()).hexdigest()
    return f"apr_{digest[:26]}"
