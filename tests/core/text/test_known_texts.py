from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dustrun.core.text.masking import KnownTexts


def _slowly(known: set[str], text: str) -> list[tuple[int, str]]:
    found, at = [], 0
    while at < len(text):
        here = max((one for one in known if text.startswith(one, at)), key=len, default=None)
        if here is not None:
            found.append((at, here))
        at += len(here) if here is not None else 1
    return found


@given(st.sets(st.text("ab_", min_size=2, max_size=5), max_size=8), st.text("ab_ .", max_size=60))
def test_found_are_those_that_a_search_of_each_place_finds(known: set[str], text: str) -> None:
    texts = KnownTexts(2)
    texts.add(known)
    assert list(texts.found_in(text)) == _slowly(known, text)


def test_ids_of_any_length_are_found_within_other_text() -> None:
    texts = KnownTexts(5)
    texts.add(["run_a", "run_abc", "0x" + "1" * 64])
    found = texts.found_in(f"x/run_ab?run_abc, 0x{'1' * 64}")
    assert list(found) == [(2, "run_a"), (9, "run_abc"), (18, "0x" + "1" * 64)]
