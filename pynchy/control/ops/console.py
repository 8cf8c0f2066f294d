"""Control ops by which people reach the console channel: `pynchy chat` and `pynchy send`.

The rule that keeps it so: an op checks what it is given, and the channel does the rest.
"""

from __future__ import annotations

import re
from typing import Final

import attrs
import trio

from pynchy.chat.console import Console
from pynchy.control.ops.acting import check_chat
from pynchy.control.server import Client, OpFailed, op
from pynchy.limits import CLIENTS
from pynchy.model import ChatId, SenderId

OWNER: Final = SenderId("console:owner")  # whoever may use the control socket
_MESSAGE_ID: Final = re.compile(r"[0-9a-zA-Z-]{8,64}", re.ASCII)
_NAME: Final = re.compile(r"[^\x00-\x1f\x7f-\x9f]{1,64}")


@attrs.frozen
class ConsoleOps:
    """The table of these ops."""

    console: Console

    @op("attach")
    async def attach(self, client: Client, *, chat: str) -> object:
        """Send this client the events of a chat from now on; ``*`` means all chats."""
        await trio.lowlevel.checkpoint()
        if chat != "*":
            check_chat(chat)
        if self.console.attach(client, chat):
            client.when_gone(lambda: self.console.detach(client, chat))
        return {"chat": chat, "typing": self.console.types(chat)}

    @op("detach")
    async def detach(self, client: Client, *, chat: str) -> object:
        """Stop sending the events of this chat."""
        await trio.lowlevel.checkpoint()
        self.console.detach(client, chat)
        return {"chat": chat}

    @op("send")
    async def say(
        self, client: Client, *, chat: str, text: str, sender: str = "", message_id: str = ""
    ) -> object:
        """Send a message to a chat, and answer once it is committed.

        ``message_id`` is the client's own id for the message: sending it again is harmless.
        """
        check_chat(chat)
        if not text.strip() or len(text) > CLIENTS.message or "\0" in text:
            raise OpFailed("bad_request", f"text: expected 1 to {CLIENTS.message} characters")
        if sender and not _NAME.fullmatch(sender):
            raise OpFailed("bad_request", "sender: expected a name of 1 to 64 characters")
        if message_id and not _MESSAGE_ID.fullmatch(message_id):
            raise OpFailed("bad_request", "message_id: expected 8 to 64 letters and digits")
        handed = await self.console.say(
            ChatId(chat),
            text,
            sender=sender_id(sender),
            sender_name=sender or "Owner",
            id=message_id,
        )
        if handed.folder is None:
            raise OpFailed("unknown_chat", f"{chat} is not registered: pynchy groups add {chat}")
        return {
            "chat": chat,
            "message_id": handed.message.id,
            "seq": handed.seq,
            "folder": handed.folder,
            "wakes": handed.wakes,
        }


def sender_id(name: str) -> SenderId:
    """The sender's id: the owner, or somebody in whose name the owner writes."""
    slug = "-".join(name.casefold().split())
    return SenderId(f"console:{slug}") if slug else OWNER
