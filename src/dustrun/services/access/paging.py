"""Pages of a list: one more row is read than is shown, to know whether there is more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Paging:
    """Which part of a list is wanted."""

    limit: int = 20
    offset: int = 0

    @property
    def peek(self) -> int:
        """How many rows to read."""
        return self.limit + 1


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """One part of a list."""

    items: Sequence[T]
    limit: int
    offset: int
    has_more: bool


def page_of(found: Sequence[T], paging: Paging) -> Page[T]:
    """The page out of `paging.peek` rows."""
    return Page(found[: paging.limit], paging.limit, paging.offset, len(found) > paging.limit)
