"""Runs the test cases that croniter and cronsim publish against our cron schedules.

Their own test modules run, from checkouts, with a substitute for their class that asks our schedules. A case that asks
the substitute for what our schedules do not claim is out, for a reason; so is one of the deviations listed here. All
others must pass.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import re
import sys
import types
import unittest
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from dustrun.core.triggers.schedules import cron
from dustrun.core.triggers.schedules.cron import CronProblem, parse
from dustrun.core.triggers.schedules.wall_clock import EPOCH

BACKWARDS = "going back in time: schedules only go forward"
WORDS = "descriptions in words: not offered"
INSIDE = "how the library works inside: its parsed fields, clocks, speed tricks and conversions"
HELPERS = "functions beside the next time: expand, match, ranges, validity with options"
SYNTAX = "syntax beyond ours: hashed and random values, years, seconds at the end given as names, options of the class"
ZONES = "zones of other libraries (pytz, dateutil): ours are IANA zones of zoneinfo"
SIX = "deviation: with six fields too, fixed hours follow the rule for changes of the clock"
FIXED = "deviation: fixed hours follow the rule for changes of the clock, whatever the minutes are"
DAYS = "deviation: days and weekdays are combined as in Debian's cron"


class OutOfScope(Exception):
    """The case asks for something that our schedules do not claim."""


def _next(text: str, after: datetime) -> datetime | None:
    """Our next fire in the zone of a time; a time without a zone is one in UTC."""
    zone = after.tzinfo
    if zone is not None and zone is not UTC and not isinstance(zone, ZoneInfo):
        raise OutOfScope(ZONES)
    name = zone.key if isinstance(zone, ZoneInfo) else "UTC"
    moment = after if zone is not None else after.replace(tzinfo=UTC)
    found = cron.next_fire(text, name, int(moment.timestamp() // 1) * 1000)
    if found is None:
        return None
    there = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=found)
    return there.replace(tzinfo=None) if zone is None else there.astimezone(zone)


# --- cronsim -------------------------------------------------------------------------------------------------------


class CronSimError(Exception):
    """What cronsim raises for a bad expression."""


_FIELDS = {"day of month": "day-of-month", "day of week": "day-of-week"}


class CronSim:
    """Stands in for `cronsim.CronSim`."""

    LAST, LAST_WEEKDAY = -1000, -1001

    def __init__(self, text: str, after: datetime, reverse: bool = False) -> None:
        if reverse:
            raise OutOfScope(BACKWARDS)
        self.text, self.after = text, after
        self.never = False
        try:
            self._cron = parse(text)
        except CronProblem as error:
            self.never = "never fires: no date" in str(error)
            if not self.never:
                raise CronSimError(self._words(str(error))) from None

    @staticmethod
    def _words(message: str) -> str:
        if "fields" in message and "not " in message and "does not fit" not in message:
            return "Wrong number of fields"
        for name in ("second", "minute", "hour", "day of month", "month", "day of week"):
            if f"the {name} field" in message:
                return f"Bad {_FIELDS.get(name, name)}"
        return "Bad day-of-month" if "no chosen month" in message else message

    def __getattr__(self, name: str) -> Any:
        if name in ("fixup_tz", "tick", "dt"):
            raise OutOfScope(INSIDE)
        return getattr(self._cron.sim, name)

    def __iter__(self) -> Iterator[datetime]:
        return self

    def __next__(self) -> datetime:
        found = None if self.never else _next(self.text, self.after)
        if found is None:
            raise StopIteration
        self.after = found
        return found

    def explain(self) -> str:
        raise OutOfScope(WORDS)


# --- croniter ------------------------------------------------------------------------------------------------------


class CroniterError(ValueError):
    """What croniter raises."""


class Croniter:
    """Stands in for `croniter.croniter`."""

    def __init__(self, text: str, start_time: Any = None, ret_type: Any = float, **options: Any) -> None:
        first = options.pop("second_at_beginning", False)
        if options.pop("day_or", True) is not True or options.keys() - {"strict"}:
            raise OutOfScope(SYNTAX)
        words = text.split()
        if len(words) > 6 or any(letter in text.lower() for letter in ("h(", "r(", "h ", " h", " r", "r ")):
            raise OutOfScope(SYNTAX)
        if len(words) == 6 and not first:  # its seconds come last
            text = " ".join([words[5], *words[:5]])
        try:
            parse(text)
        except CronProblem as error:
            if "never fires" not in str(error):
                raise CroniterError(str(error)) from None
        if start_time is None:
            raise OutOfScope(INSIDE)
        self.text, self.ret_type = text, ret_type
        self.cur_time = start_time if isinstance(start_time, datetime) else _at(float(start_time))

    def get_next(self, ret_type: Any = None, start_time: Any = None, update_current: bool = True) -> Any:
        """The next time."""
        if start_time is not None or update_current is not True:
            raise OutOfScope(INSIDE)
        try:
            found = _next(self.text, self.cur_time)
        except CronProblem:
            raise CroniterError("failed to find next date") from None
        assert found is not None
        self.cur_time = found
        return self._as(ret_type)

    def get_current(self, ret_type: Any = None) -> Any:
        """The time reached."""
        return self._as(ret_type)

    def _as(self, ret_type: Any) -> Any:
        if (ret_type or self.ret_type) is datetime:
            return self.cur_time
        zoned = self.cur_time if self.cur_time.tzinfo is not None else self.cur_time.replace(tzinfo=UTC)
        return zoned.timestamp()

    def all_next(self, ret_type: Any = None, **_: Any) -> Iterator[Any]:
        """All times to come."""
        while True:
            yield self.get_next(ret_type)

    iter = all_next
    __iter__ = all_next
    next = get_next
    __next__ = get_next

    def __getattr__(self, name: str) -> Any:
        raise OutOfScope(BACKWARDS if "prev" in name else INSIDE if name in ("expanded", "cur", "tzinfo") else HELPERS)

    @classmethod
    def _refuse(cls, *_: Any, **__: Any) -> Any:
        raise OutOfScope(HELPERS)

    expand = is_valid = match = match_range = value_alias = timestamp_to_datetime = datetime_to_timestamp = _refuse


def _at(instant: float) -> datetime:
    return EPOCH + timedelta(seconds=instant)


def _refusing(reason: str) -> Any:
    def refuse(*_: Any, **__: Any) -> Any:
        raise OutOfScope(reason)

    return refuse


# --- the cases -----------------------------------------------------------------------------------------------------

#: pattern of a case's name → why it is not ours to pass
DEVIATIONS: tuple[tuple[str, str], ...] = (
    (r"test_no_tz_fixup_(for_subminute_granularity|with_(non)?zero_seconds_field)", SIX),
    (r"test_every_minute_from_1_to_6_oct", FIXED),
    (r"test_014_every_hour_enumerated_oct", "deviation: all 24 hours written out mean the same as `*`"),
    (r"test_it_skips_fixup_for_(utc|naive)_datetimes", INSIDE),
    (r"test_nth_as_last_wday_simple|test_wdom_core_leap_year|test_nth_wday_simple", INSIDE),
    (r"test_expand_years_by_division|test_explicit_year_forward", SYNTAX),
    (r"test_lwom_.*", "deviation: the last Friday is written 5L, as in Quartz, not L5"),
    (r"test_nearest_weekday_.*", "syntax beyond ours: the nearest weekday (15W)"),
    (r"test_question_mark", "syntax beyond ours: `?`; write `*`"),
    (r"test_issue_monsun_117|test_sunday_ranges_(from|to)", "deviation: a range over the end of the week is refused"),
    (r"test_issue_142_dow|test_range_with_uppercase_last_day_of_month", "syntax beyond ours: ranges that end with L"),
    (r"test_issue_k33|test_nth_weekday_with_.*", "syntax beyond ours: ranges of numbered weekdays (MON-FRI#1)"),
    (r"test_dom_dow_vixie_cron_bug|test_issue156", DAYS),
    (r"test_hash_mixup_all_fri_3rd_sat", "deviation: a list may mix weekdays and numbered weekdays"),
)


def _modules(croniter: bool) -> dict[str, types.ModuleType]:
    """The modules that the tests import, with the substitutes."""
    if not croniter:
        made = types.ModuleType("cronsim")
        made.__dict__.update(CronSim=CronSim, CronSimError=CronSimError)
        return {"cronsim": made}
    made, base = types.ModuleType("croniter"), types.ModuleType("croniter.tests.base")
    inner, tests = types.ModuleType("croniter.croniter"), types.ModuleType("croniter.tests")
    base.__dict__.update(TestCase=unittest.TestCase)
    tests.__dict__.update(base=base)
    errors = ("BadCronError", "BadDateError", "NotAlphaError", "UnsupportedSyntaxError", "BadTypeRangeError", "Error")
    made.__dict__.update(
        croniter=Croniter,
        croniter_range=_refusing(HELPERS),
        datetime_to_timestamp=_refusing(INSIDE),
        cron_m=types.SimpleNamespace(OVERFLOW32B_MODE=False),
        **{f"Croniter{name}": CroniterError for name in errors},
    )
    inner.__dict__.update(VALID_LEN_EXPRESSION=(5, 6, 7), **made.__dict__)
    pytz = types.ModuleType("pytz")
    pytz.__dict__.update(timezone=_refusing(ZONES), utc=UTC, UTC=UTC)
    published = {"croniter": made, "croniter.croniter": inner, "croniter.tests": tests, "croniter.tests.base": base}
    return {**published, "pytz": pytz}


def _load(path: Path, replaced: dict[str, types.ModuleType]) -> types.ModuleType:
    spec = importlib.util.spec_from_file_location(f"published_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    known = {name: sys.modules.get(name) for name in replaced}
    sys.modules.update(replaced)
    try:
        spec.loader.exec_module(module)
    finally:
        for name, before in known.items():
            if before is None:
                del sys.modules[name]
            else:
                sys.modules[name] = before
    return module


class _Result(unittest.TestResult):
    """Tells apart what failed and what is out of scope."""

    def __init__(self) -> None:
        super().__init__()
        self.out: Counter[str] = Counter()
        self.bad: dict[str, str] = {}
        self.good = 0

    def addSuccess(self, test: unittest.TestCase) -> None:
        self.good += 1

    def addError(self, test: unittest.TestCase, err: Any) -> None:
        self._bad(test, err)

    addFailure = addError

    def addSubTest(self, test: unittest.TestCase, subtest: Any, err: Any) -> None:
        if err is not None:
            self._bad(test, err)

    def _bad(self, test: unittest.TestCase, err: Any) -> None:
        error: BaseException | None = err[1]
        while error is not None:
            if isinstance(error, OutOfScope):
                self.out[str(error)] += 1
                return
            error = error.__cause__ or error.__context__
        name = test.id().rsplit(".", 1)[-1]
        reason = next((why for pattern, why in DEVIATIONS if re.fullmatch(pattern, name)), None)
        if reason is not None:
            self.out[reason] += 1
        else:
            self.bad[test.id()] = str(err[1]).strip()[:300]


def _run(path: Path, *, croniter: bool) -> _Result:
    module = _load(path, _modules(croniter))
    result = _Result()
    with contextlib.redirect_stdout(io.StringIO()):
        unittest.defaultTestLoader.loadTestsFromModule(module).run(result)
    return result


def run(folder: Path) -> dict[str, Any]:
    """Runs the cases of the checkouts `croniter` and `cronsim` in a folder: the counts, the reasons, the failures."""
    found: dict[str, Any] = {}
    failures: dict[str, str] = {}
    for name, pattern in (("cronsim", "tests/test_cronsim.py"), ("croniter", "src/croniter/tests/test_*.py")):
        results = [_run(path, croniter=name == "croniter") for path in sorted((folder / name).glob(pattern))]
        if not results:
            raise SystemExit(f"There is no checkout of {name} at {folder / name}.")
        excluded: Counter[str] = sum((one.out for one in results), Counter())
        bad = {case: why for one in results for case, why in one.bad.items()}
        passed = sum(one.good for one in results)
        found[name] = {
            "in": passed + len(bad), "out": sum(excluded.values()), "passed": passed, "failed": len(bad),
            "excluded": dict(excluded.most_common()),
        }  # fmt: skip
        failures |= bad
    return {**found, "failures": failures}
