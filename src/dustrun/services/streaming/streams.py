"""Event streams: access checks, stream tokens, and reading events from the tables."""

from __future__ import annotations

import re
from collections.abc import Sequence

from dustrun import clock, ids
from dustrun.core.run.state import RUN_FINAL, RunStatus
from dustrun.core.stream_events import WORKFLOW_CHANGED
from dustrun.errors import Invalid, Problem, Unauthenticated
from dustrun.records import dataclass
from dustrun.services.access import idempotency
from dustrun.services.access.api_keys import ids_of
from dustrun.services.access.principal import Principal
from dustrun.services.access.rate_limits import Excess
from dustrun.services.streaming.broadcaster import Activity, ActivityNotice, Broadcaster
from dustrun.settings import Settings
from dustrun.storage.db.database import Database
from dustrun.storage.db.statement import Tx
from dustrun.storage.db.writer import Writer
from dustrun.storage.runs import events as event_rows
from dustrun.storage.runs import runs as run_rows
from dustrun.storage.runs import stream_tokens as token_rows
from dustrun.storage.runs.journal import Event

STREAM_PATH = re.compile(
    r"/v1/(runs/run_[A-Za-z0-9_-]{1,64}/stream|workflows/wf_[a-z0-9]{26}/runs/stream"
    r"|workflow-runs/stream|activity/stream|conversations/conv_[a-z0-9]{26}/stream)"
)
FIRST_USE_MS = 60_000
AFTER_END_MS = 3_600_000
WITHOUT_END_MS = 86_400_000
PAGE = 200
ACTIVITY_PAGE = 500
FEW_ACTIVITIES = 100
"""The question of a reader that has kept up."""
FIRST_PAGE = 20
PAGE_BYTES = 262_144


def permission_of(stream: str) -> str:
    """The permission that a key needs to read the stream with that path."""
    return "chat:read" if stream.startswith("/v1/conversations/") else "run:stream"


@dataclass(frozen=True, slots=True)
class NewToken:
    """A new stream token, shown only once, and the stream that it opens."""

    token: str
    stream: str
    use_before: int


@dataclass(frozen=True, slots=True)
class StreamedRun:
    """The facts that a stream needs about its run."""

    pk: int
    is_final: bool
    last_seq: int


class EventPages:
    """Pages of one run's events of about `PAGE_BYTES`, which limits the memory that a stalled reader occupies."""

    def __init__(self, database: Database, run_pk: int) -> None:
        self._database = database
        self._run_pk = run_pk
        self._count = FIRST_PAGE

    async def after(self, seq: int) -> list[Event]:
        """The next page after `seq`; empty if there are no further events yet."""
        count = self._count
        rows = await self._database.read(lambda tx: event_rows.list_after(tx, self._run_pk, seq, count))
        page = rows[: fitting([len(event.data) for event in rows])]
        if len(page) < len(rows):
            self._count = len(page)
        elif len(rows) == count:
            self._count = min(count * 4, PAGE)
        return page


def fitting(sizes: Sequence[int]) -> int:
    """The number of leading entries that fit into `PAGE_BYTES`; at least one."""
    total = 0
    for index, size in enumerate(sizes):
        total += size
        if total > PAGE_BYTES and index:
            return index
    return len(sizes)


class Streams:
    """Use cases of event streams."""

    def __init__(self, database: Database, writer: Writer, hub: Broadcaster, settings: Settings) -> None:
        self.hub = hub
        self.settings = settings
        self.stopping = False
        self._database = database
        self._writer = writer
        self._waiting: dict[str, int] = {}
        self._revoked: set[str] = set()
        self._reach: dict[str, frozenset[str]] = {}

    def stop(self) -> None:
        """Ends all streams because the server is stopping; clients reconnect by themselves."""
        self.stopping = self.hub.is_closing = True
        self.hub.wake_all()

    def end_key(self, key_id: str) -> None:
        """Ends all streams opened with a revoked key."""
        self._revoked.add(key_id)
        self.hub.wake_all()

    def end_beyond(self, key_id: str, workflow_ids: frozenset[str]) -> None:
        """Ends the streams that were opened when a key could access other workflows than these."""
        self._reach[key_id] = workflow_ids
        self.hub.wake_all()

    def may_go_on(self, principal: Principal) -> bool:
        """Whether a stream may continue: its key is still valid and reaches what it did, and the server is not
        stopping."""
        is_good = principal.expires_at is None or principal.expires_at > clock.now_ms()
        is_as_then = principal.workflow_ids == self._reach.get(principal.key_id, principal.workflow_ids)
        is_good = is_good and is_as_then and not self.stopping
        return is_good and self._revoked.isdisjoint((principal.key_id, principal.session))

    def patience_s(self, principal: Principal) -> float:
        """Seconds until the stream must act again: its next heartbeat or its key's expiry."""
        heartbeat_s = self.settings.stream_heartbeat_s
        if principal.expires_at is None:
            return heartbeat_s
        return max(0.0, min(heartbeat_s, (principal.expires_at - clock.now_ms()) / 1000))

    # --- tokens ---

    async def make_token(self, principal: Principal, stream: str) -> NewToken:
        """Creates a token for one stream, for clients that cannot set headers. Raises `Forbidden` for one that the key
        itself could not read."""
        if not STREAM_PATH.fullmatch(stream):
            message = "must be the path of a stream, for example /v1/runs/run_1/stream"
            raise Invalid("The path is not a stream.", details=[Problem("stream", message)])
        principal.need(permission_of(stream))
        token = ids.new_secret("st")
        now = clock.now_ms()

        def unit(tx: Tx) -> NewToken:
            token_rows.insert(
                tx,
                hash=ids.secret_hash(token),
                key_id=principal.key_id,
                org_id=principal.org_id,
                stream=stream,
                now=now,
            )
            return NewToken(token, stream, now + FIRST_USE_MS)

        return await idempotency.write(self._writer, unit)

    async def use_token(self, token: str, stream: str) -> Principal:
        """The principal of a stream token; raises `Unauthenticated`."""
        token_hash = ids.secret_hash(token)
        row = await self._database.read(lambda tx: token_rows.find(tx, token_hash))
        now = clock.now_ms()
        if row is None or row.stream != stream or not await self._is_good(row, now):
            raise Unauthenticated("The stream token is unknown, expired, or for another stream.")
        if row.first_used_at is None:
            await self._writer.write(lambda tx: token_rows.use(tx, token_hash, now))
        named = ids_of(row.key_workflow_ids)
        workflow_ids = None if named is None else frozenset(named)
        permissions = frozenset({permission_of(stream)})
        return Principal(row.key_id, row.org_id, permissions, workflow_ids, expires_at=row.key_expires_at)

    async def _is_good(self, row: token_rows.TokenRow, now: int) -> bool:
        if row.key_revoked_at is not None or (row.key_expires_at is not None and row.key_expires_at <= now):
            return False
        if row.first_used_at is None:
            return now - row.created_at <= FIRST_USE_MS
        if not row.stream.startswith("/v1/runs/"):
            return now - row.first_used_at <= WITHOUT_END_MS
        run_id = row.stream.split("/")[3]
        run = await self._database.read(lambda tx: run_rows.find(tx, row.org_id, run_id))
        return run is None or run.finished_at is None or now - run.finished_at <= AFTER_END_MS

    async def prune_tokens(self) -> int:
        """Deletes expired tokens; returns how many.

        A token for a run is valid until one hour after the run ends, so tokens are kept for the longest run."""
        before = clock.now_ms() - AFTER_END_MS - WITHOUT_END_MS - self.settings.max_run_days * 86_400_000
        return await self._writer.write(lambda tx: token_rows.prune(tx, before))

    # --- reading ---

    async def find_run(self, principal: Principal, run_id: str) -> StreamedRun | None:
        """The run of a stream, if it exists yet and the key can access it."""
        found = await self._database.look_up(lambda tx: run_rows.find_key(tx, principal.org_id, run_id))
        if found is None or not principal.may_use_workflow(found[3]):
            return None
        return StreamedRun(found[0], RunStatus(found[1]) in RUN_FINAL, found[2])

    def events_of(self, run_pk: int) -> EventPages:
        """A run's events, in pages."""
        return EventPages(self._database, run_pk)

    async def newest_activity(self, org_id: str) -> int:
        """The cursor after which a new activity stream starts."""
        return await self._database.read(lambda tx: event_rows.newest_activity(tx, org_id))

    async def list_activity(
        self, org_id: str, after: int, workflow_ids: Sequence[str] | None, count: int = ACTIVITY_PAGE
    ) -> list[Activity]:
        """The next page of run starts, waits and ends."""
        # A shared store is read every few milliseconds: a thread would slow the event loop, a long page hold it.
        is_light = self._database.is_shared and count <= FEW_ACTIVITIES
        read = self._database.look_up if is_light else self._database.read
        found = await read(lambda tx: event_rows.list_activity(tx, org_id, after, count, workflow_ids))
        return [Activity(*row) for row in found]

    # --- waiting streams ---

    def begin_waiting(self, key_id: str) -> None:
        """Counts a stream that waits for its run; raises `TooMany` above the limit."""
        waiting = self._waiting.get(key_id, 0)
        if waiting >= self.settings.max_waiting_streams:
            raise Excess.WAITING_STREAMS.refusal(5, waiting=waiting)
        self._waiting[key_id] = waiting + 1

    def end_waiting(self, key_id: str) -> None:
        """Uncounts a waiting stream: its run now exists, or the stream has ended."""
        left = self._waiting[key_id] - 1
        if left:
            self._waiting[key_id] = left
        else:
            del self._waiting[key_id]


# Tells who reads the activity of workflows that were made or changed, such as the editors of other people.


class ChangedWorkflows:
    """The listener of `Workflows`. The workflow itself is what stays; a stream only says that there is more to read."""

    def __init__(self, hub: Broadcaster) -> None:
        self._hub = hub

    def tell(self, org_id: str, workflow_id: str) -> None:
        """The change of a workflow is on disk."""
        if self._hub.has_readers(org_id):
            self._hub.announce(org_id, ActivityNotice(WORKFLOW_CHANGED, clock.now_ms(), workflow_id, "{}"))
