"""The commands against a real server process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from served import Outside, Served, outside, served
from testkit import processes

HELLO: dict[str, Any] = {
    "nodes": {
        "root": {"type": "manual", "children": ["say"]},
        "say": {"type": "log", "payload": {"message": "Hello, {{$trigger.body.name ?? 'world'}}!"}},
    },
    "triggerNodeIds": ["root"],
}


def flow(**nodes: Any) -> dict[str, Any]:
    return {"nodes": {"root": {"type": "manual", "children": [next(iter(nodes))]}, **nodes}}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outside]:
    with outside(tmp_path_factory.mktemp("outside")) as found:
        yield found


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, world: Outside) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("data"), outbound_allow=world.address) as found:
        yield found


@pytest.fixture
def save(tmp_path: Path) -> Any:
    def write(document: Any, name: str = "flow.json") -> str:
        (tmp_path / name).write_text(json.dumps(document))
        return str(tmp_path / name)

    return write


def test_a_workflow_leaves_as_a_file_and_comes_back(server: Served, save: Any, tmp_path: Path) -> None:
    definition = flow(
        tell={"type": "http-request", "payload": {"url": "https://a.example", "headers": {"x-key": "k123"}}}
    )
    made = server.json("workflow", "create", save({"name": "Portable", "definition": definition}))
    file = tmp_path / "portable.yaml"
    server.dustrun("workflow", "export", "Portable", "--to", str(file))
    text = file.read_text()
    assert ("k123" in text, "unbound:secret-1" in text) == (False, True)
    assert server.dustrun("workflow", "export", made["id"]).stdout == text
    told = server.dustrun("workflow", "import", str(file), "--name", "Copy").stdout
    assert "To bind: secret-1 (secret) at nodes.tell.payload.headers.x-key" in told
    taken = server.dustrun("workflow", "import", str(file), "--bind", "secret-1=k123")
    assert (taken.returncode, "--again makes another one" in taken.stderr) == (2, True)
    bound = server.json("workflow", "import", str(file), "--bind", "secret-1=k123", "--again")
    assert (bound["toBind"], bound["workflow"]["definition"]) == ([], made["definition"])
    refused = server.dustrun("workflow", "import", str(file), "--bind", "secret-1")
    assert (refused.returncode, "is not a binding" in refused.stderr) == (2, True)


def test_a_workflow_is_made_once_then_updated_and_deleted(server: Served, save: Any) -> None:
    file = save({"name": "Once", "description": "first", "definition": HELLO})
    made = server.json("workflow", "create", file)
    taken = server.dustrun("workflow", "create", file, "--name", "once")
    assert (taken.returncode, made["id"] in taken.stderr, "409012" in taken.stderr) == (2, True, True)
    named = {"nodes": {**HELLO["nodes"], "say": {"type": "log", "payload": {"message": "Bye"}}}}
    file = save({"name": "ignored", "description": "second", "definition": named})
    updated = server.json("workflow", "update", "Once", file, "--expected-version", "1")
    assert [updated[name] for name in ("id", "name", "description", "version", "definition")] == [
        made["id"], "Once", "second", 2, named,
    ]  # fmt: skip
    moved = server.dustrun("workflow", "update", "Once", file, "--expected-version", "1")
    assert (moved.returncode, "409001" in moved.stderr) == (2, True)
    asked = server.dustrun("workflow", "delete", "Once")
    assert (asked.returncode, 'Archive "Once"?' in asked.stderr) == (1, True)
    assert server.json("workflow", "get", "Once")["status"] == "draft"
    assert server.json("workflow", "delete", "Once", "--yes")["status"] == "archived"
    again = server.json("workflow", "create", file, "--name", "Once")
    assert again["id"] != made["id"]
    assert server.json("workflow", "create", file, "--name", "Once", "--again")["name"] == "Once"


def test_fields_that_the_server_ignores_are_named(server: Served, save: Any) -> None:
    file = save({"name": "Foreign", "$schema": "x", "definition": {**HELLO, "blockExpansions": {}}})
    wanted = "Warning: blockExpansions: `blockExpansions` is accepted from clients of other platforms"
    made = server.dustrun("workflow", "create", file)
    assert (made.returncode, wanted in made.stderr) == (0, True)
    updated = server.dustrun("workflow", "update", "Foreign", file, "--json")
    assert (json.loads(updated.stdout)["definition"], wanted in updated.stderr) == (HELLO, True)
    applied = server.dustrun("apply", file, "--dry-run")
    assert "0 to change, 1 unchanged." in applied.stdout
    assert "flow.json: blockExpansions: `blockExpansions` is accepted" in applied.stderr
    server.json("workflow", "delete", "Foreign", "--yes")


def test_a_folder_is_shown_asked_about_and_applied(server: Served, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "config.json").write_text("{")
    file = tmp_path / "in" / "Applied.json"
    file.write_text(json.dumps(HELLO))
    folder = str(tmp_path)
    shown = server.dustrun("apply", folder, "--dry-run")
    assert (shown.returncode, shown.stdout) == (
        0, "+ Applied (in/Applied.json): create\n1 to change, 0 unchanged.\n",
    )  # fmt: skip
    asked = server.dustrun("apply", folder)
    assert (asked.returncode, "Change 1 workflows?" in asked.stderr) == (1, True)
    assert "no workflow" in server.dustrun("workflow", "get", "Applied").stderr
    assert "Applied." in server.dustrun("apply", folder, "--yes").stdout
    file.write_text(json.dumps({"maxRuns": 7, "definition": flow(say={"type": "log", "payload": {"message": "Bye"}})}))
    changed = server.dustrun("apply", folder, "--yes").stdout
    for line in ("~ Applied (in/Applied.json): update", "    maxRuns: null → 7", '→ "Bye"'):
        assert line in changed
    assert server.json("workflow", "get", "Applied")["version"] == 2
    assert server.dustrun("apply", str(file)).stdout == "0 to change, 1 unchanged.\n"
    assert server.json("apply", folder)["changes"][0]["action"] == "unchanged"
    server.json("workflow", "create", str(file), "--name", "Unkept")
    pruned = server.dustrun("apply", folder, "--prune")
    assert (pruned.returncode, "of which are archived?" in pruned.stderr) == (1, True)
    assert ("- Unkept (wf_" in pruned.stdout, server.json("workflow", "get", "Unkept")["status"]) == (True, "draft")
    empty = server.dustrun("apply", str(tmp_path / ".git" / ".."), "--dry-run", "--prune", "--json")
    assert {one["action"] for one in json.loads(empty.stdout)["changes"]} == {"unchanged", "archive"}
    file.unlink()
    none = server.dustrun("apply", folder, "--prune", "--yes")
    assert (none.returncode, "has no workflow files" in none.stderr) == (2, True)


def test_the_difference_between_versions_is_told(server: Served, save: Any) -> None:
    made = server.json("workflow", "create", save({"name": "Differs", "definition": HELLO}))
    text = server.dustrun("workflow", "diff", made["id"]).stdout
    assert text == "Version 1 → 1: equal\n"


def test_a_version_by_another_author_is_accepted_after_its_difference_is_shown(server: Served, save: Any) -> None:
    pay, more = (
        {"type": "send-native", "payload": {"chainId": 1, "recipient": f"0x{'11' * 20}", "amount": amount}}
        for amount in ("1", "9")
    )
    made = server.json("workflow", "create", save({"name": "Pays", "definition": flow(pay=pay)}))
    writer = server.dustrun("keys", "create", "writer", "-p", "workflow:create", "-p", "workflow:read").stdout.strip()
    copied = server.json(
        "workflow", "create", save({"name": "Rewritten", "definition": flow(pay=more)}), "--key", writer
    )
    shown = server.dustrun("workflow", "ladder", "Rewritten").stdout
    assert ("send-native" in shown, "Version 1: not accepted, 1 missing" in shown) == (True, True)
    asked = server.dustrun("workflow", "accept", "Rewritten")
    assert (asked.returncode != 0, f"+ {copied['id']} pay (send-native, default wallet):" in asked.stdout) == (
        True,
        True,
    )
    wallet = server.json("wallet", "create", "till")["id"]
    chosen = {**pay, "connector": {"type": "wallet", "id": "{{$inputs.wallet}}", "oneOf": [wallet]}}
    server.json("workflow", "create", save({"name": "Chosen", "definition": flow(pay=chosen)}), "--key", writer)
    asked = server.dustrun("workflow", "accept", "Chosen")
    assert f"pay (send-native, {{{{$inputs.wallet}}}}, one of {wallet}):" in asked.stdout
    refused = server.dustrun("workflow", "accept", "Rewritten", "--yes", "--key", writer)
    assert (refused.returncode != 0, "wallet:spend" in refused.stderr) == (True, True)
    accepted = server.json("workflow", "accept", "Rewritten", "--yes")
    assert (accepted["accepted"], accepted["needed"], len(accepted["acceptedBy"])) == (True, 1, 1)
    own = server.json("workflow", "ladder", made["id"])
    assert (own["acceptance"]["accepted"], own["acceptance"]["needed"], own["rehearsed"]) == (True, 0, True)


def test_a_workflow_from_file_to_live(server: Served, save: Any) -> None:
    file = save({"name": "Greeting", "description": "Says hello.", "definition": HELLO})
    assert server.json("workflow", "validate", file)["valid"] is True
    made = server.json("workflow", "create", file)
    assert (made["name"], made["status"]) == ("Greeting", "draft")
    assert server.json("workflow", "publish", "greeting")["status"] == "active"
    assert server.json("workflow", "pause", "Greeting")["status"] == "paused"
    assert server.json("workflow", "resume", made["id"])["status"] == "active"
    assert server.json("workflow", "get", "Greeting")["definition"]["nodes"].keys() == {"root", "say"}
    assert [item["id"] for item in server.json("workflow", "list", "Greet")["items"]] == [made["id"]]
    narrow = ("workflow", "list", "Greet", "--mine", "--trigger", "manual", "--sort", "name:asc")
    assert [item["ladder"] for item in server.json(*narrow, "--action", "log", "--runs")["items"]] == [
        {"simulate": None, "dust": None, "live": None}
    ]
    assert server.json(*narrow, "--action", "swap-uniswap-v2")["items"] == []


def test_settings_in_a_file_are_not_lost(server: Served, save: Any) -> None:
    guard = {"tolerancePercent": "1", "maxAgeMs": 3_600_000}
    file = save({"name": "Guarded", "definition": HELLO, "maxRuns": 3, "enforceRehearsal": guard, "colour": "red"})
    told = "Warning: colour: not a setting of a workflow; ignored."
    made = server.dustrun("workflow", "create", file, "--json")
    assert (json.loads(made.stdout)["maxRuns"], made.stderr.strip()) == (3, told)
    assert json.loads(made.stdout)["enforceRehearsal"]["maxAgeMs"] == 3_600_000
    refused = server.dustrun("run", file)
    assert (refused.returncode, "The file has `enforceRehearsal`, which only" in refused.stderr) == (2, True)
    assert server.dustrun("run", file, "--simulate").returncode == 0
    fewer = server.dustrun("workflow", "update", "Guarded", save({"definition": HELLO, "maxRuns": 2}), "--json")
    assert (json.loads(fewer.stdout)["maxRuns"], json.loads(fewer.stdout)["enforceRehearsal"] is None) == (2, False)
    server.json("workflow", "delete", "Guarded", "--yes")


def test_publishing_says_what_to_mind(server: Served, save: Any) -> None:
    pay = {"type": "send-native", "payload": {"chainId": 8453, "recipient": f"0x{'11' * 20}", "amount": "1"}}
    root = {"type": "cronjob", "payload": {"schedule": "0 9 * * *"}, "children": ["pay"]}
    guard = {"tolerancePercent": "1", "maxAgeMs": 3_600_000}
    file = save({"name": "Payday", "definition": {"nodes": {"root": root, "pay": pay}}, "enforceRehearsal": guard})
    server.json("workflow", "create", file)
    told = server.dustrun("workflow", "publish", "Payday").stderr
    assert told.startswith("Warning: nodes.root.type: ")
    assert told.endswith("[spends_never_rehearsed]\n")
    server.json("workflow", "delete", "Payday", "--yes")


def test_the_next_times_of_a_schedule_are_shown(server: Served, save: Any) -> None:
    nodes = {"root": {"type": "cronjob", "payload": {"schedule": "0 9 * * *", "timezone": "Asia/Kolkata"}}}
    server.json("workflow", "create", save({"name": "Mornings", "definition": {"nodes": nodes}}))
    draft = server.dustrun("workflow", "schedule", "Mornings")
    lines = [line.split("\t") for line in draft.stdout.splitlines()]
    assert len(lines) == 10
    assert {(line[0], line[2][10:], line[3]) for line in lines} == {("root", "T09:00:00+05:30", "Asia/Kolkata")}
    assert "Nothing is armed" in draft.stderr
    server.dustrun("workflow", "publish", "Mornings")
    found = server.json("workflow", "schedule", "Mornings")
    assert found["nextRunAt"] == found["triggers"][0]["fires"][0]["at"]


def test_creating_an_invalid_file_says_what_is_wrong_with_it(server: Served, save: Any) -> None:
    file = save({"name": "Misspelt", "definition": flow(say={"type": "http-reqest", "payload": {}})})
    told = (
        'Problem: nodes.say.type: There is no node type "http-reqest". Did you mean "http-request"? See GET '
        "/v1/actions.  [unknown_type]\n"
        f"Saved as a draft, which cannot run until it is fixed: dustrun workflow validate {file}\n"
    )
    for words in ([], ["--again", "--json"]):
        done = server.dustrun("workflow", "create", file, *words)
        assert (done.returncode, done.stderr) == (0, told)
    assert server.dustrun("workflow", "create", save({"name": "Sound", "definition": HELLO})).stderr.startswith(
        "Try it"
    )


def test_run_shows_every_event_and_the_effects(server: Served, save: Any) -> None:
    done = server.dustrun("run", save(HELLO), "--payload", '{"name": "Ada"}', "--run-id", "run_ada", "--json")
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert [event["seq"] for event in events[:-1]] == list(range(1, len(events)))
    assert (events[0]["type"], events[-2]["type"], events[-1]["type"]) == ("run_started", "run_finished", "effects")
    assert {event["runId"] for event in events} == {"run_ada"}
    assert any(event.get("message") == "Hello, Ada!" for event in events)


def test_effects_and_comparison_of_runs(server: Served, save: Any) -> None:
    for run, payload in (("run_bob", '{"name": "Bob"}'), ("run_eve", '{"name": "Eve"}')):
        words = ("run", save(HELLO), "--payload", payload, "--run-id", run, "--json")
        assert server.dustrun(*words, "--simulate").returncode == 0
    done = server.dustrun("runs", "effects", "run_bob")
    assert done.stdout.splitlines() == ["Simulation run_bob: success, passed", "Nothing would be sent."]
    assert server.json("runs", "effects", "run_bob")["passed"] is True
    done = server.dustrun("runs", "compare", "run_bob", "run_eve")
    assert done.stdout.startswith("Differs: 1 difference."), done.stdout
    assert "Hello, Bob!" in done.stdout
    assert "Hello, Eve!" in done.stdout
    found = server.json("runs", "compare", "run_bob", "run_bob")
    assert (found["verdict"], found["differences"]) == ("same", [])
    done = server.dustrun("runs", "compare", "run_bob", "run_none")
    assert (done.returncode, "run_none" in done.stderr) == (2, True)


def test_run_without_a_terminal_prints_a_line_an_event(server: Served, save: Any) -> None:
    done = server.dustrun("run", save(HELLO))
    assert done.returncode == 0, done.stderr
    assert "say: Hello, world!" in done.stdout
    assert "Nothing was sent." in done.stdout


def test_a_run_that_fails_or_is_wrong_has_its_status(server: Served, save: Any) -> None:
    stop = flow(end={"type": "stop", "payload": {"status": "failure", "message": "Not today."}})
    done = server.dustrun("run", save(stop))
    assert (done.returncode, "Not today." in done.stdout) == (1, True)
    done = server.dustrun("run", save(flow(a={"type": "no-such"})))
    assert (done.returncode, "Error 400228" in done.stderr) == (2, True)
    done = server.dustrun("run", save(HELLO), "--payload", "{oops", "--json")
    assert (done.returncode, json.loads(done.stderr)["exitStatus"]) == (2, 2)
    assert server.dustrun("run", "no such workflow").returncode == 2
    assert server.dustrun("run", save(HELLO), "--server", "http://127.0.0.1:1").returncode == 6


def test_a_partial_run_has_its_status(server: Served, save: Any, world: Outside) -> None:
    payload = {"url": f"{world.url}/nowhere", "failOnStatus": True}
    lenient = {"type": "http-request", "payload": payload, "onError": "continue"}
    done = server.dustrun("run", save(flow(a=lenient)))
    assert done.returncode == 3, done.stdout + done.stderr


def test_a_waiting_run_is_left_watched_cancelled_and_run_again(server: Served, save: Any) -> None:
    slow = flow(nap={"type": "delay", "payload": {"delayMs": 600_000}, "children": ["say"]}, say=HELLO["nodes"]["say"])
    done = server.dustrun("run", save(slow), "--run-id", "run_nap", "--detach-on-wait", "--json")
    assert done.returncode == 5, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["status"] == "waiting"
    assert server.json("runs", "cancel", "run_nap")["id"] == "run_nap"
    done = server.dustrun("runs", "watch", "run_nap")
    assert (done.returncode, "cancelled" in done.stdout) == (4, True)
    again = server.json("runs", "retry", "run_nap", "--detach")["runId"]
    assert server.json("runs", "get", again)["sourceRunId"] == "run_nap"
    assert server.json("runs", "cancel", again)["id"] == again


def test_runs_are_listed_and_shown(server: Served, save: Any) -> None:
    server.dustrun("run", save(HELLO), "--run-id", "run_listed")
    page = server.json("runs", "list", "--status", "success", "--limit", "100")
    assert "run_listed" in [item["id"] for item in page["items"]]
    found = server.dustrun("runs", "list", "RUN_LISTED", "--until", "2999-01-01T00:00:00Z")
    assert [line.split()[0] for line in found.stdout.splitlines()] == ["run_listed"]
    server.dustrun("run", save(HELLO), "--run-id", "run_listed-2")
    more = server.dustrun("runs", "list", "run_listed", "--limit", "1").stderr
    cursor = more.split("--cursor ")[1].strip()
    found = server.dustrun("runs", "list", "run_listed", "--cursor", cursor)
    assert [line.split()[0] for line in found.stdout.splitlines()] == ["run_listed"]
    shown = server.dustrun("runs", "get", "run_listed")
    assert "say\tsuccess\t1" in shown.stdout


def test_effects_of_several_runs_stand_side_by_side(server: Served, save: Any, world: Outside) -> None:
    tell = {"type": "http-request", "payload": {"method": "POST", "url": f"{world.url}/notices", "json": {}}}
    file = save(flow(tell=tell))
    ids = ["run_besides-simulated", "run_besides-live"]
    assert server.dustrun("run", file, "--simulate", "--run-id", ids[0]).returncode == 0
    assert server.dustrun("run", file, "--run-id", ids[1]).returncode == 0
    lines = [line.split() for line in server.dustrun("runs", "effects", *ids).stdout.splitlines()]
    assert ["simulated", "live"] in lines
    assert ["tell", "POST", world.address, "would", "send,", "assumed", "sent"] in lines
    alone = server.dustrun("runs", "effects", ids[1]).stdout
    assert "simulated" not in alone
    assert world.url in alone
    documents = server.dustrun("runs", "effects", *ids, "--json").stdout.splitlines()
    assert [json.loads(document)["runId"] for document in documents] == ids


def test_resolve_wants_an_uncertain_node(server: Served, save: Any) -> None:
    server.dustrun("run", save(HELLO), "--run-id", "run_sure")
    done = server.dustrun("runs", "resolve", "run_sure", "say", "--happened")
    assert (done.returncode, "409004" in done.stderr) == (2, True)
    assert server.dustrun("runs", "resolve", "run_sure", "say").returncode == 2


def test_a_run_can_be_started_and_left(server: Served, save: Any) -> None:
    assert server.json("run", save(HELLO), "--run-id", "run_left", "--detach") == {"runId": "run_left"}
    assert server.dustrun("runs", "watch", "run_left").returncode == 0


def test_doctor_finds_this_server_well(server: Served) -> None:
    done = server.dustrun("doctor", "--json")
    findings = json.loads(done.stdout)
    assert [finding for finding in findings if finding["state"] == "bad"] == []
    assert {"server", "ready", "key", "clock", "disk sync"} <= {finding["name"] for finding in findings}


def test_a_second_server_on_the_same_store_is_refused(server: Served) -> None:
    done = server.dustrun("serve", "--port", "0", "--data-dir", str(server.data_dir))
    assert done.returncode == 6
    assert "Another server" in done.stderr


def nap(ms: int) -> dict[str, Any]:
    return flow(nap={"type": "delay", "payload": {"delayMs": ms}, "children": ["say"]}, say=HELLO["nodes"]["say"])


def _read_terminal(descriptor: int, until: bytes | None = None) -> str:
    """What is written to a terminal up to some words, or until its other side closes."""
    found = b""
    while until is None or until not in found:
        try:
            part = os.read(descriptor, 65536)
        except OSError:  # Linux says EIO where others say end of file
            part = b""
        if not part:
            return found.decode()
        found += part
    return found.decode()


def test_run_on_a_terminal_draws_a_live_tree(server: Served, save: Any) -> None:
    ours, theirs = os.openpty()
    asking = flow(
        ask={"type": "approve", "payload": {"message": "Go on?", "allowStarter": True}, "children": ["say"]},
        say=HELLO["nodes"]["say"] | {"branch": "approved"},
    )
    command = [*processes.DUSTRUN, "run", save(asking), "--run-id", "run_drawn"]
    with processes.start(command, env={**server.environment, "TERM": "xterm"}, stdout=theirs) as process:
        os.close(theirs)
        waiting = _read_terminal(ours, until=b"waiting")
        (asked,) = server.json("approvals", "list")["items"]
        told = server.dustrun("approvals", "approve", asked["id"], "--comment", "As agreed")
        shown = _read_terminal(ours)
    os.close(ours)
    assert process.returncode == 0
    assert told.stdout == "Approved: Go on? Watch the run: dustrun runs watch run_drawn\n"
    (decided,) = server.json("approvals", "list", "--status", "approved")["items"]
    assert (decided["runId"], decided["comment"]) == ("run_drawn", "As agreed")
    again = server.dustrun("approvals", "reject", asked["id"])
    assert (again.returncode, "409" in again.stderr) == (2, True)
    assert "├── " in waiting + shown
    assert "success in" in shown


def test_interrupting_leaves_the_run_alone(server: Served, save: Any) -> None:
    command = [*processes.DUSTRUN, "run", save(nap(600_000)), "--run-id", "run_interrupted"]
    with processes.start(
        command, env=server.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("● running")
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=120)
    assert (process.returncode, "dustrun runs watch run_interrupted" in told) == (130, True)
    assert server.json("runs", "get", "run_interrupted")["status"] in ("running", "waiting")
    server.dustrun("runs", "cancel", "run_interrupted")


def test_watching_survives_a_restart_of_the_server(tmp_path: Path, save: Any) -> None:
    data_dir, told = tmp_path / "data", tmp_path / "told"
    with served(data_dir) as first, told.open("w") as errors:
        port = int(first.url.rpartition(":")[2])
        command = [*processes.DUSTRUN, "run", save(nap(3_000)), "--json"]
        watcher = processes.start(command, env=first.environment, stdout=subprocess.PIPE, stderr=errors, text=True)
        assert watcher.stdout is not None
        lines = [watcher.stdout.readline()]
    with served(data_dir, port), watcher:
        lines += watcher.stdout.readlines()
    events = [json.loads(line) for line in lines]
    assert watcher.returncode == 0, told.read_text()
    assert [event["seq"] for event in events[:-1]] == list(range(1, len(events)))
    assert events[-2]["status"] == "success"
    assert "Connection lost" in told.read_text()
