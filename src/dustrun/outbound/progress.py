"""How far a request has come, which decides how its failure is classified."""

from __future__ import annotations

from dustrun.errors import DustrunError, Temporary, Uncertain
from dustrun.records import dataclass


@dataclass(slots=True)
class Progress:
    """Progress of a request over all its hops, which decides how a failure is classified."""

    method: str
    safe: bool
    host: str
    sent: bool = False

    def failure(self, what: str) -> DustrunError:
        """The error for a failed request: `Temporary` if it was not sent or is safe to repeat, else `Uncertain`."""
        message = f'{self.method} to "{self.host}": {what}.'
        if self.sent and not self.safe:
            return Uncertain(f"{message} The request had been sent, so it may have been processed.")
        return Temporary(message)
