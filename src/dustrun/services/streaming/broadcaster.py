"""Delivers committed events to stream readers in this process. The tables are the source of truth.

A reader that falls behind loses its in-memory buffer but never an event: it reads the missed events from the table.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from dustrun.core.stream_events import RUN_FINISHED
from dustrun.listeners import Listeners
from dustrun.storage.runs.journal import Event

BUFFER = 1024
BUFFER_CHARS = 524_288
_GATHER_S = 0.005
"""In a shared store: how long activity is gathered before its readers read the table. Reading for each commit took as
much of the database as the runs themselves."""
WOKEN_AT_ONCE = 50
"""Readers that may go on in one turn of the event loop: a few milliseconds of work."""
RunKey = tuple[str, str]
Listener = Callable[[int | None, bool], None]
"""Told of each commit of an organisation's runs: the run's row id (None: any run), and whether it is activity."""
K = TypeVar("K")
T = TypeVar("T")


class CommittedRun(Protocol):
    """The run whose events were committed."""

    @property
    def pk(self) -> int:
        """Internal row id; never shown to callers."""
        ...

    @property
    def id(self) -> str:
        """Public id of the run."""
        ...

    @property
    def org_id(self) -> str:
        """Organisation of the run."""
        ...

    @property
    def workflow_id(self) -> str | None:
        """Workflow of the run; None for an inline run."""
        ...


class ActivityNotice(NamedTuple):
    """Something that is of no run, or of one that has ended: told to readers of the activity that are there, and not
    repeated. `data` is a JSON object without `type`, `at` and `workflowId`."""

    type: str
    at: int
    workflow_id: str | None
    data: str


class Activity(NamedTuple):
    """A start, wait or end of a run, with its cursor in the organisation's activity."""

    cursor: int
    run_id: str
    workflow_id: str | None
    event: Event


class Subscription(Generic[T]):
    """One reader's small buffer of committed entries.

    `lost` is set when the buffer overflows; `must_look` when the table has more than the buffer; `run_pk` is set once
    the awaited run exists; `is_due` while the alarm is to wake the reader."""

    __slots__ = ("_chars", "_ready", "entries", "is_due", "lost", "must_look", "run_pk")

    def __init__(self) -> None:
        self.entries: deque[T] = deque()
        self.lost = False
        self.must_look = False
        self.run_pk: int | None = None
        self.is_due = False
        self._chars = 0
        self._ready = asyncio.Event()

    def put(self, entries: Sequence[T], chars: int) -> None:
        """Adds entries of `chars` characters without waking the reader; drops everything if the buffer overflows.

        A reader whose buffer was dropped gets nothing more until it has read the table."""
        if self.lost:
            pass
        elif len(self.entries) + len(entries) > BUFFER or self._chars + chars > BUFFER_CHARS:
            self.entries.clear()
            self._chars = 0
            self.lost = True
        else:
            self.entries.extend(entries)
            self._chars += chars

    def take(self) -> list[T]:
        """Removes and returns all buffered entries."""
        taken = list(self.entries)
        self.entries.clear()
        self._chars = 0
        return taken

    def lose(self) -> None:
        """Drops the buffer and makes the reader read the table, once it is woken."""
        self.entries.clear()
        self._chars = 0
        self.lost = True

    def wake(self) -> None:
        """Wakes the reader."""
        self.is_due = False
        self._ready.set()

    async def wait(self, timeout_s: float) -> bool:
        """Waits for something to read; returns False on timeout."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._ready.wait()
        except TimeoutError:
            return False
        self._ready.clear()
        return True


class Alarm:
    """Wakes readers in the order in which they are added, a few in each turn of the event loop, so that thousands of
    them hold up nobody."""

    def __init__(self) -> None:
        self._due: deque[Subscription[Any]] = deque()
        self._left = WOKEN_AT_ONCE
        self._is_scheduled = False

    def wake(self, readers: Iterable[Subscription[Any]]) -> None:
        """Wakes readers, now or in one of the next turns."""
        for reader in readers:
            if not reader.is_due:
                reader.is_due = True
                self._due.append(reader)
        self._wake_some()

    def _wake_some(self) -> None:
        while self._due and self._left:
            self._due.popleft().wake()
            self._left -= 1
        if self._left < WOKEN_AT_ONCE and not self._is_scheduled:
            self._is_scheduled = True
            asyncio.get_running_loop().call_soon(self._begin_turn)

    def _begin_turn(self) -> None:
        self._is_scheduled = False
        self._left = WOKEN_AT_ONCE
        self._wake_some()


class Broadcaster:
    """The readers of runs and of organisations' activity."""

    def __init__(self) -> None:
        self.is_closing = False
        """The server is stopping: nobody should wait any longer."""
        self._alarm = Alarm()
        self.on_ended: Listeners[[str | None]] = Listeners()
        """Called on the event loop when the end of a run is on disk, with what had started it, if that is known."""
        self.on_published: Listeners[[CommittedRun, bool, bool]] = Listeners()
        """In a shared store: called on the event loop with each run of which events were committed here, whether there
        was activity, and whether it has ended."""
        self.on_announced: Listeners[[str, ActivityNotice]] = Listeners()
        """In a shared store: called with each notice."""
        self._runs: dict[RunKey, list[Subscription[Event]]] = {}
        self._activity: dict[str, list[Subscription[Activity | ActivityNotice]]] = {}
        self._listeners: dict[str, Listener] = {}
        self._to_look: set[str] = set()

    def watch_run(self, org_id: str, run_id: str) -> Subscription[Event]:
        """Subscribes to one run, which need not exist yet."""
        subscription: Subscription[Event] = Subscription()
        self._runs.setdefault((org_id, run_id), []).append(subscription)
        return subscription

    def leave_run(self, org_id: str, run_id: str, subscription: Subscription[Event]) -> None:
        """Ends a subscription to one run."""
        _leave(self._runs, (org_id, run_id), subscription)

    def watch_activity(self, org_id: str) -> Subscription[Activity | ActivityNotice]:
        """Subscribes to starts, waits and ends of an organisation's runs, and to notices."""
        subscription: Subscription[Activity | ActivityNotice] = Subscription()
        self._activity.setdefault(org_id, []).append(subscription)
        return subscription

    def leave_activity(self, org_id: str, subscription: Subscription[Activity | ActivityNotice]) -> None:
        """Ends a subscription to an organisation's activity."""
        _leave(self._activity, org_id, subscription)

    def listen(self, org_id: str, listener: Listener | None) -> None:
        """Sets who is told of an organisation's commits, without their events; None: nobody any more."""
        if listener is None:
            self._listeners.pop(org_id, None)
        else:
            self._listeners[org_id] = listener

    def publish(self, facts: CommittedRun, events: Sequence[Event], source: str | None = None) -> None:
        """Delivers a run's committed events to its readers; `source`: what started the run, if known. Called on the
        event loop, in commit order."""
        has_ended = bool(events) and events[-1].type == RUN_FINISHED
        if has_ended:
            for tell in self.on_ended:
                tell(source)
        activity = [event for event in events if event.cursor is not None]
        if self.on_published:
            self.on_published(facts, bool(activity), has_ended)
        run_readers = self._runs.get((facts.org_id, facts.id))
        if run_readers:
            chars = sum(len(event.data) for event in events)
            for subscription in run_readers:
                subscription.run_pk = facts.pk
                subscription.put(events, chars)
            self._alarm.wake(run_readers)
        listener = self._listeners.get(facts.org_id)
        if listener is not None:
            listener(facts.pk, bool(activity))
        readers = self._activity.get(facts.org_id) if activity else None
        if readers and self.on_published:
            # another process may have committed before: only the table has all activity in its order
            self._let_look(facts.org_id)
        elif readers:
            found = [Activity(_cursor(event), facts.id, facts.workflow_id, event) for event in activity]
            chars = sum(len(event.data) for event in activity)
            for reader in readers:
                reader.put(found, chars)
            self._alarm.wake(readers)

    def hear(self, run: RunKey, run_pk: int, *, is_activity: bool, has_ended: bool) -> None:
        """Another process has committed events of a run: its readers read them from the table."""
        if has_ended:
            self.on_ended(None)
        readers: list[Subscription[Any]] = list(self._runs.get(run, ()))
        for subscription in readers:
            subscription.run_pk = run_pk
        listener = self._listeners.get(run[0])
        if listener is not None:
            listener(run_pk, is_activity)
        for reader in readers:
            reader.lose()
        self._alarm.wake(readers)
        if is_activity:
            self._let_look(run[0])

    def _let_look(self, org_id: str) -> None:
        """Lets the readers of an organisation's activity read the table soon, once for all that comes until then."""
        if org_id in self._activity and org_id not in self._to_look:
            self._to_look.add(org_id)
            asyncio.get_running_loop().call_later(_GATHER_S, self._look, org_id)

    def _look(self, org_id: str) -> None:
        self._to_look.discard(org_id)
        readers = self._activity.get(org_id, ())
        for reader in readers:
            reader.must_look = True
        self._alarm.wake(readers)

    def has_readers(self, org_id: str) -> bool:
        """Whether anybody may read the organisation's activity now; of other processes nobody knows."""
        return org_id in self._activity or bool(self.on_announced)

    def announce(self, org_id: str, notice: ActivityNotice) -> None:
        """Tells the readers of an organisation's activity. Called on the event loop, after the commit."""
        self.on_announced(org_id, notice)
        self.hear_notice(org_id, notice)

    def hear_notice(self, org_id: str, notice: ActivityNotice) -> None:
        """Tells the readers in this process alone."""
        readers = self._activity.get(org_id, ())
        for reader in readers:
            reader.put([notice], len(notice.data))
        self._alarm.wake(readers)

    def lose_all(self) -> None:
        """Makes every reader read the tables: a commit may have happened that was not published."""
        for reader in self._all():
            reader.lose()
        for listener in self._listeners.values():
            listener(None, True)
        self.wake_all()

    def wake_all(self) -> None:
        """Wakes every reader, to notice that the server is stopping or its key was revoked."""
        self._alarm.wake(self._all())

    def _all(self) -> Iterator[Subscription[Any]]:
        yield from chain.from_iterable(self._runs.values())
        yield from chain.from_iterable(self._activity.values())


def _leave(table: dict[K, list[Subscription[T]]], key: K, subscription: Subscription[T]) -> None:
    left = [other for other in table.get(key, ()) if other is not subscription]
    if left:
        table[key] = left
    else:
        table.pop(key, None)


def _cursor(event: Event) -> int:
    assert event.cursor is not None, "activity has a place in the organisation's order"
    return event.cursor.value  # type: ignore[no-any-return]
