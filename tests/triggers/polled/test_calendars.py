"""When the events of a calendar begin."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from dustrun.errors import Invalid
from dustrun.triggers.polled.calendar import Starts, read_calendar


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


def event(*lines: str, uid: str = "a") -> str:
    return "\r\n".join(["BEGIN:VEVENT", f"UID:{uid}", *lines, "END:VEVENT"])


def read(*events: str, since: str = "2026-01-01", until: str = "2026-12-31", zone: str | None = None) -> Starts:
    head = "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:test\r\nX-WR-TIMEZONE:Europe/Berlin\r\n"
    text = head + "\r\n".join(events) + "\r\nEND:VCALENDAR\r\n"
    return read_calendar(text.encode(), at(since), at(until), zone)


def begins(found: Starts) -> list[str]:
    return [datetime.fromtimestamp(one.at, UTC).strftime("%m-%d %H:%M") for one in found.found]


WEEKLY = "RRULE:FREQ=WEEKLY;COUNT=5"


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (("DTSTART:20260310T090000Z",), ["03-10 09:00"]),
        (("DTSTART:20260310T090000",), ["03-10 08:00"]),  # without a zone: the calendar's
        (("DTSTART;VALUE=DATE:20260701",), ["06-30 22:00"]),
        (("DTSTART;TZID=America/New_York:20260310T090000",), ["03-10 13:00"]),
        (("DTSTART;TZID=W. Europe Standard Time:20260310T090000",), ["03-10 08:00"]),
        # the clock on the wall, through the change to daylight saving
        (
            ("DTSTART;TZID=Europe/Berlin:20260315T090000", WEEKLY),
            ["03-15 08:00", "03-22 08:00", "03-29 07:00", "04-05 07:00", "04-12 07:00"],
        ),
        (
            (
                "DTSTART;TZID=Europe/Berlin:20260315T090000",
                WEEKLY,
                "EXDATE;TZID=Europe/Berlin:20260322T090000,20260329T090000",
            ),
            ["03-15 08:00", "04-05 07:00", "04-12 07:00"],
        ),
        (
            ("DTSTART:20260315T090000Z", "RRULE:FREQ=WEEKLY;UNTIL=20260322T090000Z", "RDATE:20260401T120000Z"),
            ["03-15 09:00", "03-22 09:00", "04-01 12:00"],
        ),
        (("DTSTART:20260315T090000Z", "RDATE;VALUE=PERIOD:20260401T120000Z/PT1H"), ["03-15 09:00", "04-01 12:00"]),
        (
            ("DTSTART;VALUE=DATE:20260315", "RRULE:FREQ=DAILY;COUNT=3", "EXDATE;VALUE=DATE:20260316"),
            ["03-14 23:00", "03-16 23:00"],
        ),
        (("DTSTART:20260310T090000Z", "STATUS:CANCELLED"), []),
        (("DTSTART:20250101T090000Z", "RRULE:FREQ=YEARLY"), ["01-01 09:00"]),
    ],
)
def test_an_event_begins_as_calendars_show_it(lines: tuple[str, ...], expected: list[str]) -> None:
    found = read(event(*lines))
    assert (begins(found), found.unreadable) == (expected, [])


def test_moved_cancelled_and_newer_versions_replace_what_was_before() -> None:
    series = event("DTSTART:20260301T090000Z", "RRULE:FREQ=DAILY;COUNT=4", "SUMMARY:Pay")
    moved = event("RECURRENCE-ID:20260302T090000Z", "DTSTART:20260305T150000Z", "SUMMARY:Pay later")
    cancelled = event("RECURRENCE-ID:20260303T090000Z", "DTSTART:20260303T090000Z", "STATUS:CANCELLED")
    old = event("DTSTART:20260310T090000Z", "SEQUENCE:1", uid="b")
    new = event("DTSTART:20260311T090000Z", "SEQUENCE:2", uid="b")
    found = read(series, moved, cancelled, new, old)
    assert begins(found) == ["03-01 09:00", "03-04 09:00", "03-05 15:00", "03-11 09:00"]
    assert [one.key for one in found.found] == [
        f"a:{at('2026-03-01T09:00')}:{at('2026-03-01T09:00')}",
        f"a:{at('2026-03-04T09:00')}:{at('2026-03-04T09:00')}",
        f"a:{at('2026-03-02T09:00')}:{at('2026-03-05T15:00')}",
        f"b::{at('2026-03-11T09:00')}",
    ]
    assert [one.event["summary"] for one in found.found] == ["Pay", "Pay", "Pay later", None]


def test_what_an_event_says() -> None:
    lines = (
        "DTSTART;TZID=Europe/Berlin:20260130T090000",
        "DURATION:PT90M",
        "SUMMARY:Pay\\, all",
        "CATEGORIES:A,B",
        "SEQUENCE:3",
    )
    shown: dict[str, Any] = read(event(*lines)).found[0].event
    assert shown == {
        "uid": "a",
        "summary": "Pay, all",
        "description": None,
        "location": None,
        "url": None,
        "status": None,
        "categories": ["A", "B"],
        "startsAt": "2026-01-30T08:00:00.000Z",
        "endsAt": "2026-01-30T09:30:00.000Z",
        "localStart": "2026-01-30T09:00:00",
        "timezone": "Europe/Berlin",
        "isAllDay": False,
        "recurrenceId": None,
        "sequence": 3,
    }
    assert (
        read(event("DTSTART;VALUE=DATE:20260130"), zone="Asia/Tokyo").found[0].event["endsAt"]
        == "2026-01-30T15:00:00.000Z"
    )


def test_one_event_that_cannot_be_read_holds_up_no_other() -> None:
    found = read(
        event("SUMMARY:no start", uid="x"),
        event("DTSTART:20260301T090000Z", "RRULE:FREQ=DAILY;BYMONTH=13", "SUMMARY:odd rule", uid="y"),
        event("DTSTART:20260301T090000Z", uid="z"),
    )
    assert begins(found) == ["03-01 09:00"]
    assert [uid for uid, _ in found.unreadable] == ["x", "y"]
    assert 'The event "no start" cannot be read' in found.unreadable[0][1]
    for body in (b"<html>no</html>", b"", b"\xff\xfe"):
        with pytest.raises(Invalid, match="no calendar"):
            read_calendar(body, 0, 1, None)


def test_of_very_many_times_the_first_are_told_and_up_to_when() -> None:
    found = read(event("DTSTART:20260301T000000Z", "RRULE:FREQ=MINUTELY"))
    assert (len(found.found), found.until) == (200, found.found[-1].at)
    assert begins(found)[0] == "03-01 00:00"
