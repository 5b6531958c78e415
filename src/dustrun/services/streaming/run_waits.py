"""Waits until a run has come so far: until it has answered its request, or ended."""

from __future__ import annotations

from collections.abc import Sequence

from dustrun import clock
from dustrun.core.run.state import RUN_OPEN, RunStatus
from dustrun.core.stream_events import RUN_FINISHED, RUN_RESPONDED
from dustrun.core.values.exact_json import loads_own
from dustrun.records import dataclass
from dustrun.services.streaming.broadcaster import Broadcaster, Subscription
from dustrun.storage.db.database import Database
from dustrun.storage.db.statement import Tx
from dustrun.storage.runs import events as event_rows
from dustrun.storage.runs import runs as rows
from dustrun.storage.runs.journal import Event

_LOOK_AGAIN_S = 5.0


@dataclass(frozen=True, slots=True)
class RunProgress:
    """How far a run has come. `answered_at`: the path of the `respond` node that answered its request."""

    has_ended: bool
    answered_at: str | None = None


class RunWaits:
    """Waits for runs, in memory where it can."""

    def __init__(self, database: Database, hub: Broadcaster) -> None:
        self._database = database
        self._hub = hub

    async def wait(self, org_id: str, run_id: str, timeout_s: float, *, for_answer: bool = False) -> RunProgress | None:
        """Returns once a run has ended or, `for_answer`, has answered its request; None when the time is up or the
        server stops."""
        end_at = clock.monotonic_s() + timeout_s
        subscription = self._hub.watch_run(org_id, run_id)
        try:
            while True:
                found = await self._look(org_id, run_id, subscription, for_answer=for_answer)
                if found is not None:
                    return found
                found = await self._listen(subscription, end_at, for_answer=for_answer)
                if found is not None or self._hub.is_closing or clock.monotonic_s() >= end_at:
                    return found
        finally:
            self._hub.leave_run(org_id, run_id, subscription)

    async def _look(
        self, org_id: str, run_id: str, subscription: Subscription[Event], *, for_answer: bool
    ) -> RunProgress | None:
        """The run's state by the tables."""
        subscription.lost = False

        def query(tx: Tx) -> RunProgress | None:
            found = rows.find_key(tx, org_id, run_id)
            if found is None:
                return None
            has_ended = RunStatus(found[1]) not in RUN_OPEN
            answer = event_rows.find_of_type(tx, found[0], RUN_RESPONDED) if for_answer else None
            path = loads_own(answer.data)["path"] if answer is not None else None
            return RunProgress(has_ended, path) if has_ended or path is not None else None

        # to find an answer may mean to read through many events
        return await (self._database.read(query) if for_answer else self._database.look_up(query))

    async def _listen(
        self, subscription: Subscription[Event], end_at: float, *, for_answer: bool
    ) -> RunProgress | None:
        """The run's state by the committed events; None when it is time to look at the tables again, or to give up."""
        look_at = min(end_at, clock.monotonic_s() + _LOOK_AGAIN_S)
        while not (subscription.lost or self._hub.is_closing) and (left := look_at - clock.monotonic_s()) > 0:
            await subscription.wait(left)
            found = reached(subscription.take(), for_answer=for_answer)
            if found is not None:
                return found
        return None


def reached(events: Sequence[Event], *, for_answer: bool) -> RunProgress | None:
    """How far a run has come by some of its events; None if neither to an answer nor to its end."""
    has_ended = any(event.type == RUN_FINISHED for event in events)
    answer = next((event for event in events if event.type == RUN_RESPONDED), None) if for_answer else None
    if answer is None and not has_ended:
        return None
    return RunProgress(has_ended, None if answer is None else loads_own(answer.data)["path"])
