"""Errors of the client. The class says what the caller can do; `code`, the server's, says what happened."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from dustrun.records import dataclass


@dataclass(frozen=True, slots=True)
class FieldProblem:
    """What is wrong with one field, and what the server expects of it."""

    field: str
    message: str
    code: str | None = None


class ClientError(Exception):
    """Base of all errors of this client."""


class Unreachable(ClientError):
    """No Dustrun server answered, for as long as the client was to be patient."""


class StillRunning(ClientError, TimeoutError):
    """The time to wait is over, and the run goes on. `cursor` is the last event that was seen."""

    def __init__(self, run_id: str, cursor: int) -> None:
        super().__init__(f"The run {run_id} has not ended within the time given; it goes on, so follow it again.")
        self.run_id = run_id
        self.cursor = cursor


class RunFailed(ClientError):
    """A run ended otherwise than in success. `error` is what the run shows."""

    def __init__(self, run_id: str, status: str, error: dict[str, Any] | None) -> None:
        why = f": {error['message']}" if error and error.get("message") else "."
        super().__init__(f"The run {run_id} ended in {status}{why}")
        self.run_id = run_id
        self.status = status
        self.error = error


class ServerError(ClientError):
    """The server refused a call, or failed at it."""

    def __init__(
        self,
        status: int,
        code: int,
        message: str,
        *,
        details: Sequence[dict[str, Any]] = (),
        request_id: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.details = tuple(details)
        self.problems = tuple(_problem(one) for one in details if "field" in one)
        self.request_id = request_id
        self.retry_after_s = retry_after_s

    @property
    def field(self) -> str | None:
        """The first field that is wrong, like `payload.total`."""
        return self.problems[0].field if self.problems else None

    @property
    def hint(self) -> str | None:
        """What the server expects of that field."""
        return self.problems[0].message if self.problems else None

    def __str__(self) -> str:
        lines = [f"{self.code}: {self.message}", *(f"{one.field}: {one.message}" for one in self.problems)]
        return "\n  ".join(lines)


class Invalid(ServerError):
    """The call is wrong; change it."""


class RunIdUsed(Invalid):
    """A run of another call has the chosen id; nothing was started."""


class Unauthenticated(ServerError):
    """The API key is missing or wrong."""


class Forbidden(ServerError):
    """The key lacks the permission, or a rule refused the call."""


class NotFound(ServerError):
    """There is no such thing in the key's organisation."""


class Conflict(ServerError):
    """The state of the thing does not allow the call."""


class TooMany(ServerError):
    """Too many calls; the client has waited as the server said, and its patience is over."""


class Unavailable(ServerError):
    """The server cannot do it now; the client has tried again until its patience was over."""


_RUN_ID_USED: Final = 400079
_BY_STATUS: Final[dict[int, type[ServerError]]] = {
    **dict.fromkeys((400, 405, 413, 415), Invalid),
    401: Unauthenticated,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    429: TooMany,
    503: Unavailable,
}


def class_of(status: int, code: int) -> type[ServerError]:
    """The class of an error that the server sent."""
    return RunIdUsed if code == _RUN_ID_USED else _BY_STATUS.get(status, ServerError)


def _problem(detail: dict[str, Any]) -> FieldProblem:
    return FieldProblem(str(detail["field"]), str(detail.get("message", "")), detail.get("code"))
