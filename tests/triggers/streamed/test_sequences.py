"""What of a numbered stream is on record, whatever order it came in."""

from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from dustrun.triggers.streamed.sequences import Sequences


@settings(max_examples=200)
@given(st.lists(st.integers(1, 40), max_size=60), st.integers(0, 20), st.integers(1, 45))
def test_what_is_gone_is_what_was_not_taken(numbers: list[int], floor: int, first: int) -> None:
    place = Sequences(floor, [])
    for number in numbers:
        place.take(number, number)
    stored = Sequences.read(json.loads(json.dumps(place.stored())))
    assert stored == place
    missing = sorted(set(range(floor + 1, first)) - set(numbers))
    assert place.gone(first) == ((missing[0], missing[-1], len(missing)) if missing else None)
    known = {*range(1, floor + 1), *numbers}
    assert place.floor == next(n for n in range(100) if n + 1 not in known)


def test_the_cursor_stays_small() -> None:
    place = Sequences(0, [])
    for number in range(2, 10_000, 2):
        place.take(number, 1)
    assert len(place.taken) == 200
    assert place.taken[-1] == [9_998, 9_998]
    place.settle(9_998)
    assert place.stored() == {"floor": 9_998, "taken": [], "created": None, "at": 1}
