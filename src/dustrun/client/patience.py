"""How long a client goes on trying while no server answers, and how it waits in between."""

from __future__ import annotations

from typing import Final

from dustrun import clock

_FIRST_WAIT_S: Final = 0.2
_LONGEST_WAIT_S: Final = 5.0


class Patience:
    """Waits that grow, until `limit_s` seconds have passed since the last sign of life."""

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self.renew()

    def renew(self) -> None:
        """There was a sign of life."""
        self._since_s: float | None = None
        self._wait_s = _FIRST_WAIT_S

    def wait_after(self, error: Exception, least_s: float = 0.0) -> float:
        """How many seconds to wait after a failure; raises it if the patience is over by then."""
        now = clock.monotonic_s()
        self._since_s = now if self._since_s is None else self._since_s
        wait_s = max(self._wait_s, least_s)
        if now + wait_s - self._since_s > self._limit_s:
            raise error
        self._wait_s = min(self._wait_s * 2, _LONGEST_WAIT_S)
        return wait_s
