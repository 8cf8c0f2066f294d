"""When to send a message again, when to give up, and what people are told then.

The rule: pure functions and tables. The words are the host's own, so they begin with its mark, which
no agent can write; what in them is another's, a channel's error or a chat's name, stands within a line.
What a failure of a turn means stands in `pynchy.policy.failures`.
"""

from __future__ import annotations

from pynchy.limits import SENDING
from pynchy.model import Micros, after
from pynchy.text.reply import NOTICE_PREFIX, within


def send_retry(*, attempt: int, now: Micros, jitter: float) -> Micros:
    """When an entry that was tried ``attempt`` times is tried again."""
    wait = min(SENDING.first * 2.0 ** min(attempt - 1, 20), SENDING.longest)
    return after(now, wait * spread(jitter, 0.2))


def spread(jitter: float, most: float) -> float:
    """The factor by which ``jitter``, from -1 to 1, moves a wait: by at most ``most`` either way."""
    if not -1.0 <= jitter <= 1.0:
        raise ValueError(f"jitter {jitter} is not between -1 and 1")
    return 1.0 + most * jitter


def undelivered_for_main(*, chat: str, reason: str) -> str:
    """What main is told when something could not be sent."""
    return (
        f"{NOTICE_PREFIX}A message to {within(chat)} could not be delivered: {within(reason, 300)}."
    )


def undelivered_for_agent(*, text: str, reason: str) -> str:
    """What the agent is told with its next prompt."""
    shown = text if len(text) <= 200 else text[:200] + " …"
    return f"Your message could not be delivered ({reason[:300]}): {shown}"
