"""`dustrun triggers`: what is armed, what it saw, replays, and making watching triggers live."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from dustrun.cli.http.client import segment
from dustrun.cli.http.documents import workflow_id
from dustrun.cli.http.options import SERVER, AsJson, Key, Limit, Offset, Server, client_of, read_json_option
from dustrun.cli.render import output
from dustrun.cli.render.tables import gap, record, show_one, show_page, table

app = typer.Typer(no_args_is_help=True, help="List triggers and their events, replay events, and take triggers live.")
Workflow = Annotated[str, typer.Argument(metavar="WORKFLOW", help="Workflow name or id.")]
Event = Annotated[str, typer.Argument(metavar="EVENT", help="Event id, evt_….")]

_TRIGGERS = [
    "node",
    "type",
    "state",
    "why",
    "mode",
    "version",
    "next",
    "last",
    "runs",
    "failed",
    "skipped",
    "block",
    "lag",
]
_EVENTS = ["event", "at", "type", "node", "outcome", "why", "run", "mode"]
_REPLAYS = ["event", "at", "outcome", "before", "now", "why", "run"]
_GAPS = ["gap", "state", "range", "reason", "created", "replayed"]
_EVENT = ["event", "workflow", "node", "type", "key", "outcome", "why", "run", "mode", "occurred", "payload", "request"]


def _trigger_row(item: dict[str, Any]) -> list[Any]:
    names = ("mode", "version", "nextFireAt", "lastFiredAt", "runCount", "failureCount", "skippedCount")
    why, state, chain = item["stateReason"] or item["lastError"], item["state"], item["chain"] or {}
    if item["stalledSince"] is not None:
        state = f"{state}, stands still since {item['stalledSince']}"
    counts = [item[name] for name in names]
    return [item["triggerNodeId"], item["type"], state, why, *counts, chain.get("lastScannedBlock"), chain.get("lag")]


def _event_row(item: dict[str, Any]) -> list[Any]:
    names = ("id", "createdAt", "platform", "triggerNodeId", "outcome", "reason", "runId", "mode")
    return [item[name] for name in names]


def _replay_row(item: dict[str, Any]) -> list[Any]:
    names = ("eventId", "occurredAt", "outcome", "before", "action")
    return [*(item[name] for name in names), item["message"], " ".join(item["runIds"]) or None]


def _whole_event(item: dict[str, Any]) -> list[Any]:
    names = ("id", "workflowId", "triggerNodeId", "platform", "key", "outcome", "errorMessage", "runId", "mode")
    more = [item["occurredAt"], output.compact(item["body"], 2000), output.compact(item["metadata"], 2000)]
    return [*(item[name] for name in names), *more]


def _gap_row(item: dict[str, Any]) -> list[Any]:
    spans = output.compact(item["range"])
    return [item["id"], item["state"], spans, item["reason"], item["createdAt"], item["replayedAt"]]


@app.command("list")
def list_triggers(workflow: Workflow, as_json: AsJson = False, server: Server = SERVER, key: Key = None) -> None:
    """List a workflow's triggers with their state and event counts."""
    client = client_of(server, key)
    found = client.get(f"/v1/workflows/{workflow_id(client, workflow)}/trigger-aggregates")
    if as_json:
        output.write_json(found)
        return
    table(
        _TRIGGERS,
        [_trigger_row(item) for item in found["triggers"]],
        spare=("version", "skipped", "last", "block", "lag"),
        names=True,
    )
    if not found["triggers"]:
        output.note("Nothing is armed: only published triggers that fire by themselves are.")


@app.command()
def events(
    workflow: Annotated[
        str | None, typer.Argument(metavar="[WORKFLOW]", help="Workflow name or id; default: all.")
    ] = None,
    outcome: Annotated[
        str | None, typer.Option("--outcome", help="Only started, skipped, failed or orphaned ones.")
    ] = None,
    type: Annotated[str | None, typer.Option("--type", help="Only of this type of trigger, like webhook.")] = None,
    limit: Limit = 20,
    offset: Offset = 0,
    as_json: AsJson = False,
    server: Server = SERVER,
    key: Key = None,
) -> None:
    """List the events of triggers with their outcomes, newest first."""
    client = client_of(server, key)
    wanted = workflow_id(client, workflow) if workflow is not None else None
    query = {"workflowId": wanted, "outcome": outcome, "platform": type}
    page = client.get("/v1/trigger-events", **query, limit=limit, offset=offset)
    show_page(page, _EVENTS, _event_row, as_json, spare=("mode", "node", "type"))


@app.command()
def show(event: Event, as_json: AsJson = False, server: Server = SERVER, key: Key = None) -> None:
    """Show one event with its payload."""
    found = client_of(server, key).get(f"/v1/trigger-events/{segment(event)}")
    show_one(found, _EVENT, _whole_event, as_json)


@app.command()
def replay(
    event: Event,
    ignore_limits: Annotated[
        bool, typer.Option("--ignore-limits", help="Ignore maxRuns, the cooldown and a pause.")
    ] = False,
    as_json: AsJson = False,
    server: Server = SERVER,
    key: Key = None,
) -> None:
    """Replay an event with the current live version."""
    body = {"ignoreLimits": ignore_limits}
    found = client_of(server, key).post(f"/v1/trigger-events/{segment(event)}/replay", body)
    if as_json:
        output.write_json(found)
    elif found["runIds"]:
        output.say(f"Started {found['runIds'][0]}. Watch it: dustrun runs watch {found['runIds'][0]}")
    else:
        output.say(f"Nothing was started ({found['reason']}): {found['message']}")


@app.command("replay-all")
def replay_all(
    workflow: Workflow,
    outcome: Annotated[
        str | None, typer.Option("--outcome", help="Only started, skipped or failed ones; default: without a run.")
    ] = None,
    reason: Annotated[str | None, typer.Option("--reason", help="Only with this reason, like paused.")] = None,
    node: Annotated[str | None, typer.Option("--node", help="Only of this trigger.")] = None,
    since: Annotated[str | None, typer.Option("--since", help="Came in at or after this RFC 3339 time.")] = None,
    until: Annotated[str | None, typer.Option("--until", help="Came in before this RFC 3339 time.")] = None,
    simulate: Annotated[bool, typer.Option("--simulate", help="Simulate each, to see what it would do.")] = False,
    go: Annotated[bool, typer.Option("--go", help="Replay them; without it, they are only listed.")] = False,
    ignore_limits: Annotated[
        bool, typer.Option("--ignore-limits", help="Ignore maxRuns, the cooldown and a pause.")
    ] = False,
    limit: Annotated[int, typer.Option("--limit", min=1, max=100, help="At most so many, oldest first.")] = 20,
    as_json: AsJson = False,
    server: Server = SERVER,
    key: Key = None,
) -> None:
    """List, simulate or replay all events of a filter, such as those that came while the workflow was paused."""
    client = client_of(server, key)
    mode = "replay" if go else "simulate" if simulate else "preview"
    body: dict[str, Any] = {"workflowId": workflow_id(client, workflow), "mode": mode, "limit": limit}
    body |= {"outcome": outcome, "reason": reason, "triggerNodeId": node, "since": since, "until": until}
    found = client.post("/v1/trigger-events/replay", {**body, "ignoreLimits": ignore_limits})
    if as_json:
        output.write_json(found)
        return
    table(_REPLAYS, [_replay_row(one) for one in found["items"]], spare=("at", "before"))
    if found["hasMore"]:
        output.note("There are more: the same command again goes on." if mode != "preview" else "There are more.")
    if mode == "simulate" and found["items"]:
        output.note(f"What they would do together: dustrun triggers rehearsal {workflow} --since TIME")


@app.command("test")
def try_config(
    type: Annotated[str, typer.Argument(metavar="TYPE", help="Type of trigger, like http-poll.")],
    config: Annotated[str, typer.Option("--config", metavar="JSON|@FILE", help="Config of the trigger.")] = "{}",
    workflow: Annotated[
        str | None, typer.Option("--workflow", help="Show the last event of this workflow, if it has one.")
    ] = None,
    connector: Annotated[
        str | None, typer.Option("--connector", metavar="ID", help="Connector for the source.")
    ] = None,
    as_json: AsJson = False,
    server: Server = SERVER,
    key: Key = None,
) -> None:
    """Try a trigger's config: show an event, and what publishing would refuse."""
    client = client_of(server, key)
    body: dict[str, Any] = {"config": read_json_option("config", config)}
    if workflow is not None:
        body["workflowId"] = workflow_id(client, workflow)
    if connector is not None:
        body["connectorId"] = connector
    found = client.post(f"/v1/triggers/{segment(type)}/test", body)
    if as_json:
        output.write_json(found)
        return
    output.say(f"A {found['origin']} event{_colon(found['note'])}")
    output.write_json(found["event"])
    for one in found["problems"]:
        output.say(f"{one['severity']}: {one['field']}: {one['message']}")
    for fire in found["fires"]:
        output.say(f"{fire['at']} ({fire['localTime']})")


def _colon(note: str | None) -> str:
    return f": {note}" if note else ":"


@app.command()
def gaps(
    workflow: Workflow,
    replay: Annotated[str | None, typer.Option("--replay", metavar="GAP", help="Scan this gap.")] = None,
    limit: Limit = 20,
    offset: Offset = 0,
    as_json: AsJson = False,
    server: Server = SERVER,
    key: Key = None,
) -> None:
    """List the gaps that a workflow's triggers did not scan, or scan one of them."""
    client = client_of(server, key)
    base = f"/v1/workflows/{workflow_id(client, workflow)}/trigger-gaps"
    if replay is not None:
        show_one(client.post(f"{base}/{segment(replay)}/replay", {}), _GAPS, _gap_row, as_json)
        return
    show_page(client.get(base, limit=limit, offset=offset), _GAPS, _gap_row, as_json, spare=("replayed", "created"))


@app.command()
def rehearsal(
    workflow: Workflow,
    since: Annotated[
        str | None, typer.Option("--since", help="RFC 3339 time; default: since the rehearsal began.")
    ] = None,
    as_json: AsJson = False,
    server: Server = SERVER,
    key: Key = None,
) -> None:
    """Show what the events of triggers that only rehearse would have done."""
    client = client_of(server, key)
    found = client.get(f"/v1/workflows/{workflow_id(client, workflow)}/trigger-rehearsal", since=since)
    if as_json:
        output.write_json(found)
        return
    _show_rehearsal(found)
    if any(one["mode"] != "live" for one in found["triggers"]):
        output.note(f"Make it live: dustrun triggers go-live {workflow}")


def _show_rehearsal(found: dict[str, Any]) -> None:
    effects = found["effects"]
    counts = [f"{one['count']} {one['outcome']}{_why(one['reason'])}" for one in found["events"]]
    statuses = [f"{count} {status}" for status, count in effects["byStatus"].items()]
    changes = [
        f"{one['amountFormatted'] or one['amount']} {one['symbol'] or one['asset']} of {one['address']}"
        + (f" (${one['usd']})" if one["usd"] is not None else "")
        for one in effects["balanceChanges"]
    ]
    verdicts = [f"{count} {outcome}" for outcome, count in effects["verdicts"].items()]
    rows = {
        "watched": f"{found['since']} to {found['until']}",
        "triggers": ", ".join(f"{one['triggerNodeId']} ({one['mode']}, {one['state']})" for one in found["triggers"]),
        "events": ", ".join(counts) or "none",
        "runs": ", ".join(statuses) or "none",
        "not ended": found["openRuns"],
        "transactions": effects["transactions"],
        "requests": effects["requests"],
        "balance changes": "\n".join(changes) or "none",
        "fees in dollars": effects["totalFeesUsd"],
        "policy verdicts": ", ".join(verdicts) or "none",
    }
    record(list(rows), list(rows.values()))
    for one in found["refused"]:
        output.say(f"{one['status']}: {one['runId']} {'; '.join(one['reasons'])}".strip())


def _why(reason: str | None) -> str:
    return f" ({reason})" if reason is not None else ""


@app.command("go-live")
def go_live(
    workflow: Workflow,
    node: Annotated[str | None, typer.Option("--node", help="Only this trigger; default: all that rehearse.")] = None,
    as_json: AsJson = False,
    server: Server = SERVER,
    key: Key = None,
) -> None:
    """Take triggers that only rehearse live: from now on, their events start live runs."""
    client = client_of(server, key)
    body = {} if node is None else {"triggerNodeId": node}
    found = client.post(f"/v1/workflows/{workflow_id(client, workflow)}/trigger-rehearsal/go-live", body)
    if as_json:
        output.write_json(found)
        return
    live = [one["triggerNodeId"] for one in found["triggers"] if one["mode"] == "live" and one["state"] == "armed"]
    output.say(f"Live: {', '.join(live)}.")


# `dustrun backtest`: a workflow on the events of the past.


_WAIT_MS = 60_000
_PAST_EVENT = ["at", "run", "status", "error"]
_SUM = ["address", "amount", "asset", "usd"]


def backtest(
    workflow: Annotated[str, typer.Argument(metavar="WORKFLOW", help="Workflow name or id.")],
    since: Annotated[str | None, typer.Option("--from", metavar="TIME", help="Start of the period, RFC 3339.")] = None,
    until: Annotated[str | None, typer.Option("--to", metavar="TIME", help="End of the period; default: now.")] = None,
    from_block: Annotated[int | None, typer.Option("--from-block", min=0, help="First block of its chain.")] = None,
    to_block: Annotated[int | None, typer.Option("--to-block", min=0, help="Last block; default: the newest.")] = None,
    trigger: Annotated[str | None, typer.Option("--trigger", help="Id of the trigger node.")] = None,
    version: Annotated[int | None, typer.Option("--version", min=1, help="Test this version.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=200, help="Maximum number of events.")] = 50,
    as_json: AsJson = False,
    server: Server = SERVER,
    key: Key = None,
) -> None:
    """Simulate a workflow on past events, each on the chain's state at that time.

    Nothing is signed or sent, and a back-test never counts as a rehearsal.
    """
    client = client_of(server, key)
    asked = {"from": since, "to": until, "fromBlock": from_block, "toBlock": to_block}
    asked |= {"triggerNodeId": trigger, "version": version, "limit": limit, "waitMs": _WAIT_MS}
    body = {name: value for name, value in asked.items() if value is not None}
    found = client.post(f"/v1/workflows/{segment(workflow_id(client, workflow))}/backtest", body)
    if as_json:
        output.write_json(found)
    else:
        _show(found)
    if found["status"] == "failed":
        raise typer.Exit(1)


def _show(found: dict[str, Any]) -> None:
    if found["report"] is None:
        later = f"Its report will be at GET /v1/backtests/{found['id']}."
        output.say(f"The back-test {found['id']} is {found['status']}. {found['error'] or later}")
        return
    report, more = found["report"], " and more" if found["hasMoreEvents"] else ""
    output.say(f"{found['eventsFound']} events{more} of {found['triggerNodeId']}, version {found['version']}")
    gap()
    table(_PAST_EVENT, [_event(one) for one in report["events"]], spare=("run",))
    totals = report["totals"]
    gap()
    output.say(_counts(report))
    if totals["balanceChanges"]:
        table(_SUM, [_amount(one) for one in totals["balanceChanges"]])
    fees = totals["totalFeesUsd"]
    output.say("Nothing would be paid in fees." if not totals["totalFees"] else f"Fees: {_dollars(fees)}")
    for one in report["refused"]:
        output.say(f"{one['count']} × {one['code']}: {one['message']}")
    if report["stateMissing"]["message"]:
        output.note(report["stateMissing"]["message"])


def _event(one: dict[str, Any]) -> list[Any]:
    status = one["status"] or f"skipped: {one['skipped']}"
    return [one["occurredAt"], one["runId"], status, one["error"] and one["error"]["message"]]


def _amount(one: dict[str, Any]) -> list[Any]:
    return [one["address"], one["amountFormatted"] or one["amount"], one["symbol"] or one["asset"], one["usd"]]


def _dollars(usd: str | None) -> str:
    return "not all of them have a price" if usd is None else f"${usd}"


def _counts(report: dict[str, Any]) -> str:
    parts = [f"{count} {status}" for status, count in report["totals"]["byStatus"].items()]
    parts += [f"{count} skipped ({reason})" for reason, count in report["skipped"].items()]
    return ", ".join(parts) or "No events."
