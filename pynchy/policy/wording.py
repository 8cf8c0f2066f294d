"""What agents and main are told: something they wait for has ended, a mount was refused, the clock was set.

The rule: pure. What others wrote is kept to one line where people read it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

import attrs

from pynchy.limits import HELPERS
from pynchy.text.reply import NOTICE_PREFIX, within

End = Literal["done", "failed", "denied", "expired"]


def question_answered(question: str, by: str | None, answer: str) -> str:
    """What wakes the agent that asked a question."""
    return f"You asked: {question}\n{by or 'Somebody'} answered: {answer}"


def request_ended(command: str, code: str, end: End, outcome: str) -> str:
    """What wakes the agent that asked for an approval."""
    return f"You asked for {command} ({code}). {_ENDS[end]} {outcome}".strip()


_ENDS: Final = {
    "done": "A person in main approved it, and it is done:",
    "failed": "A person in main approved it, but it could not be done:",
    "denied": "A person in main denied it. Do not ask for it again unless you are told to.",
    "expired": "Nobody decided in time, so nothing was done.",
}


@attrs.frozen
class Outcome:
    """What came of a helper."""

    ok: bool
    text: str


def outcome_of(state: str, result: str | None, error: str | None) -> Outcome:
    """What came of a helper whose turn has ended."""
    if state == "done":
        return Outcome(ok=True, text=(result or "(the helper said nothing)")[: HELPERS.answer])
    reason = error or ("it was stopped" if state == "cancelled" else "unknown")
    return Outcome(ok=False, text=f"the helper failed: {reason}")


def helper_ended(helper: int, came: Outcome) -> str:
    """What wakes the agent that did not wait for a helper."""
    return f"Helper {helper} has ended. {'Its answer:' if came.ok else ''}\n{came.text}"


def mounts_refused(folder: str, refused: Sequence[tuple[str, str]]) -> str:
    """What main is told of mounts (name, reason) that a run goes on without."""
    lines = "\n".join(f"{within(name)}: {within(reason, 300)}" for name, reason in refused)
    return f"{folder} runs without some of its mounts:\n{lines}"


def budget_nearly_used_up(limit: str, spent: str, folder: str | None) -> str:
    """What main is told when most of a day's budget is used: that of a group, or of all groups with None."""
    whose = "all groups" if folder is None else folder
    raised = (
        "the setting budget.total_day_dollars, and `pynchy service restart`"
        if folder is None
        else f"`pynchy groups set {folder} budget.day_dollars AMOUNT`"
    )
    used = f"{NOTICE_PREFIX}{spent} of today's {limit} for {whose} is used."
    return f"{used} Once all of it is, messages wait until 00:00. To raise it: {raised}."


WORTH_A_WORD: Final = 3600.0  # seconds


def clock_was_set(jumped: float, *, tasks: int) -> str | None:
    """What main is told when the clock ``jumped`` by seconds, and ``tasks`` waited in vain; None if nothing."""
    count = tasks
    which = "one task" if count == 1 else f"{count} tasks"
    if abs(jumped) >= WORTH_A_WORD:
        way = "forward" if jumped > 0 else "back"
        text = f"The clock of this machine was set {way} by {_spell_jump(abs(jumped))}."
    elif count:
        text = (
            "The clock of this machine must have been wrong for a while: "
            f"{which} waited for a time that was too far ahead."
        )
    else:
        return None
    if count and jumped:
        text += f" {which.capitalize()} waited for a time that is too far ahead now."
    if count:
        text += f" I have computed anew when {'it runs' if count == 1 else 'they run'} next."
    elif jumped > 0:
        text += " What fell due in between runs once."
    return f"{text} If the time is wrong now, set the clock; `pynchy tasks` shows what comes next."


def _spell_jump(seconds: float) -> str:
    hours = round(seconds / 3600)
    if hours < 48:
        return f"{hours} hour{'s' if hours != 1 else ''}"
    return f"{round(hours / 24)} days"
