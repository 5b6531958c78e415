"""How a run is followed, without any I/O: which request comes next, and which events the answer's bytes are.

`Client` and `AsyncClient` only carry the bytes. Each event comes out once and in order, over broken connections.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from dustrun import clock
from dustrun.client.answers import data_of, may_pass
from dustrun.client.errors import ClientError, StillRunning, Unreachable
from dustrun.client.outcomes import Event, event_of
from dustrun.client.patience import Patience
from dustrun.core.values import exact_json

SILENCE_S: Final = 40.0
"""A server sends a sign of life every 15 seconds; after this long without one the connection is dead."""
_LATE_S: Final = 1.0
_HEARTBEAT: Final = b": heartbeat"


class EventReader:
    """The passage through one run's events after `cursor`, until the run's end or a time on the monotonic clock."""

    def __init__(self, run_id: str, cursor: int, patience: Patience, until_s: float | None) -> None:
        self.run_id = run_id
        self.cursor = cursor
        self.is_over = False
        self.must_reopen = False
        self.wait_s = 0.0
        self._patience = patience
        self._until_s = until_s
        self._silence_s = SILENCE_S
        self._buffer = bytearray()

    def begin(self) -> dict[str, str]:
        """The headers of the next request; raises `StillRunning` when the time is over."""
        left_s = self._left_s()
        if left_s <= 0:
            raise StillRunning(self.run_id, self.cursor)
        self.must_reopen, self._silence_s, self.wait_s = False, min(SILENCE_S, left_s), 0.0
        self._buffer.clear()
        return {"Accept": "text/event-stream", "Last-Event-ID": str(self.cursor)}

    @property
    def silence_s(self) -> float:
        """How long the current request may be silent."""
        return self._silence_s

    def take(self, chunk: bytes) -> Iterator[Event]:
        """The new events of some more bytes of the answer."""
        searched = max(0, len(self._buffer) - 1)
        self._buffer += chunk
        while (end := self._buffer.find(b"\n\n", searched)) >= 0:
            frame = bytes(self._buffer[:end])
            del self._buffer[: end + 2]
            searched = 0
            event = self._read(frame)
            if event is not None:
                self.cursor = event.seq
                yield event
            if self.is_over or self.must_reopen:
                return
        # A wait is to end in time, also while a quiet server only sends signs of life.
        self.must_reopen = self._left_s() < self._silence_s - _LATE_S

    def _read(self, frame: bytes) -> Event | None:
        lines = frame.split(b"\n")
        if b"event: end" in lines:
            self.is_over = True
            return None
        data = next((line[6:] for line in lines if line.startswith(b"data: ")), None)
        if data is None:
            if _HEARTBEAT in lines:
                self._patience.renew()
            return None
        event = event_of(exact_json.loads_own(data))
        if event.seq <= self.cursor:
            return None
        if event.seq > self.cursor + 1:
            self.broke(f"event {self.cursor + 1} is missing")
            self.must_reopen = True
            return None
        self._patience.renew()
        return event

    def refused(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        """Another answer than 200. 204 says that nothing follows; raises the error if it will not pass."""
        if status == 204:
            self.is_over = True
            return
        try:
            data_of(status, headers, body)
        except ClientError as error:
            if not may_pass(status, error):
                raise
            self._hold_on(error, getattr(error, "retry_after_s", None) or 0.0)
        else:
            raise Unreachable(f"The address answered {status} to a request for a stream.")

    def broke(self, cause: object) -> None:
        """The connection ended before the run did; raises `Unreachable` when the patience is over."""
        self._hold_on(Unreachable(f"The stream of {self.run_id} broke off after event {self.cursor}: {cause}"), 0.0)

    def _hold_on(self, error: ClientError, least_s: float) -> None:
        left_s = self._left_s()
        if left_s <= 0:
            raise StillRunning(self.run_id, self.cursor)
        self.wait_s = min(self._patience.wait_after(error, least_s), left_s)

    def _left_s(self) -> float:
        return float("inf") if self._until_s is None else self._until_s - clock.monotonic_s()
