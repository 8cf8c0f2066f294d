"""Keep how quickly each sender answers us; what that means stands in `policy.bot_loop`.

What comes from a program is kept like everything else, and wakes nobody for a while; the chat is told.
"""

from __future__ import annotations

from pynchy.model import Message, Micros, Seq, channel_of
from pynchy.policy.bot_loop import UNHURRIED, Pace, Verdict, is_quick
from pynchy.store.database import Tx
from pynchy.store.rows import exists, from_value, read_one


def judge(tx: Tx, message: Message, *, seq: Seq) -> Verdict:
    """Whether a new message, kept as ``seq``, that asks for an answer shall have one.

    The owner may be as quick as they like. What comes while we work on an answer counts neither way.
    """
    if message.from_me or channel_of(message.chat) == "console":
        return "human"
    key = (message.chat, message.sender)
    pace = read_one(tx, Pace, "FROM pace WHERE chat = ? AND sender = ?", key) or UNHURRIED
    if pace.is_held(tx.now):
        return "held"
    last = tx.execute(
        "SELECT ended_at, hi FROM turns WHERE chat = ? AND kind = 'message' ORDER BY hi DESC LIMIT 1",
        (message.chat,),
    ).fetchone()
    if last is None or last[0] is None:
        return "human"
    if not is_quick(Micros(last[0]), tx.now):
        tx.execute("DELETE FROM pace WHERE chat = ? AND sender = ?", key)
        return "human"
    since = "SELECT 1 FROM inbox WHERE chat = ? AND sender = ? AND seq > ? AND seq < ? LIMIT 1"
    if exists(tx, since, (*key, last[1], seq)):
        return "human"
    verdict, pace = pace.one_more(tx.now)
    tx.replace("pace", chat=message.chat, sender=message.sender, **from_value(pace))
    return verdict
