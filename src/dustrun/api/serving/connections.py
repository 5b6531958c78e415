"""How many connections the server holds, in all and for one address, and for how long it waits for a silent one."""

from __future__ import annotations

import enum
import resource
from collections import Counter
from dataclasses import field
from typing import Protocol

from dustrun.records import dataclass
from dustrun.services.access.rate_limits import network_of
from dustrun.settings import Settings


class ConnectionHandling(enum.Enum):
    """The treatment of a new connection. `HEALTH_ONLY`: it is beyond a limit, and only a health check is answered."""

    FULL = "full"
    HEALTH_ONLY = "health_only"


class Connection(Protocol):
    """A connection that can be cut."""

    def abort(self) -> None:
        """Closes it at once."""
        ...


@dataclass
class Connections:
    """Counts the open connections. `most`: of all addresses, `most_beyond`: of those beyond a limit; 0 in
    `most_per_address`: no limit. `head_s`, `idle_s`: seconds to wait for a complete head, and for anything at all.
    """

    most: int
    most_beyond: int
    most_per_address: int
    head_s: float
    idle_s: float
    _by_address: Counter[str] = field(default_factory=Counter)
    _within: int = 0
    _beyond: dict[Connection, None] = field(default_factory=dict)

    @classmethod
    def of(cls, settings: Settings) -> Connections:
        """As the settings say; file descriptors that connections may not use remain for health checks and the rest."""
        descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        kept = min(settings.reserved_descriptors, descriptors // 2)
        per_address = settings.max_connections_per_address
        return cls(descriptors - kept, max(1, kept // 4), per_address, settings.head_timeout_s, settings.idle_timeout_s)

    def admit(self, connection: Connection, address: str) -> ConnectionHandling:
        """Counts a new connection. Of those beyond a limit the oldest gives way, so that a health check, which asks at
        once, is answered however many idle ones there are.
        """
        network = network_of(address)
        is_fit = self._within < self.most and not 0 < self.most_per_address <= self._by_address[network]
        if is_fit:
            self._within += 1
            self._by_address[network] += 1
            return ConnectionHandling.FULL
        if len(self._beyond) >= self.most_beyond:
            oldest = next(iter(self._beyond))
            del self._beyond[oldest]
            oldest.abort()
        self._beyond[connection] = None
        return ConnectionHandling.HEALTH_ONLY

    def leave(self, connection: Connection, address: str, admission: ConnectionHandling) -> None:
        """Forgets a connection that was admitted."""
        if admission is ConnectionHandling.HEALTH_ONLY:
            self._beyond.pop(connection, None)
            return
        network = network_of(address)
        self._within -= 1
        self._by_address[network] -= 1
        if not self._by_address[network]:
            del self._by_address[network]
