from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench import cron_conformance, soak_schedules
from dustrun.core.triggers.schedules.cron import NAMED, CronProblem, next_fire, parse


def fires(text: str, zone: str, start: str, count: int) -> list[str]:
    """The next fires in local time, with the distance from UTC."""
    at = int(datetime.fromisoformat(start).replace(tzinfo=ZoneInfo(zone)).timestamp() * 1000)
    found = []
    for _ in range(count):
        at = next_fire(text, zone, at) or 0
        found.append(datetime.fromtimestamp(at / 1000, ZoneInfo(zone)).isoformat(timespec="minutes")[5:])
    return found


@pytest.mark.parametrize(
    ("text", "start", "expected"),
    [
        ("30 2 * * *", "2026-03-28T03:00", ["03-29T03:00+02:00", "03-30T02:30+02:00"]),
        ("0,30 1-3 * * *", "2026-03-29T01:00", ["03-29T01:30+01:00", "03-29T03:00+02:00", "03-29T03:30+02:00"]),
        ("*/15 * * * *", "2026-03-29T01:30", ["03-29T01:45+01:00", "03-29T03:00+02:00", "03-29T03:15+02:00"]),
        ("0 */2 * * *", "2026-03-29T00:00", ["03-29T04:00+02:00", "03-29T06:00+02:00"]),
    ],
)
def test_a_skipped_hour(text: str, start: str, expected: list[str]) -> None:
    assert fires(text, "Europe/Berlin", start, len(expected)) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("30 2 * * *", ["10-25T02:30+02:00", "10-26T02:30+01:00"]),
        ("0,30 1-3 * * *", ["10-25T02:00+02:00", "10-25T02:30+02:00", "10-25T03:00+01:00"]),
        ("*/30 * * * *", ["10-25T02:00+02:00", "10-25T02:30+02:00", "10-25T02:00+01:00", "10-25T02:30+01:00"]),
        ("0 */2 * * *", ["10-25T02:00+02:00", "10-25T02:00+01:00", "10-25T04:00+01:00"]),
    ],
)
def test_a_repeated_hour(text: str, expected: list[str]) -> None:
    assert fires(text, "Europe/Berlin", "2026-10-25T01:30", len(expected)) == expected


def test_nothing_fires_again_in_the_second_pass_of_an_hour() -> None:
    second_pass = int(datetime(2026, 10, 25, 1, 10, tzinfo=UTC).timestamp() * 1000)  # 02:10+01:00
    found = next_fire("30 2,3 * * *", "Europe/Berlin", second_pass)
    assert found == int(datetime(2026, 10, 25, 2, 30, tzinfo=UTC).timestamp() * 1000)  # 03:30+01:00


def test_a_zone_that_skips_a_whole_day() -> None:
    assert fires("0 12 * * *", "Pacific/Apia", "2011-12-29T13:00", 2) == ["12-31T00:00+14:00", "12-31T12:00+14:00"]


def test_every_kind_of_zone_against_a_walk_through_each_minute() -> None:
    zones = "Europe/Berlin,Australia/Lord_Howe,Africa/Casablanca,Antarctica/Troll,America/Nuuk"
    found = soak_schedules.run(None, 7, zones=zones, changes_each="2")
    assert found["failures"] == {}
    assert (found["zones"], found["changes forward"], found["changes back"]) == (5, 5, 5)
    assert found["fires"] > 5000


@pytest.mark.parametrize(
    ("text", "message", "position"),
    [
        ("61 * * * *", "'61' does not fit the minute field: minutes are 0-59.", 1),
        ("0 24 * * *", "'24' does not fit the hour field: hours are 0-23.", 3),
        ("0 0 1,,3 * *", "'' does not fit the day of month field: something is missing beside the comma.", 7),
        ("0 0 * * FRI-MON", "list its two parts, such as FRI-6,0-MON", 9),
        ("0 0 * FOO *", "months are 1-12 or JAN-DEC", 7),
        ("*/0 * * * *", "a step is 1 or more", 1),
        ("* * * *", "not 4", 8),
        ("* * * * * * *", "not 7", 13),
        ("", "not 0", 1),
        ("@reboot", "'@reboot' is not known", 1),
        ("9" * 300, "longer than 256", 257),
        ("0 0 31 2 *", "never fires", 5),
        ("0 0 31 4,6 *", "never fires", 5),
        ("0 0 */20 * 1L", "never fires", 5),
        ("0 0 0 */29 2 MON#5", "never fires", 7),
    ],
)
def test_a_bad_expression_is_refused_at_its_position(text: str, message: str, position: int) -> None:
    with pytest.raises(CronProblem) as caught:
        parse(text)
    assert message.removesuffix(".") in str(caught.value)
    assert ". (" not in str(caught.value)
    assert caught.value.position == position


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("* * * * *", 60),
        ("*/15 * * * *", 900),
        ("0 0,23 * * *", 3600),
        ("0 0,23 * * 1", 23 * 3600),
        ("59 23,0 * * *", 3600),
        ("* * * * * *", 1),
        ("58,2 * * * * *", 4),
        ("0 9 * * *", 86400),
        ("@hourly", 3600),
    ],
)
def test_the_shortest_gap(text: str, seconds: int) -> None:
    assert parse(text).min_gap == seconds


@given(st.text(alphabet="0123456789*/,-#LW @MONJAN", max_size=40) | st.text(max_size=30))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    try:
        found = parse(text)
    except CronProblem:
        return
    assert found.min_gap >= 1
    assert next_fire(text, "Europe/Berlin", 1_767_225_600_000) is not None


@given(
    st.sampled_from(["*/7 * * * * *", "5,50 */3 * * *", "15 9-17 * * MON-FRI", "0 0 L * *", "0 0 29 2 *", *NAMED]),
    st.sampled_from(["UTC", "Europe/Berlin", "Australia/Lord_Howe", "America/New_York"]),
    st.integers(0, 4_000_000_000_000),
)
def test_the_next_fire_is_later_and_there_is_none_in_between(text: str, zone: str, after: int) -> None:
    found = next_fire(text, zone, after)
    assert found is not None
    assert found > after
    assert next_fire(text, zone, (after + found) // 2) == found
    assert next_fire(text, zone, found - 1) == found
    assert next_fire(text, zone, found) != found


_PUBLISHED = """
import unittest
from datetime import datetime
from cronsim import CronSim, CronSimError

class TestCases(unittest.TestCase):
    def test_right(self):
        self.assertEqual(next(CronSim("30 2 * * *", datetime(2020, 1, 1))), datetime(2020, 1, 1, 2, 30))
    def test_refused(self):
        with self.assertRaisesRegex(CronSimError, "Bad minute"):
            CronSim("61 * * * *", datetime(2020, 1, 1))
    def test_wrong(self):
        self.assertEqual(next(CronSim("30 2 * * *", datetime(2020, 1, 1))), datetime(2020, 1, 1, 3, 30))
    def test_backwards(self):
        next(CronSim("30 2 * * *", datetime(2020, 1, 1), reverse=True))
"""


def test_published_cases_pass_fail_or_are_out_for_a_reason(tmp_path: Path) -> None:
    for name, place in (("cronsim", "tests/test_cronsim.py"), ("croniter", "src/croniter/tests/test_croniter.py")):
        path = tmp_path / name / place
        path.parent.mkdir(parents=True)
        path.write_text(_PUBLISHED if name == "cronsim" else "")
    found = cron_conformance.run(tmp_path)
    assert found["cronsim"] == {
        "in": 3, "out": 1, "passed": 2, "failed": 1, "excluded": {cron_conformance.BACKWARDS: 1},
    }  # fmt: skip
    assert [case.rsplit(".", 1)[-1] for case in found["failures"]] == ["test_wrong"]
