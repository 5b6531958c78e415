"""Which events of a transaction are the same when it is in another block."""

from __future__ import annotations

import pytest

from dustrun.core.triggers.chain.identity import KnownEvent, match
from dustrun.core.triggers.chain.watch import BlockFacts, ChainEvent

Pair = tuple[int, int]


def event(position: int, values: Pair) -> ChainEvent:
    payload = {"args": {"number": values[0], "amount": values[1]}, "position": position, "blockNumber": 7}
    return ChainEvent(f"1:0xaa:{position}", position, payload, BlockFacts(7, "0x07", 0))


def known(key: str, seen: str, values: Pair, block: str | None = None) -> KnownEvent:
    return KnownEvent(f"1:0xaa:{key}", seen, {"args": {"number": values[0], "amount": values[1]}}, block)


@pytest.mark.parametrize(
    ("before", "after", "names"),
    [
        ([(1, 5), (2, 5)], [(3, 9), (1, 5), (2, 5)], ["0~1", "0", "1"]),  # a log more in front
        ([(1, 5), (2, 6)], [(2, 6), (1, 5)], ["1", "0"]),  # they swap places
        ([(1, 5), (2, 5)], [(2, 5)], ["1"]),  # a log less in front
        ([(1, 5), (1, 5)], [(1, 5), (1, 5)], ["0", "1"]),  # equals keep their order
        ([(1, 5)], [(1, 4)], ["0"]),  # other values in the same place
        ([(1, 5)], [(3, 9), (1, 4)], ["0~1", "0"]),  # it differs in one value, and is elsewhere
        ([(1, 5)], [(1, 5), (1, 5), (2, 7)], ["0", "1", "2"]),
    ],
)
def test_events_are_matched_by_what_they_say_then_by_their_order(
    before: list[Pair], after: list[Pair], names: list[str]
) -> None:
    removed = [known(str(place), str(place), values) for place, values in enumerate(before)]
    events = [event(place, values) for place, values in enumerate(after)]
    found = match("0x07", events, removed)
    assert [found[one.key].removeprefix("1:0xaa:") for one in events] == names


def test_what_was_recorded_of_the_block_before_an_interruption_stays_as_it_is() -> None:
    recorded, removed = known("1", "0", (2, 6), block="0x07"), known("0", "0", (2, 6))
    found = match("0x07", [event(0, (2, 6)), event(1, (2, 6))], [recorded, removed])
    assert found == {"1:0xaa:0": "1:0xaa:1", "1:0xaa:1": "1:0xaa:0"}


def test_an_event_whose_content_was_deleted_is_known_by_its_place() -> None:
    gone = KnownEvent("1:0xaa:0", "0", None, None)
    assert match("0x07", [event(0, (1, 5)), event(1, (2, 5))], [gone])["1:0xaa:0"] == "1:0xaa:0"
