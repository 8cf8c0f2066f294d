"""When a task is due: cron, interval or once, in the task's time zone. Rules.

Each moment at which a task is due is a `Slot`: an instant, and a key that names it for good. A
schedule of fixed hours is keyed by the wall clock, so that an hour that comes twice (the night the
clocks go back) runs it once, and one that never comes (the night they go forward) runs it at the
jump. One that runs every hour is keyed by the instant and simply goes on.

The rule that keeps it so: no clock; every function is told what time it is. croniter is asked about
wall times only, where it cannot meet daylight saving.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import pairwise
from typing import Final, Literal
from zoneinfo import ZoneInfo, available_timezones

import attrs

from pynchy.limits import TASKS
from pynchy.model import Micros

Kind = Literal["cron", "interval", "once"]

MIN_PERIOD: Final = TASKS.every
MIN_PERIOD_MAIN: Final = TASKS.every_main
HORIZON: Final = (
    9  # years within which a cron line is due again: a 29 February may be eight years away
)


class BadSchedule(ValueError):
    """The schedule is not valid; the message says what would be."""


@attrs.frozen
class Schedule:
    """A valid schedule. ``anchor`` is where intervals start, and the time of a ``once``."""

    kind: Kind
    value: str
    timezone: str
    anchor: Micros


@attrs.frozen
class Slot:
    """One time at which a task is due. ``key`` is its name in the ledger, unique within the task."""

    at: Micros
    key: str


# --- what people ask for ---


def parse(kind: str, value: str | int, *, timezone: str, now: Micros, from_main: bool) -> Schedule:
    """Parse a schedule, or raise `BadSchedule`. ``now`` anchors intervals."""
    check_timezone(timezone)
    least = MIN_PERIOD_MAIN if from_main else MIN_PERIOD
    match kind:
        case "cron":
            if not isinstance(value, str):
                raise BadSchedule("a cron schedule is a text of five fields")
            schedule = Schedule("cron", _cron(value, least), timezone, now)
            if next_slot(schedule, now) is None:
                raise BadSchedule(f"{value!r} is never due")
            return schedule
        case "interval":
            return Schedule("interval", str(_interval(value, least)), timezone, now)
        case "once":
            moment = read_moment(value, timezone)
            if not now + _micros(TASKS.soonest) <= moment <= now + _micros(TASKS.latest):
                raise BadSchedule("a moment at least 5 seconds from now, and within 5 years")
            return Schedule("once", spell(moment, timezone), timezone, moment)
        case _:
            raise BadSchedule(f"{kind!r}: expected cron, interval or once")


def check_timezone(name: str) -> None:
    """Raise `BadSchedule` unless ``name`` is a zone of the IANA list."""
    if len(name) > 64 or name in _NO_PLACES or name not in _zones():
        raise BadSchedule(f"{name[:64]!r} is no time zone; expected one such as Europe/Berlin")


_NO_PLACES: Final = frozenset({"posixrules", "Factory", "localtime"})


@lru_cache(maxsize=1)
def _zones() -> set[str]:
    return available_timezones()


def _interval(value: str | int, least: int) -> int:
    """Seconds. A text is taken only if it is plain ASCII digits, since that is how rows keep them."""
    if isinstance(value, bool) or (
        isinstance(value, str) and re.fullmatch(r"[1-9][0-9]{0,8}", value, re.ASCII) is None
    ):
        raise BadSchedule("an interval is a whole number of seconds")
    seconds = int(value)
    if not least <= seconds <= TASKS.longest:
        raise BadSchedule(f"an interval is from {least} to {TASKS.longest} seconds")
    return seconds


_RFC3339: Final = re.compile(
    r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d(:\d\d(\.\d{1,6})?)?([Zz]|[+-]\d\d:\d\d)?", re.ASCII
)


def read_moment(value: str | int, timezone: str) -> Micros:
    """The instant of a moment as ISO 8601 writes it, here or with an offset. Raises `BadSchedule`."""
    if not isinstance(value, str) or _RFC3339.fullmatch(value) is None:
        raise BadSchedule("a moment is written 2026-12-24T18:00, with or without an offset")
    try:
        moment = datetime.fromisoformat(value.upper())
        if moment.tzinfo is None:
            return instant(moment, ZoneInfo(timezone))
        return _from_datetime(moment.astimezone(UTC))
    except (ValueError, OverflowError):
        raise BadSchedule(f"{value!r} is no moment of the calendar") from None


# --- cron lines ---

_MONTHS: Final = "jan feb mar apr may jun jul aug sep oct nov dec".split()
_DAYS: Final = "sun mon tue wed thu fri sat".split()


@attrs.frozen
class _Field:
    name: str
    low: int
    high: int
    names: tuple[str, ...] = ()
    offset: int = 0


_FIELDS: Final = (
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _Field("day of the month", 1, 31),
    _Field("month", 1, 12, tuple(_MONTHS), 1),
    _Field("day of the week", 0, 7, tuple(_DAYS), 0),
)


def _cron(line: str, least: int) -> str:
    """The cron line in a canonical spelling, if it is valid and not too frequent."""
    fields = line.split()
    if len(line) > TASKS.cron or len(fields) != 5 or not line.isascii():
        raise BadSchedule("a cron schedule has five fields: minute hour day month weekday")
    sets = [_members(text, field) for text, field in zip(fields, _FIELDS, strict=True)]
    times = sorted(hour * 60 + minute for hour in sets[1] for minute in sets[0])
    gaps = [later - earlier for earlier, later in pairwise([*times, times[0] + 24 * 60])]
    if min(gaps) * 60 < least:
        raise BadSchedule(f"{line!r} runs more often than every {least // 60} minutes")
    return " ".join(fields).lower()


def _members(text: str, field: _Field) -> set[int]:
    found: set[int] = set()
    items = text.split(",")
    if len(items) > 60:
        raise BadSchedule(f"{field.name}: more than 60 items")
    for item in items:
        found |= _item(item, field)
    return found


def _item(item: str, field: _Field) -> set[int]:
    span, slash, step_text = item.partition("/")
    step = 1
    if slash:
        if re.fullmatch(r"[0-9]{1,2}", step_text) is None or not 1 <= int(step_text) <= field.high:
            raise BadSchedule(f"{field.name}: {item!r} has no step from 1 to {field.high}")
        step = int(step_text)
    if span == "*":
        return set(range(field.low, field.high + 1, step))
    first_text, dash, last_text = span.partition("-")
    first = _value(first_text, field)
    # 7 is Sunday only where it is written: a step without an end goes on to Saturday.
    end = 6 if field.names == tuple(_DAYS) else field.high
    last = _value(last_text, field) if dash else (max(end, first) if slash else first)
    if last < first:
        raise BadSchedule(f"{field.name}: {span!r} ends before it begins")
    return set(range(first, last + 1, step))


def _value(text: str, field: _Field) -> int:
    lowered = text.lower()
    if lowered in field.names:
        return field.names.index(lowered) + field.offset
    if re.fullmatch(r"[0-9]{1,2}", text) is None or not field.low <= int(text) <= field.high:
        raise BadSchedule(f"{field.name}: {text[:20]!r} is not from {field.low} to {field.high}")
    return int(text)


@lru_cache(maxsize=256)
def _plain(line: str) -> tuple[str, bool]:
    """A line spelled out in numbers, and whether a day of the month or of the week will do.

    It will where both are restricted, which as cron has it a field that begins with a star is not.
    Spans and steps are read here alone: whoever reads them another way sees none.
    """
    fields = line.split()
    plain = []
    for text, field in zip(fields, _FIELDS, strict=True):
        members = _members(text, field)
        if field.names == tuple(_DAYS):
            members = {day % 7 for day in members}
        plain.append("*" if text == "*" else ",".join(map(str, sorted(members))))
    return " ".join(plain), not (fields[2].startswith("*") or fields[4].startswith("*"))


# --- when it is due ---


def next_slot(schedule: Schedule, after: Micros) -> Slot | None:
    """The first slot after a time, or None if there is no more.

    Raises `BadSchedule` for an invalid stored schedule; the caller sets the task aside.
    """
    match schedule.kind:
        case "once":
            moment = schedule.anchor
            return Slot(moment, _utc_key(moment)) if moment > after else None
        case "interval":
            period = _micros(_interval(schedule.value, 1))
            count = max(0, (after - schedule.anchor) // period) + 1
            moment = Micros(schedule.anchor + count * period)
            return Slot(moment, _utc_key(moment))
        case "cron":
            return _next_cron(schedule.value, _zone(schedule.timezone), after)


def slots(schedule: Schedule, after: Micros, until: Micros) -> Iterator[Slot]:
    """The slots after one moment and not after another, in order."""
    while (slot := next_slot(schedule, after)) is not None and slot.at <= until:
        yield slot
        after = slot.at


def spell(moment: Micros, timezone: str) -> str:
    """A time as text in a time zone, to the second, with its offset."""
    return _local(moment, _zone(timezone)).isoformat(timespec="seconds")


def _zone(name: str) -> ZoneInfo:
    check_timezone(name)
    return ZoneInfo(name)


def _next_cron(line: str, zone: ZoneInfo, after: Micros) -> Slot | None:
    fields = line.split()
    if len(fields) != 5:
        raise BadSchedule(f"{line!r} is not a cron schedule")
    if fields[1].startswith("*"):
        return _next_hourly(line, zone, after)
    wall = _local(after, zone).replace(tzinfo=None)
    # What was skipped by a jump forward that lies just behind us is due at the jump.
    wall -= timedelta(hours=3)
    for _ in range(400):
        found = _next_wall(line, wall)
        if found is None:
            return None
        wall = found
        moment = instant(wall, zone)
        if moment > after:
            return Slot(moment, wall.isoformat(timespec="minutes"))
    return None


def _next_hourly(line: str, zone: ZoneInfo, after: Micros) -> Slot | None:
    """For lines of every hour: walk in real time, from one change of the offset to the next."""
    here = _to_datetime(after)
    for _ in range(40):
        offset = _offset(here, zone)
        found = _next_wall(line, (here + offset).replace(tzinfo=None))
        if found is None:
            return None
        candidate = (found - offset).replace(tzinfo=UTC)
        if (change := _change(here, candidate, zone)) is None:
            moment = _from_datetime(candidate)
            return Slot(moment, _utc_key(moment))
        here = change - timedelta(minutes=1)  # the first minute after the change counts, too
        new = _offset(change, zone)
        found = _next_wall(line, (here + new).replace(tzinfo=None))
        if found is None:
            return None
        candidate = (found - new).replace(tzinfo=UTC)
        if candidate > _to_datetime(after) and _change(change, candidate, zone) is None:
            moment = _from_datetime(candidate)
            return Slot(moment, _utc_key(moment))
        here = change
    return None


def _change(start: datetime, end: datetime, zone: ZoneInfo) -> datetime | None:
    """The first minute in (start, end] at which the zone's offset is another, if there is one."""
    step = timedelta(days=7)
    low, before = start, _offset(start, zone)
    while low < end:
        high = min(low + step, end)
        if _offset(high, zone) != before:
            while high - low > timedelta(minutes=1):
                middle = low + (high - low) / 2
                middle = middle.replace(second=0, microsecond=0)
                if middle <= low:
                    break
                if _offset(middle, zone) == before:
                    low = middle
                else:
                    high = middle
            return high.replace(second=0, microsecond=0)
        low = high
    return None


def _next_wall(line: str, wall: datetime) -> datetime | None:
    """The next wall time of a line, by croniter, which knows nothing of zones here."""
    from croniter import croniter
    from croniter.croniter import CroniterBadCronError, CroniterBadDateError

    plain, either = _plain(line)
    try:
        found: datetime = croniter(
            plain, wall, day_or=either, max_years_between_matches=HORIZON
        ).get_next(datetime)
    except CroniterBadDateError:
        return None
    except (CroniterBadCronError, ValueError) as error:
        raise BadSchedule(f"{line!r}: {error}") from None
    return found


def instant(wall: datetime, zone: ZoneInfo) -> Micros:
    """The instant of a wall time: the first of two; of one that a jump skips, the jump."""
    first = wall.replace(tzinfo=zone, fold=0).astimezone(UTC)
    if first.astimezone(zone).replace(tzinfo=None) == wall:
        return _from_datetime(first)
    earlier = wall.replace(tzinfo=zone, fold=1).astimezone(UTC)
    low, high = sorted((earlier, first))
    jump = _change(low - timedelta(minutes=1), high, zone)
    return _from_datetime(jump if jump is not None else first)


def _offset(moment: datetime, zone: ZoneInfo) -> timedelta:
    return moment.astimezone(zone).utcoffset() or timedelta()


def _local(moment: Micros, zone: ZoneInfo) -> datetime:
    return _to_datetime(moment).astimezone(zone)


def _utc_key(moment: Micros) -> str:
    return _to_datetime(moment).strftime("%Y-%m-%dT%H:%M:%SZ")


_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def _to_datetime(moment: Micros) -> datetime:
    return _EPOCH + timedelta(microseconds=moment)


def _from_datetime(moment: datetime) -> Micros:
    return Micros((moment - _EPOCH) // timedelta(microseconds=1))


def _micros(seconds: float) -> int:
    return round(seconds * 1_000_000)
