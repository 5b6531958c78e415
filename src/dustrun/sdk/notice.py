"""Messages to people through a messaging service."""

from __future__ import annotations

from dataclasses import field
from typing import Literal, Protocol

from dustrun.errors import Permanent
from dustrun.records import dataclass
from dustrun.sdk.action import Transmission

NoticeFormat = Literal["text", "markdown", "html"]
NoticeKind = Literal["info", "success", "warning", "failure"]


@dataclass(frozen=True, slots=True)
class Notice:
    """One message. `timeout_s` covers its delivery to the service."""

    body: str
    title: str = ""
    format: NoticeFormat = "text"
    kind: NoticeKind = "info"
    timeout_s: float = 30.0
    transmission: Transmission | None = field(default=None, repr=False, compare=False)
    """Set by the server: where the notifier notes how far the message has come, also if it raises."""


class NotAccepted(Permanent):
    """The service answered and did not accept the message. `status`: how HTTP would say why: 401 if it refuses the
    login."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class Notifier(Protocol):
    """Sends messages through services. Raises `Invalid` (malformed or forbidden address), `Temporary` (certainly not
    sent), `Uncertain` (started, outcome unknown) or `Permanent`; no error contains the address, which is a secret."""

    async def send(self, address: str, notice: Notice) -> str:
        """Sends one message to the service behind an address like `slack://…` and returns the service's name."""
        ...


class CheckingNotifier(Notifier, Protocol):
    """A notifier that can also do all but send."""

    async def check(self, address: str, notice: Notice) -> None:
        """Raises what `send` would raise before it connects to the service."""
        ...
