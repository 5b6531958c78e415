"""Prefect beside us: its server on SQLite, a flow of tasks in its own process, results kept on disk."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from bench.peers.installing import environment
from bench.peers.processes import program, running
from testkit.ports import free_port

VERSION = "3.9.1"


def measure(runs: int) -> dict[str, Any]:
    """Each step is a task whose result is persisted before the next one begins."""
    python = environment(f"prefect-{VERSION}", f"prefect=={VERSION}")
    port = free_port()
    with tempfile.TemporaryDirectory() as data:
        settings = {
            "HOME": data,
            "PREFECT_HOME": data,
            "PREFECT_RESULTS_PERSIST_BY_DEFAULT": "true",
            "PREFECT_LOGGING_LEVEL": "ERROR",
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_CLIENT_MAX_RETRIES": "20",  # of what the server was too busy for; 5 by default
            "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
        }
        server = [python, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
        with running(server, Path(data), f"http://127.0.0.1:{port}/api/health", settings) as peer:
            idle = peer.rss_mib()
            found = program(
                python, Path(__file__).with_name("prefect_program.py"), runs, peer.process.pid, environ=settings
            )
    return {
        "version": VERSION,
        "store": "SQLite, its own defaults; results as files",
        "overHttp": False,
        "readyS": peer.ready_s,
        "idleRssMib": idle,
        **found,
    }
