"""When a task is due, held against a walk over every minute, and what is refused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pynchy.model import Micros
from pynchy.schedule.times import BadSchedule, Schedule, next_slot, parse, slots, spell
from tests.rules.minutes import due as minutes_due

ZONES = [
    "UTC",
    "America/New_York",
    "Europe/Berlin",
    "Australia/Lord_Howe",  # its clocks move by half an hour
    "Asia/Kathmandu",
    "America/Sao_Paulo",
    "Pacific/Apia",
]
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
FROM = datetime(2024, 1, 1)  # noqa: DTZ001 - hypothesis wants bounds without a zone
UNTIL = datetime(2031, 1, 1)  # noqa: DTZ001


def micros(text: str) -> Micros:
    return Micros((datetime.fromisoformat(text) - EPOCH) // timedelta(microseconds=1))


def cron(line: str, zone: str) -> Schedule:
    return Schedule("cron", line, zone, Micros(0))


def walls(line: str, zone: str, start: str, count: int) -> list[str]:
    found = slots(cron(line, zone), micros(start), Micros(1 << 60))
    return [spell(slot.at, zone) for slot in islice(found, count)]


def test_the_hour_that_comes_twice_runs_a_fixed_hour_once() -> None:  # invariant 129
    assert walls("30 1 * * *", "America/New_York", "2026-10-31T12:00+00:00", 3) == [
        "2026-11-01T01:30:00-04:00",
        "2026-11-02T01:30:00-05:00",
        "2026-11-03T01:30:00-05:00",
    ]


def test_the_hour_that_never_comes_runs_at_the_jump() -> None:
    assert walls("30 2 * * *", "America/New_York", "2026-03-07T12:00+00:00", 2) == [
        "2026-03-08T03:00:00-04:00",
        "2026-03-09T02:30:00-04:00",
    ]


def test_every_hour_goes_on_through_both_nights() -> None:
    assert walls("0 * * * *", "Europe/Berlin", "2026-10-24T23:30+00:00", 4) == [
        "2026-10-25T02:00:00+02:00",
        "2026-10-25T02:00:00+01:00",
        "2026-10-25T03:00:00+01:00",
        "2026-10-25T04:00:00+01:00",
    ]
    assert walls("0 * * * *", "Europe/Berlin", "2026-03-29T00:30+00:00", 2) == [
        "2026-03-29T03:00:00+02:00",
        "2026-03-29T04:00:00+02:00",
    ]


def minute_walk(
    minutes: set[int], hours: set[int] | None, zone: ZoneInfo, start: datetime, days: int
) -> list[datetime]:
    """Every minute of some days, one by one: the instants at which the line is due."""
    found: list[datetime] = []
    seen: set[datetime] = set()
    moment = start.replace(second=0, microsecond=0) + timedelta(minutes=1)
    before = (moment - timedelta(minutes=1)).astimezone(zone).replace(tzinfo=None)
    for _ in range(days * 24 * 60):
        wall = moment.astimezone(zone).replace(tzinfo=None)
        skipped = [
            before + timedelta(minutes=n)
            for n in range(1, max(1, round((wall - before) / timedelta(minutes=1))))
        ]
        if hours is None:
            due = wall.minute in minutes
        else:
            due = False
            for each in (*skipped, wall):
                if each.minute in minutes and each.hour in hours and each not in seen:
                    seen.add(each)
                    due = True
        if due:
            found.append(moment)
        before = wall
        moment += timedelta(minutes=1)
    return found


@settings(max_examples=60)
@given(
    zone=st.sampled_from(ZONES),
    minutes=st.sets(st.integers(0, 59), min_size=1, max_size=3),
    hours=st.none() | st.sets(st.integers(0, 23), min_size=1, max_size=4),
    start=st.datetimes(FROM, UNTIL, timezones=st.just(UTC)),
)
@example(
    zone="America/New_York", minutes={30}, hours={1, 2}, start=datetime(2026, 3, 7, tzinfo=UTC)
)
@example(
    zone="America/New_York", minutes={30}, hours={1, 2}, start=datetime(2026, 10, 31, tzinfo=UTC)
)
@example(
    zone="Australia/Lord_Howe",
    minutes={0, 15, 45},
    hours=None,
    start=datetime(2026, 4, 3, tzinfo=UTC),
)
@example(
    zone="Australia/Lord_Howe",
    minutes={0, 15, 45},
    hours={1, 2},
    start=datetime(2026, 10, 2, tzinfo=UTC),
)
@example(zone="Europe/Berlin", minutes={0}, hours=None, start=datetime(2026, 10, 24, tzinfo=UTC))
def test_next_run_is_what_a_walk_over_every_minute_finds(
    zone: str, minutes: set[int], hours: set[int] | None, start: datetime
) -> None:
    line = f"{','.join(map(str, sorted(minutes)))} "
    line += "*" if hours is None else ",".join(map(str, sorted(hours)))
    days = 4
    begin = Micros((start - EPOCH) // timedelta(microseconds=1))
    until = Micros(begin + days * 86_400 * 1_000_000)
    found = [slot.at for slot in slots(cron(line + " * * *", zone), begin, until)]
    walked = minute_walk(minutes, hours, ZoneInfo(zone), start, days)
    expected = [Micros((each - EPOCH) // timedelta(microseconds=1)) for each in walked]
    assert found == [each for each in expected if begin < each <= until]


def steps(low: int, high: int) -> st.SearchStrategy[str]:
    """A field of one or more numbers, spans and steps within bounds."""
    number = st.integers(low, high)
    span = st.tuples(number, number).map(lambda pair: f"{min(pair)}-{max(pair)}")
    step = st.integers(2, max(2, (high - low) // 2))
    item = st.one_of(
        number.map(str), span, st.tuples(span, step).map(lambda pair: f"{pair[0]}/{pair[1]}")
    )
    return st.lists(item, min_size=1, max_size=2).map(",".join)


@settings(max_examples=15)
@given(
    zone=st.sampled_from(ZONES),
    year=st.integers(2024, 2030),
    minute=st.integers(0, 59).map(str),
    hour=st.sampled_from(["*", "*/5"])
    | st.sets(st.integers(0, 23), min_size=1, max_size=2).map(
        lambda hours: ",".join(map(str, sorted(hours)))
    ),
    day=st.sampled_from(["*", "*/2", "*/9"]) | steps(1, 31),
    month=st.sampled_from(["*", "*/5", "mar,OCT", "2-4"]) | steps(1, 12),
    week=st.sampled_from(["*", "*/2", "Mon-fri", "sun", "7", "5-7", "1/2"]) | steps(0, 7),
)
@example(zone="Europe/Berlin", year=2026, minute="30", hour="2", day="*/2", month="*", week="sun")
@example(
    zone="America/New_York", year=2026, minute="30", hour="1,2", day="1-14", month="3,11", week="0"
)
@example(zone="Pacific/Apia", year=2011, minute="0", hour="12", day="30", month="12", week="*")
@example(
    zone="Australia/Lord_Howe", year=2027, minute="15", hour="*", day="*", month="4", week="sun"
)
@example(zone="UTC", year=2028, minute="0", hour="0", day="29", month="2", week="*")
def test_a_year_of_a_line_is_what_a_walk_over_all_its_minutes_finds(
    zone: str, year: int, minute: str, hour: str, day: str, month: str, week: str
) -> None:
    line = f"{minute} {hour} {day} {month} {week}"
    begin = Micros((datetime(year, 1, 1, tzinfo=UTC) - EPOCH) // timedelta(microseconds=1))
    end = Micros((datetime(year + 1, 1, 1, tzinfo=UTC) - EPOCH) // timedelta(microseconds=1))
    found = slots(cron(line, zone), Micros(begin - 1), Micros(end - 1))
    assert [slot.at // 60_000_000 for slot in found] == minutes_due(line, zone, year, year)


@given(
    zone=st.sampled_from(ZONES),
    hours=st.sampled_from(["*", "1,2", "*/2", "0-4"]),
    start=st.datetimes(FROM, UNTIL, timezones=st.just(UTC)),
)
def test_no_two_slots_share_a_key(zone: str, hours: str, start: datetime) -> None:
    begin = Micros((start - EPOCH) // timedelta(microseconds=1))
    found = list(islice(slots(cron(f"*/15 {hours} * * *", zone), begin, Micros(1 << 60)), 60))
    assert len({slot.key for slot in found}) == len(found)
    assert all(a.at < b.at for a, b in pairwise(found))


@given(anchor=st.integers(0, 10**16), period=st.integers(60, 10**6), after=st.integers(0, 10**16))
def test_intervals_do_not_drift(anchor: int, period: int, after: int) -> None:  # invariant 123
    schedule = Schedule("interval", str(period), "UTC", Micros(anchor))
    slot = next_slot(schedule, Micros(after))
    assert slot is not None
    assert slot.at > after
    assert slot.at > anchor
    assert (slot.at - anchor) % (period * 1_000_000) == 0
    assert slot.at - max(after, anchor) <= period * 1_000_000


NOW = micros("2026-06-01T12:00+00:00")


@pytest.mark.parametrize(
    ("kind", "value"),
    [  # threats I9, I10, I11
        ("cron", "* * * * * *"),
        ("cron", "* * * *"),
        ("cron", "* * * * *"),
        ("cron", "*/2 * * * *"),
        ("cron", "0,4 * * * *"),
        ("cron", "0 0 30 2 *"),
        ("cron", "R R * * *"),
        ("cron", "59-5 * * * *"),
        ("cron", "*/99999999999 * * * *"),
        ("cron", "0 0 * * * 2099"),
        ("cron", "0 0 L * *"),
        ("cron", "0 0 * * 1#2"),
        ("cron", "\uff11 2 * * *"),
        ("cron", "0 0 1-32 * *"),
        ("cron", "@daily"),
        ("cron", ",".join(["1"] * 200) + " * * * *"),
        ("interval", 299),
        ("interval", -1),
        ("interval", 0),
        ("interval", True),
        ("interval", "1e3"),
        ("interval", "\uff11\uff12\uff13"),
        ("interval", "1_000"),
        ("interval", " 500 "),
        ("interval", 10**30),
        ("once", "2026-06-01T12:00:01Z"),
        ("once", "2020-01-01T00:00Z"),
        ("once", "9999-01-01T00:00Z"),
        ("once", "0001-01-01T00:00+23:59"),
        ("once", "2026-W30-1"),
        ("once", "2026-12-31T23:59:60Z"),
        ("once", "tomorrow"),
        ("once", 5),
        ("daily", "1"),
    ],
)
def test_what_is_no_schedule_is_refused(kind: str, value: str | int) -> None:
    with pytest.raises(BadSchedule):
        parse(kind, value, timezone="Europe/Berlin", now=NOW, from_main=False)


@pytest.mark.parametrize(
    "zone", ["../../etc/passwd", "posixrules", "Factory", "europe/berlin", "IST-2", "", "x" * 10**6]
)
def test_a_bad_time_zone_is_refused(zone: str) -> None:  # threat I12, invariant 128
    with pytest.raises(BadSchedule):
        parse("interval", 600, timezone=zone, now=NOW, from_main=True)


def test_what_is_taken() -> None:
    for kind, value in (
        ("cron", "0 9 * * MON-fri"),
        ("cron", "*/5 * * * *"),
        ("cron", "0 0 29 2 *"),
        ("interval", 300),
        ("once", "2026-06-01T14:30"),
    ):
        parse(kind, value, timezone="Europe/Berlin", now=NOW, from_main=False)
    parse("cron", "* * * * *", timezone="UTC", now=NOW, from_main=True)
    parse("interval", 60, timezone="UTC", now=NOW, from_main=True)


def test_a_leap_day_has_a_next_one_from_wherever_it_is_asked() -> None:
    for year in (2026, 2027, 2028, 2095, 2097, 2103):
        now = micros(f"{year}-06-01T00:00+00:00")
        schedule = parse("cron", "0 9 29 2 *", timezone="UTC", now=now, from_main=False)
        first = next_slot(schedule, now)
        assert first is not None
        assert next_slot(schedule, first.at) is not None


def test_a_moment_without_offset_is_the_peoples_own() -> None:  # invariant 127
    schedule = parse("once", "2026-06-01T14:30", timezone="Europe/Berlin", now=NOW, from_main=False)
    assert schedule.anchor == micros("2026-06-01T12:30+00:00")
    assert schedule.value == "2026-06-01T14:30:00+02:00"
    assert next_slot(schedule, schedule.anchor) is None


def test_a_stored_schedule_that_is_none_says_so() -> None:  # invariant 124
    for schedule in (
        Schedule("cron", "no cron at all x", "UTC", NOW),
        Schedule("interval", "soon", "UTC", NOW),
        Schedule("cron", "0 9 * * *", "Nowhere/None", NOW),
    ):
        with pytest.raises(BadSchedule):
            next_slot(schedule, NOW)
