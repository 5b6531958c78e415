"""Sessions of another protocol: a bounded number, each bound to one key, and ended with it. They are in memory alone: a
restart ends them, and none stands for a right."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from dustrun import clock
from dustrun.errors import TooMany
from dustrun.records import dataclass

MOST_SESSIONS: Final = 1_000
MOST_OF_KEY: Final = 20


@dataclass(slots=True)
class ProtocolSession:
    """One session. `carrier`: what speaks the protocol; `end`: ends it, once."""

    id: str
    key_id: str
    carrier: Any
    end: Callable[[], object]
    used_at_s: float


class ProtocolSessions:
    """The sessions that are open."""

    def __init__(self, most: int = MOST_SESSIONS, most_of_key: int = MOST_OF_KEY) -> None:
        self._most = most
        self._most_of_key = most_of_key
        self._open: dict[str, ProtocolSession] = {}

    def __len__(self) -> int:
        return len(self._open)

    def add(self, session_id: str, key_id: str, carrier: Any, end: Callable[[], object]) -> None:
        """Adds one. A key that has many loses the one that it used longest ago; raises `TooMany` if others have all."""
        own = [one for one in self._open.values() if one.key_id == key_id]
        if len(own) >= self._most_of_key:
            self._end(min(own, key=lambda one: one.used_at_s))
        if len(self._open) >= self._most:
            raise TooMany("The server has as many sessions open as it keeps; try again later.", retry_after_s=60)
        self._open[session_id] = ProtocolSession(session_id, key_id, carrier, end, clock.monotonic_s())

    def find(self, session_id: str, key_id: str) -> ProtocolSession | None:
        """The session, for the key that began it and nobody else."""
        found = self._open.get(session_id)
        if found is None or found.key_id != key_id:
            return None
        found.used_at_s = clock.monotonic_s()
        return found

    def forget(self, session_id: str) -> None:
        """A session has ended."""
        self._open.pop(session_id, None)

    def end_key(self, key_id: str) -> None:
        """Ends the sessions of a key that was revoked."""
        for one in [one for one in self._open.values() if one.key_id == key_id]:
            self._end(one)

    def end_all(self) -> None:
        """Ends all."""
        for one in list(self._open.values()):
            self._end(one)

    def _end(self, session: ProtocolSession) -> None:
        self.forget(session.id)
        session.end()
