"""The past moment that a back-test simulates a run at."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dustrun.records import dataclass


@dataclass(frozen=True, slots=True)
class AsOf:
    """A moment in milliseconds UTC, and by chain id the block whose state a simulation starts from. A chain that is not
    in `blocks` starts from its last block that is not later than the moment."""

    at_ms: int
    blocks: Mapping[int, int]

    def public(self) -> dict[str, Any]:
        """As JSON."""
        return {"at": self.at_ms, "blocks": {str(chain_id): number for chain_id, number in self.blocks.items()}}

    @classmethod
    def of(cls, shown: Mapping[str, Any]) -> AsOf:
        """Parses `public()`."""
        return cls(shown["at"], {int(chain_id): number for chain_id, number in shown["blocks"].items()})
