"""The interface of a messenger: what a channel reports, and what it can be asked to do.

The rule that keeps it so: ids are canonical and texts are plain before anything passes here, so
that nothing behind this line knows which messenger a message came from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Literal, Protocol, runtime_checkable

import attrs

from pynchy.model import ChatId, Message, Outgoing

State = Literal[
    "connecting",
    "connected",
    "disconnected",
    "unreadable",  # whether it is linked cannot be told
    "replaced",
    "logged_out",
    "banned",
    "outdated",
]

#: What a person can do about a state that does not end by itself.
ADVICE: Final[Mapping[State, str]] = {
    "unreadable": "it is tried again; if it stays so, link it anew: pynchy auth whatsapp --again",
    "replaced": "end the other program, or link this one anew: pynchy auth whatsapp",
    "logged_out": "link it: pynchy auth whatsapp",
    "banned": "wait; write less from it",
    "outdated": "upgrade Pynchy",
}


@attrs.frozen
class Incoming:
    """A message. ``number`` is acknowledged once its row is committed; None needs no acknowledgement."""

    message: Message
    number: int | None = None


@attrs.frozen
class ChatSeen:
    """A chat exists and has this name; no message came with it."""

    chat: ChatId
    name: str


@attrs.frozen
class StateChanged:
    """The channel's connection is now in ``state``; ``detail`` is for a person."""

    state: State
    detail: str = ""

    @property
    def words(self) -> str:
        """The state, its reason, and what a person can do about it."""
        why = "; ".join(filter(None, [self.detail, ADVICE.get(self.state, "")]))
        return f"{self.state} ({why})" if why else self.state


@attrs.frozen
class SetAside:
    """A message was given up after several deliveries. Reported again and again, like a message, until its
    ``number`` is acknowledged. ``chat`` and ``who`` are empty if even they could not be read."""

    chat: ChatId
    who: str
    reason: str
    number: int


ChannelEvent = Incoming | ChatSeen | StateChanged | SetAside


class SendRefused(Exception):
    """The message was not sent, for certain. ``permanent``: another try would be refused too.
    ``hopeless``: no other text would help; it must not be tried again."""

    def __init__(self, reason: str, *, permanent: bool = False, hopeless: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.permanent = permanent or hopeless
        self.hopeless = hopeless


class SendUncertain(Exception):
    """The message may have been sent or not: the answer was lost."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class NotConnected(Exception):
    """The channel is not connected: nothing was sent, and this try does not count."""


class Channel(Protocol):
    """A messenger. It sends in the order of the calls."""

    @property
    def name(self) -> str: ...

    async def receive(self) -> ChannelEvent:
        """The next event. After a crash every message not acknowledged comes again."""
        ...

    async def acknowledge(self, number: int) -> None:
        """Acknowledge a message whose row is committed."""
        ...

    async def send(self, out: Outgoing) -> None:
        """Send and return once the messenger has it.

        Raises `SendRefused`, `SendUncertain` or `NotConnected`.
        """
        ...

    async def set_typing(self, chat: ChatId, on: bool) -> None:
        """Show or hide that an answer is being written. Never raises for network trouble."""
        ...

    async def was_sent(self, message_id: str) -> bool | None:
        """After `SendUncertain`: whether the messenger has it, or None if it cannot tell."""
        ...


@runtime_checkable
class Redelivers(Protocol):
    """A channel that redelivers a message which could not be stored, and in the end sets it aside."""

    async def reject(self, number: int, reason: str) -> None:
        """Hand a message back: its row could not be committed. It comes again, or as `SetAside`."""
        ...


@runtime_checkable
class Refreshable(Protocol):
    """A channel that can be asked which groups there are."""

    async def refresh_groups(self) -> Sequence[ChatSeen]:
        """The groups it is in, now. Raises `NotConnected` if no answer can be had."""
        ...
