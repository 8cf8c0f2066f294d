"""Every minute of some years in a zone, one by one: when a cron line is due, found without cleverness.

What `pynchy.schedule.times` is held against. It knows nothing of it, and nothing of croniter.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

import attrs

DAY = 24 * 60
QUARTER = 15  # minutes; no zone has changed its clocks at another moment since 1972
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MONTHS = "jan feb mar apr may jun jul aug sep oct nov dec".split()
WEEK = "sun mon tue wed thu fri sat".split()


@lru_cache(maxsize=6)
def walls(zone: str, first: int, last: int) -> tuple[int, array[int]]:
    """The first minute (UTC, since 1970) of the years ``first`` to ``last``, and what the clocks of a
    zone show at that and each following minute, as minutes since 1970 in their own time."""
    begin = (datetime(first, 1, 1, tzinfo=UTC) - EPOCH) // timedelta(minutes=1)
    end = (datetime(last + 1, 1, 1, tzinfo=UTC) - EPOCH) // timedelta(minutes=1)
    there = ZoneInfo(zone)
    shown = array("i")
    for quarter in range(begin, end, QUARTER):
        moment = EPOCH + timedelta(minutes=quarter)
        offset = moment.astimezone(there).utcoffset()
        assert offset is not None
        wall = quarter + offset // timedelta(minutes=1)
        shown.extend(range(wall, wall + QUARTER))
    return begin, shown


@attrs.frozen
class Line:
    """What the five fields of a line allow."""

    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    week: frozenset[int]  # Sunday is 0
    hourly: bool  # it goes on through the hour that comes twice
    either: bool  # a day of the month or of the week will do

    @classmethod
    def of(cls, text: str) -> Line:
        fields = text.lower().split()
        minutes, hours, days, months, week = (
            frozenset(_allowed(field, low, high, names))
            for field, (low, high, names) in zip(fields, _BOUNDS, strict=True)
        )
        return cls(
            minutes,
            hours,
            days,
            months,
            frozenset(day % 7 for day in week),
            hourly=fields[1].startswith("*"),
            either=not fields[2].startswith("*") and not fields[4].startswith("*"),
        )

    def has_day(self, day: int) -> bool:
        """Whether a day, counted from 1970, is one of its days."""
        when = date.fromordinal(day + date(1970, 1, 1).toordinal())
        if when.month not in self.months:
            return False
        of_month, of_week = when.day in self.days, when.isoweekday() % 7 in self.week
        return of_month or of_week if self.either else of_month and of_week


_BOUNDS: tuple[tuple[int, int, list[str]], ...] = (
    (0, 59, []),
    (0, 23, []),
    (1, 31, []),
    (1, 12, MONTHS),
    (0, 7, WEEK),
)


def _allowed(field: str, low: int, high: int, names: list[str]) -> Iterator[int]:
    def number(text: str) -> int:
        return names.index(text) + low if text in names else int(text)

    open_end = min(high, 6) if names is WEEK else high  # 7 is Sunday only where it is written
    for item in field.split(","):
        span, _, step = item.partition("/")
        first, dash, last = span.partition("-")
        if span == "*":
            begin, end = low, high
        else:
            begin = number(first)
            end = number(last) if dash else max(open_end, begin) if step else begin
        yield from range(begin, end + 1, int(step or 1))


def due(line: str, zone: str, first: int, last: int) -> list[int]:
    """The minutes (UTC, since 1970) of some years at which a line is due, by a walk over all of them."""
    allowed = Line.of(line)
    begin, shown = walls(zone, first, last)
    in_hour = [minute in allowed.minutes for minute in range(60)]
    in_day = [hour in allowed.hours for hour in range(24)]
    days: dict[int, bool] = {}

    def fits(wall: int) -> bool:
        if not in_hour[wall % 60] or not in_day[wall // 60 % 24]:
            return False
        day = wall // DAY
        if day not in days:
            days[day] = allowed.has_day(day)
        return days[day]

    found = []
    latest = shown[0] - 1  # of all that the clocks have shown
    for index, wall in enumerate(shown):
        if allowed.hourly:
            if in_hour[wall % 60] and fits(wall):
                found.append(begin + index)
        elif wall > latest:
            # What a jump forward left out is due at the jump, once.
            if wall == latest + 1:
                if in_hour[wall % 60] and fits(wall):
                    found.append(begin + index)
            elif any(fits(each) for each in range(latest + 1, wall + 1)):
                found.append(begin + index)
        latest = max(latest, wall)
    return found
