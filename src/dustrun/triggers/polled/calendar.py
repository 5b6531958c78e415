"""Starts a run when an event of a calendar begins, or some time before: of an `.ics` address.

Recurrences, exceptions, moved and cancelled events and time zones count as calendars show them. Each event starts one
run for each time at which it begins: one that is moved after it has begun starts another at its new time, and one that
is added with a start in the past starts none. The calendar is asked every `pollMs`, and once more when an event is due;
if it does not answer then, what it showed before counts. Times without a zone, and days, follow `timezone`.

A connector of the node adds its credential to each request, but only to its own hosts. The server needs the extra
`calendars` (`pip install dustrun[calendars]`).
"""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, time, timedelta
from functools import partial
from typing import Any, Final

from pydantic import Field, field_validator

from dustrun.clock import to_rfc3339
from dustrun.core.expression import ExpressionError
from dustrun.core.triggers.polling import compile_over, fingerprint
from dustrun.core.triggers.schedules.recurrence import compile_recurrence
from dustrun.core.triggers.schedules.recurrence_text import RecurrenceProblem
from dustrun.core.triggers.schedules.wall_clock import instant_of, wall_time, zone
from dustrun.errors import Invalid, Temporary
from dustrun.records import dataclass
from dustrun.sdk import Fields, Finding, Polled, PolledEvent, TriggerContext
from dustrun.sdk.fields import raw
from dustrun.sdk.threads import run_in_thread
from dustrun.sdk.trigger import NoRun, polled
from dustrun.triggers._event_output import EventOutput, example_output
from dustrun.triggers.polled.requests import RequestConfig, check_request, fetch, known_validators, validators_of

# Reads calendars (iCalendar, RFC 5545): when their events begin, with recurrences, exceptions and moved events.


MISSING: Final = "needs the extra `calendars` on the server: pip install dustrun[calendars]"
_MOST_EVENTS: Final = 5_000
_MOST_TIMES: Final = 200
_LONGEST: Final = 2_000


def is_installed() -> bool:
    """Whether the library that reads calendars is there."""
    return importlib.util.find_spec("icalendar") is not None


@dataclass(frozen=True, slots=True)
class Start:
    """An event begins at `at` (seconds). `key` identifies it: the event's id, which of its recurrences, and when it
    begins."""

    at: int
    key: str
    event: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Starts:
    """What begins in a period, in order, and what cannot be read: key and reason of each. `until`: the end of the
    period, earlier than was asked for if there are too many."""

    found: list[Start]
    unreadable: list[tuple[str, str]]
    until: int


@dataclass(frozen=True, slots=True)
class _Moment:
    """A time on the clock of a zone; `is_day`: only the day counts."""

    wall: datetime
    zone_name: str
    is_day: bool

    @property
    def instant(self) -> int:
        return instant_of(zone(self.zone_name), self.wall)


def read_calendar(body: bytes, after: int, until: int, zone_name: str | None) -> Starts:
    """The events that begin in (after, until], in seconds. `zone_name`: whose clock times without a zone follow, and
    days; None: the calendar's own, or UTC. Raises `Invalid` if it is no calendar."""
    from icalendar import Calendar  # optional dependency

    try:
        calendar = Calendar.from_ical(body)
        events = _newest(list(calendar.walk("VEVENT")))
    except ValueError as error:
        raise Invalid(f"The answer is no calendar: {str(error)[:200]}") from None
    if len(events) > _MOST_EVENTS:
        raise Invalid(f"The calendar has {len(events)} events; at most {_MOST_EVENTS} are looked at.")
    where = zone_name or _zone_of(calendar) or "UTC"
    found: list[Start] = []
    unreadable: list[tuple[str, str]] = []
    moved = _moved(events, where)
    for number, event in enumerate(events):
        try:
            found += _starts(event, where, moved, after, until)
        except (ValueError, RecurrenceProblem, OverflowError, KeyError, AttributeError) as error:
            uid = str(event.get("UID", number))[:200]
            what = "it has no usable DTSTART" if isinstance(error, KeyError | AttributeError) else str(error)[:300]
            unreadable.append((uid, f'The event "{str(event.get("SUMMARY", uid))[:100]}" cannot be read: {what}'))
    ordered = sorted({one.key: one for one in found}.values(), key=lambda one: (one.at, one.key))
    if len(ordered) > _MOST_TIMES:
        until = ordered[_MOST_TIMES - 1].at
        ordered = [one for one in ordered if one.at <= until]
    return Starts(ordered, unreadable, until)


def _newest(events: list[Any]) -> list[Any]:
    """Of several versions of one event the newest."""
    found: dict[Any, Any] = {}
    for number, event in enumerate(events):
        of = event["RECURRENCE-ID"].to_ical() if "RECURRENCE-ID" in event else b""
        name = (str(event["UID"]), of) if "UID" in event else number
        if name not in found or int(event.get("SEQUENCE", 0)) >= int(found[name].get("SEQUENCE", 0)):
            found[name] = event
    return list(found.values())


def _zone_of(calendar: Any) -> str | None:
    try:
        return zone(str(calendar["X-WR-TIMEZONE"])).key
    except (KeyError, ValueError):
        return None


def _moment(value: date | datetime, where: str) -> _Moment:
    if not isinstance(value, datetime):
        return _Moment(datetime.combine(value, time()), where, True)
    if value.tzinfo is None:
        return _Moment(value.replace(microsecond=0), where, False)
    name = getattr(value.tzinfo, "key", None)
    if name is None or name == "UTC":
        return _Moment(value.astimezone(UTC).replace(tzinfo=None, microsecond=0), "UTC", False)
    return _Moment(value.replace(tzinfo=None, microsecond=0), zone(name).key, False)


def _moved(events: list[Any], where: str) -> set[tuple[str, int]]:
    """The recurrences that have an event of their own: that of another time, or that is cancelled."""
    found = set()
    for event in events:
        if "RECURRENCE-ID" in event:
            with contextlib.suppress(ValueError, AttributeError):  # it is told as one that cannot be read
                found.add((str(event.get("UID", "")), _moment(event["RECURRENCE-ID"].dt, where).instant))
    return found


def _starts(event: Any, where: str, moved: set[tuple[str, int]], after: int, until: int) -> Iterator[Start]:
    if str(event.get("STATUS", "")).upper() == "CANCELLED":
        return
    uid, begins = str(event.get("UID", "")), _moment(event["DTSTART"].dt, where)
    own = "RECURRENCE-ID" in event
    if own or not ("RRULE" in event or "RDATE" in event):
        of = _moment(event["RECURRENCE-ID"].dt, where).instant if own else None
        if after < begins.instant <= until:
            yield _start(event, uid, begins, begins.instant, of)
        return
    excluded = {_moment(value, where).instant for value in _dates(event, "EXDATE")}
    for at in _times(event, begins, where, after, until):
        if (uid, at) not in moved and at not in excluded:
            yield _start(event, uid, begins, at, at)


def _times(event: Any, begins: _Moment, where: str, after: int, until: int) -> list[int]:
    """When an event that recurs begins; the bounds of one search are those of recurrences."""
    more = {_moment(value, where).instant for value in _dates(event, "RDATE")}
    if "RRULE" not in event:
        return sorted(at for at in {begins.instant, *more} if after < at <= until)[:_MOST_TIMES]
    tzinfo = getattr(event["DTSTART"].dt, "tzinfo", None)
    if tzinfo is not None and getattr(tzinfo, "key", None) is None and tzinfo is not UTC:
        raise ValueError("it recurs in a time zone that has no known name")
    rule = event["RRULE"]
    if isinstance(rule, list):
        raise ValueError("it has several rules")
    wall = begins.wall.strftime("%Y%m%dT%H%M%S")
    utc, named = ("Z", "") if begins.zone_name == "UTC" else ("", f";TZID={begins.zone_name}")
    lines = [f"DTSTART{named}:{wall}{utc}", f"RRULE:{rule.to_ical().decode()}"]
    lines += [f"RDATE:{datetime.fromtimestamp(at, UTC):%Y%m%dT%H%M%SZ}" for at in sorted(more)]
    recurrence, found = compile_recurrence("\n".join(lines), None), list[int]()
    at = after
    while len(found) <= _MOST_TIMES and (next_at := recurrence.next_after(at)) is not None and next_at <= until:
        found.append(next_at)
        at = next_at
    return found


def _dates(event: Any, name: str) -> Iterator[date | datetime]:
    given = event.get(name, [])
    for part in given if isinstance(given, list) else [given]:
        for one in part.dts:
            yield one.dt[0] if isinstance(one.dt, tuple) else one.dt


def _start(event: Any, uid: str, begins: _Moment, at: int, of: int | None) -> Start:
    where = zone(begins.zone_name)
    ends_at = at + _lasts_s(event, begins)
    text: Mapping[str, str | None] = {
        name: _text(event, name) for name in ("SUMMARY", "DESCRIPTION", "LOCATION", "URL")
    }
    shown = {
        "uid": uid,
        **{name.lower(): value for name, value in text.items()},
        "status": _text(event, "STATUS"),
        "categories": _categories(event),
        "startsAt": to_rfc3339(at * 1000),
        "endsAt": to_rfc3339(ends_at * 1000),
        "localStart": wall_time(where, at).isoformat(timespec="seconds"),
        "timezone": begins.zone_name,
        "isAllDay": begins.is_day,
        "recurrenceId": None if of is None else to_rfc3339(of * 1000),
        "sequence": int(event.get("SEQUENCE", 0)),
    }
    return Start(at, f"{uid}:{of or ''}:{at}", shown)


def _lasts_s(event: Any, begins: _Moment) -> int:
    if "DTEND" in event:
        return max(0, _moment(event["DTEND"].dt, begins.zone_name).instant - begins.instant)
    if "DURATION" in event:
        lasts: timedelta = event["DURATION"].dt
        return max(0, lasts // timedelta(seconds=1))
    return 86_400 if begins.is_day else 0


def _text(event: Any, name: str) -> str | None:
    return str(event[name])[:_LONGEST] if name in event else None


def _categories(event: Any) -> list[str]:
    given = event.get("CATEGORIES", [])
    parts = given if isinstance(given, list) else [given]
    return [str(one)[:100] for part in parts for one in part.cats][:50]


_DAY_MS: Final = 86_400_000
_AHEAD_MS: Final = 8 * _DAY_MS
"""How far ahead what begins is remembered."""
_EVENT: Final = ("event",)
_ACCEPT: Final = "text/calendar, */*;q=0.1"


class Config(RequestConfig):
    """Which calendar, and which of its events."""

    poll_ms: int = Field(
        900_000,
        ge=100,
        le=86_400_000,
        description="Milliseconds between two polls. After failures, the interval grows.",
    )
    fire_on_first: bool = Field(
        False,
        description="Whether the first poll also starts runs for events that have begun within the last `pollMs`.",
        json_schema_extra={"x-group": "Delivery"},
    )
    lead_ms: int = Field(
        0, ge=0, le=7 * _DAY_MS, strict=True, description="How many milliseconds before its begin an event counts."
    )
    timezone: str | None = Field(
        None, description="IANA time zone of days and of times without a zone; null: the calendar's own, or UTC."
    )
    filter: str | None = raw(
        None, max_length=4000, description='Which events start runs, like `event.summary == "Payday"`; null: all.'
    )

    @field_validator("timezone")
    @classmethod
    def _check_timezone(cls, timezone: str | None) -> str | None:
        return None if timezone is None else zone(timezone).key

    @field_validator("filter")
    @classmethod
    def _check_filter(cls, text: str | None) -> str | None:
        if text is not None:
            compile_over(text, _EVENT)
        return text


class Item(Fields):
    """One event; what the calendar does not say is null. Texts are cut at 2,000 characters."""

    uid: str = Field(description="Its `UID`.")
    summary: str | None = Field(description="Its title.")
    description: str | None = Field(description="Its description.")
    location: str | None = Field(description="Where it is.")
    url: str | None = Field(description="Its address.")
    status: str | None = Field(description="Like `CONFIRMED`. Cancelled events start no run.")
    categories: list[str] = Field(description="Its categories.")
    starts_at: str = Field(description="When it begins, RFC 3339.")
    ends_at: str = Field(description="When it ends, RFC 3339.")
    local_start: str = Field(description="What a clock in its zone shows then.")
    timezone: str = Field(description="Its zone.")
    is_all_day: bool = Field(description="Whether it is of a whole day.")
    recurrence_id: str | None = Field(description="Of an event that recurs: when this one was to begin, RFC 3339.")
    sequence: int = Field(description="How often it was changed, as the calendar counts.")


class Output(EventOutput):
    """An event that begins."""

    event: Item | None = Field(description="The event; null if it cannot be read.")
    due_at: str = Field(description="When the run was due: the begin, less `leadMs`. RFC 3339.")


def _read(config: Config, body: bytes, after_ms: int, now: int, _: Any) -> Starts:
    lead = config.lead_ms // 1000
    return read_calendar(body, after_ms // 1000 + lead, (now + _AHEAD_MS) // 1000 + lead, config.timezone)


def _stored(config: Config, starts: Starts) -> list[list[Any]]:
    return [[one.at * 1000 - config.lead_ms, one.key, one.event] for one in starts.found]


def _event(config: Config, at: int, key: str, event: dict[str, Any]) -> PolledEvent | None:
    no_run = None
    if config.filter is not None:
        try:
            if compile_over(config.filter, _EVENT).value(event=event) is not True:
                return None
        except ExpressionError as error:
            no_run = NoRun("filter", f"`filter` cannot be evaluated: {error}", is_failure=True)
    named = key if len(key) <= 200 else fingerprint(key)
    return PolledEvent(named, {"event": event, "dueAt": to_rfc3339(at)}, at, no_run=no_run)


def _unreadable(starts: Starts, now: int) -> list[PolledEvent]:
    """Events that cannot be read are recorded once each, so that somebody hears of them."""
    return [
        PolledEvent(
            f"unreadable:{fingerprint(uid + message)}",
            {"event": None, "dueAt": to_rfc3339(now)},
            now,
            no_run=NoRun("payload", message, is_failure=True),
        )
        for uid, message in starts.unreadable[:20]
    ]


async def _check(ctx: TriggerContext, config: Config) -> list[Finding]:
    return [*([] if is_installed() else [Finding("", MISSING)]), *await check_request(ctx, config)]


async def _recent(ctx: TriggerContext, config: Config) -> dict[str, Any] | None:
    response = await fetch(ctx, config, {}, _ACCEPT)
    assert response is not None, "the request is not conditional"
    work = partial(_read, config, response.body, ctx.now_ms, ctx.now_ms)
    found = (await run_in_thread(work, len(response.body))).found
    return {"event": found[0].event, "dueAt": to_rfc3339(found[0].at * 1000 - config.lead_ms)} if found else None


def _told(config: Config, cursor: dict[str, Any], now: int, more: list[PolledEvent], error: Temporary | None) -> Polled:
    """The events that are due, and when to look again: when the next one is, at the latest."""
    due = [one for one in cursor["upcoming"] if one[0] <= now]
    left = [one for one in cursor["upcoming"] if one[0] > now]
    events = [*more, *(one for one in (_event(config, *given) for given in due) if one is not None)]
    due_ms = max(100, left[0][0] - now) if left else _DAY_MS
    wait_ms = due_ms if error is not None else min(config.poll_ms, due_ms)
    return Polled(events, {**cursor, "upcoming": left} if due else cursor, after_ms=wait_ms, error=error)


_EXAMPLE = {
    "event": {
        "uid": "3f1c@example.com",
        "summary": "Payday",
        "description": None,
        "location": None,
        "url": None,
        "status": "CONFIRMED",
        "categories": ["finance"],
        "startsAt": "2026-01-30T08:00:00.000Z",
        "endsAt": "2026-01-30T09:00:00.000Z",
        "localStart": "2026-01-30T09:00:00",
        "timezone": "Europe/Berlin",
        "isAllDay": False,
        "recurrenceId": "2026-01-30T08:00:00.000Z",
        "sequence": 0,
    },
    "dueAt": "2026-01-30T07:45:00.000Z",
}


@polled(
    config=Config,
    output=Output,
    check=_check,
    recent=_recent,
    connector="http",
    example_config={
        "url": "https://calendar.example.com/team.ics",
        "leadMs": 900000,
        "filter": 'event.summary == "Payday"',
    },
    example_output=example_output(_EXAMPLE, "calendar"),
)
async def poll(ctx: TriggerContext, config: Config, cursor: Any) -> Polled:
    """Asks the calendar, and tells what is due. `until`: up to when all that was due is told; `upcoming`: what begins
    after that, as it was read at `readAt`, up to `readTo`."""
    now = ctx.now_ms
    if not is_installed():
        raise Temporary(f"The trigger {MISSING}.")
    if cursor is None:
        cursor = {
            "until": now - (config.poll_ms if config.fire_on_first else 0),
            "upcoming": [],
            "readAt": 0,
            "readTo": 0,
        }
    is_known = now - cursor["readAt"] < _DAY_MS and now + 2 * config.poll_ms < cursor["readTo"]
    try:
        response = await fetch(ctx, config, known_validators(cursor, ctx.credential) if is_known else {}, _ACCEPT)
    except Temporary as error:
        if cursor["readAt"] == 0:
            raise
        return _told(config, cursor, now, [], error)
    if response is None:
        return _told(config, {**cursor, "until": now}, now, [], None)
    work = partial(_read, config, response.body, cursor["until"], now)
    starts = await run_in_thread(work, len(response.body))
    fresh = {
        "until": now,
        "upcoming": _stored(config, starts),
        "readAt": now,
        "readTo": starts.until * 1000 - config.lead_ms,
        **validators_of(response, ctx.credential),
    }
    return _told(config, fresh, now, _unreadable(starts, now), None)
