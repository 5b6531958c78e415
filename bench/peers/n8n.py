"""n8n beside us: a webhook that answers when its last node has run, every node's end saved, SQLite."""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

from bench.peers import Unavailable, http_load
from bench.peers.installing import node, node_environment, npm
from bench.peers.processes import running
from testkit.ports import free_port

VERSION = "1.123.81"
# The package that n8n takes from a host of its own is replaced by the registry's; no node here uses it.
_OVERRIDES = {"xlsx": "0.18.5"}


def measure(runs: int) -> dict[str, Any]:
    """Each step is a node whose end is saved (`saveExecutionProgress`) before the next one begins."""
    folder = npm(f"n8n-{VERSION}", {"n8n": VERSION}, _OVERRIDES)
    program = folder / "node_modules" / ".bin" / "n8n"
    port, broker = free_port(), free_port()
    with tempfile.TemporaryDirectory() as data:
        settings = {
            "N8N_USER_FOLDER": data,
            "N8N_PORT": str(port),
            "N8N_RUNNERS_BROKER_PORT": str(broker),
            "N8N_LISTEN_ADDRESS": "127.0.0.1",
            "N8N_DIAGNOSTICS_ENABLED": "false",
            "N8N_VERSION_NOTIFICATIONS_ENABLED": "false",
            "N8N_TEMPLATES_ENABLED": "false",
            "N8N_LOG_LEVEL": "error",
            "N8N_RUNNERS_ENABLED": "false",
        }
        for name, count in (("three", 3), ("forty", 40)):
            file = Path(data) / f"{name}.json"
            file.write_text(json.dumps(_workflow(name, count)))
            _run([program, "import:workflow", f"--input={file}"], settings)
            _run([program, "update:workflow", f"--id={name}", "--active=true"], settings)
        health = f"http://127.0.0.1:{port}/healthz/readiness"
        with running([program, "start"], Path(data), health, settings) as peer:
            ready_s = peer.ready_s + _wait_for_webhooks(f"http://127.0.0.1:{port}/webhook/three")
            idle = peer.rss_mib()
            found = http_load.measure(port, "/webhook/three", "/webhook/forty", runs, (peer,), body=b"{}")
    return {
        "version": f"{VERSION}, Node {node()}",
        "store": "SQLite, its own defaults; saveExecutionProgress on",
        "overHttp": True,
        "readyS": round(ready_s, 2),
        "idleRssMib": idle,
        **found,
    }


def _wait_for_webhooks(url: str) -> float:
    """It says that it is ready before its webhooks are; the seconds until they are too."""
    begun = time.perf_counter()
    said = "no answer"
    while time.perf_counter() - begun < 60:
        try:
            urllib.request.urlopen(urllib.request.Request(url, b"{}", method="POST"), timeout=10).read()
            return time.perf_counter() - begun
        except OSError as error:
            said = str(error)
            time.sleep(0.1)
    raise Unavailable(f"its webhook does not answer: {said}")


def _run(command: list[Any], settings: dict[str, str]) -> None:
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=300, env={**node_environment(), **settings}
    )
    if done.returncode != 0:
        raise Unavailable(f"it did not take the workflow: {(done.stderr or done.stdout).strip()[-200:]}")


def _workflow(name: str, steps: int) -> dict[str, Any]:
    hook = {
        "id": "hook",
        "name": "hook",
        "type": "n8n-nodes-base.webhook",
        "typeVersion": 2,
        "position": [0, 0],
        "webhookId": name,
        "parameters": {"httpMethod": "POST", "path": name, "responseMode": "lastNode"},
    }
    names = [f"n{number}" for number in range(1, steps + 1)]
    nodes = [
        {"id": one, "name": one, "type": "n8n-nodes-base.noOp", "typeVersion": 1, "position": [0, 0], "parameters": {}}
        for one in names
    ]
    following = zip(["hook", *names], names, strict=False)
    return {
        "id": name,
        "name": name,
        "nodes": [hook, *nodes],
        "connections": {one: {"main": [[{"node": other, "type": "main", "index": 0}]]} for one, other in following},
        "settings": {"saveExecutionProgress": True, "saveDataSuccessExecution": "all"},
        "active": False,
    }
