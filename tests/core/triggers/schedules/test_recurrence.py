import itertools
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from dateutil.rrule import rrulestr
from hypothesis import assume, given
from hypothesis import strategies as st

from dustrun.core.triggers.schedules.recurrence import compile_recurrence, min_gap
from dustrun.core.triggers.schedules.recurrence_text import RecurrenceProblem
from testkit.processor_time import is_within

NEW_YEAR = 1_767_225_600  # 2026-01-01T00:00:00Z


def fires(text: str, count: int, zone: str | None = None, after: int = NEW_YEAR - 1) -> list[str]:
    """The next fires in local time, with the distance from UTC."""
    recurrence = compile_recurrence(text, zone)
    found: list[str] = []
    while len(found) < count and (after := recurrence.next_after(after) or 0):
        found.append(datetime.fromtimestamp(after, ZoneInfo(zone or "UTC")).isoformat(timespec="minutes")[5:])
    return found


def test_a_finite_rule_ends() -> None:
    text = "DTSTART:20260101T090000Z\nRRULE:FREQ=DAILY;COUNT=2"
    assert fires(text, 5) == ["01-01T09:00+00:00", "01-02T09:00+00:00"]
    until = "DTSTART:20260101T090000Z\nRRULE:FREQ=DAILY;UNTIL=20260102T090000Z"
    assert fires(until, 5) == ["01-01T09:00+00:00", "01-02T09:00+00:00"]
    assert fires("DTSTART:20260101T090000Z\nRRULE:FREQ=DAILY;UNTIL=20260103", 5)[-1] == "01-03T09:00+00:00"


def test_dates_are_added_and_left_out() -> None:
    text = (
        "DTSTART:20260101T090000Z\nRRULE:FREQ=DAILY;COUNT=3\n"
        "EXDATE:20260102T090000Z\nRDATE:20260102T100000Z,20260109T100000Z"
    )
    assert fires(text, 9) == ["01-01T09:00+00:00", "01-02T10:00+00:00", "01-03T09:00+00:00", "01-09T10:00+00:00"]


@pytest.mark.parametrize(
    ("start", "rule", "expected"),
    [
        ("20260328T023000", "FREQ=DAILY", ["03-28T02:30+01:00", "03-29T03:00+02:00", "03-30T02:30+02:00"]),
        ("20261024T023000", "FREQ=DAILY", ["10-24T02:30+02:00", "10-25T02:30+02:00", "10-26T02:30+01:00"]),
        ("20260329T013000", "FREQ=HOURLY", ["03-29T01:30+01:00", "03-29T03:30+02:00", "03-29T04:30+02:00"]),
        ("20261025T013000", "FREQ=HOURLY", ["10-25T01:30+02:00", "10-25T02:30+02:00", "10-25T02:30+01:00"]),
    ],
)
def test_the_clock_changes(start: str, rule: str, expected: list[str]) -> None:
    text = f"DTSTART;TZID=Europe/Berlin:{start}\nRRULE:{rule}"
    assert fires(text, 3, "Europe/Berlin") == expected


@pytest.mark.parametrize(
    ("left_out", "expected"),
    [
        (";TZID=Europe/Berlin:20260329T023000", ["03-28T02:30+01:00", "03-30T02:30+02:00"]),
        (":20260329T010000Z", ["03-28T02:30+01:00", "03-30T02:30+02:00"]),
        (";TZID=Europe/Berlin:20260329T030000", ["03-28T02:30+01:00", "03-29T03:00+02:00"]),
    ],
)
def test_a_date_is_left_out_within_the_hour_that_the_clock_skips(left_out: str, expected: list[str]) -> None:
    text = f"DTSTART;TZID=Europe/Berlin:20260328T023000\nRRULE:FREQ=DAILY\nEXDATE{left_out}"
    assert fires(text, 2, "Europe/Berlin") == expected


def test_a_zone_outside_the_text_is_used_without_a_tzid() -> None:
    assert fires("DTSTART:20260704T090000\nRRULE:FREQ=YEARLY", 1, "America/New_York") == ["07-04T09:00-04:00"]


@pytest.mark.parametrize(
    ("text", "message", "position"),
    [
        ("FREQ=DAILY", "There is no DTSTART", 0),
        ("DTSTART:20260101T000000Z", "There is no RRULE", 1),
        ("DTSTART:20260101T000000Z\nRRULE:FREQ=OFTEN", "FREQ is one of", 37),
        ("DTSTART:20260101T000000Z\nRRULE:INTERVAL=2", "FREQ is missing", 32),
        ("DTSTART:20260101T000000Z\nRRULE:FREQ=DAILY;BYHOUR=9,24", "BYHOUR takes whole numbers from 0 to 23", 52),
        ("DTSTART:20260101T000000Z\nRRULE:FREQ=DAILY;BYDAY=MO,XX", "'XX' is no weekday", 52),
        ("DTSTART:20260101T000000Z\nRRULE:FREQ=DAILY;BYMOON=1", "'BYMOON' is not known", 43),
        ("DTSTART:20260101T000000Z\nRRULE:FREQ=DAILY;COUNT=2;UNTIL=20270101", "not both", 51),
        ("DTSTART:20260101T000000Z\nRRULE:FREQ=DAILY;COUNT=1001", "from 1 to 1000", 49),
        ("DTSTART:20260101T000000Z\nRRULE:FREQ=DAILY;INTERVAL=0", "from 1 to", 52),
        ("DTSTART:20261301T000000Z\nRRULE:FREQ=DAILY", "is no date or time", 9),
        ("DTSTART;TZID=Europe/Berln:20260101T000000\nRRULE:FREQ=DAILY", "did you mean 'Europe/Berlin'?", 14),
        ("DTSTART:20260101T000000Z\nRRULE:FREQ=DAILY\nRRULE:FREQ=DAILY", "two RRULE lines", 49),
        ("DTSTART:20260101T000000Z\nRRULE:FREQ=DAILY\nSUMMARY:x", "'SUMMARY' is not known", 43),
        ("DTSTART:20260101T000000Z\nRRULE:FREQ=WEEKLY;BYDAY=1MO", "Numbered weekdays go with", 44),
        ("DTSTART:20260101T000000Z\nRRULE:FREQ=DAILY;BYSETPOS=1", "there are none", 43),
        ("x" * 5000, "longer than 4096", 4097),
    ],
)
def test_a_bad_text_is_refused_at_its_position(text: str, message: str, position: int) -> None:
    with pytest.raises(RecurrenceProblem) as caught:
        compile_recurrence(text, None)
    assert message in str(caught.value)
    assert caught.value.position == position


@pytest.mark.parametrize(
    "rule",
    [
        "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30",
        "FREQ=DAILY;BYMONTH=2;BYMONTHDAY=30",
        "FREQ=MINUTELY;BYMONTH=2;BYMONTHDAY=30",
        "FREQ=SECONDLY;BYMONTH=2;BYMONTHDAY=30",
        "FREQ=SECONDLY;BYHOUR=9;BYMINUTE=5;BYSECOND=5",
        "FREQ=MONTHLY;INTERVAL=12;BYMONTH=2",
        "FREQ=WEEKLY;BYMONTH=2;BYSETPOS=300",
        "FREQ=HOURLY;INTERVAL=24;BYHOUR=5",
        "FREQ=YEARLY;INTERVAL=4;BYMONTH=2;BYMONTHDAY=29",
        "FREQ=YEARLY;BYWEEKNO=53;BYMONTH=6",
    ],
)
def test_a_rule_that_never_fires_is_refused_soon(rule: str) -> None:
    def refused() -> None:
        with pytest.raises(RecurrenceProblem, match="never fires"):
            compile_recurrence(f"DTSTART:20260101T000000Z\nRRULE:{rule}", None)

    assert is_within(refused, 0.1)


def test_too_many_times_in_a_period_are_refused() -> None:
    every = ",".join(str(n) for n in range(60))
    text = f"DTSTART:20260101T000000Z\nRRULE:FREQ=DAILY;BYHOUR=1,2;BYMINUTE={every};BYSECOND={every}"
    with pytest.raises(RecurrenceProblem, match="use a shorter FREQ"):
        compile_recurrence(text, None)


def test_an_old_start_does_not_make_a_search_long() -> None:
    recurrence = compile_recurrence("DTSTART:19700101T000000Z\nRRULE:FREQ=SECONDLY;INTERVAL=7", None)
    assert recurrence.next_after(NEW_YEAR) == NEW_YEAR // 7 * 7 + 7
    assert is_within(lambda: recurrence.next_after(NEW_YEAR), 0.05)


def test_the_shortest_gap() -> None:
    def gap(rule: str) -> int | None:
        return min_gap(compile_recurrence(f"DTSTART:20260101T000000Z\nRRULE:{rule}", None))

    assert gap("FREQ=DAILY") == 86400
    assert gap("FREQ=YEARLY;BYHOUR=0;BYMINUTE=0,3") == 180
    assert gap("FREQ=DAILY;COUNT=1") is None
    assert gap("FREQ=DAILY\nRDATE:20260101T000007Z") == 7


DAYS = st.sampled_from(["MO", "TU,TH", "SA,SU", "MO,TU,WE,TH,FR"])
PARTS = st.one_of(
    st.builds("FREQ=DAILY;INTERVAL={}".format, st.integers(1, 40)),
    st.builds(
        "FREQ=WEEKLY;INTERVAL={};BYDAY={};WKST={}".format, st.integers(1, 5), DAYS, st.sampled_from(["MO", "SU"])
    ),
    st.builds(
        "FREQ=MONTHLY;INTERVAL={};BYMONTHDAY={}".format, st.integers(1, 14), st.sampled_from(["1", "-1", "15,28"])
    ),
    st.builds("FREQ=MONTHLY;BYDAY={};BYSETPOS={}".format, DAYS, st.sampled_from([1, -1, 2])),
    st.builds("FREQ=YEARLY;INTERVAL={};BYMONTH={}".format, st.integers(1, 3), st.integers(1, 12)),
    st.builds("FREQ=YEARLY;BYWEEKNO={};BYDAY={}".format, st.integers(1, 52), DAYS),
    st.builds("FREQ=HOURLY;INTERVAL={};BYDAY={}".format, st.sampled_from([1, 5, 11, 25]), DAYS),
    st.builds("FREQ=MINUTELY;INTERVAL={};BYHOUR=9,10,17".format, st.sampled_from([1, 5, 7, 90])),
    st.builds("FREQ=WEEKLY;INTERVAL=2;BYDAY={};BYSETPOS=1".format, DAYS),
)


@given(PARTS, st.datetimes(datetime(2015, 1, 1), datetime(2026, 1, 1)), st.integers(0, 9_000))
def test_it_finds_what_the_library_finds_from_the_start(rule: str, start: datetime, days: int) -> None:
    """Our searches begin near the time that they ask about; the library's begin at DTSTART."""
    start = start.replace(microsecond=0)
    text = f"DTSTART:{start:%Y%m%dT%H%M%S}\nRRULE:{rule}"
    try:
        recurrence = compile_recurrence(text, "UTC")
    except RecurrenceProblem:
        assume(start.day <= 28)  # the 30th of February never comes
        raise
    asked = start + timedelta(days=days % 400)
    expected = list(itertools.islice((t for t in rrulestr(text) if t > asked), 4))
    found: list[datetime] = []
    at = int(asked.replace(tzinfo=UTC).timestamp())
    while len(found) < 4 and (at := recurrence.next_after(at) or 0):
        found.append(datetime.fromtimestamp(at, UTC).replace(tzinfo=None))
    assert found == expected
