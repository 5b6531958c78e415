"""Pagination: reads one row more than it shows, to know whether there are more."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, TypeVar

from dustrun.records import dataclass

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Paging:
    """The requested part of a list."""

    limit: int = 20
    offset: int = 0

    @property
    def peek(self) -> int:
        """The number of rows to read: one more than the limit."""
        return self.limit + 1


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """One page of a list."""

    items: Sequence[T]
    limit: int
    offset: int
    has_more: bool


def page_of(found: Sequence[T], paging: Paging) -> Page[T]:
    """Builds the page from up to `paging.peek` rows."""
    return Page(found[: paging.limit], paging.limit, paging.offset, len(found) > paging.limit)
