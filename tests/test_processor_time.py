"""How processor time is judged on a machine that is slower than usual."""

from __future__ import annotations

import pytest

from testkit.processor_time import usual_seconds

_USUAL_S = 0.0014


@pytest.mark.parametrize(
    ("pace", "expected"),
    [
        (0.5, 0.1),  # on a faster machine nothing is added
        (1.0, 0.1),
        (1.25, 0.08),  # as much as it is slower by
        (2.0, 0.1 / 3),  # and half as much again where that is uneven
    ],
)
def test_what_a_machine_is_slower_by_is_taken_off(pace: float, expected: float) -> None:
    calculation = _USUAL_S * pace
    assert usual_seconds(0.1, (calculation, calculation)) == pytest.approx(expected)
