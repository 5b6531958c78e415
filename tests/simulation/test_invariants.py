"""The invariants: each names a page that is there, and each sees what it is for."""

from __future__ import annotations

import pytest

from testkit.e2e.guide import ROOT
from testkit.simulation.invariants import INVARIANTS


@pytest.mark.parametrize("name", INVARIANTS)
def test_an_invariant_names_a_page_and_says_what_it_checks(name: str) -> None:
    promise, check = INVARIANTS[name]
    page, _, says = promise.partition(": ")
    assert (ROOT / "docs" / page).is_file()
    assert says
    assert check.__doc__
