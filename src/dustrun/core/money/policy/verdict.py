"""Verdicts and their reasons."""

from __future__ import annotations

from typing import Any

from dustrun.records import dataclass


@dataclass(frozen=True, slots=True)
class Reason:
    """The policy statement that decided, like `limits[2]`, and what it says about this request."""

    statement: str
    message: str

    def public(self) -> dict[str, str]:
        """As JSON."""
        return {"statement": self.statement, "message": self.message}


@dataclass(frozen=True, slots=True)
class _Verdict:
    reasons: tuple[Reason, ...]

    @property
    def outcome(self) -> str:
        """`allow`, `deny` or `ask`."""
        return type(self).__name__.lower()

    def public(self) -> dict[str, Any]:
        """As JSON."""
        return {"outcome": self.outcome, "reasons": [reason.public() for reason in self.reasons]}


@dataclass(frozen=True, slots=True)
class Allow(_Verdict):
    """It may be signed; the reasons are the statements that allow it."""


@dataclass(frozen=True, slots=True)
class Deny(_Verdict):
    """It may not be signed; every denying statement is a reason."""


@dataclass(frozen=True, slots=True)
class Ask(_Verdict):
    """A person must first approve exactly this request."""


Verdict = Allow | Deny | Ask
