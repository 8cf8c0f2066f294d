"""Deliver what is in the journal to the daemon, in order, on a thread of its own."""

from __future__ import annotations

import base64
import json
import logging
import queue
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs

from pynchy.model import Attachment
from pynchy.text.triggers import SPOKEN
from pynchy.whatsapp import lines, media
from pynchy.whatsapp import read as reading
from pynchy.whatsapp.intake import Orders
from pynchy.whatsapp.journal import Entry, Journal
from pynchy.whatsapp.process import ToDaemon, words_of

if TYPE_CHECKING:
    from pynchy.whatsapp.library import Client

WINDOW: Final = 200  # entries read from the journal at once

_log = logging.getLogger("bridge")


@attrs.define(eq=False)
class Delivery:
    """Messages on their way from the journal to the daemon."""

    journal: Journal
    orders: Orders
    out: ToDaemon
    more: threading.Event  # there is more in the journal
    _client: Callable[[], Client]  # which waits for it to be connected, or raises `NotFetched`
    ready: threading.Event = attrs.field(factory=threading.Event)  # the daemon takes messages
    _alone: int = 0  # the number of the entry that was delivered alone …
    _settled: threading.Event = attrs.field(factory=threading.Event)  # … and is settled
    _returned: queue.SimpleQueue[int] = attrs.field(factory=queue.SimpleQueue)

    def run(self) -> None:
        """Deliver what there is and what comes. Never returns."""
        last = 0
        self.ready.wait()
        while True:
            self.more.clear()  # before looking: what comes from here on is heard
            while True:
                try:
                    again = self.journal.hand_out_again(self._returned.get_nowait())
                    batch = [] if again is None else [again]
                except queue.Empty:
                    batch = self.journal.hand_out(last, limit=WINDOW)
                    if not batch:
                        break
                    last = batch[-1].number
                self._hand_over(batch)
            self.more.wait()

    def acknowledged(self, numbers: list[int]) -> None:
        """The daemon has these."""
        self.journal.acknowledge(numbers)
        self._settle(numbers)

    def came_back(self, number: int, reason: str) -> None:
        """The daemon, or we, could not take this one to its end: it is delivered again."""
        self.journal.failed(number, reason[:500])
        self._returned.put(number)
        self._settle([number])
        self.more.set()

    def _settle(self, numbers: Sequence[int]) -> None:
        if self._alone in numbers:
            self._settled.set()

    def _hand_over(self, batch: Sequence[Entry]) -> None:
        """Deliver these. One that was delivered before is waited for: nothing else is in hand with it."""
        alone = batch[0].deliveries > 1 if batch else False
        if alone:
            self._settled.clear()
            self._alone = batch[0].number
        ready: list[dict[str, object]] = []
        for entry in batch:
            try:
                ready.append(self._line(entry))
            except Exception as error:  # contained here, and only here: one message's trouble
                _log.exception("message %d could not be delivered", entry.number)
                self.came_back(entry.number, words_of(error))
        self.out.say_all(ready)
        if alone:
            self._settled.wait()

    def _line(self, entry: Entry) -> dict[str, object]:
        payload = json.loads(entry.payload)
        if "aside" in payload:
            return {"line": "aside", "number": entry.number, **payload["aside"]}
        if "media" in payload:
            payload = {"message": self._with_media(payload)}
            self.journal.rewrite(entry.number, json.dumps(payload))
        message = lines.fitted(lines.message_in(payload["message"]))
        return {"line": "message", "number": entry.number, "message": lines.message_out(message)}

    def _with_media(self, payload: dict[str, Any]) -> dict[str, Any]:
        """The message of a payload with its file fetched, or a word about why that failed."""
        message, told = payload["message"], reading.Media(**payload["media"])
        words = message["text"]
        try:
            folder = self.orders.chats.get(message["chat"])
            if folder is None:
                raise media.NotFetched("the chat is not registered any more")
            source = base64.b64decode(payload["source"])
            limit = self.orders.media_limit
            name, size = media.fetch(told, source, Path(folder), limit=limit, client=self._client)
        except (media.NotFetched, OSError) as reason:
            return {**message, "text": f"[{told.kind}, not fetched: {reason}] {words}".strip()}
        kept = Attachment(path=name, media_type=told.media_type, size=size, name=told.name)
        if told.kind == "voice" and self.orders.transcribe:
            spoken = media.transcript(self.orders.transcribe, Path(folder) / name)
            words = f"{SPOKEN} {spoken}" if spoken else words
        return {**message, "text": words, "attachments": [attrs.asdict(kept)]}
