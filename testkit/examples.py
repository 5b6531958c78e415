"""How many examples a property is tried with: few for every change, all of them with `--all`."""

from __future__ import annotations

from typing import Any

from hypothesis import settings

ALL, CHANGE = "all", "change"
_SHARE = 10


def examples(full: int, **options: Any) -> settings:
    """`full` examples with `--all`, a tenth of them without. Tests that guard money do not use it: they try all."""
    few = settings.get_current_profile_name() == CHANGE
    return settings(max_examples=full // _SHARE if few else full, deadline=None, **options)
