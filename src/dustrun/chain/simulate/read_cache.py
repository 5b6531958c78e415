"""Caches dry-run results for the current fork state."""

from __future__ import annotations

from dustrun.chain.simulate.fork import Fork, Step
from dustrun.chain.simulate.result import Looked


class ReadCache:
    """Kept for one state, which is named by `Fork.changes`."""

    def __init__(self) -> None:
        self._moment = -1
        self._seen: dict[Step, Looked] = {}

    def find(self, fork: Fork, step: Step) -> Looked | None:
        """What a look at the very same step saw; None when nobody looked on this state."""
        return self._seen.get(step) if self._moment == fork.changes else None

    def keep(self, moment: int, step: Step, looked: Looked) -> None:
        """`moment` is the state that was looked at; a newer one makes older looks worthless."""
        if moment < self._moment:
            return
        if moment > self._moment:
            self._moment, self._seen = moment, {}
        self._seen[step] = looked
