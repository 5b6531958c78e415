"""How far a request has come, which decides how its failure is classified."""

from __future__ import annotations

from dustrun.errors import DustrunError, Temporary, Uncertain
from dustrun.outbound.redirect import keeps_request, reads_on
from dustrun.records import dataclass
from dustrun.sdk.action import Transmission


@dataclass(slots=True)
class Progress:
    """Progress of a request over all its hops, which decides how a failure is classified."""

    method: str
    safe: bool
    host: str
    sent: bool = False
    taken: bool = False
    """A redirect has answered a write with where to read its result: whatever follows is said of the reading."""
    transmission: Transmission | None = None

    def left(self) -> None:
        """Notes that the first byte leaves."""
        self.sent = True
        if self.transmission is not None:
            self.transmission.sent = True

    def answered(self, status: int) -> None:
        """Notes an answer to the request, not one to reading its result."""
        if self.transmission is not None and not self.taken:
            self.transmission.status = status

    def redirected(self, method: str, status: int) -> None:
        """Notes that a request has been answered with a redirect."""
        self.taken = self.taken or (not self.safe and reads_on(method, status))
        if keeps_request(status) and not self.taken:
            self.sent = False

    def failure(self, what: str) -> DustrunError:
        """The error for a failed request: `Temporary` if it was not sent or is safe to repeat, else `Uncertain`."""
        message = f'{self.method} to "{self.host}": {what}.'
        if self.sent and not self.safe:
            return Uncertain(f"{message} The request had been sent, so it may have been processed.")
        return Temporary(message)

    def of_redirect(self, error: DustrunError) -> DustrunError:
        """An error as it is to be told: of a write that was taken, nothing that came later says that it failed."""
        if not self.taken or isinstance(error, Uncertain):
            return error
        return Uncertain(
            f"{error.message} The request had been answered with a redirect, so it may have been processed."
        )
