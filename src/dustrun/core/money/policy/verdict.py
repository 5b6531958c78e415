"""Verdicts and their reasons."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any

from dustrun.core.values.exact_json import loads_own
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
    sources: Mapping[str, tuple[str, ...]] | None = field(default=None, compare=False)
    """The sources that shaped each money field, if a policy judged by them."""

    @property
    def outcome(self) -> str:
        """`allow`, `deny` or `ask`."""
        return type(self).__name__.lower()

    def public(self) -> dict[str, Any]:
        """As JSON."""
        return {"outcome": self.outcome, "reasons": [reason.public() for reason in self.reasons]}

    def stored(self) -> dict[str, Any]:
        """As JSON with what it judged by, for the spend's row and the ledger; `read_stored` takes it apart."""
        return self.public() | ({} if self.sources is None else {"sources": self.sources})


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


def read_stored(text: str | None) -> tuple[dict[str, Any] | None, dict[str, list[str]] | None]:
    """A stored verdict as everybody sees it, and the sources by which it was judged."""
    if text is None:
        return None, None
    verdict: dict[str, Any] = loads_own(text)
    return verdict, verdict.pop("sources", None)
