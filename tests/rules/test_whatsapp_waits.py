"""How long WhatsApp is left alone between two attempts."""

import math
from itertools import accumulate, pairwise

from pynchy.whatsapp.channel import FIRST_WAIT, HEALTHY, LAST_WAIT, pause_after


def test_attempts_come_ever_less_often_and_never_cease() -> None:  # invariants 73, 80
    waits, wait = [], FIRST_WAIT
    for _ in range(20):
        pause, wait = pause_after("disconnected", wait, lived=1.0)
        waits.append(pause)
    assert waits[:4] == [2.0, 4.0, 8.0, 16.0]
    assert waits[-1] == LAST_WAIT == 60.0
    assert all(b == min(2 * a, LAST_WAIT) for a, b in pairwise(waits))
    first_minutes = sum(moment < 600 for moment in accumulate(waits))
    assert first_minutes <= 15  # attempts


def test_a_good_connection_earns_a_short_wait() -> None:  # invariant 80
    assert pause_after("disconnected", LAST_WAIT, lived=HEALTHY + 1) == (2.0, 4.0)
    assert pause_after("disconnected", LAST_WAIT, lived=HEALTHY) == (LAST_WAIT, LAST_WAIT)


def test_what_only_a_person_can_change_is_waited_for() -> None:  # invariants 65, 73
    for state in ("logged_out", "outdated"):
        assert pause_after(state, FIRST_WAIT, lived=1.0)[0] == math.inf
    assert pause_after("banned", FIRST_WAIT, lived=1.0)[0] == 3600.0
    assert pause_after("replaced", FIRST_WAIT, lived=1.0)[0] == 30.0
