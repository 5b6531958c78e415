"""Makes deliveries from what happened since a hook's cursors: one read of stored events, and one write that moves the
cursors with the deliveries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field

from dustrun import clock, ids
from dustrun.core.hooks import event_types
from dustrun.core.hooks.payload import Subject, body_of
from dustrun.core.values.exact_json import loads, loads_own
from dustrun.records import dataclass
from dustrun.storage.db.statement import Tx
from dustrun.storage.hooks import deliveries as delivery_rows
from dustrun.storage.hooks import hooks as hook_rows
from dustrun.storage.hooks import reading
from dustrun.storage.hooks.deliveries import DeliveryRow
from dustrun.storage.hooks.hooks import HookRow
from dustrun.storage.hooks.reading import FollowedRun, Notice, Told

MOST_OPEN = 2000
"""With so many open deliveries a hook makes no further ones: the events wait where they are stored."""
_RUNS = 100
_EVENTS = 200


@dataclass(slots=True)
class _Position:
    run: FollowedRun
    seq: int
    finish_seq: int | None = None
    """Number of the run's last event, once the activity has shown it."""

    @property
    def is_over(self) -> bool:
        return self.finish_seq is not None and self.seq >= self.finish_seq


@dataclass(slots=True)
class News:
    """What one read found. `has_more`: there may be more at once; `is_full`: the hook has too many open deliveries."""

    activity_id: int
    notice_id: int
    made: list[DeliveryRow] = field(default_factory=list)
    positions: list[tuple[int, int]] = field(default_factory=list)
    left: list[int] = field(default_factory=list)
    has_more: bool = False
    is_full: bool = False


class Reader:
    """Reads one hook's news. `base_url` is where links lead."""

    def __init__(self, hook: HookRow, base_url: str, now: int) -> None:
        self._hook = hook
        self._base_url = base_url
        self._now = now
        self._types: list[str] = loads_own(hook.event_types)
        self._modes: list[str] = loads_own(hook.modes)
        self._workflows: list[str] | None = None if hook.workflow_ids is None else loads_own(hook.workflow_ids)
        self.wants_steps = event_types.wants_steps(self._types)

    def read(self, tx: Tx, run_pks: Sequence[int] | None) -> News:
        """The next part; of the runs that it follows looks at these, and at all with None."""
        hook = self._hook
        news = News(hook.activity_id, hook.notice_id)
        if delivery_rows.count_open(tx, hook.id, MOST_OPEN) >= MOST_OPEN:
            news.is_full = True
            return news
        found = self._positions(tx, news, run_pks)
        left = _EVENTS
        for position in found:
            left -= self._advance(tx, news, position, left)
            _keep(news, position)
        self._read_notices(tx, news)
        return news

    def _positions(self, tx: Tx, news: News, run_pks: Sequence[int] | None) -> list[_Position]:
        """The runs with something to read."""
        found: dict[int, _Position] = {}
        active = reading.list_activity(tx, self._hook.org_id, self._hook.id, news.activity_id, _RUNS)
        for entry in active:
            news.activity_id = entry.id
            position = found.get(entry.run.pk)
            if position is None:
                if entry.run.seq is None and not self._wants_run(entry.run):
                    continue
                seq = entry.run.seq if entry.run.seq is not None else entry.seq - 1
                position = found[entry.run.pk] = _Position(entry.run, seq)
            if entry.type == "run_finished":
                position.finish_seq = entry.seq
        behind = reading.list_behind(tx, self._hook.id, run_pks, _RUNS)
        news.has_more = _RUNS in (len(active), len(behind))
        for run in behind:
            found.setdefault(run.pk, _Position(run, run.seq or 0))
        return list(found.values())

    def _advance(self, tx: Tx, news: News, position: _Position, count: int) -> int:
        if count <= 0:
            news.has_more = True
            return 0
        run = position.run
        events = reading.list_events(tx, run.pk, position.seq, count, steps=self.wants_steps)
        for event in events:
            self._tell(news, run, event)
        if len(events) == count:
            position.seq, news.has_more = events[-1].seq, True
        else:
            position.seq = max(position.seq, run.last_seq)
        return len(events)

    def _tell(self, news: News, run: FollowedRun, event: Told) -> None:
        data = loads(event.data)
        type_ = event_types.type_of(event.type, data)
        if type_ is None or not event_types.wants(self._types, type_):
            return
        org_id = self._hook.org_id
        subject = Subject(org_id, run.workflow_id, run.id, run.workflow_name, run.version, run.mode)
        event_id = f"{run.id}.{event.seq}"
        body = body_of(type_, event_id, clock.to_rfc3339(event.at), subject, data, self._base_url)
        news.made.append(self._delivery(type_, event_id, body, run.id, run.workflow_id, run.id))

    def _read_notices(self, tx: Tx, news: News) -> None:
        notices = reading.list_notices(tx, self._hook.org_id, news.notice_id, _RUNS)
        for notice in notices:
            news.notice_id = notice.id
            if self._wants_notice(notice):
                subject = Subject(self._hook.org_id, notice.workflow_id, notice.run_id, mode=notice.mode)
                event_id, at = f"notice_{notice.id}", clock.to_rfc3339(notice.at)
                body = body_of(notice.type, event_id, at, subject, loads(notice.data), self._base_url)
                queue = notice.run_id or notice.workflow_id or event_id
                news.made.append(self._delivery(notice.type, event_id, body, notice.run_id, notice.workflow_id, queue))
        news.has_more |= len(notices) == _RUNS

    def _delivery(
        self, type_: str, event_id: str, body: str, run_id: str | None, workflow_id: str | None, queue: str
    ) -> DeliveryRow:
        return DeliveryRow(
            id=ids.new_id("dlv"),
            org_id=self._hook.org_id,
            hook_id=self._hook.id,
            queue=queue,
            event_id=event_id,
            event_type=type_,
            run_id=run_id,
            workflow_id=workflow_id,
            body=body,
            created_at=self._now,
            updated_at=self._now,
        )

    def _wants_run(self, run: FollowedRun) -> bool:
        return run.mode in self._modes and (self._workflows is None or run.workflow_id in self._workflows)

    def _wants_notice(self, notice: Notice) -> bool:
        if notice.at < self._hook.created_at or not event_types.wants(self._types, notice.type):
            return False
        if notice.mode is not None and notice.mode not in self._modes:
            return False
        return notice.workflow_id is None or self._workflows is None or notice.workflow_id in self._workflows


def _keep(news: News, position: _Position) -> None:
    """A run is followed until the activity has shown its end and everything is read; most begin and end in one read."""
    if position.is_over:
        if position.run.seq is not None:
            news.left.append(position.run.pk)
    elif position.seq != position.run.seq:
        news.positions.append((position.run.pk, position.seq))


def write(tx: Tx, hook: HookRow, news: News) -> bool:
    """Writes deliveries and moves the cursors; False if the hook was disabled or moved since it was read."""
    if not hook_rows.move(tx, hook.id, hook.moves, news.activity_id, news.notice_id):
        return False
    delivery_rows.insert_in_order(tx, news.made)
    reading.follow(tx, hook.id, news.positions)
    reading.leave(tx, hook.id, news.left)
    return True
