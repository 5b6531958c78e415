"""`dustrun run`: starts a workflow or a workflow file and shows its progress live."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from dustrun import ids
from dustrun.cli.http.client import Client, Unreachable, segment
from dustrun.cli.http.documents import is_file, read_document
from dustrun.cli.http.failures import CliError
from dustrun.cli.http.naming import workflow_id
from dustrun.cli.http.options import SERVER, AsJson, Key, Server, client_of, read_json_option, read_pairs
from dustrun.cli.render import output, watching
from dustrun.records import dataclass


@dataclass(frozen=True, slots=True)
class Call:
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


def call_for(client: Client, workflow: str, body: dict[str, Any]) -> Call:
    """Builds the request that runs a saved workflow or an unsaved file."""
    if not is_file(workflow):
        return Call(f"/v1/workflows/{segment(workflow_id(client, workflow))}/run", body)
    if "version" in body:
        raise CliError("--version works only for saved workflows; a file has no versions.")
    document = read_document(Path(workflow))
    if not body.get("simulate"):
        document.need_no_guards()
    if document.payload is not None:
        body.setdefault("payload", document.payload)
    return Call("/v1/runs", {"definition": document.definition, **body})


def _detach(client: Client, call: Call, as_json: bool) -> None:
    started = client.post(call.path, call.body)
    if as_json:
        output.write_json(started)
    else:
        output.say(f"Started {started['runId']}. Watch it: dustrun runs watch {started['runId']}")


def _watch(client: Client, call: Call, as_json: bool, detach_on_wait: bool) -> int:
    run_id = call.body["runId"]
    stream = watching.open_stream(client, run_id)
    try:
        _start(client, call)
    except BaseException:
        stream.close()
        raise
    return watching.follow(client, run_id, stream, as_json=as_json, detach_on_wait=detach_on_wait)


def _start(client: Client, call: Call) -> None:
    """Sends the request; if the response is lost, checks whether the run was created before failing."""
    try:
        client.post(call.path, call.body)
    except Unreachable as lost:
        try:
            client.get(f"/v1/runs/{segment(call.body['runId'])}", summary="true")
        except CliError:
            raise lost from None
