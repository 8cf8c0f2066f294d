"""Detect bots among senders, to prevent endless reply loops.

The rule: only a whole row of quick answers counts, one for each answer of ours, and one slow one ends the row:
what a messenger hands over at once after an outage is no row. What comes from a program is
kept like everything else, and wakes nobody for a while; the chat is told.
"""

from __future__ import annotations

from typing import Final, Literal

from pynchy.limits import BOTS
from pynchy.model import Message, Seq, after, channel_of
from pynchy.store.database import Tx

QUICK: Final = BOTS.quick
MOST: Final = BOTS.most
HOLD: Final = BOTS.hold

Pace = Literal["human", "begins", "held"]


def judge(tx: Tx, message: Message, *, seq: Seq) -> Pace:
    """Whether a new message, kept as ``seq``, that asks for an answer shall have one. "begins": from now on it
    shall not.

    The owner may be as quick as they like. What comes while we work on an answer counts neither way.
    """
    if message.from_me or channel_of(message.chat) == "console":
        return "human"
    key = (message.chat, message.sender)
    row = tx.execute(
        "SELECT quick, held_until FROM pace WHERE chat = ? AND sender = ?", key
    ).fetchone()
    if row is not None and tx.now < row[1] <= after(
        tx.now, HOLD
    ):  # later than that: a clock went back
        return "held"
    last = tx.execute(
        "SELECT ended_at, hi FROM turns WHERE chat = ? AND kind = 'message' ORDER BY hi DESC LIMIT 1",
        (message.chat,),
    ).fetchone()
    if last is None or last[0] is None:
        return "human"
    if not last[0] <= tx.now < after(last[0], QUICK):
        if row is not None:
            tx.execute("DELETE FROM pace WHERE chat = ? AND sender = ?", key)
        return "human"
    before = tx.execute(
        "SELECT 1 FROM inbox WHERE chat = ? AND sender = ? AND seq > ? AND seq < ? LIMIT 1",
        (*key, last[1], seq),
    ).fetchone()
    if before is not None:
        return "human"
    quick = 1 if row is None else row[0] + 1
    ends = quick >= MOST
    tx.execute(
        "INSERT INTO pace (chat, sender, quick, held_until) VALUES (?1, ?2, ?3, ?4) "
        "ON CONFLICT (chat, sender) DO UPDATE SET quick = ?3, held_until = ?4",
        (*key, 0 if ends else quick, after(tx.now, HOLD) if ends else 0),
    )
    return "begins" if ends else "human"
