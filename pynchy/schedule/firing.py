"""What becomes of the times at which a task was due: which one runs, and what is noted of the others.

The rule that keeps it so: pure; the store asks what is due, and writes down what this says.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

import attrs

from pynchy.limits import TASKS
from pynchy.model import Micros
from pynchy.schedule.times import Slot

LATE: Final = 5.0  # seconds after its time at which a run is late
CatchUp = Literal["coalesce", "skip"]

NOT_COUNTED: Final = "the daemon was down; what was due until a day ago was not counted"
NOT_ITS_CHAT: Final = "its chat is not its group's any more"


@attrs.frozen
class Passed:
    """A slot that nothing runs for, or another one."""

    slot: Slot
    state: Literal["skipped", "coalesced"]
    reason: str


@attrs.frozen
class Firing:
    """What to do with the slots that are due: which one runs, and how many others that run, or the one that waits
    already, stands for."""

    passed: tuple[Passed, ...]
    run: Slot | None
    missed: int


def fire(due: Sequence[Slot], *, catch_up: CatchUp, waits: bool, now: Micros) -> Firing:
    """Judge what is due, at least one slot. ``waits``: a turn of the task is yet to run."""
    last = due[-1]
    skipped: tuple[Passed, ...] = ()
    if catch_up == "skip":
        is_late = now - last.at > TASKS.late * 1_000_000
        given_up = due if is_late else due[:-1]
        skipped = tuple(Passed(slot, "skipped", "missed") for slot in given_up)
        if is_late:
            return Firing(skipped, None, 0)
        due = [last]
    passed = due if waits else due[:-1]
    reason = "the one before still waits" if waits else f"missed; {last.key} runs for it"
    coalesced = tuple(Passed(slot, "coalesced", reason) for slot in passed)
    return Firing(skipped + coalesced, None if waits else last, len(passed))


def outcome(ended: str, *, due_at: Micros, began_at: Micros) -> tuple[str, str | None]:
    """What a slot has come to whose turn has ended: its state and why."""
    late = (began_at - due_at) / 1_000_000
    match ended:
        case "dead":
            return "failed", "its turn failed"
        case "cancelled":
            return "skipped", "stopped by a person"
        case _:
            return ("late", f"{late:.0f} s after its time") if late > LATE else ("ran", None)


def failed_too_often(times: int) -> str:
    return f"it failed {times} times in a row"


def not_understood(error: str) -> str:
    return f"its schedule cannot be understood: {error}"
