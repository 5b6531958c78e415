from __future__ import annotations

import hashlib
import time

from dustrun.core.run.compare.value_differences import Own, differences_of


def _own(name: str) -> Own:
    hashes = (f"0x{hashlib.sha256(f'{name} {number}'.encode()).hexdigest()}" for number in range(1000))
    return Own(frozenset([*hashes, *(f"run_{name}{number:026}" for number in range(1000))]), is_simulated=False)


def test_ids_of_two_runs_in_long_texts_are_no_difference_and_take_little_time() -> None:
    """A pattern of all ids and hashes took 0.9 s for each text, in one call that nothing could interrupt."""
    left, right = _own("a"), _own("b")
    texts = [
        [f"{filler * (200_000 // len(filler))} {sorted(own.texts)[-1]} {end}" for filler in ("0", "run_", "0x")]
        for own, end in ((left, "same"), (right, "same"))
    ]
    begun = time.process_time()
    assert differences_of(texts[0], texts[1], (left, right), of_spend=False) == []
    other = [text.replace("same", "other") for text in texts[1]]
    assert [where for where, _, _ in differences_of(texts[0], other, (left, right), of_spend=False)] == [
        "[0]",
        "[1]",
        "[2]",
    ]
    assert time.process_time() - begun < 3
