"""The unfinished runs of this process, and the queue of those that a limit holds back."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

from dustrun.engine.run.recovery import Loaded
from dustrun.engine.run.runner import Runner
from dustrun.records import dataclass
from dustrun.settings import Settings

Group = tuple[str, str | None]
"""A workflow and a value of its concurrency key."""


@dataclass(slots=True)
class AdmittedRun:
    """An unfinished run of this process."""

    org_id: str
    group: Group | None
    max_open: int | None
    runner: Runner | None = None
    loaded: Loaded | None = None
    task: asyncio.Task[None] | None = None
    queued: bool = False
    again: bool = False
    is_cancelling: bool = False


class Admission:
    """Begins runs while there is room, round robin over organisations; `drive` advances one and calls `left` at its
    end. `share`: among how many processes an organisation's limit is divided."""

    def __init__(
        self,
        settings: Settings,
        drive: Callable[[int, AdmittedRun], Coroutine[Any, Any, None]],
        share: Callable[[], int] = lambda: 1,
    ) -> None:
        self.known: dict[int, AdmittedRun] = {}
        self.queued = 0
        self.advancing = 0
        self._settings = settings
        self._share = share
        self._drive = drive
        self._groups: dict[Group, dict[int, None]] = {}
        self._queues: dict[str, deque[int]] = {}
        self._advancing: dict[str, int] = {}

    def enqueue(self, run_pk: int, known: AdmittedRun) -> None:
        """Queues a run; it begins at once if there is room."""
        known.queued = True
        self.queued += 1
        self._queues.setdefault(known.org_id, deque()).append(run_pk)
        self.admit()

    def begin(self, run_pk: int, known: AdmittedRun) -> None:
        """Begins a run now."""
        self.advancing += 1
        self._advancing[known.org_id] = self._advancing.get(known.org_id, 0) + 1
        known.task = asyncio.get_running_loop().create_task(self._drive(run_pk, known))

    def left(self, known: AdmittedRun) -> None:
        """A run no longer advances."""
        self.advancing -= 1
        self._advancing[known.org_id] -= 1
        if not self._advancing[known.org_id]:
            del self._advancing[known.org_id]
        known.task = None

    def register(self, run_pk: int, known: AdmittedRun) -> None:
        """Adds an unfinished run."""
        self.known[run_pk] = known
        if known.group is not None:
            self._groups.setdefault(known.group, {})[run_pk] = None

    def forget(self, run_pk: int) -> None:
        """Removes a run that has ended."""
        known = self.known.pop(run_pk)
        if known.group is not None:
            runs = self._groups[known.group]
            runs.pop(run_pk, None)
            if not runs:
                del self._groups[known.group]

    def has_room(self, org_id: str) -> bool:
        """Whether a run of this organisation may begin at once."""
        settings = self._settings
        return (
            self.queued == 0
            and self.advancing < settings.max_running_runs
            and self._advancing.get(org_id, 0) < self.most_of_org
        )

    @property
    def most_of_org(self) -> int:
        """How many runs of one organisation may advance at once."""
        return max(1, self._settings.max_running_runs_per_org // self._share())

    def known_of_orgs(self) -> dict[str, int]:
        """How many runs of each organisation advance or are queued."""
        found = dict(self._advancing)
        for org_id, queue in self._queues.items():
            found[org_id] = found.get(org_id, 0) + len(queue)
        return found

    def admit(self) -> None:
        """Begins queued runs while there is room, round robin over organisations."""
        settings = self._settings
        progress = True
        while progress and self.advancing < settings.max_running_runs:
            progress = False
            for org_id in list(self._queues):
                if self._advancing.get(org_id, 0) < self.most_of_org:
                    progress = self._admit_one(org_id) or progress
                if self.advancing >= settings.max_running_runs:
                    return

    def _admit_one(self, org_id: str) -> bool:
        """Begins the organisation's first queued run that is within its workflow's own limit."""
        queue = self._queues[org_id]
        for run_pk in queue:
            known = self.known.get(run_pk)
            if known is None or self._is_first(run_pk, known):
                queue.remove(run_pk)
                self.queued -= 1
                del self._queues[org_id]
                if queue:
                    self._queues[org_id] = queue  # behind the others: the next place is theirs
                if known is not None:
                    known.queued = False
                    self.begin(run_pk, known)
                return True
        return False

    def _is_first(self, run_pk: int, known: AdmittedRun) -> bool:
        """Whether fewer than the workflow's limit of unfinished runs are older than this one."""
        if known.max_open is None or known.group is None:
            return True
        for position, other in enumerate(self._groups.get(known.group, ())):
            if position >= known.max_open:
                return False
            if other == run_pk:
                return True
        return False
