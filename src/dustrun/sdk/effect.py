"""The effect of a node on the outside world, which decides what the modes (simulate, dust, live) do with it."""

from __future__ import annotations

import enum


class Effect(enum.StrEnum):
    """`pure` computes · `read` reads · `write` changes something other than money · `spend` moves value or signs."""

    PURE = "pure"
    READ = "read"
    WRITE = "write"
    SPEND = "spend"
