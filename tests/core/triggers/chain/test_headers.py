"""Stored headers: where a branch leaves the canonical chain, whatever happened before."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from dustrun.core.triggers.chain.headers import Finality, Header, HeaderChain, HeaderRow, linked


def header(number: int, branch: str = "a", parent: str = "a") -> Header:
    """A block of a branch, on the block before it of another."""
    return Header(number, f"{branch}{number}", f"{parent}{number - 1}")


def test_ancestor_of_a_canonical_block_is_itself() -> None:
    chain = HeaderChain()
    chain.add([header(1), header(2)])
    assert chain.ancestor("a2") == header(2)
    assert chain.newest == header(2)


def test_ancestor_of_removed_blocks_is_where_they_branched_off() -> None:
    chain = HeaderChain()
    chain.add([header(number) for number in range(1, 6)])
    assert chain.cut(above=3) == [header(4), header(5)]
    chain.add([header(4, "b", "a"), header(5, "b", "b")])
    assert chain.ancestor("a5") == header(3)
    assert chain.hash_at(5) == "b5"
    assert not chain.is_canonical(5, "a5")
    chain.cut(above=1)
    chain.add([header(2, "c", "a")])
    assert chain.ancestor("b5") == chain.ancestor("a5") == header(1)


def test_ancestor_below_the_stored_headers_is_unknown() -> None:
    chain = HeaderChain()
    chain.add([header(number) for number in range(1, 6)])
    chain.prune(below=4)
    chain.cut(above=3)
    assert chain.ancestor("a5") is None
    assert chain.ancestor("a2") is None
    assert chain.newest is None


def test_headers_are_read_back_as_they_were_stored() -> None:
    rows = [HeaderRow(header(1), True), HeaderRow(header(2), False), HeaderRow(header(2, "b", "a"), True)]
    chain = HeaderChain(rows)
    assert chain.newest == header(2, "b", "a")
    assert chain.ancestor("a2") == header(1)
    assert chain.numbers_back_from(9) == [2, 1]


def test_linked_stops_where_the_chain_changed() -> None:
    one = header(1)
    assert linked(one, [header(2), header(3)]) == 2
    assert linked(one, [header(2), header(3, "b", "b")]) == 1
    assert linked(one, [header(3)]) == 0


@given(st.integers(0, 2**32), st.integers(1, 40))
def test_ancestor_is_the_common_prefix_after_any_reorgs(seed: int, reorgs: int) -> None:
    chance = random.Random(seed)
    stored, truth = HeaderChain(), [Header(0, "0", "")]
    stored.add(truth)
    branches = [list(truth)]
    for turn in range(reorgs):
        depth = chance.randrange(len(truth))
        truth = truth[: len(truth) - depth]
        stored.cut(above=truth[-1].number)
        for _ in range(chance.randint(1, 4)):
            truth.append(Header(truth[-1].number + 1, f"{turn}-{len(truth)}", truth[-1].hash))
        stored.add(truth[-4:])
        branches.append(list(truth))
    for branch in branches:
        shared = [ours for ours, theirs in zip(branch, truth, strict=False) if ours == theirs]
        assert stored.ancestor(branch[-1].hash) == shared[-1]


def told_stalls(minutes: list[int]) -> int:
    """How often a finalized block that grows after these times is called still, if 20 minutes are the least."""
    at_s, finality, count = 0.0, Finality(), 0
    for number, interval in enumerate([0, *minutes]):
        count += 60 * interval >= finality.patience_s(1200)
        at_s += 60 * interval
        finality = finality.grown(number, at_s, 10 * number)
        finality = Finality.of(finality.public(10**12, at_s), 10**12, at_s)  # a restart forgets nothing
    return count


def test_a_chain_that_always_finalizes_slowly_is_called_still_at_most_twice() -> None:
    assert told_stalls([30] * 50) == 2
    assert told_stalls([25, 40, 30, 35, 50, 28, 33, 45]) == 2


def test_a_finalized_block_that_freezes_is_told_whatever_was_usual() -> None:
    assert told_stalls([6] * 10 + [25]) == 1
    assert told_stalls([6, 300, 6, 6, 300, 6, 25]) == 3
    assert told_stalls([30] * 10 + [61]) == 3
    assert Finality(5, 0, 9, (99.0, 99.0)).grown(4, 10, 8).intervals == (), "another chain"
