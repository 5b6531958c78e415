"""Field types and the page model that all resources share."""

from __future__ import annotations

import functools
import types
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Generic, TypeVar

from fastapi import Depends, Query
from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, GetCoreSchemaHandler, StringConstraints
from pydantic_core import CoreSchema

from dustrun import clock
from dustrun.core.values.fields import Fields
from dustrun.services.access.paging import Page, Paging

T = TypeVar("T")
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
Time = Annotated[str, Field(description="RFC 3339, UTC, milliseconds.", examples=["2026-01-31T12:00:00.000Z"])]


async def _paging(
    limit: Annotated[int, Query(ge=1, le=100, description="Number of items per page.")] = 20,
    offset: Annotated[int, Query(ge=0, le=MAX_OFFSET, description="Number of items to skip.")] = 0,
) -> Paging:
    return Paging(limit, offset)


Paged = Annotated[Paging, Depends(_paging)]


class Answer:
    """What an answer looks like, written like a model.

    Only the OpenAPI document needs it as one (`model_of`). A server has 200 of them; as models they would take 2 MiB
    and a fifteenth of its start.
    """

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        answer: Any = cls
        return handler(model_of(answer))


@functools.cache
def model_of(answer: type[Any]) -> type[BaseModel]:
    """The model of an answer, made when it is first asked for."""
    bases = tuple(Fields if base is Answer else model_of(base) for base in answer.__bases__)
    own = {name: value for name, value in vars(answer).items() if name not in ("__dict__", "__weakref__")}
    return types.new_class(answer.__name__, bases, exec_body=lambda body: body.update(own))


class PageAnswer(Fields, Generic[T]):
    """One page of a list."""

    items: list[T]
    limit: int
    offset: int
    has_more: bool


def time(ms: int | None) -> str | None:
    """Formats milliseconds since the epoch."""
    return None if ms is None else clock.to_rfc3339(ms)


def page_shape(shape: Callable[[Any], dict[str, Any]]) -> Callable[[Page[Any]], dict[str, Any]]:
    """Makes a function that shapes a page; `shape` shapes its items."""

    def shaped(page: Page[Any]) -> dict[str, Any]:
        items = [shape(item) for item in page.items]
        return {"items": items, "limit": page.limit, "offset": page.offset, "hasMore": page.has_more}

    return shaped
