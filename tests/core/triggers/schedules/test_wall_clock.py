from datetime import datetime

import pytest

from dustrun.core.triggers.schedules.wall_clock import instant_of, next_change, zone, zone_names


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("Europe/Berln", "did you mean 'Europe/Berlin'?"),
        ("berlin", "did you mean 'Europe/Berlin'?"),
        ("New York", "did you mean 'America/New_York'?"),
        ("../../etc/passwd", "use an IANA name"),
        ("", "use an IANA name"),
        ("x" * 10_000, "use an IANA name"),
    ],
)
def test_an_unknown_zone_is_refused_with_a_hint(name: str, hint: str) -> None:
    with pytest.raises(ValueError, match="There is no time zone") as caught:
        zone(name)
    assert hint in str(caught.value)
    assert len(str(caught.value)) < 200


def test_every_bundled_zone_can_be_read() -> None:
    assert {zone(name).key for name in zone_names()} == zone_names()
    assert len(zone_names()) > 500


def test_no_zone_changes_twice_in_a_day() -> None:
    """The search looks once a day."""
    start, end = (int(datetime(year, 1, 1).timestamp()) for year in (2020, 2031))
    for name in sorted(zone_names())[::20]:
        at = start
        last = start - 2 * 86_400
        while at := next_change(zone(name), at, end) or 0:
            assert at - last > 86_400, (name, at)
            last = at


def test_a_skipped_time_is_right_after_the_gap() -> None:
    berlin = zone("Europe/Berlin")
    assert instant_of(berlin, datetime(2026, 3, 29, 2, 30)) == instant_of(berlin, datetime(2026, 3, 29, 3, 0))
