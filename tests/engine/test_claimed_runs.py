"""Runs that one process creates and another advances: what the creation executes, and what is read with the claim."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from dustrun import __version__, clock
from dustrun.engine.hosts.claims import Claims
from dustrun.engine.run.recovery import LoadedRun
from dustrun.errors import Temporary
from dustrun.services.sharing.bus import Bus
from dustrun.storage.db.database import Database
from dustrun.storage.db.ledger_tables import processes
from dustrun.storage.db.statement import Statement, Tx
from dustrun.storage.db.tables import executions, runs
from dustrun.storage.runs import claims
from dustrun.storage.runs.claims import Rooms
from dustrun.storage.runs.runs import OpenRun
from testkit.composition import Composition, composed
from testkit.outside import outside_server
from testkit.postgres import Cluster
from testkit.sharing import ended, events_of, sharing, until

Json = dict[str, Any]
_SAY: Json = {"type": "log", "payload": {"message": "{{$trigger.body.name}}"}}
_REST: Json = {"type": "delay", "payload": {"delayMs": 1}}
_PURE: Json = {"root": {"type": "manual", "children": ["say"]}, "say": _SAY}
_RESTS: Json = {
    "root": {"type": "manual", "children": ["rest"]},
    "rest": {**_REST, "children": ["say"]},
    "say": _SAY,
}
_SAYS_FIRST: Json = {
    "root": {"type": "manual", "children": ["say"]},
    "say": {**_SAY, "children": ["rest"]},
    "rest": _REST,
}
_FAILS: Json = {
    "root": {"type": "manual", "children": ["rest"]},
    "rest": {**_REST, "children": ["say"]},
    "say": {"type": "log", "payload": {"message": "{{$trigger.body.none}}"}},
}
_LONG = "x" * 40_000
_LIVES: Json = {"started_at": 0, "alive_until": 2**52}


@pytest.fixture
def url(cluster: Cluster) -> Iterator[str]:
    url = cluster.fresh()
    yield url
    cluster.drop(url)


async def _start(server: Composition, run_id: str, nodes: Json, **body: Any) -> None:
    definition = {"nodes": nodes, "triggerNodeIds": ["root"]}
    reply = await server.owner.post("/v1/runs", {"runId": run_id, "definition": definition, "payload": {}, **body})
    assert reply.status == 200, reply.body


async def _status(server: Composition, run_id: str) -> str:
    return str((await server.owner.get(f"/v1/runs/{run_id}")).data["status"])


async def test_a_process_that_only_answers_executes_the_pure_nodes_that_a_run_begins_with(
    tmp_path: Path, url: str
) -> None:
    async with composed(tmp_path, database_url=url, shared=True, roles="api") as answers:
        for mode, asked in (("live", {}), ("simulate", {"simulate": True})):
            await _start(answers, f"run_{mode}", _PURE, payload={"name": "a"}, **asked)
            assert (mode, await _status(answers, f"run_{mode}")) == (mode, "success")
        await _start(answers, "run_rests", _SAYS_FIRST, payload={"name": "b"})
        run = (await answers.owner.get("/v1/runs/run_rests")).data
        assert (run["status"], run["executionState"]["say"]["status"]) == ("running", "success")
        async with composed(tmp_path, database_url=url, shared=True, roles="engine"):
            assert (await ended(answers.owner, "run_rests"))["status"] == "success"
        kinds = [kind for _, kind in await events_of(answers.owner, "run_rests")]
        assert kinds.count("log") == 1


async def test_runs_of_every_kind_that_waited_for_an_engine_end_once(tmp_path: Path, url: str) -> None:
    async with composed(tmp_path, database_url=url, shared=True, roles="api") as answers:
        await _start(answers, "run_small", _RESTS, payload={"name": "small"})
        await _start(answers, "run_long", _RESTS, payload={"name": _LONG})
        await _start(answers, "run_cancelled", _RESTS, payload={"name": "never"})
        assert (await answers.owner.post("/v1/runs/run_cancelled/cancel", {})).status == 200
        await _start(answers, "run_fails", _FAILS)
        async with composed(tmp_path, database_url=url, shared=True, roles="engine"):
            assert (await ended(answers.owner, "run_fails"))["status"] == "failure"
        again = (await answers.owner.post("/v1/runs/run_fails/retry", {})).data["id"]
        await _start(answers, "run_late", _RESTS, payload={"name": "late"})
        async with composed(tmp_path, database_url=url, shared=True, roles="engine"):
            assert (await ended(answers.owner, again))["status"] == "failure"
            for name, status in (
                ("small", "success"),
                ("long", "success"),
                ("late", "success"),
                ("cancelled", "cancelled"),
            ):
                assert (name, (await ended(answers.owner, f"run_{name}"))["status"]) == (name, status)
        for name in ("small", "long", "late", "cancelled"):
            seen = await events_of(answers.owner, f"run_{name}")
            assert [number for number, _ in seen] == list(range(1, len(seen) + 1))
            assert [kind for _, kind in seen].count("run_finished") == 1
        said = await answers.rows(sa.select(sa.func.count()).where(executions.c.node_id == "say"))
        assert said == [(5,)]  # of small, long and late, and of the two that failed at it


def _write(url: str, statement: sa.Executable) -> None:
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        connection.execute(statement)
    engine.dispose()


async def _start_many(server: Composition, count: int) -> Counter[str]:
    """Starts runs of pure nodes at once; by status how many there are afterwards."""
    await server.owner.get("/v1/runs")  # its key is known from here on
    await asyncio.gather(*(_start(server, f"run_{n}", _PURE, payload={"name": "a"}) for n in range(count)))
    found = await server.rows(sa.select(runs.c.status))
    return Counter(status for (status,) in found)


async def test_a_process_without_engines_beside_it_ends_pure_runs_however_many_come_at_once(
    tmp_path: Path, url: str
) -> None:
    async with composed(tmp_path, database_url=url, shared=True, roles="api") as answers:
        assert await _start_many(answers, 100) == {"success": 100}


async def test_a_busy_process_leaves_some_pure_runs_to_engines_but_not_more_than_they_take(
    tmp_path: Path, url: str
) -> None:
    """An engine that says that it lives, and takes nothing, has no more than two groups of them to itself."""
    _write(url, sa.insert(processes).values(id="frozen", roles="engine", version=__version__, **_LIVES))
    async with composed(tmp_path, database_url=url, shared=True, roles="api") as answers:
        left = await _start_many(answers, 300)
        assert set(left) == {"success", "running"}
        assert left["running"] <= 100
        await answers.execute(sa.delete(processes).where(processes.c.id == "frozen"))
        async with composed(tmp_path, database_url=url, shared=True, roles="engine") as engine:
            for number in range(300):
                assert (await ended(answers.owner, f"run_{number}"))["status"] == "success"
            holders = Counter(name for (name,) in await answers.rows(sa.select(runs.c.claimed_by)))
            assert holders == {None: left["success"], engine.parts.database.name: left["running"]}
        said = sa.select(executions.c.run_pk, sa.func.count()).where(executions.c.node_id == "say")
        assert set(Counter(count for _, count in await answers.rows(said.group_by(executions.c.run_pk)))) == {1}


async def test_a_claim_takes_the_fence_and_reads_small_new_runs(tmp_path: Path, url: str) -> None:
    async with composed(tmp_path, database_url=url, shared=True, roles="api") as answers:
        await _start(answers, "run_small", _RESTS, payload={"name": "small"})
        await _start(answers, "run_long", _RESTS, payload={"name": _LONG})
        await _start(answers, "run_begun", _SAYS_FIRST, payload={"name": "begun"})
        before = dict(await answers.rows(sa.select(runs.c.id, runs.c.fence)))
        database = Database(url, is_shared=True)
        try:
            tx = database.begin()
            found = claims.claimed(claims.claim(tx, "me", 10)).runs
            loaded = claims.list_new(tx, [run.pk for run in found], "me", 32_768)
            others = claims.list_new(tx, [run.pk for run in found], "another", 32_768)
            settings = [tx.one(Statement(sa.text(f"SHOW enable_{name}"))) for name in ("bitmapscan", "seqscan")]
            database.commit()
        finally:
            database.close()
        assert (settings, others) == ([("on",), ("on",)], [])
        assert [run.id for run in found] == ["run_small", "run_long", "run_begun"]
        assert [(run.id, run.claimed_by, run.fence) for run, _ in loaded] == [
            ("run_small", "me", before["run_small"] + 1)
        ]
        assert [row[0] for _, stored in loaded for row in stored] == ["root"]
        after = dict(await answers.rows(sa.select(runs.c.id, runs.c.fence)))
        assert after == {name: fence + 1 for name, fence in before.items()}


async def test_what_nobody_told_is_found_also_while_runs_come_all_the_time(tmp_path: Path, url: str) -> None:
    """A cancel that is heard between the claim of its run and the run's adoption is told to nobody again."""
    shares: dict[str, Any] = {"database_url": url, "shared": True}
    async with composed(tmp_path, **shares, roles="api") as answers, composed(tmp_path, **shares, roles="engine"):
        hold = {"type": "wait", "payload": {"timeoutMs": 600_000}}
        await _start(answers, "run_held", {"root": {"type": "manual", "children": ["hold"]}, "hold": hold})

        async def waits() -> bool:
            return await _status(answers, "run_held") == "waiting"

        await until(waits)

        async def come() -> None:
            for number in itertools.count():
                await _start(answers, f"run_{number}", _RESTS, payload={"name": "a"})
                await asyncio.sleep(0.4)  # before the engine would look by itself

        coming = asyncio.create_task(come())
        try:
            asked = sa.update(runs).where(runs.c.id == "run_held").values(cancel_requested_at=clock.now_ms())
            await answers.execute(asked)  # past the API, which would tell

            async def is_cancelled() -> bool:
                return await _status(answers, "run_held") == "cancelled"

            await until(is_cancelled)
        finally:
            coming.cancel()
        kinds = [kind for _, kind in await events_of(answers.owner, "run_held")]
        assert kinds.count("run_finished") == 1


class _Late:
    """An engine that comes to know its run only after somebody has asked to cancel it."""

    room = 0

    def __init__(self) -> None:
        self.known = False
        self.cancelled: list[int] = []

    def rooms(self, most: int, coming: Mapping[str, int]) -> Rooms:
        return Rooms(most, {})

    def load_new(self, tx: Tx, found: list[OpenRun]) -> dict[int, LoadedRun]:
        return {}

    def adopt(self, found: list[OpenRun], loaded: Mapping[int, LoadedRun]) -> None:
        raise AssertionError("it has no room")

    def hear_wake(self, run_pk: int) -> bool:
        return self.known

    def hear_cancel(self, run_pk: int) -> bool:
        self.cancelled += [run_pk] * self.known
        return self.known


async def test_a_cancel_of_a_run_that_is_not_known_yet_is_told_once_it_is(tmp_path: Path, url: str) -> None:
    async with composed(tmp_path, database_url=url, shared=True, roles="api") as answers:
        await _start(answers, "run_1", _RESTS, payload={"name": "a"})
        parts, late = answers.parts, _Late()
        found = Claims(parts.database, parts.writer, Bus(parts.database), lambda: 1, advances=True, most_free=9)
        claimed = {"claimed_by": found.holder, "cancel_requested_at": clock.now_ms()}
        await answers.execute(sa.update(runs).values(**claimed))
        found.start(late)
        try:
            await asyncio.sleep(0.2)  # it has looked, and the engine did not know the run
            late.known = True

            async def is_told() -> bool:
                return bool(late.cancelled)

            await until(is_told)
            await asyncio.sleep(1.2)  # it looks again, and does not tell again
            assert len(late.cancelled) == 1
        finally:
            await found.stop()


class _Unread(_Late):
    """An engine that cannot read what it has claimed."""

    room = 10

    def __init__(self) -> None:
        super().__init__()
        self.adopted: list[tuple[list[str], Mapping[int, LoadedRun]]] = []

    def load_new(self, tx: Tx, found: list[OpenRun]) -> dict[int, LoadedRun]:
        raise Temporary("It cannot be read.")

    def adopt(self, found: list[OpenRun], loaded: Mapping[int, LoadedRun]) -> None:
        self.adopted.append(([run.id for run in found], loaded))


async def test_what_was_claimed_is_adopted_also_if_it_cannot_be_read(tmp_path: Path, url: str) -> None:
    """Nobody else would take it while this process lives."""
    async with composed(tmp_path, database_url=url, shared=True, roles="api") as answers:
        for number in range(3):
            await _start(answers, f"run_{number}", _RESTS, payload={"name": "a"})
        parts, unread = answers.parts, _Unread()
        found = Claims(parts.database, parts.writer, Bus(parts.database), lambda: 1, advances=True, most_free=9)
        found.start(unread)
        try:

            async def has_adopted() -> bool:
                return bool(unread.adopted)

            await until(has_adopted)
        finally:
            await found.stop()
        assert unread.adopted[0] == (["run_0", "run_1", "run_2"], {})
        assert await answers.rows(sa.select(runs.c.claimed_by).distinct()) == [(found.holder,)]


class _Busy(_Late):
    """An engine with much room that does not read yet what it has claimed."""

    room = 500

    def __init__(self) -> None:
        super().__init__()
        self.coming: list[int] = []
        self.adopted: list[int] = []

    def rooms(self, most: int, coming: Mapping[str, int]) -> Rooms:
        if most > 1:
            self.coming.append(sum(coming.values()))
        return Rooms(most, {})

    def adopt(self, found: list[OpenRun], loaded: Mapping[int, LoadedRun]) -> None:
        self.adopted.append(len(found))


async def test_more_is_claimed_while_what_was_claimed_is_read_and_of_many_more_at_once(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with composed(tmp_path, database_url=url, shared=True, roles="api") as answers:
        for first in range(0, 320, 40):
            starts = (_start(answers, f"run_{first + n}", _RESTS, payload={"name": "a"}) for n in range(40))
            await asyncio.gather(*starts)
        parts, busy, may_read = answers.parts, _Busy(), asyncio.Event()
        found = Claims(parts.database, parts.writer, Bus(parts.database), lambda: 1, advances=True, most_free=1000)
        look_up = parts.database.look_up

        async def late(query: Any) -> Any:
            await may_read.wait()
            return await look_up(query)

        monkeypatch.setattr(parts.database, "look_up", late)
        found.start(busy)
        try:

            async def has_claimed_all() -> bool:
                return await answers.rows(sa.select(sa.func.count()).where(runs.c.claimed_by == found.holder)) == [
                    (320,)
                ]

            await until(has_claimed_all)
            assert busy.adopted == []
            may_read.set()

            async def has_adopted_all() -> bool:
                return sum(busy.adopted) == 320

            await until(has_adopted_all)
        finally:
            await found.stop()
        assert max(busy.adopted) > 50  # a quarter of those that were free at a look
        assert busy.coming[:3] == [0, busy.adopted[0], sum(busy.adopted[:2])]


async def test_what_a_process_learns_after_another_took_its_run_over_is_not_written(tmp_path: Path, url: str) -> None:
    """The run is still open then, and waits: only the fence tells the two apart."""
    hold = {"type": "wait", "payload": {"timeoutMs": 600_000}}
    async with (
        outside_server() as outside,
        sharing(tmp_path, url, outbound_allow=("127.0.0.1",)) as (slow, other),
    ):
        ask = {"type": "http-request", "payload": {"method": "GET", "url": f"{outside.base}/a"}}
        root = {"type": "manual", "children": ["ask", "hold"]}
        await _start(slow, "run_1", {"root": root, "ask": ask, "hold": hold})
        await outside.until(1)
        dead = sa.update(processes).where(processes.c.id == slow.parts.database.name).values(alive_until=0)

        async def is_asked_again() -> bool:
            await other.execute(dead)  # it says that it lives every two seconds
            return len(outside.asked) == 2

        await until(is_asked_again)

        async def waits() -> bool:
            return await _status(other, "run_1") == "waiting"

        await until(waits)
        outside.go_on.set()

        async def has_given_up() -> bool:
            return slow.engine.advancing + slow.engine.waiting == 0

        await until(has_given_up)
        await other.owner.post("/v1/runs/run_1/nodes/hold/resume", {"data": {}})
        run = await ended(other.owner, "run_1")
        assert (run["status"], run["executionState"]["ask"]["result"]["body"]) == ("success", {"number": 2})
        seen = await events_of(other.owner, "run_1")
        assert [number for number, _ in seen] == list(range(1, len(seen) + 1))
        assert [kind for _, kind in seen].count("node_succeeded") == 2
