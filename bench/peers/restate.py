"""Restate beside us: its server, and a service of its TypeScript SDK, called over HTTP at its ingress."""

from __future__ import annotations

import json
import shutil
import tempfile
import urllib.request
from pathlib import Path
from typing import Any

from bench.peers import Unavailable, http_load
from bench.peers.installing import node, npm
from bench.peers.processes import running
from testkit.ports import free_port

VERSION, SDK = "1.7.12", "1.17.2"


def measure(runs: int) -> dict[str, Any]:
    """Each step is a `ctx.run`, whose result is in the log before the next one begins."""
    packages = {"@restatedev/restate-server": VERSION, "@restatedev/restate-sdk": SDK}
    folder = npm(f"restate-{VERSION}", packages)
    program = folder / "program.mjs"  # beside its packages, where Node looks for them
    shutil.copy(Path(__file__).with_name("restate_program.mjs"), program)
    ports = {name: free_port() for name in ("node", "ingress", "admin", "service", "health")}
    with tempfile.TemporaryDirectory() as data:
        places = {
            "RESTATE_BASE_DIR": data,
            "RESTATE_BIND_ADDRESS": f"127.0.0.1:{ports['node']}",
            "RESTATE_ADVERTISED_ADDRESS": f"http://127.0.0.1:{ports['node']}",
            "RESTATE_INGRESS__BIND_ADDRESS": f"127.0.0.1:{ports['ingress']}",
            "RESTATE_ADMIN__BIND_ADDRESS": f"127.0.0.1:{ports['admin']}",
            "RESTATE_DISABLE_TELEMETRY": "true",
            "DO_NOT_TRACK": "1",
        }
        server = [folder / "node_modules" / ".bin" / "restate-server", "--log-filter", "error"]
        health = f"http://127.0.0.1:{ports['admin']}/health"
        with running(server, Path(data), health, places) as peer:
            command = ["node", program, str(ports["service"]), str(ports["health"])]
            with running(command, Path(data), f"http://127.0.0.1:{ports['health']}/") as service:
                _register(ports["admin"], ports["service"])
                both = (peer, service)
                idle = round(sum(one.rss_mib() for one in both), 1)
                found = http_load.measure(
                    ports["ingress"], "/bench/three", "/bench/forty", runs, both, states=lambda: _states(ports["admin"])
                )
    return {
        "version": f"{VERSION}, TypeScript SDK {SDK}, Node {node()}",
        "store": "its own log and RocksDB, fsync of the log on (default)",
        "overHttp": True,
        "readyS": peer.ready_s,
        "idleRssMib": idle,
        **found,
    }


def _register(admin: int, service: int) -> None:
    body = json.dumps({"uri": f"http://127.0.0.1:{service}"}).encode()
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"http://127.0.0.1:{admin}/deployments", body, headers)
    try:
        urllib.request.urlopen(request, timeout=30).read()
    except OSError as error:
        raise Unavailable(f"it did not take the service: {error}") from error


_QUERY = """SELECT status, count(*) AS invocations, max(retry_count) AS most_tries, max(last_failure) AS a_failure
FROM sys_invocation WHERE status <> 'completed' GROUP BY status"""


def _states(admin: int) -> str:
    """Its invocations by state, in its own words, with a failure of each state."""
    headers = {"Content-Type": "application/json", "Accept": "application/json"}
    request = urllib.request.Request(f"http://127.0.0.1:{admin}/query", json.dumps({"query": _QUERY}).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return f"its open invocations: {json.dumps(json.load(answer)['rows'])}"
    except OSError as error:
        return f"its admin interface does not tell of its invocations: {error}"
