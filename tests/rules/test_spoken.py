"""Times as people write them are understood, or refused with examples."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pynchy.model import Micros
from pynchy.schedule import spoken
from pynchy.schedule.times import BadSchedule, parse, spell

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


# --- what is to come ---


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("16:00", "2026-11-24T16:00"),
        ("8:00", "2026-11-25T08:00"),  # that of today is past
        ("15:00", "2026-11-25T15:00"),  # now is not to come
        ("Tomorrow  8:00", "2026-11-25T08:00"),
        ("today 18:30", "2026-11-24T18:30"),
        ("friday 18:00", "2026-11-27T18:00"),
        ("tuesday 8:00", "2026-12-01T08:00"),
        ("2026-12-24 8:00", "2026-12-24T08:00"),
        ("in 2 hours", "2026-11-24T17:00"),
    ],
)
def test_a_moment_to_come_is_understood(text: str, moment: str) -> None:
    assert spoken.coming(text, timezone=BERLIN, now=NOW) == spell(at(moment), BERLIN)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("tomorrow", "has no time; example: tomorrow 8:00"),
        ("2026-12-24", "has no time"),
        ("today 8:00", "is past"),
        ("2026-11-23 8:00", "is past"),
        ("soon 8:00", "examples: 8:00, tomorrow 8:00"),
        ("yesterday 8:00", "examples: 8:00, tomorrow 8:00"),
        ("24:00", "example: 18:30"),
    ],
)
def test_no_moment_to_come_is_refused_with_an_example(text: str, told: str) -> None:
    with pytest.raises(BadSchedule, match=told):
        spoken.coming(text, timezone=BERLIN, now=NOW)


def test_what_is_written_otherwise_is_left_to_the_schedule() -> None:
    for text in ("2026-12-24T18:00", "2026-12-24T18:00+01:00", "soon"):
        assert spoken.coming(text, timezone=BERLIN, now=NOW) == text


@given(now=MOMENTS, zone=ZONES, hour=st.integers(0, 23), minute=st.integers(0, 59))
def test_a_time_to_come_is_the_next_one(now: Micros, zone: str, hour: int, minute: int) -> None:
    text = f"{hour}:{minute:02}"
    found = parse(
        "once",
        spoken.coming(text, timezone=zone, now=now),
        timezone=zone,
        now=Micros(now - 10**7),
        from_main=True,
    )
    assert 0 < found.anchor - now <= 25 * HOUR


@given(text=st.text(max_size=30), now=MOMENTS)
def test_no_text_of_the_future_is_an_error_of_another_kind(text: str, now: Micros) -> None:
    for understand in (
        spoken.cron,
        spoken.interval,
        lambda each: spoken.coming(each, timezone=BERLIN, now=now),
    ):
        try:
            understand(text)
        except BadSchedule:
            continue


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90), ("30m", 1800), ("2h", 7200), ("1d", 86_400), ("1 day", 86_400), ("every 1 day", 86_400),
        ("every day", 86_400), ("Every 2 weeks", 1_209_600), ("5 minutes", 300), ("20 sec", 20),
    ],
)  # fmt: skip
def test_an_interval_is_understood(text: str, seconds: int) -> None:
    assert spoken.interval(text) == str(seconds)


@pytest.mark.parametrize(
    "text", ["", "soon", "day", "every", "1.5h", "-1", "1 month", "1 day ago", "٣h"]
)
def test_what_is_no_interval_is_refused_with_examples(text: str) -> None:
    with pytest.raises(BadSchedule, match="examples: 90"):
        spoken.interval(text)


def test_the_names_of_cron_are_lines() -> None:
    assert spoken.cron("@daily") == spoken.cron(" @Midnight ") == "0 0 * * *"
    assert spoken.cron("0 8 * * 1-5") == "0 8 * * 1-5"
    with pytest.raises(BadSchedule, match="@hourly, @daily"):
        spoken.cron("@reboot")
    for name in ("@hourly", "@weekly", "@monthly", "@yearly"):
        parse("cron", spoken.cron(name), timezone=BERLIN, now=NOW, from_main=True)
