"""How long a run may take: which limit comes first, and what moves it."""

from __future__ import annotations

import attrs
from hypothesis import given
from hypothesis import strategies as st

from pynchy.container.deadlines import TOOL_MARGIN, Deadlines, Limit, Phase, Timeouts

TIMEOUTS = Timeouts(start=60, silence=600, turn=3600, idle=1800, close=10, stop=0.5)


def busy(now: float = 0.0) -> Deadlines:
    clock = Deadlines(TIMEOUTS, now)
    clock.started(now, owed=True)
    return clock


def test_an_agent_that_never_speaks_has_its_start_limit() -> None:
    # invariants 114, 115
    assert Deadlines(TIMEOUTS, 5.0).due() == (65.0, Limit.START)


def test_a_slow_start_that_gives_a_sign_of_life_has_longer() -> None:
    clock = Deadlines(attrs.evolve(TIMEOUTS, start_most=300), 5.0)
    clock.stirred()
    assert clock.due() == (305.0, Limit.START)
    clock.stirred()
    assert clock.due() == (305.0, Limit.START), "and no sign of life moves that"


def test_silence_ends_a_turn_and_progress_moves_it() -> None:
    clock = busy()
    assert clock.due() == (600.0, Limit.SILENCE)
    clock.progressed(500.0)
    assert clock.due() == (1100.0, Limit.SILENCE)


def test_a_declared_tool_may_be_silent_as_long_as_it_said() -> None:  # invariant 119
    clock = busy()
    clock.progressed(10.0, tool=1200.0)
    assert clock.due() == (10.0 + 1200.0 + TOOL_MARGIN, Limit.SILENCE)


@given(moments=st.lists(st.floats(0, 3599), max_size=30), tool=st.floats(0, 1e9))
def test_nothing_moves_the_limit_on_a_whole_turn(moments: list[float], tool: float) -> None:
    # invariant 85, threat S7
    clock = busy()
    for moment in sorted(moments):
        clock.progressed(moment, tool=tool)
        clock.prompted(moment)
    assert clock.due()[0] <= 3600.0


def test_idle_begins_at_every_turns_end() -> None:  # invariant 86
    clock = busy()
    clock.answered(100.0, owed=False)
    assert clock.due() == (1900.0, Limit.IDLE)
    clock.prompted(200.0)
    assert clock.phase is Phase.BUSY
    clock.answered(300.0, owed=False)
    assert clock.due() == (2100.0, Limit.IDLE)


def test_the_next_turn_has_a_clock_of_its_own() -> None:
    clock = busy()
    clock.progressed(3500.0)
    clock.answered(3500.0, owed=True)
    assert clock.due() == (4100.0, Limit.SILENCE)
    clock.progressed(3500.0, tool=100_000.0)
    assert clock.due() == (7100.0, Limit.TURN)


def test_closing_is_sticky() -> None:  # invariant 86
    clock = busy()
    clock.answered(10.0, owed=False)
    clock.closing(10.0)
    clock.prompted(11.0)
    clock.progressed(12.0)
    clock.answered(13.0, owed=True)
    clock.stopping(14.0)
    clock.closing(15.0)
    assert clock.due() == (20.0, Limit.CLOSE)


def test_a_stopped_turn_has_half_a_second() -> None:
    clock = busy()
    clock.stopping(100.0)
    assert clock.due() == (100.5, Limit.STOP)
