"""Sessions are bounded in number, bound to their key, and end with it."""

from __future__ import annotations

import pytest

from dustrun.errors import TooMany
from dustrun.services.access.sessions import ProtocolSessions


class Book(ProtocolSessions):
    """Notes what was ended."""

    def __init__(self, most: int, most_of_key: int) -> None:
        super().__init__(most, most_of_key)
        self.ended: list[str] = []

    def put(self, session_id: str, key_id: str) -> None:
        self.add(session_id, key_id, None, lambda: self.ended.append(session_id))


def test_session_is_found_by_its_own_key_alone() -> None:
    book = Book(9, 9)
    book.put("a", "key_1")
    assert book.find("a", "key_2") is None
    found = book.find("a", "key_1")
    assert found is not None
    assert found.id == "a"


def test_key_that_opens_many_loses_the_one_used_longest_ago() -> None:
    book = Book(9, 2)
    book.put("a", "key_1")
    book.put("b", "key_1")
    assert book.find("a", "key_1") is not None
    book.put("c", "key_1")
    assert (book.ended, len(book)) == (["b"], 2)


def test_sessions_beyond_the_limit_are_refused_and_others_stay() -> None:
    book = Book(2, 2)
    book.put("a", "key_1")
    book.put("b", "key_2")
    with pytest.raises(TooMany):
        book.put("c", "key_3")
    assert (book.ended, len(book)) == ([], 2)


def test_sessions_end_with_their_key_and_with_the_server() -> None:
    book = Book(9, 9)
    for session_id, key_id in (("a", "key_1"), ("b", "key_2"), ("c", "key_1"), ("d", "key_3")):
        book.put(session_id, key_id)
    book.end_key("key_1")
    assert (book.ended, book.find("a", "key_1")) == (["a", "c"], None)
    book.end_all()
    assert (book.ended, len(book)) == (["a", "c", "b", "d"], 0)
