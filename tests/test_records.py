"""`dustrun.records.dataclass` beside the standard library's."""

from __future__ import annotations

import copy
import dataclasses
import gc
import pickle
import subprocess
import sys
import tracemalloc
import weakref
from collections.abc import Callable
from dataclasses import FrozenInstanceError, field
from typing import Any

import pytest

from dustrun.records import dataclass

Decorator = Callable[..., Any]
OURS: Decorator = dataclass
STANDARD: Decorator = dataclasses.dataclass
OPTIONS: list[dict[str, Any]] = [
    {},
    {"slots": True},
    {"frozen": True},
    {"frozen": True, "slots": True},
    {"frozen": True, "slots": True, "kw_only": True},
    {"frozen": True, "slots": True, "eq": False},
    {"frozen": True, "repr": False},
    {"frozen": True, "slots": True, "order": True},
    {"unsafe_hash": True},
]
MOST_BYTES = 8_000
newer = pytest.mark.skipif(sys.version_info < (3, 13), reason="the standard library keeps more of a class")


def _made(decorator: Decorator, options: dict[str, Any]) -> Any:
    @decorator(**options)
    class Pair:
        first: int
        second: Any = None
        aside: int = field(default=0, compare=False)
        quiet: int = field(default=0, repr=False)
        same: int = field(default=0, hash=False)

    return Pair


@dataclass(frozen=True, slots=True)
class Kept:
    """Can be pickled, since it is found by its name."""

    first: int
    second: Any = None


@dataclass(frozen=True, slots=True)
class Wider(Kept):
    """Has one field more."""

    third: int = 0


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_objects_compare_and_show_as_those_of_the_standard_library(options: dict[str, Any]) -> None:
    assert _behaviour(_made(OURS, options)) == _behaviour(_made(STANDARD, options))


def _behaviour(cls: Any) -> Any:
    values: list[dict[str, Any]] = [
        {},
        {"second": "x"},
        {"aside": 1},
        {"quiet": 1},
        {"same": 1},
        {"second": [1]},
    ]
    made = [cls(first=1, **one) for one in values]
    shown = None if cls.__repr__ is object.__repr__ else [repr(one) for one in made]
    return {
        "equal": [one == other for one in made for other in made],
        "with others": [one == 1 for one in made],
        "hashes": [_same_hash(one, other) for one in made for other in made],
        "shown": shown,
        "set": _refused(lambda: setattr(made[0], "first", 2)),
        "deleted": _refused(lambda: delattr(made[0], "first")),
        "replaced": dataclasses.asdict(dataclasses.replace(made[1], first=7)),
        "fields": [one.name for one in dataclasses.fields(cls)],
        "positions": getattr(cls, "__match_args__", None),
    }


def _same_hash(one: Any, other: Any) -> bool | str:
    try:
        return hash(one) == hash(other)
    except TypeError as error:
        return str(error)


def _refused(change: Callable[[], None]) -> str | None:
    try:
        change()
    except FrozenInstanceError as error:
        return str(error)
    return None


def test_own_methods_stay() -> None:
    @dataclass(frozen=True, slots=True)
    class Own:
        value: int

        def __eq__(self, other: object) -> bool:
            return True

        def __hash__(self) -> int:
            return 5

        def __repr__(self) -> str:
            return "own"

    assert (Own(1) == Own(2), hash(Own(1)), repr(Own(1))) == (True, 5, "own")


def test_an_object_equals_none_of_a_class_below_it() -> None:
    assert Kept(1) != Wider(1)
    assert Wider(1, third=1) != Wider(1, third=2)
    assert len({Kept(1), Kept(1), Wider(1)}) == 2


def test_what_contains_itself_is_shown() -> None:
    parts: list[Any] = []
    one = Kept(1, parts)
    parts.append(one)
    assert repr(one) == "Kept(first=1, second=[...])"


def test_frozen_objects_are_copied_and_pickled() -> None:
    one = Kept(1, {"a": 2})
    assert copy.deepcopy(one) == pickle.loads(pickle.dumps(one)) == one


def test_class_without_fields() -> None:
    @dataclass(frozen=True)
    class Nothing:
        """Has no field."""

    assert (Nothing(), hash(Nothing()), repr(Nothing())[-9:]) == (Nothing(), hash(Nothing()), "Nothing()")


@newer
def test_class_from_which_one_with_slots_is_made_does_not_stay() -> None:
    class Before:
        """Is replaced."""

        value: int

    before = weakref.ref(Before)
    after = OURS(frozen=True, slots=True)(Before)
    del Before
    gc.collect()
    assert (before(), after(1).value) == (None, 1)


def _bytes_of_a_class() -> float:
    _made(OURS, {"frozen": True, "slots": True})
    tracemalloc.start()
    gc.collect()
    begun = tracemalloc.get_traced_memory()[0]
    made = [_made(OURS, {"frozen": True, "slots": True}) for _ in range(50)]
    gc.collect()
    return (tracemalloc.get_traced_memory()[0] - begun) / len(made)


@newer
def test_a_class_needs_little_memory() -> None:
    """Measured in a process of its own, where nobody else allocates and little is to be collected."""
    measured = subprocess.run([sys.executable, __file__], check=True, capture_output=True, timeout=60)
    assert 0 < float(measured.stdout) < MOST_BYTES  # the standard library's takes twice as much


if __name__ == "__main__":
    print(_bytes_of_a_class())
