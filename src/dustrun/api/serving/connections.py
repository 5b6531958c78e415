"""How many connections the server holds, in all and for one address, and for how long it waits for a silent one."""

from __future__ import annotations

import enum
import resource
from collections import Counter
from dataclasses import dataclass, field

from dustrun.api.limits import network_of
from dustrun.settings import Settings


class Admission(enum.Enum):
    """What becomes of a new connection. `HEALTH_ONLY`: it is beyond a limit, and only a health check is answered."""

    FULL = "full"
    HEALTH_ONLY = "health_only"
    REFUSED = "refused"


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
    _beyond: int = 0

    @classmethod
    def of(cls, settings: Settings) -> Connections:
        """As the settings say; file descriptors that connections may not use remain for health checks and the rest."""
        descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        kept = min(settings.reserved_descriptors, descriptors // 2)
        per_address = settings.max_connections_per_address
        return cls(descriptors - kept, kept // 4, per_address, settings.head_timeout_s, settings.idle_timeout_s)

    def admit(self, address: str) -> Admission:
        """Counts a new connection, unless it is refused."""
        network = network_of(address)
        is_fit = self._within < self.most and not 0 < self.most_per_address <= self._by_address[network]
        if is_fit:
            self._within += 1
            self._by_address[network] += 1
            return Admission.FULL
        if self._beyond >= self.most_beyond:
            return Admission.REFUSED
        self._beyond += 1
        return Admission.HEALTH_ONLY

    def leave(self, address: str, admission: Admission) -> None:
        """Forgets a connection that was admitted."""
        if admission is Admission.HEALTH_ONLY:
            self._beyond -= 1
        elif admission is Admission.FULL:
            self._within -= 1
            network = network_of(address)
            self._by_address[network] -= 1
            if not self._by_address[network]:
                del self._by_address[network]
