"""Tools to simulate workflows and to read what runs did."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from dustrun.api.mcp import inputs
from dustrun.api.mcp.result import Result
from dustrun.core.money.policy.document import read_policy
from dustrun.core.run.state import RUN_OPEN, Mode, RunStatus
from dustrun.core.values.exact_json import loads_own
from dustrun.errors import Code, NotFound
from dustrun.log import mask_value
from dustrun.operations.declaration.answers import time
from dustrun.operations.declaration.encoding import data_of
from dustrun.operations.declaration.fields import moment_ms
from dustrun.operations.declaration.parts import Parts
from dustrun.operations.shapes.runs import RunListItem
from dustrun.operations.shapes.wallets import PolicyTextAnswer
from dustrun.sdk.threads import run_beside
from dustrun.services.access.paging import Paging
from dustrun.services.access.principal import Principal
from dustrun.services.runs.launching.decision import LaunchRequest
from dustrun.services.runs.runs import Run, newest
from dustrun.services.runs.start_request import RunRequest, of_message
from dustrun.storage.runs.approvals import APPROVED, PENDING, ApprovalRow
from dustrun.storage.runs.run_lists import RunFilters

Json = dict[str, Any]
_HEAD = ("workflowId", "mode", "status", "passed", "startedAt", "finishedAt")
_MOST_NODES = 200
_MOST_SPENDS = 50
_WAITS = "Nothing runs yet. Show the person the page: they decide there. Then list_runs has the run."


async def simulate(parts: Parts, principal: Principal, asked: inputs.Simulate) -> Result:
    """Starts a dry run, and waits for its end as long as asked."""
    request = RunRequest(
        payload=asked.payload,
        version=asked.version,
        prop_values=asked.prop_values,
        simulate=True,
        chat_message_id=of_message.get(),
    )
    if asked.workflow_id is not None:
        created = await parts.starts.start(principal, asked.workflow_id, request)
    else:
        principal.need("run:inline")
        created = await parts.starts.start_inline(principal, asked.definition, request)
    ended = await parts.runs.conclude(
        principal.org_id, created.run_id, created.events, float(asked.wait_s), for_answer=False
    )
    if RunStatus(ended.row.status) in RUN_OPEN:
        note = "It goes on; ask get_report for it later."
        return Result({"runId": created.run_id, "mode": ended.row.mode, "status": ended.row.status, "note": note})
    if not principal.may("run:read"):
        return Result({"runId": created.run_id, "mode": ended.row.mode, "status": ended.row.status})
    return await _summary(parts, principal, created.run_id)


async def launch(parts: Parts, principal: Principal, asked: inputs.Launch) -> Result:
    """Starts a run for real if the key may, or proposes it to a person."""
    found = await parts.launches.propose(principal, launch_of(asked))
    if found.approval is None:
        return Result({"started": True, "runId": found.run_id})
    return Result({"started": False, **_proposed(parts, found.approval), "runId": found.run_id, "note": _WAITS})


def _proposed(parts: Parts, row: ApprovalRow) -> Json:
    page = f"{parts.settings.base_url()}/approvals/{row.id}"
    return {"approvalId": row.id, "binding": row.binding, "page": page, "expiresAt": time(row.expires_at)}


async def launch_state(parts: Parts, principal: Principal, approval_id: str) -> Json:
    """The state of a launch that this key has proposed."""
    row = await parts.waits.approvals.get(principal, approval_id)
    if row.launch is None or row.barred_key != principal.key_id:
        raise NotFound("This key has proposed no such launch.", code=Code.APPROVAL_UNKNOWN)
    run_id = loads_own(row.launch)["runId"]
    is_open = row.status == PENDING
    started = row.status == APPROVED
    more = {"note": _WAITS} if is_open else {"decision": row.status}
    return {"started": started, **_proposed(parts, row), "runId": run_id, **more}


def launch_of(asked: inputs.Launch) -> LaunchRequest:
    """The launch that a call of the tool asks for."""
    return LaunchRequest(
        workflow_id=asked.workflow_id,
        version=asked.version,
        mode=Mode(asked.mode),
        rehearsal_run_id=asked.rehearsal_run_id,
        payload=asked.payload,
        prop_values=asked.prop_values,
    )


async def get_report(parts: Parts, principal: Principal, asked: inputs.GetReport) -> Result:
    """The effects that a run had, or would have."""
    if asked.what == "summary":
        return await _summary(parts, principal, asked.run_id)
    if asked.what == "effects":
        report = await parts.run_reports.effects(principal, asked.run_id)
        return Result(_head(report), report)
    if asked.what == "compare":
        assert asked.other_run_id is not None
        left, right, compared = await parts.run_reports.compare(principal, asked.run_id, asked.other_run_id)
        return Result({"runId": left.row.id, "otherRunId": right.row.id}, compared)
    run = await parts.runs.get(principal, asked.run_id)
    return await run_beside(_node if asked.node is not None else _nodes, run, asked.node)


async def explain_spend(parts: Parts, principal: Principal, asked: inputs.ExplainSpend) -> Result:
    """The sources of the spends of a run, or of a version."""
    if asked.run_id is not None:
        principal.need("run:read")
        own: Json = {"runId": asked.run_id}
        found = await parts.run_reports.sources(principal, asked.run_id)
    else:
        assert asked.workflow_id is not None
        principal.need("workflow:read")
        paging = Paging(_MOST_SPENDS, 0)
        own, page = await parts.slices.report(principal, asked.workflow_id, asked.version, paging)
        own, found = own | {"hasMore": page.has_more}, list(page.items)
    shown = [_explained(one) for one in found if asked.node in (None, one["nodeId"])]
    return Result(own, {"spends": shown[:_MOST_SPENDS]})


async def policy_sentences(parts: Parts, principal: Principal, asked: inputs.ReadPolicy) -> Result:
    """A wallet's policy in sentences, or the policy that sentences say, read back. Changes nothing."""
    money, is_read = parts.money, asked.text is not None
    if asked.wallet_id is not None:
        principal.need("wallet:read")
    if asked.text is not None:
        found = await money.policy_sentences.read(asked.text, asked.rest)
    else:
        assert asked.wallet_id is not None
        known = await money.wallet_policies.get(principal, asked.wallet_id)
        found = await money.policy_sentences.tell(read_policy(known.in_force.document))
    if asked.wallet_id is not None and found.policy is not None:
        warnings = await money.wallet_policies.warn(principal, asked.wallet_id, found.policy)
        found = replace(found, warnings=tuple(warnings))
    shown = data_of(PolicyTextAnswer, found)
    return Result({name: value for name, value in shown.items() if is_read or name not in ("policy", "problems")})


def _explained(one: Json) -> Json:
    """A spend with its sources in words, without what its own authors wrote."""
    levels = {**{each["field"]: each for each in one["fields"]}, "decides": one["decides"]}
    said = {
        name: [each["says"] for each in level["sources"] if each["kind"] != "definition"]
        for name, level in levels.items()
    }
    authors = sorted({_author(each["source"]) for level in levels.values() for each in _written(level)})
    head = {name: one[name] for name in ("workflowId", "version", "nodeId", "type", "approvals")}
    if one["stores"]:
        head["stores"] = [_stored(each) for each in one["stores"]]
    return {**head, **said, "writtenIn": authors, **({"paths": one["paths"]} if one.get("paths") else {})}


def _stored(store: Json) -> Json:
    """A table or a variable that the spend hangs on: what shapes it in words, and who writes it."""
    outside = [each["says"] for each in store["sources"] if each["kind"] != "definition"]
    return {"store": store["source"], "hangsOn": outside, "writers": store["writers"], "keys": store["keys"]}


def _written(level: Json) -> list[Json]:
    return [each for each in level["sources"] if each["kind"] == "definition"]


def _author(source: str) -> str:
    return source.removeprefix("definition:").partition("#")[0]


async def _summary(parts: Parts, principal: Principal, run_id: str) -> Result:
    run = await parts.runs.get(principal, run_id, slim=True)
    report = await parts.run_reports.effects(principal, run_id)
    item = data_of(RunListItem, run.row)
    own = {"runId": run_id, "version": run.row.version, **{name: item[name] for name in _HEAD}}
    counts = {
        name: len(report[name])
        for name in ("transactions", "signatures", "requests", "assumed", "warnings")
        if report.get(name)
    }
    own["report"] = {"totalFeesUsd": report.get("totalFeesUsd"), **counts}
    told = {name: value for name in ("summary", "error") if (value := item[name]) is not None}
    if report.get("notPassed"):
        told["notPassed"] = report["notPassed"]
    return Result(own, told)


def _head(report: Json) -> Json:
    return {name: report.get(name) for name in ("runId", "workflowId", "mode", "status", "passed")}


def _nodes(run: Run, _node: str | None) -> Result:
    assert run.definition is not None
    latest = newest(run.executions)
    shown = []
    for path, one in list(latest.items())[:_MOST_NODES]:
        line: Json = {"path": path, "type": run.definition.nodes[one.node_id].type, "status": one.status.value}
        if one.error is not None:
            line["error"] = one.error
        if one.assumed:
            line["assumed"] = True
        shown.append(line)
    return Result({"runId": run.row.id, "status": run.row.status, "executed": len(latest)}, {"nodes": shown})


def _node(run: Run, path: str | None) -> Result:
    assert run.definition is not None
    one = newest(run.executions).get(path or "")
    if one is None:
        raise NotFound("The run has executed no such node; `nodes` lists them.", code=Code.NODE_UNKNOWN)
    own = {"runId": run.row.id, "status": one.status.value, "attempt": one.attempt, "assumed": one.assumed}
    texts = {"path": one.path, "type": run.definition.nodes[one.node_id].type, "error": one.error}
    return Result(own, {**texts, "result": one.result, "input": mask_value(one.input)})


async def list_runs(parts: Parts, principal: Principal, asked: inputs.ListRuns) -> Result:
    """Runs, newest first."""
    filters = RunFilters(
        statuses=() if asked.status is None else (asked.status.value,),
        workflow_id=asked.workflow_id,
        modes=() if asked.mode is None else (asked.mode.value,),
        since=moment_ms(asked.since) if asked.since is not None else None,
        until=moment_ms(asked.until) if asked.until is not None else None,
        version=asked.version,
    )
    page = await parts.runs.list_page(principal, filters, Paging(asked.limit), asked.q)
    names = ("id", "workflowName", "workflowVersion", *_HEAD, "error")
    shown = [{name: item[name] for name in names} for item in (data_of(RunListItem, one) for one in page.items)]
    return Result({"hasMore": page.has_more}, {"runs": shown})
