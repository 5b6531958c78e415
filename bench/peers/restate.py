"""Restate beside us: its server, and a service of its TypeScript SDK, called over HTTP at its ingress."""

from __future__ import annotations

import json
import shutil
import tempfile
import urllib.request
from pathlib import Path
from typing import Any

from bench.peers import http_load, npm, running
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
            with running(command, Path(data), f"http://127.0.0.1:{ports['health']}/"):
                _register(ports["admin"], ports["service"])
                idle = peer.rss_mib()
                found = http_load.measure(ports["ingress"], "/bench/three", "/bench/forty", runs)
    return {
        "version": f"{VERSION}, TypeScript SDK {SDK}",
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
    urllib.request.urlopen(request, timeout=30).read()
