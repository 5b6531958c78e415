"""Types of fields and parameters that all nouns share."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints

from dustrun.operations.declaration.operation import Group, Grouped
from dustrun.services.access.paging import Paging

MAX_INTEGER = 2**31 - 1
MAX_OFFSET = 10_000_000


def _without_nul(text: str) -> str:
    """Rejects NUL: PostgreSQL cannot store it in text."""
    if "\x00" in text:
        raise ValueError("must not contain a NUL character")
    return text


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NO_INSTANT = "must be an RFC 3339 time with `Z` or an offset, like 2026-01-31T12:00:00Z"


def _instant(text: str) -> str:
    moment_ms(text)
    return text


def moment_ms(text: str) -> int:
    """Milliseconds since the epoch of an RFC 3339 time; raises `ValueError`, also for one that is not of the years 1 to
    9999 in UTC."""
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is not None:
            return (moment.astimezone(UTC) - _EPOCH) // timedelta(milliseconds=1)
    except (ValueError, OverflowError):
        pass
    raise ValueError(_NO_INSTANT)


def _split(values: Any) -> Any:
    """Splits each text at its commas."""
    if not isinstance(values, list):
        return values
    return [part.strip() for value in values for part in str(value).split(",") if part.strip()]


Commas = BeforeValidator(_split)
"""A list in the query: repeated, comma-separated, or both."""
ANY_OF = "any of them; repeated or comma-separated"
Text = Annotated[str, AfterValidator(_without_nul)]
Name = Annotated[Text, StringConstraints(min_length=1, max_length=255)]
Description = Annotated[Text, StringConstraints(max_length=2000)]
Version = Annotated[int, Field(strict=True, ge=1, le=MAX_INTEGER)]
Instant = Annotated[str, AfterValidator(_instant), Field(examples=["2026-01-31T12:00:00.000Z"])]


class PagingQuery(Group):
    """The part of a list that is asked for."""

    limit: int = Field(20, ge=1, le=100, description="Number of items per page.")
    offset: int = Field(0, ge=0, le=MAX_OFFSET, description="Number of items to skip.")

    def value(self) -> Paging:
        """The same for services."""
        return Paging(self.limit, self.offset)


Paged = Annotated[Paging, Grouped(PagingQuery)]
