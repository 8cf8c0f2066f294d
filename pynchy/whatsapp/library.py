"""The WhatsApp library: its import, its client, and everything that is asked of it.

Imported by the bridge's process alone, once its log is set up, and only when it is needed. Go may be called only
between the first *connected* and the end: anything else can bring the process down.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
import sys
import types
from collections.abc import Callable, Sequence
from typing import Any, Final, NoReturn

from pynchy.whatsapp import lines
from pynchy.whatsapp import read as reading
from pynchy.whatsapp.members import Member


def _never() -> NoReturn:
    raise RuntimeError("the WhatsApp library is not whole; install Pynchy again")


# In place of the module that would fetch the shared object from somewhere, if it were missing.
_shim = types.ModuleType("neonize.download")
_shim.__dict__.update(__GONEONIZE_VERSION__=importlib.metadata.version("neonize"), download=_never)
sys.modules.setdefault("neonize.download", _shim)

import neonize.client  # noqa: E402
import neonize.events  # noqa: E402
from neonize.proto.waE2E import WAWebProtobufsE2E_pb2  # noqa: E402
from neonize.utils import enum  # noqa: E402
from neonize.utils.jid import build_jid  # noqa: E402

wa: Final[Any] = WAWebProtobufsE2E_pb2
_events: Final[Any] = neonize.events


class Client:
    """A client of the library, which connects once, in a process that is lost with it."""

    def __init__(self, session: str) -> None:
        """``session`` is the name of its database in the current folder: the library makes a URL of it."""
        self._go: Any = neonize.client.NewClient(session, uuid="pynchy")

    def on(self, event: str, handle: Callable[[Any], object]) -> None:
        """Have events of this name handled, on the library's thread. All before `connect`."""
        self._go.event(getattr(_events, event))(lambda _, found: handle(found))

    def on_code(self, handle: Callable[[str], object]) -> None:
        """Have each code handled that a phone can scan to link the account."""
        self._go.event.qr(lambda _, data: handle(data.decode()))

    def on_login(self, handle: Callable[[str], object]) -> None:
        """Have each word handled about how linking goes, "success" or a failure."""

        def said(_: int, status: int) -> None:
            handle(ctypes.string_at(status).decode(errors="replace") if status else "")

        self._go._NewClient__onLoginStatus = said  # the one way to hear of it

    def connect(self) -> str:
        """Connect, and return when the connection is over for good: an error in words, or nothing."""
        try:
            self._go.connect()
        except Exception as failure:  # the library's one way to say that it could not
            return str(failure)
        return ""

    def disconnect(self) -> None:
        self._go.disconnect()

    def pairing_code(self, phone: str) -> str:
        """A code to type in on the phone of this number, to link the account."""
        return str(self._go.PairPhone(phone, True))

    def groups(self) -> list[tuple[str, str]]:
        """Id and name of every group that the account is in, as WhatsApp says now."""
        found = [
            (reading.text_id(each.JID), lines.short(each.GroupName.Name, lines.NAME))
            for each in self._go.get_joined_groups()
        ]
        return [(chat, name) for chat, name in found if chat]

    def members(self, group: str) -> list[Member]:
        """Everybody in a group that the account is in, as WhatsApp says now."""
        found = self._go.get_group_info(_jid(group)).Participants
        return [
            Member(
                frozenset(map(reading.text_id, (each.JID, each.LID, each.PhoneNumber))) - {""},
                admin=each.IsAdmin or each.IsSuperAdmin,
            )
            for each in found
        ]

    def show_presence(self, *, available: bool) -> None:
        self._go.send_presence(enum.Presence.AVAILABLE if available else enum.Presence.UNAVAILABLE)

    def show_typing(self, chat: str, *, on: bool) -> None:
        states: Any = enum.ChatPresence
        state = states.CHAT_PRESENCE_COMPOSING if on else states.CHAT_PRESENCE_PAUSED
        media = enum.ChatPresenceMedia.CHAT_PRESENCE_MEDIA_TEXT
        self._go.send_chat_presence(_jid(chat), state, media)

    def mark_read(self, chat: str, sender: str, ids: Sequence[str]) -> None:
        read = enum.ReceiptType.READ
        self._go.mark_read(*ids, chat=_jid(chat), sender=_jid(sender), receipt=read)

    def send(self, chat: str, message: Any) -> str:
        """Send a message of `wa`, and return WhatsApp's id for it."""
        return str(self._go.send_message(_jid(chat), message).ID)

    def upload(self, content: bytes, kind: str) -> Any:
        """Upload a file as an ``image``, ``video``, ``audio`` or ``document``."""
        return self._go.upload(content, getattr(enum.MediaType, f"Media{kind.capitalize()}"))

    def download(self, source: bytes) -> bytes:
        """The file that a message, as WhatsApp sent it, speaks of."""
        return bytes(self._go.download_any(wa.Message.FromString(source)))


def _jid(text: str) -> Any:
    user, _, server = text.rpartition("@")
    return build_jid(user, server)
