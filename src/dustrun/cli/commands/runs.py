"""`dustrun runs`: lists, shows, watches, cancels and retries runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from dustrun import ids
from dustrun.cli.http.client import Client, Unreachable, segment
from dustrun.cli.http.documents import is_file, read_document, workflow_id
from dustrun.cli.http.failures import CliError
from dustrun.cli.http.options import SERVER, AsJson, Key, Limit, Offset, Server, client_of, read_json_option, read_pairs
from dustrun.cli.render import output, watching
from dustrun.cli.render.tables import gap, show_one, show_page, table
from dustrun.cli.render.versions import draw_sources
from dustrun.records import dataclass

app = typer.Typer(no_args_is_help=True, help="List, watch, cancel and retry runs.")
RunId = Annotated[str, typer.Argument(metavar="RUN", help="Run id, run_….")]

_COLUMNS = ["run", "status", "mode", "started", "workflow", "version", "ended"]


@app.command("list")
def list_runs(
    q: Annotated[
        str | None,
        typer.Argument(
            metavar="[WORD]", help="Only runs with this text in their id, workflow, trigger, error or last message."
        ),
    ] = None,
    workflow: Annotated[str | None, typer.Option("--workflow", help="Workflow name or id.")] = None,
    status: Annotated[str | None, typer.Option("--status", help="running, waiting, success, partial, …")] = None,
    mode: Annotated[str | None, typer.Option("--mode", help="live, simulate or dust.")] = None,
    since: Annotated[
        str | None, typer.Option("--since", help="Only runs that started after this RFC 3339 time.")
    ] = None,
    until: Annotated[
        str | None, typer.Option("--until", help="Only runs that started before this RFC 3339 time.")
    ] = None,
    version: Annotated[int | None, typer.Option("--version", help="Only runs of this version of --workflow.")] = None,
    started_by: Annotated[
        str | None,
        typer.Option("--started-by", help="Only runs that they started: per_…, svc_…, key_…, or me."),
    ] = None,
    limit: Limit = 20,
    offset: Offset = 0,
    cursor: Annotated[
        str | None, typer.Option("--cursor", help="nextCursor of the previous page, instead of --offset.")
    ] = None,
    as_json: AsJson = False,
    server: Server = SERVER,
    key: Key = None,
) -> None:
    """List runs, newest first."""
    client = client_of(server, key)
    chosen = workflow_id(client, workflow) if workflow else None
    where = {"workflowId": chosen, "version": version, "status": status, "mode": mode, "startedBy": started_by}
    times = {"since": since, "until": until}
    page = client.get("/v1/runs", **where, **times, q=q, limit=limit, offset=offset or None, cursor=cursor)
    show_page(page, _COLUMNS, _row, as_json, spare=("ended", "version"))


def _row(run: dict[str, Any]) -> list[Any]:
    return [
        run["id"],
        run["status"],
        run.get("mode"),
        run.get("startedAt"),
        run.get("workflowName") or run.get("workflowId") or "(inline)",
        run.get("workflowVersion"),
        run.get("finishedAt"),
    ]


@app.command("get")
def get_run(run: RunId, as_json: AsJson = False, server: Server = SERVER, key: Key = None) -> None:
    """Show one run with its nodes."""
    found = client_of(server, key).get(f"/v1/runs/{segment(run)}")
    show_one(found, _COLUMNS, _row, as_json)
    if as_json:
        return
    gap()
    state = found.get("executionState") or {}
    table(["node", "status", "attempt", "result or error"], list(_node_rows(state, "")))


def _node_rows(state: dict[str, Any], frame: str) -> Iterator[list[Any]]:
    """One row per node; nodes in loops by path, like each[3].pay."""
    for node_id, node in state.items():
        path = frame + node_id
        shown = node.get("error") or node.get("result")
        yield [path, node["status"], node.get("attempt"), None if shown is None else output.compact(shown)]
        for index, inside in enumerate(node.get("iterations") or ()):
            yield from _node_rows(inside, f"{path}[{index}].")


@app.command()
def effects(
    runs: Annotated[list[str], typer.Argument(metavar="RUN…", help="Run ids, run_…; several are shown side by side.")],
    as_json: AsJson = False,
    server: Server = SERVER,
    key: Key = None,
) -> None:
    """Show a run's effects, or a simulation's: payments, fees, approvals, what was not sent, what was assumed."""
    client = client_of(server, key)
    found = [client.get(f"/v1/runs/{segment(run)}/effects") for run in runs]
    if as_json:
        for one in found:
            output.write_json(one)
        return
    from dustrun.cli.render import report, side_by_side  # slow import

    output.draw(report.draw(found[0]) if len(found) == 1 else side_by_side.draw(found))


@app.command()
def why(
    run: RunId,
    node: Annotated[
        str | None,
        typer.Argument(metavar="[NODE]", help="Only this node, or a path like each[3].pay."),
    ] = None,
    as_json: AsJson = False,
    server: Server = SERVER,
    key: Key = None,
) -> None:
    """Show why a run spent what it did: what shaped who was paid and how much, and what decided it."""
    found = client_of(server, key).get(f"/v1/runs/{segment(run)}/effects", include="sources")["sources"]
    chosen = [one for one in found if node in (None, one["nodeId"], *one["paths"])]
    if as_json:
        output.write_json(chosen)
    else:
        draw_sources(chosen)


@app.command()
def compare(
    run: RunId,
    other: Annotated[str, typer.Argument(metavar="OTHER", help="Id of the other run, run_….")],
    as_json: AsJson = False,
    server: Server = SERVER,
    key: Key = None,
) -> None:
    """Compare two runs of a workflow, such as a rehearsal and the live run."""
    found = client_of(server, key).get(f"/v1/runs/{segment(run)}/compare/{segment(other)}")
    if as_json:
        output.write_json(found)
        return
    from dustrun.cli.render import comparison  # slow import

    output.draw(comparison.draw(found))


@app.command()
def cancel(run: RunId, as_json: AsJson = False, server: Server = SERVER, key: Key = None) -> None:
    """Cancel a running or waiting run."""
    found = client_of(server, key).post(f"/v1/runs/{segment(run)}/cancel")
    if as_json:
        output.write_json(found)
    else:
        output.say(f"Cancelling {run}; it ends when the nodes that it has started are settled.")


@app.command()
def retry(
    run: RunId,
    detach: Annotated[bool, typer.Option("--detach", help="Start it, print its id, do not watch.")] = False,
    as_json: AsJson = False,
    server: Server = SERVER,
    key: Key = None,
) -> None:
    """Retry a failed, partial or cancelled run; nodes that succeeded keep their results."""
    client = client_of(server, key)
    started = client.post(f"/v1/runs/{segment(run)}/retry")
    if detach:
        output.write_json(started) if as_json else output.say(f"Started {started['runId']}.")
        return
    stream = watching.open_stream(client, started["runId"])
    raise typer.Exit(watching.follow(client, started["runId"], stream, as_json=as_json))


@app.command()
def resolve(
    run: RunId,
    node: Annotated[
        str, typer.Argument(metavar="NODE", help="Id of the uncertain node; in a loop its path, like each[3].pay.")
    ],
    happened: Annotated[
        bool | None,
        typer.Option("--happened/--not-happened", help="Whether the effect happened.", show_default=False),
    ] = None,
    result: Annotated[
        str | None, typer.Option("--result", metavar="JSON|@FILE", help="With --happened: the node's result.")
    ] = None,
    attempt: Annotated[
        int | None, typer.Option("--attempt", min=1, help="The attempt, as shown by `runs get`.")
    ] = None,
    as_json: AsJson = False,
    server: Server = SERVER,
    key: Key = None,
) -> None:
    """State whether the effect of an `uncertain` node happened."""
    if happened is None:
        raise CliError(
            "Give --happened or --not-happened.", hint="Check the external system first: did the effect arrive?"
        )
    body: dict[str, Any] = {"outcome": "happened" if happened else "notHappened"}
    if result is not None:
        body["result"] = read_json_option("result", result)
    if attempt is not None:
        body["attempt"] = attempt
    client = client_of(server, key)
    found = client.post(f"/v1/runs/{segment(run)}/nodes/{segment(node)}/resolve", body)
    if as_json:
        output.write_json(found)
    else:
        output.say(f"{node} is resolved. Watch the run: dustrun runs watch {run}")


@app.command()
def watch(
    run: RunId,
    detach_on_wait: Annotated[
        bool, typer.Option("--detach-on-wait", help="Leave with status 5 when the run waits.")
    ] = False,
    as_json: AsJson = False,
    server: Server = SERVER,
    key: Key = None,
) -> None:
    """Watch a run from its first event to its end; it need not exist yet."""
    client = client_of(server, key)
    stream = watching.open_stream(client, run)
    raise typer.Exit(watching.follow(client, run, stream, as_json=as_json, detach_on_wait=detach_on_wait))


# `dustrun run`: starts a workflow or a workflow file and shows its progress live.


@dataclass(frozen=True, slots=True)
class RunRequest:
    """The request that starts a run: path and body."""

    path: str
    body: dict[str, Any]


def run(
    workflow: Annotated[
        str,
        typer.Argument(
            metavar="WORKFLOW", help="Workflow name or id, or a .json or .yaml file to run without saving it."
        ),
    ],
    simulate: Annotated[bool, typer.Option("--simulate", help="Dry run: only reads leave the server.")] = False,
    dust: Annotated[bool, typer.Option("--dust", help="Real run with amounts worth about one cent.")] = False,
    version: Annotated[int | None, typer.Option("--version", min=1, help="Run this version.")] = None,
    payload: Annotated[
        str | None, typer.Option("--payload", metavar="JSON|@FILE", help="Payload for the trigger.")
    ] = None,
    prop: Annotated[
        list[str] | None, typer.Option("--prop", metavar="KEY=VALUE", help="Value for {{$props.KEY}}; repeatable.")
    ] = None,
    trigger: Annotated[str | None, typer.Option("--trigger", help="Id of the trigger node to start from.")] = None,
    run_id: Annotated[str | None, typer.Option("--run-id", help="Id for the run, run_…; default: a new one.")] = None,
    detach: Annotated[
        bool, typer.Option("--detach", help="Start the run and print its id without watching it.")
    ] = False,
    detach_on_wait: Annotated[
        bool, typer.Option("--detach-on-wait", help="Exit with status 5 when the run starts waiting.")
    ] = False,
    as_json: AsJson = False,
    server: Server = SERVER,
    key: Key = None,
) -> None:
    """Run a workflow now and watch it.

    The exit status shows how the run ended: 0 success, 1 failure, 3 partial, 4 cancelled, 5 still waiting.
    """
    client = client_of(server, key)
    body: dict[str, Any] = {"runId": run_id or ids.new_id("run")}
    if simulate:
        body["simulate"] = True
    if dust:
        body["dustTest"] = True
    if version is not None:
        body["version"] = version
    if payload is not None:
        body["payload"] = read_json_option("payload", payload)
    if prop:
        body["propValues"] = read_pairs("prop", prop)
    if trigger is not None:
        body["triggerNodeId"] = trigger
    call = call_for(client, workflow, body)
    if detach:
        _detach(client, call, as_json)
    else:
        raise typer.Exit(_watch(client, call, as_json, detach_on_wait))


def call_for(client: Client, workflow: str, body: dict[str, Any]) -> RunRequest:
    """Builds the request that runs a saved workflow or an unsaved file."""
    if not is_file(workflow):
        return RunRequest(f"/v1/workflows/{segment(workflow_id(client, workflow))}/run", body)
    if "version" in body:
        raise CliError("--version works only for saved workflows; a file has no versions.")
    document = read_document(Path(workflow))
    if not body.get("simulate"):
        document.need_no_guards()
    if document.payload is not None:
        body.setdefault("payload", document.payload)
    return RunRequest("/v1/runs", {"definition": document.definition, **body})


def _detach(client: Client, call: RunRequest, as_json: bool) -> None:
    started = client.post(call.path, call.body)
    if as_json:
        output.write_json(started)
    else:
        output.say(f"Started {started['runId']}. Watch it: dustrun runs watch {started['runId']}")


def _watch(client: Client, call: RunRequest, as_json: bool, detach_on_wait: bool) -> int:
    run_id = call.body["runId"]
    stream = watching.open_stream(client, run_id)
    try:
        _start(client, call)
    except BaseException:
        stream.close()
        raise
    return watching.follow(client, run_id, stream, as_json=as_json, detach_on_wait=detach_on_wait)


def _start(client: Client, call: RunRequest) -> None:
    """Sends the request; if the response is lost, checks whether the run was created before failing."""
    try:
        client.post(call.path, call.body)
    except Unreachable as lost:
        try:
            client.get(f"/v1/runs/{segment(call.body['runId'])}", summary="true")
        except CliError:
            raise lost from None
