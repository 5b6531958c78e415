"""The real server as a process of its own: started, killed, stopped and started again on the same port."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import requests

from testkit import processes, store_template
from testkit.ports import free_port, is_open

READY_WITHIN_S = 120.0
STOP_WITHIN_S = 60.0


class Server:
    """One data folder, one port, one process at a time."""

    def __init__(self, folder: Path, **settings: str) -> None:
        self.folder = folder
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        clean = {name: value for name, value in os.environ.items() if not name.startswith("DUSTRUN_")}
        settings.setdefault("master_key_file", str(folder / "master.key"))
        self._environment = clean | {f"DUSTRUN_{name.upper()}": value for name, value in settings.items()}
        self._log_path = folder / "server.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._session = requests.Session()

    def configure(self, **settings: str) -> None:
        """Further settings, before it is started."""
        self._environment |= {f"DUSTRUN_{name.upper()}": value for name, value in settings.items()}

    # --- the process ---

    def start(self) -> Server:
        """Starts it and returns when it answers."""
        command = [*processes.DUSTRUN, "serve", "--host", "127.0.0.1", "--port", str(self.port)]
        command += ["--data-dir", str(self.folder / "data"), "--log-format", "json"]
        store_template.fill_folder(self.folder / "data", self._environment.get("DUSTRUN_DATABASE_URL"))
        with self._log_path.open("ab") as log:
            self._process = processes.start(
                command, cwd=self.folder, env=self._environment, stdout=log, stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + READY_WITHIN_S
        while not (is_open(self.port) and self._is_ready()):
            is_hopeless = self._process.poll() is not None or time.monotonic() > deadline
            assert not is_hopeless, self.log_text()[-4000:]
            time.sleep(0.05)
        self._session.headers["Authorization"] = f"Bearer {self.key}"
        return self

    def _is_ready(self) -> bool:
        try:
            return requests.get(f"{self.url}/readyz", timeout=5).ok
        except (requests.ConnectionError, requests.Timeout):
            return False

    def end(self, signal_number: int) -> float:
        """Sends a signal and waits for the end of the process; returns the seconds that it took."""
        assert self._process is not None
        started = time.monotonic()
        self._process.send_signal(signal_number)
        self._process.wait(STOP_WITHIN_S)
        self._session.close()
        return time.monotonic() - started

    def kill(self) -> float:
        """A crash."""
        return self.end(signal.SIGKILL)

    def stop(self) -> float:
        """An orderly stop."""
        return self.end(signal.SIGTERM)

    @contextlib.contextmanager
    def hanging(self) -> Iterator[None]:
        """While it accepts connections and says nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        """Ends it if it still runs; for fixtures."""
        if self._process is not None and self._process.poll() is None:
            self.kill()

    @property
    def rss_mib(self) -> float:
        """Resident memory of the process now."""
        assert self._process is not None
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
        return int(line.split()[1]) / 1024

    @property
    def processor_s(self) -> float:
        """Processor time that the process has used so far."""
        assert self._process is not None
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    # --- what it says ---

    @property
    def key(self) -> str:
        """The owner's key."""
        return (self.folder / "data" / "owner.key").read_text().strip()

    @property
    def environment(self) -> dict[str, str]:
        """What the clients of the guide read."""
        return {"DUSTRUN_SERVER": self.url, "DUSTRUN_API_KEY": self.key}

    def log_text(self) -> str:
        """Everything it has written."""
        return self._log_path.read_text(errors="replace")

    def requests_of(self, path: str) -> list[int]:
        """The statuses of the finished requests of a path, from the access log."""
        statuses = []
        for line in self.log_text().splitlines():
            if line.startswith("{") and '"request"' in line:
                entry = json.loads(line)
                if entry.get("path", "").partition("?")[0] == path:
                    statuses.append(entry["status"])
        return statuses

    # --- the API ---

    def call(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Any:
        """The `data` of a successful call with the owner's key."""
        response = self._session.request(method, self.url + path, json=body, headers=headers, timeout=30)
        answer = response.json()
        assert response.ok, answer
        return answer["data"]

    def create_workflow(self, definition: dict[str, Any]) -> str:
        """The id of a new workflow."""
        body = {"name": "Followed", "description": "", "definition": definition}
        return str(self.call("POST", "/v1/workflows", body)["id"])

    def start_run(self, workflow: str, **body: Any) -> str:
        """The id of a new run."""
        return str(self.call("POST", f"/v1/workflows/{workflow}/run", body)["runId"])

    def events_of(self, run: str) -> list[dict[str, Any]]:
        """Every event of a run that has ended, read in one go from the table."""
        response = self._session.get(f"{self.url}/v1/runs/{run}/stream", timeout=30)
        data = [line[6:] for line in response.content.split(b"\n") if line.startswith(b"data: ")]
        return [json.loads(line) for line in data[:-1]]


def new_run_id() -> str:
    """An id that a caller chooses, to open the stream first."""
    return f"run_{uuid.uuid4().hex}"
