"""`dustrun backtest`: a workflow on the events of the past."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from dustrun.cli.http.client import segment
from dustrun.cli.http.naming import workflow_id
from dustrun.cli.http.options import SERVER, AsJson, Key, Server, client_of
from dustrun.cli.render import output
from dustrun.cli.render.tables import gap, table

_WAIT_MS = 60_000
_EVENT = ["at", "run", "status", "error"]
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
    table(_EVENT, [_event(one) for one in report["events"]], spare=("run",))
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
