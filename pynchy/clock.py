"""Time and chance: what no part of the daemon can know by itself.

The rule that keeps it so: all of it is in one value that is handed down, so a simulation can have another.
"""

from __future__ import annotations

import random
import secrets
import time
from collections.abc import Callable

import attrs
import trio

from pynchy.model import Micros


@attrs.frozen
class World:
    """Where the time comes from, and what is drawn by chance."""

    now: Callable[[], Micros]
    new_id: Callable[[], str]  # 32 hex digits, never twice
    jitter: Callable[[], float]  # from -1 to 1
    steady: Callable[[], float] = trio.current_time  # seconds, by a clock that nobody sets


def real_world() -> World:
    """The machine's clocks, and real chance."""
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
