"""Each alert rule, in a real Prometheus: it fires for what it is about, and is resolved afterwards."""

from __future__ import annotations

import re
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import requests
import yaml

from dustrun.storage.data import attention
from served import ROOT
from testkit.ports import free_port

ALERTS = ROOT / "deploy" / "alerts.yaml"
_CONFIG = """
global: {{scrape_interval: 500ms, evaluation_interval: 500ms}}
rule_files: [{rules}]
scrape_configs: [{{job_name: dustrun, static_configs: [{{targets: ["127.0.0.1:{port}"]}}]}}]
"""
_WITHIN_S = 120.0


class Server:
    """Says of itself what a server with or without trouble says; counters only grow while there is trouble."""

    def __init__(self) -> None:
        self.is_in_trouble, self.is_up, self._counted = False, True, 0

    def text(self) -> str:
        """What it is scraped for."""
        bad = int(self.is_in_trouble)
        self._counted += bad
        kinds = [f'dustrun_needs_attention{{kind="{kind}"}} {bad}' for kind in attention.KINDS]
        slow, fast = self._counted, 0 if self._counted else 1
        return "\n".join(
            [
                *kinds,
                f"dustrun_disk_free_bytes {1 if bad else 1 << 40}",
                f'dustrun_alerts_total{{kind="price"}} {self._counted}',
                f"dustrun_writer_failed_commits_total {self._counted}",
                f'dustrun_event_loop_lag_seconds_bucket{{le="0.1"}} {fast}',
                f'dustrun_event_loop_lag_seconds_bucket{{le="10"}} {fast + slow}',
                f'dustrun_event_loop_lag_seconds_bucket{{le="+Inf"}} {fast + slow}',
                "",
            ]
        )


@contextmanager
def _served(server: Server) -> Iterator[int]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = server.text().encode()
            self.send_response(200 if server.is_up else 503)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Nothing: Prometheus asks twice a second."""

    with HTTPServer(("127.0.0.1", 0), Handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever)
        thread.start()
        try:
            yield httpd.server_port
        finally:
            httpd.shutdown()
            thread.join()


def _prometheus(folder: Path) -> str:
    """The program: installed, or unpacked from Debian's package, which would start a service if it were installed."""
    if found := shutil.which("prometheus"):
        return found
    if shutil.which("apt-get") is None:
        pytest.skip("there is no Prometheus, and no apt-get to fetch one")
    done = subprocess.run(
        ["apt-get", "download", "prometheus"], cwd=folder, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        pytest.skip(f"there is no Prometheus, and apt-get has none: {done.stderr[-200:]}")
    (package,) = folder.glob("prometheus_*.deb")
    subprocess.run(["dpkg", "-x", package, folder], check=True, timeout=120)
    return str(folder / "usr" / "bin" / "prometheus")


def _soon(rules: str) -> str:
    """The same rules with seconds for minutes."""
    return re.sub(r"\[\d+m\]", "[8s]", re.sub(r"for: \d+m", "for: 1s", rules))


@contextmanager
def _watching(program: str, folder: Path, port: int) -> Iterator[Callable[[], set[str]]]:
    """A Prometheus that scrapes the port; gives the names of what fires now."""
    own = free_port()
    (folder / "rules.yaml").write_text(_soon(ALERTS.read_text()))
    (folder / "prometheus.yaml").write_text(_CONFIG.format(rules=folder / "rules.yaml", port=port))
    command = [program, f"--config.file={folder}/prometheus.yaml", f"--storage.tsdb.path={folder}/data"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([*command, f"--web.listen-address=127.0.0.1:{own}"], stdout=log, stderr=log)

    def firing() -> set[str]:
        assert process.poll() is None, (folder / "log").read_text()[-2000:]
        try:
            found = requests.get(f"http://127.0.0.1:{own}/api/v1/alerts", timeout=10).json()["data"]["alerts"]
        except requests.ConnectionError:
            return {"not ready"}
        return {one["labels"]["alertname"] for one in found if one["state"] == "firing"}

    try:
        yield firing
    finally:
        process.terminate()
        process.wait(60)


def _until(firing: Callable[[], set[str]], wanted: set[str]) -> None:
    deadline = time.monotonic() + _WITHIN_S
    while (found := firing()) != wanted:
        assert time.monotonic() < deadline, (sorted(found - wanted), sorted(wanted - found))
        time.sleep(0.2)


@pytest.mark.long
def test_each_alert_fires_and_is_resolved(tmp_path: Path) -> None:
    (group,) = yaml.safe_load(ALERTS.read_text())["groups"]
    every, server = {rule["alert"] for rule in group["rules"]}, Server()
    with _served(server) as port, _watching(_prometheus(tmp_path), tmp_path, port) as firing:
        _until(firing, set())
        server.is_in_trouble = True
        _until(firing, every - {"DustrunDown"})
        server.is_in_trouble = False
        _until(firing, set())
        server.is_up = False
        _until(firing, {"DustrunDown"})
        server.is_up = True
        _until(firing, set())
