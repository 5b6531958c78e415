"""One question for all subscriptions: its answer contains the answers of all."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dustrun.core.triggers.chain.queries import LogQuery, merge

_ADDRESSES = st.frozensets(st.sampled_from(["0xa", "0xb", "0xc"]), max_size=3)
_TOPICS = st.lists(st.none() | st.frozensets(st.sampled_from("xyz"), min_size=1), max_size=4)
_QUERIES = st.builds(LogQuery, _ADDRESSES, _TOPICS.map(tuple))
_LOGS = st.tuples(st.sampled_from(["0xA", "0xb", "0xd"]), st.lists(st.sampled_from("xyz"), max_size=4))


def test_no_subscription_asks_nothing() -> None:
    assert merge([]) is None


def test_addresses_and_topics_are_united() -> None:
    one = LogQuery(frozenset({"0xa"}), (frozenset("x"), None, frozenset("z")))
    two = LogQuery(frozenset({"0xb"}), (frozenset("y"), frozenset("z")))
    merged = merge([one, two])
    assert merged == LogQuery(frozenset({"0xa", "0xb"}), (frozenset("xy"), None, None))
    assert merged is not None
    assert merged.params() == {"address": ["0xa", "0xb"], "topics": [["x", "y"]]}


def test_a_subscription_without_address_asks_for_all_addresses() -> None:
    merged = merge([LogQuery(frozenset({"0xa"})), LogQuery(frozenset(), (frozenset("x"),))])
    assert merged is not None
    assert merged.params() == {}


def test_too_long_lists_are_left_to_the_filter() -> None:
    many = LogQuery(frozenset(str(number) for number in range(501)), (frozenset("x"),))
    assert many.params() == {"topics": [["x"]]}


@given(st.lists(_QUERIES, min_size=1, max_size=4), _LOGS)
def test_whatever_one_wants_the_merged_query_wants(queries: list[LogQuery], log: tuple[str, list[str]]) -> None:
    merged = merge(queries)
    assert merged is not None
    if any(query.wants(*log) for query in queries):
        assert merged.wants(*log)
