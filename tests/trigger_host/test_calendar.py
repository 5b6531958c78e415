"""Events of calendars start one run each, when they are due: also if the calendar does not answer then."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from dustrun import clock
from dustrun.storage.db.trigger_tables import subscriptions, trigger_events
from testkit.composition import Composition, composed
from testkit.news import News, serving
from trigger_host.test_happened import SAY, until
from trigger_host.test_polls import QUICK


def calendar(*events: tuple[str, int], more: str = "") -> str:
    """A calendar with events that begin so many seconds from now."""
    now, lines = clock.now_ms() // 1000, ["BEGIN:VCALENDAR", "VERSION:2.0", "PRODID:test"]
    for uid, in_s in events:
        start = datetime.fromtimestamp(now + in_s, UTC).strftime("%Y%m%dT%H%M%SZ")
        lines += ["BEGIN:VEVENT", f"UID:{uid}", f"DTSTART:{start}", f"SUMMARY:{uid}", *more.split(), "END:VEVENT"]
    return "\r\n".join([*lines, "END:VCALENDAR", ""])


async def publish(server: Composition, news: News, **config: Any) -> str:
    root = {"type": "calendar", "payload": {"url": news.url, **config}, "children": ["say"]}
    made = await server.owner.create_workflow({"nodes": {"root": root, "say": SAY}})
    published = await server.owner.post(f"/v1/workflows/{made['id']}/publish")
    assert published.status == 200, published.body
    asked = len(news.asked)

    async def has_looked() -> bool:
        (row,) = await server.rows(sa.select(subscriptions.c.cursor).where(subscriptions.c.workflow_id == made["id"]))
        return row[0] is not None and len(news.asked) > asked

    await until(has_looked)
    return str(made["id"])


async def told(server: Composition, workflow_id: str, count: int) -> list[tuple[str | None, str | None]]:
    t = trigger_events.c
    query = sa.select(t.payload, t.reason).where(t.workflow_id == workflow_id).order_by(t.pk)

    async def holds() -> bool:
        return len(await server.rows(query)) >= count

    await until(holds)
    return [((json.loads(payload)["event"] or {}).get("uid"), reason) for payload, reason in await server.rows(query)]


async def test_events_start_runs_when_they_are_due_also_over_a_restart_and_an_outage(
    tmp_path: Path, store_url: str
) -> None:
    settings = {**QUICK, "database_url": store_url}
    async with serving() as news:
        async with composed(tmp_path, **settings) as server:
            news.content = calendar(("past", -60), ("one", 2), ("two", 3), ("three", 6), ("off", 5))
            first = await publish(server, news, leadMs=1000)
            filtered = await publish(server, news, filter='event.summary == "two"')
            assert await told(server, first, 2) == [("one", None), ("two", None)]
            assert await told(server, filtered, 1) == [("two", None)]
            # one is moved and one is cancelled before they are due; the calendar is asked once more then
            now = clock.now_ms()
            news.content = calendar(("one", 4), ("three", 60)).replace(
                "END:VCALENDAR", calendar(("off", 3), more="STATUS:CANCELLED").partition("PRODID:test\r\n")[2]
            )
            assert await told(server, first, 3) == [("one", None), ("two", None), ("one", None)]
            assert clock.now_ms() - now >= 2000  # not when it was published, but a second before its new begin
            news.content = calendar(("late", 5))
            other = await publish(server, news)
        news.status = 503  # from here on it does not answer
        async with composed(tmp_path, **settings) as server:
            assert await told(server, other, 1) == [("late", None)]
            ((error,),) = await server.rows(
                sa.select(subscriptions.c.last_error).where(subscriptions.c.workflow_id == other)
            ) or [(None,)]
            assert len((await server.owner.get(f"/v1/workflows/{other}/runs")).data["items"]) == 1
            assert error is None or "503" in error


async def test_a_calendar_that_is_none_is_told_and_unreadable_events_once(tmp_path: Path) -> None:
    async with composed(tmp_path, **QUICK) as server, serving() as news:
        news.content = calendar(("odd", 600), more="RRULE:FREQ=DAILY;BYMONTH=13")
        workflow_id = await publish(server, news, pollMs=100)
        assert await told(server, workflow_id, 1) == [(None, "payload")]
        news.content = "<html>no</html>"

        async def has_error() -> bool:
            ((error,),) = await server.rows(sa.select(subscriptions.c.last_error))
            return "no calendar" in (error or "")

        await until(has_error)
        news.content = calendar(("odd", 600), ("near", 1), more="RRULE:FREQ=DAILY;BYMONTH=13")
        await asyncio.sleep(0.3)
        assert len([one for one in await told(server, workflow_id, 2) if one == (None, "payload")]) <= 2
        tested = await server.owner.post("/v1/triggers/calendar/test", {"config": {"url": news.url}})
        assert tested.status == 200, tested.body
