"""Which items of a list are new."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dustrun.core.triggers.event import MAX_KEY
from dustrun.core.triggers.polling import MOST_EVENTS, MOST_ITEMS, event_key, find_news


def looks(lists: list[list[str]], *, takes_first: bool = False) -> list[str]:
    """The keys that are found new, as lists follow each other."""
    seen, found = None, []
    for keys in lists:
        news = find_news(seen, keys, takes_first=takes_first)
        found += [keys[place] for place in news.places]
        seen = news.seen
        while news.is_cut:
            news = find_news(seen, keys, takes_first=takes_first)
            found += [keys[place] for place in news.places]
            seen = news.seen
    return found


def test_the_first_look_finds_nothing_new_unless_it_is_to() -> None:
    assert looks([["a", "b"], ["b", "c"], ["c"], ["a", "d"]]) == ["c", "d"]
    assert looks([["a", "b"], ["b", "c"]], takes_first=True) == ["a", "b", "c"]


def test_an_item_that_a_list_has_twice_is_one() -> None:
    assert looks([[], ["a", "a"]]) == ["a"]


def test_many_items_are_taken_in_portions() -> None:
    keys = [f"k{number}" for number in range(3 * MOST_EVENTS + 1)]
    assert looks([[], keys]) == keys
    assert len(find_news((), keys, takes_first=False).places) == MOST_EVENTS


def test_what_is_remembered_is_bounded_and_has_all_that_is_shown() -> None:
    seen: tuple[str, ...] = ()
    for start in range(0, 10 * MOST_ITEMS, MOST_ITEMS):
        shown = [f"k{number}" for number in range(start, start + MOST_ITEMS)]
        seen = find_news(None, shown, takes_first=False).seen + seen
        seen = find_news(seen, shown, takes_first=False).seen
        assert len(seen) <= 2 * MOST_ITEMS
        assert find_news(seen, shown, takes_first=False).places == ()


@given(st.lists(st.lists(st.sampled_from("abcdefgh"), max_size=6), max_size=8))
def test_no_item_is_found_twice(lists: list[list[str]]) -> None:
    found = looks(lists)
    assert len(set(found)) == len(found)
    assert set(found) == {key for keys in lists[1:] for key in keys} - set(lists[0] if lists else [])


@given(st.text(min_size=1), st.text(min_size=1))
def test_an_event_key_fits_whatever_the_item_is_called(first: str, second: str) -> None:
    assert 1 <= len(event_key("u", first * 100)) <= MAX_KEY
    assert (event_key("u", first) == event_key("u", second)) == (first == second)
    assert event_key("u", first) != event_key("v", first)
