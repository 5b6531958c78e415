"""One subscription as its chain's watcher knows it."""

from __future__ import annotations

from dataclasses import field
from typing import Final

from dustrun import clock
from dustrun.core.triggers.chain.cursor import Cursor, Scan
from dustrun.core.triggers.chain.watch import ChainWatch
from dustrun.records import dataclass
from dustrun.services.triggers.subscriptions import Subscription
from dustrun.storage.triggers.subscriptions import FAILED

SAVED_EVERY: Final = 32
"""A cursor without events is written once in so many blocks."""
_FIRST_REST_S: Final = 0.1
_LONGEST_REST_S: Final = 30.0
_REST_SHARE: Final = 0.25
"""It rests for so much of the time for which it could not go on: what is mended after a while is noticed soon in
proportion, however often it was tried meanwhile."""


@dataclass(frozen=True, slots=True)
class WatchOptions:
    """How chains are watched. `most`: how many missed blocks are scanned after a downtime; `stalled_s`: how long a
    trigger may stand still, and a head stay behind what was seen, before it is told (None: by the chain's block
    time)."""

    most: int
    stalled_s: float | None = None


@dataclass(slots=True, eq=False)
class WatchedSubscription:
    """A subscription, what it watches, and how far it is. `at` runs ahead of the `stored` cursor while there are no
    events; after a restart those blocks are scanned again.

    `error` is why it cannot go on now. `well_s` is when it last got on, or had nothing to do. `stalled_ms` is
    since when it stands still, once that was told. `range`: the blocks that it wants read by ranges."""

    sub: Subscription
    watch: ChainWatch
    version: int
    stored: Cursor | None
    at: Cursor | None
    gaps: list[tuple[int, int, int]] = field(default_factory=list)
    failures: int = 0
    failed_s: float = 0.0
    rest_until_s: float = 0.0
    forgotten: int | None = None
    error: str | None = None
    moves: int = 0
    well_s: float = field(default_factory=clock.monotonic_s)
    stalled_ms: int | None = None
    range: Scan | None = None

    @classmethod
    def of(cls, sub: Subscription, watch: ChainWatch) -> WatchedSubscription:
        """From its row."""
        cursor = Cursor.of(sub.cursor)
        found = cls(sub, watch, sub.row.cursor_version, cursor, cursor, stalled_ms=sub.row.stalled_since)
        if found.stalled_ms is not None:
            found.well_s = -1e9  # a restart alone mends nothing
        return found

    def moved(self, cursor: Cursor, version: int) -> None:
        """The stored cursor is this one now, with its version."""
        self.version = version
        self.stored = self.at = cursor
        self.got_on()

    def got_on(self) -> None:
        """It has done something, or has nothing to do."""
        self.failures = self.moves = 0
        self.error = None
        self.well_s = clock.monotonic_s()

    def failed(self, error: str) -> None:
        """It could not take an event: it rests, longer each time, and others go on."""
        now_s = clock.monotonic_s()
        if not self.failures:
            self.failed_s = now_s
        self.failures += 1
        self.error = error
        rest_s = _REST_SHARE * (now_s - self.failed_s)
        self.rest_until_s = now_s + min(max(_FIRST_REST_S, rest_s), _LONGEST_REST_S)

    @property
    def is_failed(self) -> bool:
        """Whether it was stopped, until its last block is canonical again or a person resumes it."""
        return self.sub.row.state == FAILED

    @property
    def is_resting(self) -> bool:
        """Whether it waits after a failure."""
        return clock.monotonic_s() < self.rest_until_s

    @property
    def is_unsaved(self) -> bool:
        """Whether the stored cursor lags so far that it should be written; not all at the same block."""
        assert self.at is not None
        lag = self.at.number - (self.stored.number if self.stored is not None else -1)
        return lag >= 2 * SAVED_EVERY or (lag > 0 and self.at.number % SAVED_EVERY == self.sub.pk % SAVED_EVERY)
