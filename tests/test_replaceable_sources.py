"""The two sources that a simulation replaces, and what they are without one."""

from __future__ import annotations

import random
import re
import time

from dustrun import clock, ids


def test_a_virtual_clock_is_read_everywhere_and_given_back() -> None:
    now = 12.5
    with clock.virtual(lambda: now, 1_000_000):
        assert (clock.now_ms(), clock.monotonic_s()) == (1_012_500, 12.5)
        assert clock.look_around_s(1.0) == 3600.0
        assert clock.polled_within_ms(5) == 10
    assert abs(clock.monotonic_s() - time.monotonic()) < 60
    assert clock.look_around_s(1.0) == 1.0
    assert clock.polled_within_ms(5) == 5


def test_one_seed_gives_the_same_ids_and_others_differ() -> None:
    def drawn(seed: int) -> list[object]:
        with clock.virtual(lambda: 1.0, 0), ids.seeded(random.Random(seed).randbytes):
            return [ids.new_id("run"), ids.new_secret("sk"), ids.new_entropy(12), ids.jitter()]

    assert drawn(1) == drawn(1) != drawn(2)
    assert ids.new_entropy(16) != ids.new_entropy(16)


def test_a_secret_takes_each_character_as_often() -> None:
    """Bytes that would make some characters likelier are not taken: 256 is no multiple of 62."""
    every_byte = bytes(range(256)) * 2
    with ids.seeded(lambda size: every_byte[:size]):
        secret = ids.new_secret("sk", 248)
    letters = secret.removeprefix("sk_")
    assert re.fullmatch("[0-9A-Za-z]{248}", letters)
    assert {letters.count(one) for one in letters} == {4}
