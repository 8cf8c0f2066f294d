"""Times as people write them on the command line: yesterday, monday, 3 days, 8:00. Rules.

The rule that keeps it so: no clock; every function is told what time it is. What could mean two things is refused,
with examples of what is understood.
"""

from __future__ import annotations

import re
from datetime import date, datetime, time, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from pynchy.model import Micros
from pynchy.schedule.times import BadSchedule, instant, read_moment, spell

_WEEKDAYS: Final = "monday tuesday wednesday thursday friday saturday sunday".split()
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_CLOCK: Final = re.compile(r"([0-9]{1,2}):([0-9]{2})")
_SPAN: Final = re.compile(r"([1-9][0-9]{0,4}) ?(m|min|minutes?|h|hours?|d|days?|w|weeks?)(?: ago)?")
_SECONDS: Final = {"m": 60, "h": 3600, "d": 24 * 3600, "w": 7 * 24 * 3600}


def day(text: str, *, timezone: str, now: Micros) -> tuple[Micros, Micros]:
    """The beginning of a day that is over or goes on, and of the one after it. A day of the week is the last one, or
    today. Raises `BadSchedule`."""
    today = _wall(now, timezone).date()
    found = _day(text, today)
    if found is None or not date(1970, 1, 2) <= found <= today:
        raise BadSchedule(
            f"{text[:40]!r} is no day until today; examples: yesterday, monday, 2026-11-24"
        )
    return _midnight(found, timezone), _midnight(found + timedelta(days=1), timezone)


def since(text: str, *, timezone: str, now: Micros) -> Micros:
    """A moment that is past: a day's beginning, a day with a time, a time (the last such), or how long ago. Raises
    `BadSchedule`."""
    plain = _plain(text)
    if (span := _SPAN.fullmatch(plain)) is not None:
        return Micros(max(0, now - int(span[1]) * _SECONDS[span[2][0]] * 1_000_000))
    wall = _wall(now, timezone)
    named, _, clock = plain.rpartition(" ")
    found: Micros | None = None
    try:
        if (hours := _CLOCK.fullmatch(clock)) is not None and not _DATE.fullmatch(named):
            found = _at(named, int(hours[1]), int(hours[2]), wall, timezone, now)
        elif (on := _day(plain, wall.date())) is not None:
            found = _midnight(on, timezone)
        else:
            found = read_moment(text.strip(), timezone)
    except (ValueError, OverflowError):  # a BadSchedule of `read_moment` is one, too
        found = None
    if found is None or not 0 <= found <= now:
        raise BadSchedule(
            f"{text[:40]!r} is no moment until now; examples: yesterday, monday 8:00, 8:00, "
            "3 days, 2h, 2026-11-24, 2026-11-24T08:00"
        )
    return found


_CRON: Final = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_EVERY: Final = re.compile(
    r"(?:every )?([0-9]{1,9}|(?<=every )) ?"
    r"(s|sec|seconds?|m|min|minutes?|h|hours?|d|days?|w|weeks?|)"
)


def cron(text: str) -> str:
    """A cron line in five fields; the names that cron has for some are understood. Raises `BadSchedule` for others."""
    plain = _plain(text)
    if not plain.startswith("@"):
        return text
    if plain not in _CRON:
        raise BadSchedule(
            f"{text[:40]!r}: expected {', '.join(_CRON)}, or five fields as 0 8 * * 1-5"
        )
    return _CRON[plain]


def interval(text: str) -> str:
    """The seconds of an interval: 90, 30m, 1 day, every 2 hours, every day. Raises `BadSchedule`."""
    found = _EVERY.fullmatch(_plain(text))
    if found is None or not (found[1] or found[2]):
        raise BadSchedule(f"{text[:40]!r} is no interval; examples: 90 (seconds), 30m, 2h, 1 day")
    return str(int(found[1] or 1) * {"s": 1, "": 1, **_SECONDS}[found[2][:1]])


def coming(text: str, *, timezone: str, now: Micros) -> str:
    """A moment to come as ISO 8601 writes it: 8:00 is the next such time, and so is one of a day of the week; tomorrow
    8:00, 2026-12-24 8:00, in 2 hours. What is written otherwise is left as it is. Raises `BadSchedule`."""
    plain = _plain(text)
    if plain.startswith("in ") and (span := _SPAN.fullmatch(plain[3:])) and "ago" not in plain:
        there = Micros(now + int(span[1]) * _SECONDS[span[2][0]] * 1_000_000)
        return spell(there, timezone)
    named, _, clock = plain.rpartition(" ")
    if (hours := _CLOCK.fullmatch(clock)) is None:
        if plain in ("today", "tomorrow", *_WEEKDAYS) or _DATE.fullmatch(plain):
            raise BadSchedule(f"{text[:40]!r} has no time; example: {plain} 8:00")
        return text
    today = _wall(now, timezone).date()
    on, repeats = today, 0  # days until it comes again
    if not named:
        repeats = 1
    elif named == "tomorrow":
        on += timedelta(days=1)
    elif named in _WEEKDAYS:
        on += timedelta(days=(_WEEKDAYS.index(named) - today.weekday()) % 7)
        repeats = 7
    elif named != "today":
        given = _day(named, today) if _DATE.fullmatch(named) else None
        if given is None:
            raise BadSchedule(
                f"{text[:40]!r} is no moment; examples: 8:00, tomorrow 8:00, friday 18:00, 2026-12-24 18:00"
            )
        on = given
    try:
        wall = datetime.combine(on, time(int(hours[1]), int(hours[2])))
    except ValueError:
        raise BadSchedule(f"{clock!r} is no time of the day; example: 18:30") from None
    if repeats and instant(wall, ZoneInfo(timezone)) <= now:
        wall += timedelta(days=repeats)
    moment = instant(wall, ZoneInfo(timezone))
    if moment <= now:
        raise BadSchedule(f"{text[:40]!r} is past")
    return spell(moment, timezone)


def _at(
    named: str, hour: int, minute: int, wall: datetime, timezone: str, now: Micros
) -> Micros | None:
    """The time of a named day; without a day the last such time."""
    on = _day(named, wall.date()) if named else wall.date()
    if on is None:
        return None
    there = datetime.combine(on, time(hour, minute))
    found = instant(there, ZoneInfo(timezone))
    if not named and found > now:
        found = instant(there - timedelta(days=1), ZoneInfo(timezone))
    return found


def _day(text: str, today: date) -> date | None:
    plain = _plain(text)
    if plain in ("today", "yesterday"):
        return today - timedelta(days=int(plain == "yesterday"))
    if plain in _WEEKDAYS:
        return today - timedelta(days=(today.weekday() - _WEEKDAYS.index(plain)) % 7)
    if _DATE.fullmatch(plain):
        try:
            return date.fromisoformat(plain)
        except ValueError:
            return None
    return None


def _plain(text: str) -> str:
    return " ".join(text.lower().split())


def _midnight(on: date, timezone: str) -> Micros:
    return instant(datetime.combine(on, time()), ZoneInfo(timezone))


def _wall(now: Micros, timezone: str) -> datetime:
    return datetime.fromisoformat(spell(now, timezone)).replace(tzinfo=None)
