"""What the daemon cannot know by itself: time, random numbers, free disk space.

In one hand, so that a simulation can be another world.
"""

from __future__ import annotations

import random
import secrets
import time
from collections.abc import Callable

import attrs
import trio

from pynchy.files.disk import ENDLESS, Space
from pynchy.model import Micros


@attrs.frozen
class World:
    """One world."""

    now: Callable[[], Micros]
    new_id: Callable[[], str]  # 32 hex digits, never twice
    jitter: Callable[[], float]  # from -1 to 1
    space: Callable[[], Space] = lambda: ENDLESS  # where we live
    steady: Callable[[], float] = trio.current_time  # seconds, by a clock that nobody sets


def real_world() -> World:
    """This one."""
    return World(
        now=lambda: Micros(time.time_ns() // 1000),
        new_id=lambda: secrets.token_hex(16),
        jitter=lambda: random.uniform(-1, 1),  # noqa: S311 - spreads retries, guards nothing
        steady=_steady,
    )


def _steady() -> float:
    """Seconds by a clock that nobody sets and that goes on while the machine sleeps, where there is one."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def day_of(timezone: str, moment: Micros) -> str:
    """The day a moment is in where the people are, as budgets count days."""
    from datetime import UTC, datetime  # here: a start needs neither
    from zoneinfo import ZoneInfo

    return (
        datetime.fromtimestamp(moment / 1e6, UTC).astimezone(ZoneInfo(timezone)).date().isoformat()
    )
