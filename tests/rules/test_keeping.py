"""Too little room and room again; when the nightly round is due. No clock and no disk."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pynchy.files.disk import BACK, Space, Threshold, spell_bytes
from pynchy.maintenance.nightly import next_hour
from pynchy.model import HOUR, Micros

MIB = 1 << 20
GIB = 1 << 30


@pytest.mark.parametrize(
    ("free", "total", "low"),
    [
        (900 * MIB, 10 * GIB, True),  # less than a GiB
        (1100 * MIB, 10 * GIB, False),
        (9 * GIB, 200 * GIB, True),  # less than 5 %
        (11 * GIB, 200 * GIB, False),
    ],
)
def test_the_larger_of_the_two_limits_counts(free: int, total: int, low: bool) -> None:
    assert Threshold(bytes=GIB, share=0.05).is_low(Space(free, total)) is low


def test_files_run_out_as_bytes_do() -> None:
    threshold = Threshold(bytes=0, share=0)
    assert threshold.is_low(Space(GIB, GIB, files_free=9, files=1000))
    assert not threshold.is_low(Space(GIB, GIB, files_free=11, files=1000))
    assert not threshold.is_low(Space(GIB, GIB))  # a file system that never runs out of them


sizes = st.integers(0, 1 << 50)


@given(sizes, sizes, sizes, st.floats(0, 0.9))
def test_what_is_low_stays_low_until_there_is_a_tenth_more(
    free: int, total: int, least: int, share: float
) -> None:
    threshold, space = Threshold(bytes=least, share=share), Space(free, total)
    if threshold.is_low(space):
        assert threshold.is_low(space, was=True)
    if threshold.is_critical(space):
        assert threshold.is_low(space)
    if not threshold.is_low(space, was=True):
        assert free >= threshold.least(space) * BACK
    flips = threshold.is_low(space) != threshold.is_low(space, was=True)
    assert flips == (threshold.least(space) <= free < threshold.least(space) * BACK)


def test_bytes_for_people() -> None:
    assert [spell_bytes(each) for each in (0, 1023, 2048, 5 * MIB, 3 * GIB // 2)] == [
        "0 bytes",
        "1023 bytes",
        "2 KiB",
        "5 MiB",
        "1.5 GiB",
    ]


zones = st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"])


@given(st.integers(1_600_000_000, 2_000_000_000), st.integers(0, 23), zones)
def test_the_next_round_is_at_its_hour_within_a_day(last: int, hour: int, zone: str) -> None:
    due = next_hour(Micros(last * 1_000_000), hour=hour, timezone=zone)
    wait = due / 1e6 - last
    assert 0 < wait <= 25 * HOUR
    there = datetime.fromtimestamp(due / 1e6, ZoneInfo(zone))
    if there.hour == hour:
        assert (there.minute, there.second) == (0, 0)
    else:  # an hour that the clock leaves out on that day
        assert there.hour == hour + 1 or hour == 23
        assert there.utcoffset() != datetime.fromtimestamp(last, ZoneInfo(zone)).utcoffset()


def test_a_round_at_the_hour_is_followed_by_one_a_day_later() -> None:
    first = next_hour(Micros(1_750_000_000_000_000), hour=4, timezone="Europe/Berlin")
    second = next_hour(first, hour=4, timezone="Europe/Berlin")
    assert second - first == 24 * HOUR * 1_000_000
