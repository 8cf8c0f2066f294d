"""Who may give orders in main.

The rule: pure; the store says who asked. Main trusts the owner, whoever writes from the owner's own account or in the
owner's console, and the senders that it names. Where several people asked, all of them must be trusted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import attrs

from pynchy.model import ChatId, SenderId, TurnId, channel_of

OWNER: Final = SenderId("owner")  # whose word it is when everybody who asked has main's trust


@attrs.frozen
class Asker:
    """Who asked for something. ``own``: on our own account."""

    sender: SenderId
    own: bool


def is_trusted(asked: Iterable[Asker], named: Iterable[SenderId], chat: ChatId) -> bool | None:
    """Whether all who asked in a chat may give orders in main; None if nobody did: the host woke the agent."""
    if channel_of(chat) == "console":
        words = [True for _ in asked]
    else:
        trusted = frozenset(named)
        words = [each.own or each.sender in trusted for each in asked]
    return all(words) if words else None


def may_give_orders(had: Mapping[TurnId, bool | None], held: Iterable[TurnId]) -> bool:
    """Whether a run may: every turn that it has in hand may, and nobody who may not has asked in one before.

    Not the present one alone: a follow-up reaches the agent in mid-turn, and a program that somebody
    had the agent start in an earlier turn still runs in the container, and may wait for this one.
    """
    return False not in had.values() and all(had.get(each) for each in held)
