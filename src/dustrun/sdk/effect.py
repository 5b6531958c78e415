"""What a node does to the world; the modes (simulate, dust, live) depend on it alone."""

from __future__ import annotations

import enum


class Effect(enum.StrEnum):
    """`pure` computes · `read` reads · `write` changes something other than money · `spend` moves value or signs."""

    PURE = "pure"
    READ = "read"
    WRITE = "write"
    SPEND = "spend"
