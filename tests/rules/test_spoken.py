"""Times as people write them are understood, or refused with examples."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pynchy.model import Micros
from pynchy.schedule import spoken
from pynchy.schedule.times import BadSchedule, spell

BERLIN = "Europe/Berlin"
HOUR = 3_600_000_000
ZONES = st.sampled_from(["UTC", BERLIN, "America/New_York", "Asia/Kolkata", "Pacific/Apia"])
MOMENTS = st.datetimes(
    datetime.fromisoformat("2024-01-01"), datetime.fromisoformat("2030-01-01")
).map(lambda each: Micros(int(each.replace(tzinfo=UTC).timestamp()) * 1_000_000))


def at(wall: str, zone: str = BERLIN) -> Micros:
    moment = datetime.fromisoformat(wall).replace(tzinfo=ZoneInfo(zone))
    return Micros(int(moment.timestamp()) * 1_000_000)


NOW = at("2026-11-24T15:00")  # a Tuesday


@pytest.mark.parametrize(
    ("text", "begins"),
    [
        ("today", "2026-11-24"),
        (" Yesterday ", "2026-11-23"),
        ("tuesday", "2026-11-24"),
        ("Wednesday", "2026-11-18"),
        ("2026-03-29", "2026-03-29"),
    ],
)
def test_a_day_is_understood(text: str, begins: str) -> None:
    start, end = spoken.day(text, timezone=BERLIN, now=NOW)
    assert start == at(begins)
    assert spell(end, BERLIN)[:10] == str(datetime.fromisoformat(begins).date() + timedelta(days=1))


def test_the_day_when_the_clocks_change_has_23_or_25_hours() -> None:
    for on, hours in (("2026-03-29", 23), ("2026-10-25", 25)):
        start, end = spoken.day(on, timezone=BERLIN, now=NOW)
        assert end - start == hours * HOUR


@pytest.mark.parametrize(
    "text",
    ["", "tomorrow", "2026-11-25", "2026-02-30", "1969-01-01", "24.11.", "3 days", "٢٠٢٦-11-24"],
)
def test_what_is_no_day_until_today_is_refused_with_examples(text: str) -> None:
    with pytest.raises(BadSchedule, match="yesterday, monday"):
        spoken.day(text, timezone=BERLIN, now=NOW)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("yesterday", "2026-11-23T00:00"),
        ("8:00", "2026-11-24T08:00"),
        ("16:30", "2026-11-23T16:30"),  # the last such time was yesterday
        ("yesterday 8:05", "2026-11-23T08:05"),
        ("Monday  18:00", "2026-11-23T18:00"),
        ("2026-11-20 8:00", None),
        ("2026-11-20 08:00", "2026-11-20T08:00"),
        ("2026-11-20T08:00", "2026-11-20T08:00"),
        ("2h", "2026-11-24T13:00"),
        ("3 days ago", "2026-11-21T15:00"),
        ("1 week", "2026-11-17T15:00"),
        ("90 min", "2026-11-24T13:30"),
    ],
)
def test_a_moment_is_understood(text: str, moment: str | None) -> None:
    if moment is None:
        with pytest.raises(BadSchedule, match="examples: yesterday"):
            spoken.since(text, timezone=BERLIN, now=NOW)
    else:
        assert spoken.since(text, timezone=BERLIN, now=NOW) == at(moment)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "soon",
        "25:00",
        "8:60",
        "tomorrow 8:00",
        "2027-01-01",
        "today 16:00",
        "0 days",
        "noon 8:00",
    ],
)
def test_what_is_no_moment_until_now_is_refused_with_examples(text: str) -> None:
    with pytest.raises(BadSchedule, match="examples: yesterday"):
        spoken.since(text, timezone=BERLIN, now=NOW)


@given(text=st.text(max_size=30), now=MOMENTS, zone=ZONES)
def test_no_text_is_an_error_of_another_kind(text: str, now: Micros, zone: str) -> None:
    for understand in (spoken.day, spoken.since):
        try:
            understand(text, timezone=zone, now=now)
        except BadSchedule:
            continue


@given(now=MOMENTS, zone=ZONES, back=st.integers(0, 400))
def test_a_day_by_its_date_is_that_day_and_no_other(now: Micros, zone: str, back: int) -> None:
    today = datetime.fromisoformat(spell(now, zone)).date()
    on = (today - timedelta(days=back)).isoformat()
    start, end = spoken.day(on, timezone=zone, now=now)
    assert spell(start, zone)[:10] == spell(Micros(end - 1), zone)[:10] == on
    assert spell(Micros(start - 1), zone)[:10] < on < spell(end, zone)[:10]
    assert spoken.since(on, timezone=zone, now=now) == start


@given(now=MOMENTS, zone=ZONES, hour=st.integers(0, 23), minute=st.integers(0, 59))
def test_a_time_is_the_last_such_one(now: Micros, zone: str, hour: int, minute: int) -> None:
    found = spoken.since(f"{hour}:{minute:02}", timezone=zone, now=now)
    assert 0 <= now - found <= 25 * HOUR
