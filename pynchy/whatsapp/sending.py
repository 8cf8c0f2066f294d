"""Send what the daemon wants sent, each noted in the journal before it is tried.

The library sends one message after the other, and waits 75 seconds for WhatsApp to acknowledge one. So that
no chat waits that long for another's message, what has waited for its turn too long is not sent, and the
process is to be left: a new one sends it at once.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs

from pynchy.whatsapp import read as reading
from pynchy.whatsapp import write as writing
from pynchy.whatsapp.journal import Journal

if TYPE_CHECKING:
    from pynchy.whatsapp.library import Client


PATIENCE: Final = 10.0  # seconds to wait for one's turn; an acknowledgement takes one


class Stuck(Exception):
    """Another message was not acknowledged, and nothing is sent before it is."""


@attrs.frozen
class Sending:
    """Sends over one client that is connected. ``number`` is our own."""

    client: Client
    journal: Journal
    number: str
    turn: threading.Lock  # whoever has it sends

    def send(self, line: dict[str, Any]) -> tuple[str, str]:
        """What came of it, and why: ``sent``, ``stuck`` (it was not sent), or a word of `reading.outcome`."""
        message_id, outcome, reason = line["message_id"], "sent", ""
        if not self.journal.begin(message_id, chat=line["chat"], text=line["text"]):
            return outcome, reason
        try:
            message = self._message(line)
            with self._turn():
                wa_id = self.client.send(line["chat"], message)
            self.journal.sent(message_id, wa_id)
        except Stuck as error:
            outcome, reason = "stuck", str(error)
        except OSError as error:
            outcome, reason = "refused", str(error)
        except Exception as error:  # the library has one sort of error, with words in it
            reason = str(error)
            outcome = reading.outcome(reason)
        if outcome == "uncertain":
            self.journal.doubt(message_id)
        elif outcome != "sent":
            self.journal.refused(message_id)
        return outcome, reason

    @contextmanager
    def _turn(self) -> Iterator[None]:
        if not self.turn.acquire(timeout=PATIENCE):
            raise Stuck("WhatsApp does not acknowledge a message; the connection is made anew")
        try:
            yield
        finally:
            self.turn.release()

    def _message(self, line: dict[str, Any]) -> Any:
        """The library's message for what is to be sent."""
        from pynchy.whatsapp.library import wa  # heavy, and loaded by now

        target, text = self._target(line), line["text"]
        lasting = self.journal.expiration(line["chat"])
        if line["kind"] == "file":
            path = Path(line["path"])
            file = writing.File.of(path.name, path.read_bytes(), captioned=bool(text))
            uploaded = self.client.upload(file.content, file.kind)
            sent = writing.file(wa, file, uploaded, caption=text, quotes=target)
            return writing.lasting(sent, lasting)
        if line["kind"] == "reaction":
            if target is None:
                raise FileNotFoundError("there is nothing to react to")
            return writing.reaction(wa, text, to=target, at_ms=time.time_ns() // 1_000_000)
        return writing.lasting(writing.words(wa, text, quotes=target), lasting)

    def _target(self, line: dict[str, Any]) -> writing.Target | None:
        """What is quoted or reacted to, with its sender's id as it came: in a chat of hidden ids phones
        look for that one."""
        chat, target, who = line["chat"], line.get("target"), line.get("target_sender") or ""
        if not target or not (who or line["kind"] == "reaction"):
            return None
        raw = self.journal.said_by(json.dumps([chat, who, target]))
        text = line.get("target_text") or ""
        return writing.Target(chat, target, raw or who, ours=who == self.number, text=text)
