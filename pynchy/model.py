"""The shared types: ids, messages and other facts that every room may use.

Frozen facts and ids only. No behaviour beyond what a fact knows of itself, no I/O, no trio, no clock.
Times are UTC microseconds (`Micros`) where they are stored or compared, seconds as floats where something waits.
"""

from __future__ import annotations

import re
from typing import Final, Literal, NewType

import attrs

ChatId = NewType("ChatId", str)  # a JID: "1203…@g.us", "4917…@s.whatsapp.net", "console:main"
GroupId = NewType("GroupId", str)  # a group's folder name, its one identity
SenderId = NewType("SenderId", str)  # a canonical JID, or "console:<name>"
RunId = NewType("RunId", str)  # 16 hex digits
TurnId = NewType("TurnId", int)
TaskId = NewType("TaskId", str)  # 32 hex digits
Seq = NewType("Seq", int)  # the row number of an inbound message
Micros = NewType("Micros", int)  # UTC microseconds since 1970

MAIN: Final = GroupId("main")
MAIN_CONSOLE: Final = ChatId("console:main")

SECOND: Final = 1.0
MINUTE: Final = 60.0 * SECOND
HOUR: Final = 60.0 * MINUTE
DAY: Final = 24.0 * HOUR


def after(moment: Micros, seconds: float) -> Micros:
    """The moment ``seconds`` later."""
    return Micros(moment + round(seconds * 1_000_000))


def channel_of(chat: ChatId) -> str:
    """The name of the channel that carries a chat."""
    return "console" if chat.startswith("console:") else "whatsapp"


@attrs.frozen
class Quoted:
    """The message that another one answers."""

    id: str
    sender_name: str
    text: str


@attrs.frozen
class Attachment:
    """A file that came with a message: its path below the group's media folder, its type and its size in bytes."""

    path: str
    media_type: str
    size: int
    name: str = ""


@attrs.frozen
class Message:
    """A message as a channel hands it over, ids already canonical.

    ``from_me`` is the channel's own word that our account sent it; ``mentions_me`` that it mentions one of our ids.
    ``edits`` names the message that this one replaces, ``revokes`` the one that its sender took back. A ``remark``
    (a reaction, a vote) is to be known, and never asks for an answer.
    """

    chat: ChatId
    id: str
    sender: SenderId
    sender_name: str
    sent_at: Micros
    text: str
    from_me: bool = False
    mentions_me: bool = False
    quoted: Quoted | None = None
    attachments: tuple[Attachment, ...] = ()
    edits: str | None = None
    revokes: str | None = None
    remark: bool = False
    chat_name: str | None = None


@attrs.frozen
class Group:
    """A registered group as the database has it. ``model``, limits and the like are None where the default holds."""

    folder: GroupId
    name: str
    trigger: str  # the name that follows "@", without it
    requires_trigger: bool
    is_main: bool
    paused: bool = False
    model: str | None = None
    session: str | None = None
    epoch: int = 0
    allowed_senders: tuple[SenderId, ...] | None = None  # None: everybody
    called_by: str = "name"  # what calls it where something must: see `answers`

    @property
    def answers(self) -> str:
        """What it answers: one of `pynchy.text.triggers.ANSWERS`. Main answers everything."""
        return "all" if self.is_main or not self.requires_trigger else self.called_by


_FOLDER: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,62}", re.ASCII)


def folder_of(name: str) -> GroupId | None:
    """The folder of this name, if it is one that a group may have: strict, and the same on every disk."""
    return GroupId(name) if _FOLDER.fullmatch(name) and name != "global" else None


@attrs.frozen
class Outgoing:
    """One outbox entry on its way to a channel. ``message_id`` is ours and never changes between tries."""

    id: int
    chat: ChatId
    message_id: str
    kind: str  # "text", "file", "reaction"
    text: str
    path: str | None = None
    target: str | None = None  # the message a reaction or a quote points to
    plain: bool = False  # the fallback try: send the text as it is, without formatting
    turn: TurnId | None = None  # whose words these are, if a turn's
    target_sender: SenderId | None = None  # who said the target, where that is known
    target_text: str = ""  # and what


@attrs.frozen
class Staged:
    """A copy of a file that an agent sends, ours alone: where it is, what it is called, how large it is."""

    path: str
    name: str
    size: int


@attrs.frozen
class Unfit:
    """Why a file was not copied, for the agent to read."""

    reason: str


@attrs.frozen
class TurnTold:
    """What became of a turn, for whoever waits for its answer.

    ``started`` names the messages it answers (again at each try); ``done`` the outbox entries of its last words, which
    may still be on their way. ``retry`` will be tried again; ``failed`` and ``cancelled`` will not.
    """

    chat: ChatId
    turn: TurnId
    state: Literal["started", "done", "retry", "failed", "cancelled"]
    seqs: tuple[Seq, ...] = ()
    replies: tuple[int, ...] = ()
    error: str = ""
