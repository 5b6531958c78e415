"""Makes a failing world smaller: leaves out what happens in it, as long as the same thing stays broken."""

from __future__ import annotations

from collections.abc import Callable, Sequence


def smallest(names: Sequence[str], fails: Callable[[Sequence[str]], bool], trials: int) -> list[str]:
    """Of `names`, those that are left when no part that was tried can be left out, after `trials` trials at most; with
    all of them it fails. Halves are tried first, then quarters, at last each alone."""
    left, size = list(names), max(1, len(names) // 2)
    while trials > 0 and left:
        before = len(left)
        for begin in range(0, len(left), size)[::-1]:  # from the end, so that what was not tried keeps its place
            if trials > 0:
                trials -= 1
                fewer = left[:begin] + left[begin + size :]
                left = fewer if fails(fewer) else left
        if size == 1 and len(left) == before:
            break
        size = max(1, size // 2)
    return left
