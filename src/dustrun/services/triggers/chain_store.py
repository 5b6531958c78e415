"""Rows of a chain's watcher besides events: headers, the genesis block, gaps, and why a trigger stopped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from dustrun import clock, ids
from dustrun.core.hooks import TRIGGER_FAILED, TRIGGER_RECOVERED, TRIGGER_STALLED
from dustrun.core.triggers.chain.cursor import Cursor
from dustrun.core.triggers.chain.headers import Header, HeaderChain
from dustrun.core.triggers.event import CursorMove
from dustrun.core.values.exact_json import dumps_text, loads_own
from dustrun.listeners import Listeners
from dustrun.records import dataclass
from dustrun.services.triggers import recording
from dustrun.services.triggers.subscriptions import Subscription
from dustrun.storage.db.database import Database
from dustrun.storage.db.statement import Tx
from dustrun.storage.db.writer import Writer
from dustrun.storage.hooks import reading
from dustrun.storage.triggers import chain_events, chain_headers, gaps
from dustrun.storage.triggers import subscriptions as rows
from dustrun.storage.triggers.chain_events import ChainEventRow
from dustrun.storage.triggers.gaps import OPEN, REPLAYED, REPLAYING, GapRow
from dustrun.storage.triggers.subscriptions import ARMED, FAILED, SubscriptionRow
from dustrun.storage.workflows import workflows

_LONGEST_ERROR: Final = 1000


def _time(at: int) -> str:
    return datetime.fromtimestamp(at / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _notice(tx: Tx, row: SubscriptionRow, type_: str, data: Mapping[str, Any]) -> None:
    told = {"triggerId": row.id, "triggerNodeId": row.node_id, "triggerType": row.type, **data}
    reading.add(tx, org_id=row.org_id, type_=type_, at=clock.now_ms(), data=told, workflow_id=row.workflow_id)


@dataclass(frozen=True, slots=True)
class HeaderChange:
    """What is above a height is taken off the canonical chain, headers are added, and what is below a height is
    forgotten."""

    above: int | None
    added: Sequence[Header]
    below: int | None


class ChainStore:
    """Reads and writes for the watchers of chains."""

    def __init__(self, database: Database, writer: Writer) -> None:
        self._database = database
        self._writer = writer
        self.on_changed: Listeners[[str]] = Listeners()
        """Called with a workflow's id after a commit that stopped one of its triggers."""

    async def load_headers(self, chain_id: int) -> HeaderChain:
        """The stored headers of a chain."""
        return HeaderChain(await self._database.read(lambda tx: chain_headers.list_all(tx, chain_id)))

    async def save_headers(self, chain_id: int, known: Header | None, change: HeaderChange) -> bool:
        """Changes the stored headers. False, and nothing is written, if `known` is not the newest canonical one any
        more: another watcher has gone on with the chain."""
        above, added, below = change.above, change.added, change.below

        def unit(tx: Tx) -> bool:
            if chain_headers.find_newest(tx, chain_id) != (None if known is None else known.hash):
                return False
            if above is not None:
                chain_headers.cut(tx, chain_id, above)
            if added:
                chain_headers.add(tx, chain_id, added)
            if below is not None:
                chain_headers.prune(tx, chain_id, below)
            return True

        return await self._writer.write(unit)

    async def genesis(self, chain_id: int) -> str | None:
        """The genesis hash that was seen first; None before."""
        return await self._database.read(lambda tx: chain_headers.find_genesis(tx, chain_id))

    async def save_genesis(self, chain_id: int, genesis: str) -> None:
        """Stores the genesis hash, in place of any other."""
        await self._writer.write(lambda tx: chain_headers.save_genesis(tx, chain_id, genesis))

    async def events_above(self, sub: Subscription, number: int) -> list[ChainEventRow]:
        """A subscription's events in blocks above a height that no reorg has removed, newest first."""
        return await self._database.read(lambda tx: chain_events.list_above(tx, sub.pk, number))

    async def removed_above(self, sub: Subscription, number: int) -> list[ChainEventRow]:
        """A subscription's events that reorgs removed from blocks above a height, oldest first."""
        return await self._database.read(lambda tx: chain_events.list_removed_above(tx, sub.pk, number))

    async def forget_events(self, sub: Subscription, below: int) -> None:
        """Forgets where events are that are too deep to be removed."""
        await self._writer.write(lambda tx: chain_events.forget_below(tx, sub.pk, below))

    async def forget_chain(self, chain_id: int) -> None:
        """Forgets where the events of a chain are: another one is in its place, which has not removed them."""
        await self._writer.write(lambda tx: chain_events.forget_chain(tx, chain_id))

    async def fail(self, sub: Subscription, reason: str, version: int | None = None) -> None:
        """Stops a trigger until its last block is on the chain again, or a person resumes its workflow; tells hooks.
        Does nothing if its cursor is not at this version any more: another watcher has gone on with it."""

        def unit(tx: Tx) -> None:
            row = rows.find_to_change(tx, sub.pk)
            if row is None or row.state != ARMED or version not in (None, row.cursor_version):
                return
            changes = {"state": FAILED, "state_reason": reason, "stalled_since": None, "next_at": None}
            rows.update(tx, row.pk, **changes, cursor_version=row.cursor_version + 1, updated_at=clock.now_ms())
            _notice(tx, row, TRIGGER_FAILED, {"reason": reason})

        await self._writer.write(unit)
        self.on_changed(sub.row.workflow_id)

    async def heal(self, sub: Subscription, version: int) -> None:
        """Goes on with a trigger that was stopped, where it was; not while its workflow is paused."""

        def unit(tx: Tx) -> None:
            workflow = workflows.find(tx, sub.row.org_id, sub.row.workflow_id)
            row = rows.find_to_change(tx, sub.pk)
            if row is None or row.state != FAILED or row.cursor_version != version:
                return
            if workflow is None or workflow.status != "active":
                return
            rows.update(tx, row.pk, state=ARMED, state_reason=None, last_error=None, updated_at=clock.now_ms())
            _notice(tx, row, TRIGGER_RECOVERED, {"reason": row.state_reason, "since": _time(row.updated_at)})

        await self._writer.write(unit)
        self.on_changed(sub.row.workflow_id)

    async def stall(self, sub: Subscription, since: int, reason: str, facts: Mapping[str, Any]) -> None:
        """Notes that an armed trigger stands still since a time (in milliseconds), and tells hooks."""

        def unit(tx: Tx) -> None:
            row = rows.find_to_change(tx, sub.pk)
            if row is None or row.state != ARMED or row.stalled_since is not None:
                return
            rows.update(tx, row.pk, stalled_since=since, last_error=reason[:_LONGEST_ERROR])
            _notice(tx, row, TRIGGER_STALLED, {"reason": reason, "since": _time(since), **facts})

        await self._writer.write(unit)

    async def recover(self, sub: Subscription, since: int, facts: Mapping[str, Any]) -> None:
        """Notes that a trigger goes on again that stood still, and tells hooks."""

        def unit(tx: Tx) -> None:
            row = rows.find_to_change(tx, sub.pk)
            if row is None or row.stalled_since is None:
                return
            rows.update(tx, row.pk, stalled_since=None, last_error=None)
            _notice(tx, row, TRIGGER_RECOVERED, {"reason": row.last_error, "since": _time(since), **facts})

        await self._writer.write(unit)

    async def progress(self, chain_id: int) -> dict[str, Any] | None:
        """The progress that `save_progress` kept; None before."""
        found = await self._database.read(lambda tx: chain_headers.find_progress(tx, chain_id))
        return None if found is None else dict(loads_own(found[0]))

    async def save_progress(self, chain_id: int, state: Mapping[str, Any]) -> None:
        """Keeps how far the triggers of a chain are, as `chain_progress.state` has it."""
        now = clock.now_ms()
        await self._writer.write(lambda tx: chain_headers.save_progress(tx, chain_id, dumps_text(state), now))

    async def skip(self, sub: Subscription, version: int, first: int, last: Cursor, reason: str) -> int:
        """Records blocks that are not scanned as a gap, and moves the cursor behind them; its new version."""
        row = sub.row
        gap = GapRow(
            id=ids.new_id("gap"),
            org_id=row.org_id,
            workflow_id=row.workflow_id,
            subscription_pk=row.pk,
            range=dumps_text({"fromBlock": first, "toBlock": last.number}),
            reason=reason,
            state=OPEN,
            created_at=clock.now_ms(),
        )

        def unit(tx: Tx) -> int:
            moved = recording.move_alone(tx, row, CursorMove(version, last.public()))
            gaps.insert(tx, gap)
            return moved

        return await self._writer.write(unit)

    async def replaying(self, sub: Subscription) -> list[tuple[int, int, int]]:
        """The gaps that a person wants scanned after all: row id, first and last block."""
        found = await self._database.read(lambda tx: gaps.list_replaying(tx, sub.pk))
        ranges = [(gap.pk, loads_own(gap.range)) for gap in found]
        return [(pk, int(range["fromBlock"]), int(range["toBlock"])) for pk, range in ranges]

    async def close_gap(self, gap_pk: int) -> None:
        """The blocks of a gap have been scanned."""
        now = clock.now_ms()
        await self._writer.write(lambda tx: gaps.set_state(tx, gap_pk, was=REPLAYING, becomes=REPLAYED, at=now))
