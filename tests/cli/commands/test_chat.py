"""`dustrun chat` against a real server and a scripted model."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dustrun.cli.http.client import Client
from served import Served, served
from testkit import processes
from testkit.composition import DEFINITION
from testkit.model_server import Asked, ModelServer, Reply, model_beside
from testkit.turn_scripts import launching


@pytest.fixture(scope="module")
def model() -> Iterator[ModelServer]:
    with model_beside(lambda _: Reply("Hello there.")) as found:
        yield found


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, model: ModelServer) -> Iterator[Served]:
    processes.share_more("dustrun.sdk.llm.protocol")
    with served(tmp_path_factory.mktemp("server"), outbound_allow="127.0.0.1") as found:
        _api(found).post("/v1/connectors", model.connector())
        yield found


def _api(server: Served) -> Client:
    return Client(server.url, server.key)


def _environment(server: Served, tmp_path: Path) -> dict[str, str]:
    return {
        **os.environ,
        "DUSTRUN_DATA_DIR": str(tmp_path),
        "DUSTRUN_SERVER": server.url,
        "DUSTRUN_API_KEY": server.key,
        "TERM": "dumb",
    }


def _chat(server: Served, tmp_path: Path, *words: str) -> Any:
    return processes.run([*processes.DUSTRUN, "chat", *words], env=_environment(server, tmp_path))


def test_words_tools_and_what_goes_on(server: Served, model: ModelServer, tmp_path: Path) -> None:
    def looking(asked: Asked) -> Reply:
        is_done = any(one["role"] == "tool" for one in asked.messages)
        return Reply("There are none.") if is_done else Reply("I look.", calls=(("list_runs", {"limit": 3}),))

    model.script = looking
    done = _chat(server, tmp_path, "ask", "Which runs failed?")
    assert (done.returncode, done.stdout.split("\n")[:2]) == (0, ["I look.", "There are none."]), done.stderr
    assert '→ list_runs {"limit":3}' in done.stderr
    chat = done.stderr.partition("dustrun chat ask --in ")[2].split()[0]
    model.script = lambda _: Reply(status=400, raw=b"no")
    failed = _chat(server, tmp_path, "ask", "--in", chat, "--json", "And now?")
    events = [json.loads(line) for line in failed.stdout.splitlines()]
    assert (failed.returncode, events[0]["type"], events[-1]["code"]) == (1, "turn_started", "MODEL")
    shown = _chat(server, tmp_path, "show", chat).stdout.splitlines()
    assert shown[0] == "user: Which runs failed?"
    assert chat in _chat(server, tmp_path, "list").stdout
    assert "No turn" in _chat(server, tmp_path, "stop", chat).stderr


@pytest.mark.parametrize(("answer", "status"), [("y", "approved"), ("n", "rejected")])
def test_person_at_a_terminal_decides(
    server: Served, model: ModelServer, tmp_path: Path, answer: str, status: str
) -> None:
    body = {"name": f"Say {answer}", "description": "", "definition": DEFINITION}
    workflow = _api(server).post("/v1/workflows", body)["id"]
    model.script = launching(workflow)
    ours, theirs = os.openpty()
    command = [*processes.DUSTRUN, "chat", "ask", f"Run it, {answer}"]
    with processes.start(
        command,
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=theirs,
        text=True,
        env=_environment(server, tmp_path),
    ) as process:
        os.close(theirs)
        seen = b""
        while b"Run this now (live)?" not in seen:
            seen += os.read(ours, 4_096)
        os.write(ours, f"{answer}\n".encode())
        out, _ = process.communicate(timeout=120)
    os.close(ours)
    assert (process.returncode, f"It was {status}." in out) == (0, True), (out, seen)
    assert "simulation" in out.lower()  # what it would do is shown before the question
    runs = _api(server).get("/v1/runs?mode=live")["items"]
    assert [one["workflowId"] for one in runs if one["workflowId"] == workflow] == [workflow] * (status == "approved")


def test_without_a_terminal_it_says_how_to_decide_and_stop_withdraws(
    server: Served, model: ModelServer, tmp_path: Path
) -> None:
    workflow = _api(server).post("/v1/workflows", {"name": "Wait", "description": "", "definition": DEFINITION})["id"]
    model.script = launching(workflow)
    done = _chat(server, tmp_path, "ask", "Run it")
    assert (done.returncode, "dustrun approvals show apr_" in done.stderr) == (0, True), done.stderr
    chat = done.stderr.partition("dustrun chat ask --in ")[2].split()[0]
    assert _chat(server, tmp_path, "stop", chat).stdout.split()[-1] == "STOPPED"
    assert _api(server).get("/v1/approvals?status=pending")["items"] == []
