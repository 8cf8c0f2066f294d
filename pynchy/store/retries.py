"""When something is tried again, when it is given up, and what people are told then.

The rule: pure functions and tables. The words are the host's own, so they begin with its mark, which
no agent can write; what in them is another's, an agent's error or a chat's name, stands within a line.
"""

from __future__ import annotations

from typing import Final

from pynchy.chat.text import NOTICE_PREFIX, within
from pynchy.model import DAY, MINUTE, SECOND, Micros, after

#: A turn: the first attempt and five more, 5 s, 10 s, 20 s, 40 s and 80 s after each failure.
TURN_ATTEMPTS: Final = 6
TURN_BACKOFF: Final = 5.0 * SECOND
LONGEST_TURN_WAIT: Final = 100.0 * SECOND  # a bit over the longest of these waits
#: How often the daemon may die under a turn that said nothing, before the turn is held to be the cause.
INTERRUPTIONS: Final = 20

#: An entry of the outbox: refused so often, it is sent as plain text, and then given up.
SEND_ATTEMPTS: Final = 8
PLAIN_FROM: Final = 4
UNCERTAIN_ATTEMPTS: Final = 40  # without a word from the channel: some three hours
SEND_BACKOFF: Final = 2.0 * SECOND
SEND_BACKOFF_CAP: Final = 5.0 * MINUTE
SEND_EXPIRY: Final = 1.0 * DAY

STALE_SESSION: Final = "history"  # the kind of failure that `turns.forget_session` goes with

#: A chat hears of the same kind of trouble once in this time.
NOTICE_COOLDOWN: Final = 15.0 * MINUTE

#: Kinds of failure that a chat hears of at the first attempt, since the cause is not its message.
TOLD_AT_ONCE: Final[dict[str, str]] = {
    "spawn": "I cannot start right now. I will keep trying.",
    "engine": "I cannot start right now: the container engine does not answer. I will keep trying.",
    "outage": "The model does not answer right now. I will keep trying.",
    "billing": "The model's account has to be looked at by the owner.",
    "rate_limit": "The model is over its rate limit right now. I will keep trying.",
    "credential": "The model refuses our credential. The owner has to look at it.",
    "budget": "The budget is used up for now.",
    "disk": "The disk is almost full. I will go on when there is room.",
}


#: Kinds of failure that another try would only repeat, until somebody has done something about it.
FINAL: Final[dict[str, str]] = {
    "quota": "I had to stop: {message}. I removed nothing: ask me to clear up, or ask the owner for "
    "more room.",
}


def turn_retry(*, attempt: int, kind: str, now: Micros, jitter: float) -> Micros | None:
    """When a turn that failed ``attempt`` times is tried again, or None if it is given up.

    ``jitter`` from -1 to 1 moves the wait by up to a fifth either way. A session that could not be
    resumed is no reason to wait, the first time.
    """
    if attempt >= TURN_ATTEMPTS:
        return None
    if kind == STALE_SESSION and attempt == 1:
        return now
    return after(now, TURN_BACKOFF * 2.0 ** (attempt - 1) * _spread(jitter))


def send_retry(*, attempt: int, now: Micros, jitter: float) -> Micros:
    """When an entry that was tried ``attempt`` times is tried again."""
    wait = min(SEND_BACKOFF * 2.0 ** min(attempt - 1, 20), SEND_BACKOFF_CAP)
    return after(now, wait * _spread(jitter))


def _spread(jitter: float) -> float:
    if not -1.0 <= jitter <= 1.0:
        raise ValueError(f"jitter {jitter} is not between -1 and 1")
    return 1.0 + 0.2 * jitter


def gave_up(*, kind: str, spoke: bool, message: str = "") -> str:
    """What the chat is told when a turn is dead. ``message`` is said where the kind is a final one."""
    if kind in FINAL:
        return NOTICE_PREFIX + FINAL[kind].format(message=within(message, 300))
    if spoke:
        return f"{NOTICE_PREFIX}I could not finish that ({kind}). What I said so far stands."
    return f"{NOTICE_PREFIX}I could not answer that ({kind}). Please ask again later."


def gave_up_for_main(*, folder: str, kind: str, error: str) -> str:
    """What main is told of it."""
    return (
        f"{NOTICE_PREFIX}Group {folder}: a message could not be answered "
        f"({kind}: {within(error, 300)})."
    )


def trouble(kind: str) -> str | None:
    """What a chat is told at the first failure of this kind, if anything."""
    words = TOLD_AT_ONCE.get(kind)
    return None if words is None else NOTICE_PREFIX + words


def undelivered_for_main(*, chat: str, reason: str) -> str:
    """What main is told when something could not be sent."""
    return (
        f"{NOTICE_PREFIX}A message to {within(chat)} could not be delivered: {within(reason, 300)}."
    )


def undelivered_for_agent(*, text: str, reason: str) -> str:
    """What the agent is told with its next prompt."""
    shown = text if len(text) <= 200 else text[:200] + " …"
    return f"Your message could not be delivered ({reason[:300]}): {shown}"


def session_cleared(reason: str) -> str:
    """What a chat is told when its conversation could not be resumed."""
    return f"{NOTICE_PREFIX}Our conversation could not be resumed ({reason}); I start a new one."
