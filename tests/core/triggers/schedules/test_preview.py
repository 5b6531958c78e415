from datetime import datetime
from zoneinfo import ZoneInfo

from dustrun.core.triggers.schedules.cron import next_fire
from dustrun.core.triggers.schedules.preview import upcoming


def notes(text: str, start: str, count: int) -> list[tuple[str, str | None]]:
    after = int(datetime.fromisoformat(start).replace(tzinfo=ZoneInfo("Europe/Berlin")).timestamp() * 1000)
    found = upcoming(lambda at: next_fire(text, "Europe/Berlin", at), "Europe/Berlin", after, count)
    return [(fire.local_time[5:16], fire.note) for fire in found]


def test_a_skipped_time_is_noted() -> None:
    assert notes("30 2 * * *", "2026-03-28T00:00", 3) == [
        ("03-28T02:30", None),
        ("03-29T03:00", "The clock goes forward by 1 h at this moment; times that it skips run now, once."),
        ("03-30T02:30", None),
    ]


def test_a_repeated_time_is_noted() -> None:
    assert notes("30 */1 * * *", "2026-10-25T01:45", 3) == [
        ("10-25T02:30", "The clock shows this time twice; this is the first one."),
        ("10-25T02:30", "The clock shows this time twice; this is the second one."),
        ("10-25T03:30", None),
    ]


def test_a_change_between_two_fires_is_noted() -> None:
    assert notes("0 9 * * *", "2026-03-28T10:00", 2) == [
        ("03-29T09:00", "The clock has gone forward by 1 h since the fire before (UTC+1:00 to UTC+2:00)."),
        ("03-30T09:00", None),
    ]
    assert notes("0 9 * * *", "2026-10-24T10:00", 1)[0][1] == (
        "The clock has gone back by 1 h since the fire before (UTC+2:00 to UTC+1:00)."
    )
