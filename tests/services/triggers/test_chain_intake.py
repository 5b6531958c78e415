"""What is told of events that reorgs remove and bring back, whatever happened to the trigger in between."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import Any

import pytest
import sqlalchemy as sa

from dustrun.core.triggers.chain.cursor import Cursor
from dustrun.core.triggers.chain.watch import BlockFacts, ChainEvent, ChainWatch, OnReorg
from dustrun.core.triggers.event import CursorMove
from dustrun.core.values.exact_json import loads
from dustrun.errors import Temporary
from dustrun.services.triggers.chain_intake import ChainIntake
from dustrun.services.triggers.recording import CursorMoved
from dustrun.services.triggers.subscriptions import Subscription
from dustrun.storage.db.tables import runs
from dustrun.storage.db.trigger_tables import trigger_events
from dustrun.storage.triggers import chain_events
from dustrun.storage.triggers import events as event_rows
from services.triggers.test_intake import BELL, only, published, ring, server
from testkit.composition import Composition
from testkit.sharing import ended

__all__ = ["server"]  # the fixture
WATCH = ChainWatch(1, 0, on_reorg="retract")
KEY = "1:0xaa:0"


@dataclass
class Deposit:
    """One event of a chain, whose block comes and goes, as the watcher of that chain tells the intake."""

    server: Composition
    sub: Subscription
    number: int = 10
    position: int = 0

    @property
    def _intake(self) -> ChainIntake:
        parts = self.server.parts
        return ChainIntake(parts.database, parts.writer, parts.triggers.intake)

    async def read(self) -> None:
        """Reads the subscription anew."""
        self.sub = await only(self.server, self.sub.row.workflow_id)

    async def comes(self) -> None:
        """It is in a new block."""
        self.number += 1
        await self.is_seen()

    async def is_seen(self) -> None:
        """Its block is scanned."""
        hash = f"0x{self.number:02x}"
        key = f"{KEY[:-1]}{self.position}"
        payload = {"n": 5, "position": self.position, "reorg": None}
        event = ChainEvent(key, self.position, payload, BlockFacts(self.number, hash, 1_700_000_000))
        (event,) = await self._intake.identify(self.sub, [event])
        await self._intake.record(self.sub, WATCH, event, (self.sub.row.cursor_version, Cursor(self.number, hash)))
        await self.read()

    async def goes(self, watch: ChainWatch = WATCH) -> None:
        """A reorg removed its block."""
        row = await self.server.parts.database.read(lambda tx: chain_events.find(tx, self.sub.pk, KEY))
        assert row is not None
        assert row.is_live
        move = CursorMove(self.sub.row.cursor_version, Cursor(row.block_number, row.block_hash).public())
        await self._intake.retract(self.sub, watch, row, move)
        await self.read()

    async def told(self) -> list[tuple[str | None, str]]:
        """What runs were told, and their modes, oldest first."""
        t = trigger_events.c
        query = sa.select(t.payload, runs.c.mode).join_from(trigger_events, runs, t.run_id == runs.c.id).order_by(t.pk)
        return [(loads(payload).get("reorg"), mode) for payload, mode in await self.server.rows(query)]

    async def outcomes(self) -> list[tuple[str, str, str | None]]:
        """Key, outcome and reason of every event."""
        t = trigger_events.c
        found = await self.server.rows(sa.select(t.key, t.outcome, t.reason).order_by(t.pk))
        return [(key, outcome, reason) for key, outcome, reason in found]


async def deposit(server: Composition, definition: Any = BELL, **fields: Any) -> Deposit:
    _, sub = await published(server, definition, **fields)
    return Deposit(server, sub)


async def test_what_nobody_was_told_of_is_not_told_to_be_back(server: Composition) -> None:
    """The run that tells of the removal may be refused. A run that tells of the return would credit twice then."""
    key = (await server.owner.post("/v1/api-keys", {"name": "p", "permissions": ["admin"]})).data
    workflow = await server.owner.create_workflow(BELL)
    await server.client(key["key"]).post(f"/v1/workflows/{workflow['id']}/publish")
    one = Deposit(server, await only(server, workflow["id"]))
    await one.comes()
    await server.owner.delete(f"/v1/api-keys/{key['id']}")
    await one.goes()
    assert (await one.outcomes())[-1] == (f"{KEY}:retracted1", "skipped", "key_revoked")
    await server.owner.post(f"/v1/workflows/{workflow['id']}/resume")
    await one.read()
    await one.comes()
    assert await one.told() == [(None, "live")]
    await one.goes()
    await one.comes()
    assert await one.told() == [(None, "live"), ("retracted", "live"), ("restored", "live")]


async def test_what_is_told_of_a_removal_waits_for_room(server: Composition) -> None:
    definition = copy.deepcopy(BELL)
    definition["nodes"]["say"] = {"type": "wait", "payload": {"timeoutMs": 3_600_000}}
    one = await deposit(server, definition, concurrency={"max": 1, "onLimit": "skip"})
    await one.comes()
    with pytest.raises(Temporary):
        await one.goes()
    assert await one.outcomes() == [(KEY, "started", None)]
    (run,) = [str(id) for (id,) in await server.rows(sa.select(runs.c.id))]
    await server.owner.post(f"/v1/runs/{run}/cancel")
    await ended(server.owner, run)
    await one.goes()
    assert await one.told() == [(None, "live"), ("retracted", "live")]


async def test_what_was_only_rehearsed_is_taken_back_in_a_rehearsal(server: Composition) -> None:
    definition = copy.deepcopy(BELL)
    definition["nodes"]["root"]["payload"] = {"mode": "simulate"}
    one = await deposit(server, definition)
    await one.comes()
    await server.owner.post(f"/v1/workflows/{one.sub.row.workflow_id}/trigger-rehearsal/go-live")
    await one.read()
    assert one.sub.row.mode == "live"
    await one.goes()
    await one.comes()
    assert await one.told() == [(None, "simulate"), ("retracted", "simulate"), ("restored", "simulate")]


async def test_a_paused_trigger_tells_nothing_and_keeps_what_it_saw_for_later(server: Composition) -> None:
    one = await deposit(server)
    await one.comes()
    seen = one.sub
    await server.owner.post(f"/v1/workflows/{seen.row.workflow_id}/pause")
    one.sub = seen
    with pytest.raises(CursorMoved):
        await one.goes()
    other = ChainEvent("1:0xbb:0", 0, {"n": 6, "reorg": None}, BlockFacts(12, "0x0c", 1_700_000_000))
    with pytest.raises(CursorMoved):
        await one._intake.record(seen, WATCH, other, (seen.row.cursor_version, Cursor(12, "0x0c")))
    assert await one.outcomes() == [(KEY, "started", None)]


async def test_a_watcher_that_was_overtaken_takes_nothing_back(server: Composition) -> None:
    """It may have been frozen: what another one recorded meanwhile is in blocks that it does not know."""
    one = await deposit(server)
    frozen = one.sub
    await one.comes()
    one.sub = replace(one.sub, row=frozen.row)
    with pytest.raises(CursorMoved):
        await one.goes()
    assert await one.outcomes() == [(KEY, "started", None)]


async def test_an_event_whose_content_was_deleted_may_go_and_come(server: Composition) -> None:
    one = await deposit(server)
    await one.comes()
    org_id = one.sub.row.org_id
    await server.parts.writer.write(lambda tx: event_rows.forget_content(tx, org_id, 2**50, 10))
    await one.goes()
    assert (await one.outcomes())[-1] == (f"{KEY}:retracted1", "failed", "content_deleted")
    await one.comes()
    assert (await one.outcomes())[0] == (KEY, "started", None)


async def test_a_block_that_is_scanned_again_does_not_forget_what_was_told(server: Composition) -> None:
    one = await deposit(server)
    await one.comes()
    await one.goes()
    await one.comes()
    await one.is_seen()
    await one.goes()
    assert [reorg for reorg, _ in await one.told()] == [None, "retracted", "restored", "retracted"]


async def test_a_replay_by_hand_of_a_skipped_event_is_taken_back(server: Composition) -> None:
    one = await deposit(server, cooldownMs=3_600_000)
    await server.parts.triggers.intake.fire(one.sub, ring("x"))
    await one.read()
    await one.comes()
    assert (await one.outcomes())[-1] == (KEY, "skipped", "cooldown")
    (event_id,) = [
        str(id) for (id,) in await server.rows(sa.select(trigger_events.c.id).where(trigger_events.c.key == KEY))
    ]
    replayed = await server.owner.post(f"/v1/trigger-events/{event_id}/replay", {"ignoreLimits": True})
    assert replayed.status == 200, replayed.body
    await one.goes()
    assert [reorg for reorg, _ in await one.told()][1:] == [None, "retracted"]


async def test_an_event_that_a_reorg_removed_is_not_replayed(server: Composition) -> None:
    one = await deposit(server)
    await one.comes()
    (event_id,) = [str(id) for (id,) in await server.rows(sa.select(trigger_events.c.id))]
    await one.goes()
    refused = await server.owner.post(f"/v1/trigger-events/{event_id}/replay")
    assert refused.status == 409
    assert "A reorg removed block 11" in refused.body["message"]
    await one.comes()
    assert (await server.owner.post(f"/v1/trigger-events/{event_id}/replay")).status == 200


async def test_an_event_of_a_gap_that_comes_back_counts_again(server: Composition) -> None:
    one = await deposit(server)
    await one.comes()
    with_none = replace(WATCH, on_reorg="ignore")
    row = await server.parts.database.read(lambda tx: chain_events.find(tx, one.sub.pk, KEY))
    assert row is not None
    move = CursorMove(one.sub.row.cursor_version, {"number": 1, "hash": "0x1"})
    await one._intake.retract(one.sub, with_none, row, move)
    assert await one.outcomes() == [(KEY, "orphaned", "reorg")]
    again = ChainEvent(KEY, 0, {"n": 5, "reorg": None}, BlockFacts(12, "0x0c", 1_700_000_000))
    await one.read()
    at = Cursor(1, "0x1")  # where the cursor is: a gap is below it
    await one._intake.record(one.sub, WATCH, again, (one.sub.row.cursor_version, at))
    assert await one.outcomes() == [(KEY, "started", None)]
    assert await one.told() == [(None, "live")]


@pytest.mark.parametrize("on_reorg", ["ignore", "retract"])
async def test_an_event_that_comes_back_at_another_position_is_the_same(server: Composition, on_reorg: OnReorg) -> None:
    """In another order its transaction may emit a log more before it: the first deposit of somebody also opens an
    account."""
    one = await deposit(server)
    await one.comes()
    await one.goes(replace(WATCH, on_reorg=on_reorg))
    one.position = 1
    await one.comes()
    more = [("retracted", "live"), ("restored", "live")] if on_reorg == "retract" else []
    assert await one.told() == [(None, "live"), *more]
    one.position = 2
    await one.is_seen()
    assert await one.told() == [(None, "live"), *more, (None, "live")]


def paid(block: int, position: int, number: int) -> ChainEvent:
    """A payment of a transaction that is in a block."""
    payload = {"number": number, "position": position, "reorg": None}
    facts = BlockFacts(block, f"0x{block:02x}", 1_700_000_000)
    return ChainEvent(f"{KEY[:-1]}{position}", position, payload, facts)


@pytest.mark.both_stores
async def test_events_that_a_kill_left_to_record_are_still_themselves_after_a_reorg(server: Composition) -> None:
    """The first of a transaction's events had run; elsewhere, the transaction has the others alone, in its place."""
    one = await deposit(server)
    watch, intake = ChainWatch(1, 0), one._intake
    events = await intake.identify(one.sub, [paid(11, 0, 100), paid(11, 1, 1), paid(11, 2, 2)])
    at = (one.sub.row.cursor_version, Cursor(11, "0x0b", 0))
    await intake.record(one.sub, watch, events[0], at, events[1:])
    await one.read()
    for row in await server.parts.database.read(lambda tx: chain_events.list_above(tx, one.sub.pk, 10)):
        move = CursorMove(one.sub.row.cursor_version, Cursor(row.block_number, row.block_hash).public())
        await intake.retract(one.sub, watch, row, move)
        await one.read()
    for event in await intake.identify(one.sub, [paid(12, 0, 1), paid(12, 1, 2)]):
        await intake.record(one.sub, watch, event, (one.sub.row.cursor_version, Cursor(12, "0x0c", event.place)))
        await one.read()
    t = trigger_events.c
    found = await server.rows(sa.select(t.payload, t.outcome, t.reason).order_by(t.pk))
    assert [(loads(payload)["number"], outcome, reason) for payload, outcome, reason in found] == [
        (100, "skipped", "reorg") if found[0][1] == "skipped" else (100, "orphaned", "reorg"),
        (1, "started", None),
        (2, "started", None),
    ]
