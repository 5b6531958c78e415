"""The client that awaits: `Client`, for programs with an event loop (asyncio or Trio)."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from typing import Any, Self

import anyio
import httpx2

from dustrun import clock
from dustrun.client.answers import data_of, may_pass
from dustrun.client.errors import ClientError, Unreachable
from dustrun.client.event_reader import EventReader
from dustrun.client.outcomes import Event, Outcome, outcome_of
from dustrun.client.patience import Patience
from dustrun.client.run_calls import Call, Mode, call_of, new_run_id, own_headers, run_call, run_path, server_address


class AsyncClient:
    """Calls one server with one key. `patience_s`: for how long it goes on trying while no server answers."""

    def __init__(self, server: str | None = None, key: str | None = None, *, patience_s: float = 300.0) -> None:
        self.server = server_address(server)
        self._patience_s = patience_s
        self._http = httpx2.AsyncClient(base_url=self.server, headers=own_headers(key), timeout=60.0)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes its connections."""
        await self._http.aclose()

    async def run(
        self,
        workflow_id: str,
        payload: Mapping[str, Any] | None = None,
        *,
        mode: Mode = "live",
        run_id: str | None = None,
        version: int | None = None,
        trigger_node_id: str | None = None,
        prop_values: Mapping[str, Any] | None = None,
    ) -> AsyncRun:
        """Starts a run, once, however often the request must be sent. The same `run_id` again gets the same run."""
        options = {"version": version, "triggerNodeId": trigger_node_id, "propValues": prop_values}
        chosen = run_id or new_run_id()
        await self._send(run_call(workflow_id, payload, mode, chosen, options))
        return AsyncRun(self, chosen)

    async def follow(
        self, run_id: str, *, after: int = 0, timeout_s: float | None = None
    ) -> AsyncGenerator[Event, None]:
        """The events after the event `after`, each once, to the run's end, over restarts of the server."""
        until_s = None if timeout_s is None else clock.monotonic_s() + timeout_s
        reader = EventReader(run_id, after, Patience(self._patience_s), until_s)
        while not reader.is_over:
            headers, timeout = reader.begin(), httpx2.Timeout(60.0, read=reader.silence_s)
            try:
                path = f"{run_path(run_id)}/stream"
                async with self._http.stream("GET", path, headers=headers, timeout=timeout) as response:
                    if response.status_code != 200:
                        reader.refused(response.status_code, response.headers, await response.aread())
                    else:
                        async for event in _events(reader, response):
                            yield event
            except httpx2.TransportError as error:
                reader.broke(error)
            await anyio.sleep(reader.wait_s)

    async def wait(self, run_id: str, *, timeout_s: float | None = None) -> Outcome:
        """What came of a run, once it has ended; raises `StillRunning` if that takes longer than `timeout_s`."""
        async for _ in self.follow(run_id, timeout_s=timeout_s):
            pass
        return outcome_of(await self.call("GET", run_path(run_id)))

    async def call(self, method: str, path: str, body: Any = None, *, idempotency_key: str | None = None) -> Any:
        """The data of any operation. A GET, or a call with an `idempotency_key`, is repeated until answered."""
        return await self._send(call_of(method, path, body, idempotency_key))

    async def _send(self, call: Call) -> Any:
        patience = Patience(self._patience_s)
        while True:
            status = 0
            try:
                response = await self._http.request(call.method, call.path, content=call.content, headers=call.headers)
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
            await anyio.sleep(patience.wait_after(failure, getattr(failure, "retry_after_s", None) or 0.0))


async def _events(reader: EventReader, response: httpx2.Response) -> AsyncGenerator[Event, None]:
    async for chunk in response.aiter_bytes():
        for event in reader.take(chunk):
            yield event
        if reader.is_over or reader.must_reopen:
            return
    reader.broke("the connection was closed")


class AsyncRun:
    """One run of a client."""

    def __init__(self, client: AsyncClient, run_id: str) -> None:
        self.id = run_id
        self._client = client

    def events(self, *, after: int = 0, timeout_s: float | None = None) -> AsyncGenerator[Event, None]:
        """Its events, as `AsyncClient.follow`."""
        return self._client.follow(self.id, after=after, timeout_s=timeout_s)

    async def wait(self, *, timeout_s: float | None = None) -> Outcome:
        """What came of it, as `AsyncClient.wait`."""
        return await self._client.wait(self.id, timeout_s=timeout_s)
