"""The result of one check of `dustrun doctor`."""

from __future__ import annotations

from typing import Literal

from dustrun.records import dataclass

State = Literal["ok", "warning", "bad"]


@dataclass(frozen=True, slots=True)
class Finding:
    """A check, its result, and how to fix it if something is wrong."""

    name: str
    state: State
    says: str
    mend: str | None = None
