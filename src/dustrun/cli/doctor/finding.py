"""What one check of `dustrun doctor` found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "warning", "bad"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One check: what was looked at, how it is, and how to mend it when it is not well."""

    name: str
    state: State
    says: str
    mend: str | None = None
