"""Classes of answers, and the marks that say where a field's value comes from."""

from __future__ import annotations

import functools
import types
from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Final, Generic, TypeVar

from pydantic import BaseModel, Field, GetCoreSchemaHandler
from pydantic_core import CoreSchema

from dustrun import clock
from dustrun.core.values.fields import Fields
from dustrun.services.access.paging import Page

T = TypeVar("T")


class From:
    """Where a field's value comes from: attributes like `row.version`, or a function of the source; else it is the
    attribute of the field's name. `missing`: what it is if an attribute on the way is None."""

    __slots__ = ("missing", "source")

    def __init__(self, source: str | Callable[[Any], Any], missing: Any = None) -> None:
        self.source, self.missing = source, missing


class Mark:
    """One of the marks below."""


STORED: Final = Mark()
"""The source is JSON text, as the store keeps it."""
MADE: Final = Mark()
"""`From`'s function makes the value as it is sent."""
OR_ABSENT: Final = Mark()
"""The field is left out while it is None."""
ADDED: Final = Mark()
"""The mark of a field that is added where the operation is served."""
MOMENT: Final = Mark()
"""The source is milliseconds since the epoch."""

Time = Annotated[str, MOMENT, Field(description="RFC 3339, UTC, milliseconds.", examples=["2026-01-31T12:00:00.000Z"])]


class Answer:
    """The shape of an answer, written like a model.

    Only the OpenAPI document needs it as one (`model_of`). A server has 200 of them; as models they would take 2 MiB
    and a fifteenth of its start.

    A class that adds to another one may say where the fields of that one come from: with `class NewKeyAnswer(KeyAnswer,
    of="row")`, those of `KeyAnswer` come from the source's `row`.
    """

    inherited_of: ClassVar[str] = ""

    def __init_subclass__(cls, of: str = "") -> None:
        cls.inherited_of = of

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        answer: Any = cls
        return handler(model_of(answer))


@functools.cache
def model_of(answer: type[Any]) -> type[BaseModel]:
    """The model of an answer, made when it is first asked for."""
    bases = tuple(Fields if base is Answer else model_of(base) for base in answer.__bases__)
    left_out = ("__dict__", "__weakref__", "inherited_of")
    own = {name: value for name, value in vars(answer).items() if name not in left_out}
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
