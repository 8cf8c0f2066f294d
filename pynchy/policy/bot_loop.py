"""Detect bots among senders, to prevent endless reply loops.

The rule: pure. A sender is taken for a bot after several quick answers in a row, one to each answer of ours. One slow
answer ends the row, and several messages at once, as after an outage, count as none.
"""

from __future__ import annotations

from typing import Final, Literal

import attrs

from pynchy.limits import BOTS
from pynchy.model import Micros, after

Verdict = Literal["human", "begins", "held"]  # "begins": from now on it gets no answer for a while


@attrs.frozen
class Pace:
    """How many quick answers a sender gave in a row, and until when it is held for a program."""

    quick: int
    held_until: Micros

    def is_held(self, now: Micros) -> bool:
        """Whether it gets no answer now. An end that is too far ahead was set by a clock that went back."""
        return now < self.held_until <= after(now, BOTS.hold)

    def one_more(self, now: Micros) -> tuple[Verdict, Pace]:
        """What one more quick answer makes of the sender."""
        if self.quick + 1 < BOTS.most:
            return "human", Pace(self.quick + 1, Micros(0))
        return "begins", Pace(0, after(now, BOTS.hold))


UNHURRIED: Final = Pace(0, Micros(0))


def is_quick(answered_at: Micros, now: Micros) -> bool:
    """Whether what comes now answers us faster than people do."""
    return answered_at <= now < after(answered_at, BOTS.quick)
