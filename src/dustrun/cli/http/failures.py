"""Exit statuses, and errors with a hint on what to do."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Any

from dustrun.errors import Code


class Exit(enum.IntEnum):
    """Exit statuses; `docs/reference/cli.md` is generated from here."""

    meaning: str

    def __new__(cls, value: int, meaning: str) -> Exit:
        member = int.__new__(cls, value)
        member._value_ = value
        member.meaning = meaning
        return member

    SUCCESS = 0, "Success; a run ended in `success`."
    FAILURE = 1, "A run ended in `failure`, or a check failed."
    USAGE = 2, "The command or its input was wrong; the server refused it (4xx)."
    PARTIAL = 3, "A run ended in `partial`."
    CANCELLED = 4, "A run ended in `cancelled`."
    WAITING = 5, "With `--detach-on-wait`: the run is waiting for a time, a person, or an uncertain node."
    SERVER = 6, "The server was unreachable or failed (5xx)."
    OUTDATED = 7, "`dustrun update check`: there is a newer version."
    INTERRUPTED = 130, "You pressed Ctrl-C; a run continues on the server."


OF_RUN_STATUS = {
    "success": Exit.SUCCESS,
    "partial": Exit.PARTIAL,
    "failure": Exit.FAILURE,
    "cancelled": Exit.CANCELLED,
}

_HINTS = {
    Code.KEY_INVALID: "Give a key with --key or DUSTRUN_API_KEY. The server's first start wrote one to "
    "owner.key in the data folder: DUSTRUN_DATA_DIR, by default ./data.",
    Code.PERMISSION_MISSING: "Use a key with that permission, or create one with the owner key.",
    Code.WORKFLOW_UNKNOWN: "`dustrun workflow list` shows the workflows that this key sees.",
    Code.WALLET_UNKNOWN: "`dustrun wallet list` shows the wallets that this key sees.",
    Code.RUN_UNKNOWN: "`dustrun runs list` shows the runs that this key sees.",
    Code.VERSION_UNKNOWN: "`dustrun workflow get ID` shows the draft's and the live version.",
    Code.DEFINITION_INVALID: "Fix the listed problems; `dustrun workflow validate FILE` checks without saving.",
    Code.NAME_TAKEN: "`dustrun workflow update WORKFLOW FILE` changes it; --again makes another one of that name.",
    Code.RUN_ID_USED: "Omit --run-id, or watch that run: `dustrun runs watch RUN`.",
    Code.RATE_LIMITED: "Wait a moment, or raise DUSTRUN_RATE_LIMIT_PER_SECOND on the server.",
    Code.UNAVAILABLE: "Nothing was started. Try again in a moment.",
    Code.OUTCOME_UNKNOWN: "Check whether the run exists with `dustrun runs get RUN` before trying again.",
    Code.INTERNAL: "This is a bug in the server; its log has the traceback under the request id.",
}


class CliError(Exception):
    """A failed command's error as the user sees it: message, code, details, hint and exit status."""

    def __init__(
        self,
        message: str,
        *,
        exit: Exit = Exit.USAGE,
        hint: str | None = None,
        code: int | None = None,
        details: Sequence[dict[str, Any]] = (),
        request_id: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.exit = exit
        self.hint = hint
        self.code = code
        self.details = tuple(details)
        self.request_id = request_id

    def as_json(self) -> dict[str, Any]:
        """The error as a JSON object, for programs."""
        found = {
            "code": self.code,
            "message": self.message,
            "details": list(self.details),
            "hint": self.hint,
            "requestId": self.request_id,
            "exitStatus": int(self.exit),
        }
        return {name: value for name, value in found.items() if value not in (None, [])}

    def as_text(self) -> str:
        """The error as lines of text, for people."""
        lines = [f"Error{f' {self.code}' if self.code else ''}: {self.message}"]
        lines += [_detail_line(detail) for detail in self.details]
        if self.hint:
            lines.append(f"Hint: {self.hint}")
        if self.request_id:
            lines.append(f"Request: {self.request_id}")
        return "\n".join(lines)


def _detail_line(detail: dict[str, Any]) -> str:
    field, message = detail.get("field"), detail.get("message")
    if message is None:
        return f"  - {detail}"
    return f"  - {field}: {message}" if field else f"  - {message}"


def hint_for(code: int) -> str | None:
    """A hint on what to do about an error code of the server."""
    return next((hint for known, hint in _HINTS.items() if known == code), None)
