"""Notice when the wall clock is set, by comparing it with the monotonic clock."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import attrs

from pynchy.model import Micros

SLACK: Final = (
    5.0  # seconds by which the clocks may part: what is kept right in small steps is not set
)


@attrs.define
class ClockWatch:
    """``steady`` gives seconds that go on while the machine sleeps. The two clocks may part slowly."""

    now: Callable[[], Micros]
    steady: Callable[[], float]
    jumped: float = 0.0  # seconds by which it was set since `take`
    _ahead: float = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._ahead = self.now() / 1_000_000 - self.steady()

    def look(self) -> None:
        """Compare the clocks."""
        ahead = self.now() / 1_000_000 - self.steady()
        if abs(ahead - self._ahead) > SLACK:
            self.jumped += ahead - self._ahead
        self._ahead = ahead

    def take(self) -> float:
        """By how much the clock was set since the last call."""
        self.look()
        jumped, self.jumped = self.jumped, 0.0
        return jumped
