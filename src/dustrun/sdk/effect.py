"""What a node does to the world; the modes (simulate, dust, live) hang on it and on nothing else."""

from __future__ import annotations

import enum


class Effect(enum.StrEnum):
    """`pure` computes · `read` looks · `write` changes something that is not money · `spend` moves value or signs."""

    PURE = "pure"
    READ = "read"
    WRITE = "write"
    SPEND = "spend"
