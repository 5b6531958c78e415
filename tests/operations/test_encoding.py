"""Answers are made of what handlers return, as their classes say."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field, TypeAdapter

from dustrun.core.values.exact_json import MOST, weigh
from dustrun.operations.declaration.answers import MADE, OR_ABSENT, STORED, Answer, From, PageAnswer, Time
from dustrun.operations.declaration.encoding import as_it_is, encoder_of, size_of
from dustrun.services.access.paging import Page


class State(StrEnum):
    OPEN = "open"


class PartAnswer(Answer):
    """A part."""

    name: str


class ThingAnswer(Answer):
    """A thing with a field of every kind."""

    id: str
    owner_id: Annotated[str, From("org_id")]
    level: Annotated[int, From("row.level", missing=0)]
    seen_at: Annotated[Time | None, From("row.seen_at")]
    made_at: Time
    ended_at: Time | None
    is_open: bool
    passed: bool | None
    state: State
    mode: Literal["live", "dust"]
    tags: Annotated[list[str], STORED]
    error: Annotated[Any, STORED]
    parts: list[PartAnswer]
    first: PartAnswer | None
    title: Annotated[str, From(_title)] = Field(alias="name", description="As people call it.")
    shown: Annotated[PartAnswer, From(_shown), MADE]
    note: Annotated[str | None, OR_ABSENT] = None


class LongerAnswer(ThingAnswer):
    """The same with one more."""

    size: int


def _title(thing: Thing) -> str:
    return thing.id.upper()


def _shown(thing: Thing) -> dict[str, Any]:
    return {"name": thing.org_id}


@dataclass
class Row:
    level: int = 3
    seen_at: int | None = 1_000


@dataclass
class Part:
    name: str


@dataclass
class Thing:
    id: str = "t1"
    org_id: str = "o1"
    row: Row | None = None
    made_at: int = 0
    ended_at: int | None = None
    is_open: int = 1
    passed: int | None = None
    state: State = State.OPEN
    mode: str = "live"
    tags: str = '["a",12345678901234567890,0.10]'
    error: str | None = None
    parts: tuple[Part, ...] = (Part("p"), Part("q"))
    first: Part | None = None
    note: str | None = None
    size: int = 7


SHOWN: dict[str, Any] = {
    "id": "t1",
    "ownerId": "o1",
    "level": 0,
    "seenAt": None,
    "madeAt": "1970-01-01T00:00:00.000Z",
    "endedAt": None,
    "isOpen": True,
    "passed": None,
    "state": "open",
    "mode": "live",
    "tags": ["a", 12345678901234567890, Decimal("0.10")],
    "error": None,
    "parts": [{"name": "p"}, {"name": "q"}],
    "first": None,
    "name": "T1",
    "shown": {"name": "o1"},
}


def test_each_field_is_made_as_its_type_and_marks_say() -> None:
    made = encoder_of(ThingAnswer)(Thing())
    assert made == SHOWN
    assert list(made) == list(SHOWN)


def test_what_may_be_missing_is_shown_if_it_is_there() -> None:
    thing = Thing(row=Row(), ended_at=2_000, passed=0, error='{"code":1}', first=Part("f"), note="n")
    assert encoder_of(ThingAnswer)(thing) == {
        **SHOWN,
        "level": 3,
        "seenAt": "1970-01-01T00:00:01.000Z",
        "endedAt": "1970-01-01T00:00:02.000Z",
        "passed": False,
        "error": {"code": 1},
        "first": {"name": "f"},
        "note": "n",
    }


def test_fields_of_a_base_come_first() -> None:
    assert encoder_of(LongerAnswer)(Thing()) == {**SHOWN, "size": 7}


def test_a_page_and_a_list_are_made_of_their_items() -> None:
    parts = [Part("p"), Part("q")]
    shown = [{"name": "p"}, {"name": "q"}]
    page = encoder_of(PageAnswer[PartAnswer])(Page(parts, 2, 0, True))
    assert page == {"items": shown, "limit": 2, "offset": 0, "hasMore": True}
    assert encoder_of(list[PartAnswer])(parts) == shown
    assert encoder_of(dict[str, Any]) is as_it_is


def test_what_an_answer_is_made_as_fits_its_schema() -> None:
    fields = TypeAdapter(ThingAnswer).json_schema()["properties"]
    assert list(fields) == [*SHOWN, "note"]


@pytest.mark.parametrize(
    "large",
    [
        Thing(id="x" * 64 * MOST),
        Thing(tags='["' + "x" * 64 * MOST + '"]'),
        Thing(parts=tuple(Part("p") for _ in range(MOST))),
        Thing(note="x" * 64 * MOST),
    ],
)
def test_what_can_be_long_is_weighed(large: Thing) -> None:
    size = size_of(ThingAnswer)
    assert (size(Thing()) < 50, size(large) >= MOST) == (True, True)
    assert size_of(PageAnswer[ThingAnswer])(Page([large], 1, 0, False)) >= MOST
    assert size_of(dict[str, Any]) is weigh
