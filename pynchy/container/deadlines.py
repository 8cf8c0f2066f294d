"""How long each phase of a run may take. Rules.

A run is in one `Phase` at a time, and each phase has one or two limits. `Deadlines.due` says which comes first; the
caller waits until then and no longer. The rule that keeps it so: only real progress moves a deadline, and nothing
moves the one on a whole turn. Times are seconds of whatever clock the caller uses.
"""

from __future__ import annotations

import enum
from typing import Final

import attrs

from pynchy.model import MINUTE, SECOND


@attrs.frozen
class Timeouts:
    """The limits of a run, in seconds. These are the defaults of the product."""

    start: float = 60 * SECOND  # from the spawn to the first sign of life
    start_most: float = (
        5 * MINUTE
    )  # from the spawn until the agent is there, if it gives signs of life
    silence: float = 10 * MINUTE  # without progress while an answer is owed
    turn: float = 60 * MINUTE  # one turn, whatever happens; never moved
    idle: float = 30 * MINUTE  # warm, with nothing owed
    close: float = 10 * SECOND  # from the request to close to the exit
    stop: float = 0.5 * SECOND  # from /stop to the interrupted turn's end


#: On top of a tool's declared timeout, for the tool's own start and its result.
TOOL_MARGIN: Final = 30 * SECOND


class Phase(enum.Enum):
    STARTING = "starting"
    BUSY = "busy"
    IDLE = "idle"
    STOPPING = "stopping"
    CLOSING = "closing"


class Limit(enum.Enum):
    """Which limit was reached."""

    START = "the agent did not start in time"
    SILENCE = "the agent made no progress"
    TURN = "the turn took too long"
    IDLE = "idle"
    STOP = "the agent did not stop in time"
    CLOSE = "the agent did not exit in time"


class Deadlines:
    """The deadlines of one run: it is told what happened, and says which limit comes next and when."""

    def __init__(self, timeouts: Timeouts, now: float) -> None:
        self._timeouts = timeouts
        self.phase = Phase.STARTING
        self._since = now  # when the phase began
        self._turn = now  # when the turn under way began
        self._silence = 0.0  # until when silence is borne
        self._stirs = False  # a start has given a sign of life

    def prompted(self, now: float) -> None:
        """A prompt was handed over. A turn under way keeps its own limit."""
        if self.phase is Phase.IDLE:
            self._enter(Phase.BUSY, now)
            self._turn = now
            self._silence = now + self._timeouts.silence

    def stirred(self) -> None:
        """The agent gave a sign of life while it starts: a slow machine gets more time."""
        self._stirs = True

    def started(self, now: float, *, owed: bool) -> None:
        """The agent is ready."""
        if self.phase is Phase.STARTING:
            self._enter(Phase.BUSY if owed else Phase.IDLE, now)
            self._turn = now
            self._silence = now + self._timeouts.silence

    def progressed(self, now: float, *, tool: float = 0.0) -> None:
        """The agent made progress; the tool that began may be silent for ``tool`` seconds."""
        allowed = max(self._timeouts.silence, tool + TOOL_MARGIN if tool > 0 else 0.0)
        self._silence = max(self._silence, now + allowed)

    def answered(self, now: float, *, owed: bool) -> None:
        """A result came: the clock of the next turn starts, or the idle one."""
        if self.phase in (Phase.STARTING, Phase.BUSY, Phase.STOPPING):
            self._enter(Phase.BUSY if owed else Phase.IDLE, now)
            self._turn = now
            self._silence = now + self._timeouts.silence

    def stopping(self, now: float) -> None:
        """A person asked for the turn to stop."""
        if self.phase is not Phase.CLOSING:
            self._enter(Phase.STOPPING, now)

    def closing(self, now: float) -> None:
        """The container was asked to exit. Nothing leaves this phase."""
        if self.phase is not Phase.CLOSING:
            self._enter(Phase.CLOSING, now)

    def due(self) -> tuple[float, Limit]:
        """The next limit, and when."""
        match self.phase:
            case Phase.STARTING:
                limit = self._timeouts.start_most if self._stirs else self._timeouts.start
                return self._since + limit, Limit.START
            case Phase.BUSY:
                whole = self._turn + self._timeouts.turn
                return min(
                    (self._silence, Limit.SILENCE), (whole, Limit.TURN), key=lambda due: due[0]
                )
            case Phase.IDLE:
                return self._since + self._timeouts.idle, Limit.IDLE
            case Phase.STOPPING:
                return self._since + self._timeouts.stop, Limit.STOP
            case Phase.CLOSING:
                return self._since + self._timeouts.close, Limit.CLOSE

    def _enter(self, phase: Phase, now: float) -> None:
        self.phase = phase
        self._since = now
