"""The client that blocks."""

from __future__ import annotations

import time
from collections.abc import Generator, Mapping
from typing import Any, Self

import httpx2

from dustrun import clock
from dustrun.client.answers import data_of, may_pass
from dustrun.client.errors import ClientError, Unreachable
from dustrun.client.event_reader import EventReader
from dustrun.client.outcomes import Event, Outcome, outcome_of
from dustrun.client.patience import Patience
from dustrun.client.run_calls import Call, Mode, call_of, new_run_id, own_headers, run_call, run_path, server_address


class Client:
    """Calls one server with one key. `patience_s`: for how long it goes on trying while no server answers."""

    def __init__(self, server: str | None = None, key: str | None = None, *, patience_s: float = 300.0) -> None:
        self.server = server_address(server)
        self._patience_s = patience_s
        self._http = httpx2.Client(base_url=self.server, headers=own_headers(key), timeout=60.0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes its connections."""
        self._http.close()

    def run(
        self,
        workflow_id: str,
        payload: Mapping[str, Any] | None = None,
        *,
        mode: Mode = "live",
        run_id: str | None = None,
        version: int | None = None,
        trigger_node_id: str | None = None,
        prop_values: Mapping[str, Any] | None = None,
    ) -> Run:
        """Starts a run, once, however often the request must be sent. The same `run_id` again gets the same run."""
        options = {"version": version, "triggerNodeId": trigger_node_id, "propValues": prop_values}
        chosen = run_id or new_run_id()
        self._send(run_call(workflow_id, payload, mode, chosen, options))
        return Run(self, chosen)

    def follow(self, run_id: str, *, after: int = 0, timeout_s: float | None = None) -> Generator[Event, None, None]:
        """The events after the event `after`, each once, to the run's end, over restarts of the server."""
        until_s = None if timeout_s is None else clock.monotonic_s() + timeout_s
        reader = EventReader(run_id, after, Patience(self._patience_s), until_s)
        while not reader.is_over:
            headers, timeout = reader.begin(), httpx2.Timeout(60.0, read=reader.silence_s)
            try:
                path = f"{run_path(run_id)}/stream"
                with self._http.stream("GET", path, headers=headers, timeout=timeout) as response:
                    if response.status_code != 200:
                        reader.refused(response.status_code, response.headers, response.read())
                    else:
                        yield from _events(reader, response)
            except httpx2.TransportError as error:
                reader.broke(error)
            time.sleep(reader.wait_s)

    def wait(self, run_id: str, *, timeout_s: float | None = None) -> Outcome:
        """What came of a run, once it has ended; raises `StillRunning` if that takes longer than `timeout_s`."""
        for _ in self.follow(run_id, timeout_s=timeout_s):
            pass
        return outcome_of(self.call("GET", run_path(run_id)))

    def call(self, method: str, path: str, body: Any = None, *, idempotency_key: str | None = None) -> Any:
        """The data of any operation. A GET, or a call with an `idempotency_key`, is repeated until answered."""
        return self._send(call_of(method, path, body, idempotency_key))

    def _send(self, call: Call) -> Any:
        patience = Patience(self._patience_s)
        while True:
            status = 0
            try:
                response = self._http.request(call.method, call.path, content=call.content, headers=call.headers)
                status = response.status_code
                return data_of(status, response.headers, response.content)
            except httpx2.TransportError as error:
                failure: ClientError = Unreachable(f"No answer from {self.server}: {error or type(error).__name__}.")
                failure.__cause__ = error
            except ClientError as error:
                if not may_pass(status, error):
                    raise
                failure = error
            if not call.repeatable:
                raise failure
            time.sleep(patience.wait_after(failure, getattr(failure, "retry_after_s", None) or 0.0))


def _events(reader: EventReader, response: httpx2.Response) -> Generator[Event, None, None]:
    for chunk in response.iter_bytes():
        yield from reader.take(chunk)
        if reader.is_over or reader.must_reopen:
            return
    reader.broke("the connection was closed")


class Run:
    """One run of a client."""

    def __init__(self, client: Client, run_id: str) -> None:
        self.id = run_id
        self._client = client

    def events(self, *, after: int = 0, timeout_s: float | None = None) -> Generator[Event, None, None]:
        """Its events, as `Client.follow`."""
        return self._client.follow(self.id, after=after, timeout_s=timeout_s)

    def wait(self, *, timeout_s: float | None = None) -> Outcome:
        """What came of it, as `Client.wait`."""
        return self._client.wait(self.id, timeout_s=timeout_s)
