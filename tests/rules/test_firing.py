"""Of the times that a task was due one runs at most, and each of the others says why it did not."""

from __future__ import annotations

import pytest

from pynchy.model import Micros
from pynchy.schedule.firing import Firing, Passed, fire, outcome
from pynchy.schedule.times import Slot

SECOND = 1_000_000
FIRST, MIDDLE, LAST = (Slot(Micros(at * SECOND), f"at {at}") for at in (100, 200, 300))


@pytest.mark.parametrize(
    ("catch_up", "waits", "now", "expected"),
    [
        (
            "coalesce",
            False,
            301,
            Firing(
                (
                    Passed(FIRST, "coalesced", "missed; at 300 runs for it"),
                    Passed(MIDDLE, "coalesced", "missed; at 300 runs for it"),
                ),
                LAST,
                2,
            ),
        ),
        (
            "coalesce",
            True,
            301,
            Firing(
                tuple(
                    Passed(slot, "coalesced", "the one before still waits")
                    for slot in (FIRST, MIDDLE, LAST)
                ),
                None,
                3,
            ),
        ),
        (
            "skip",
            False,
            301,
            Firing(
                (Passed(FIRST, "skipped", "missed"), Passed(MIDDLE, "skipped", "missed")), LAST, 0
            ),
        ),
        (
            "skip",
            True,
            301,
            Firing(
                (
                    Passed(FIRST, "skipped", "missed"),
                    Passed(MIDDLE, "skipped", "missed"),
                    Passed(LAST, "coalesced", "the one before still waits"),
                ),
                None,
                1,
            ),
        ),
        (
            "skip",
            False,
            100_000,
            Firing(
                tuple(Passed(slot, "skipped", "missed") for slot in (FIRST, MIDDLE, LAST)), None, 0
            ),
        ),
    ],
)
def test_what_is_due_is_judged(catch_up: str, waits: bool, now: int, expected: Firing) -> None:
    found = fire(
        [FIRST, MIDDLE, LAST],
        catch_up=catch_up,  # type: ignore[arg-type]
        waits=waits,
        now=Micros(now * SECOND),
    )
    assert found == expected


@pytest.mark.parametrize(
    ("ended", "began", "expected"),
    [
        ("done", 105, ("ran", None)),
        ("done", 106, ("late", "6 s after its time")),
        ("dead", 106, ("failed", "its turn failed")),
        ("cancelled", 100, ("skipped", "stopped by a person")),
    ],
)
def test_how_a_turn_ended_is_what_its_slot_came_to(
    ended: str, began: int, expected: tuple[str, str | None]
) -> None:
    found = outcome(ended, due_at=Micros(100 * SECOND), began_at=Micros(began * SECOND))
    assert found == expected
