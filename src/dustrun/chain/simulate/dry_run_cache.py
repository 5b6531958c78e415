"""Caches dry-run results for the current fork state."""

from __future__ import annotations

from dustrun.chain.simulate.fork import Fork, Step
from dustrun.chain.simulate.result import DryRun


class DryRunCache:
    """Dry runs of one state; `Fork.changes` identifies it."""

    def __init__(self) -> None:
        self._version = -1
        self._seen: dict[Step, DryRun] = {}

    def find(self, fork: Fork, step: Step) -> DryRun | None:
        """The dry run of an equal step on the current state; None if there is none."""
        return self._seen.get(step) if self._version == fork.changes else None

    def keep(self, version: int, step: Step, dry_run: DryRun) -> None:
        """Stores a dry run of the state `version`; a newer version replaces all older entries."""
        if version < self._version:
            return
        if version > self._version:
            self._version, self._seen = version, {}
        self._seen[step] = dry_run
