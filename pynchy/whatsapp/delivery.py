"""Deliver what is in the journal to the daemon, in order, on a thread of its own.

Files are fetched beside that, and voice notes put into words, a few at once: a message waits for its own file and for
the earlier ones of its chat (see `pynchy.whatsapp.order`), and for nothing of another chat.
"""

from __future__ import annotations

import base64
import json
import logging
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs

from pynchy.limits import VOICE, WHATSAPP
from pynchy.model import Attachment
from pynchy.whatsapp import lines, media
from pynchy.whatsapp import read as reading
from pynchy.whatsapp.intake import Orders
from pynchy.whatsapp.journal import Entry, Journal
from pynchy.whatsapp.members import Members, may_take_back
from pynchy.whatsapp.order import ChatOrder, Waiting
from pynchy.whatsapp.process import ToDaemon, words_of

if TYPE_CHECKING:
    from pynchy.whatsapp.library import Client

WINDOW: Final = 200  # entries read from the journal at once
TRIES: Final = 2  # a voice note during which we ended so often is delivered as a file
ANSWER: Final = 30.0  # seconds that the daemon may take for its answer besides the work

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
    _order: ChatOrder = attrs.field(factory=partial(ChatOrder, WHATSAPP.files_of_chat))
    _made: dict[int, Entry] = attrs.field(factory=dict)  # made ready, and counted as delivered
    _finished: queue.SimpleQueue[tuple[Waiting, Entry | None]] = attrs.field(
        factory=queue.SimpleQueue
    )
    _fetchers: Executor = attrs.field(factory=partial(ThreadPoolExecutor, WHATSAPP.files))
    _listeners: Executor = attrs.field(factory=partial(ThreadPoolExecutor, VOICE.at_once))
    _asked: dict[int, Future[str]] = attrs.field(factory=dict)  # for the words of these
    _members: Members = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._members = Members(self._client)

    def run(self) -> None:
        """Deliver what there is and what comes. Never returns."""
        last = 0
        self.ready.wait()
        while True:
            self.more.clear()  # before looking: what comes from here on is heard
            while True:
                if batch := self._next():
                    self._hand_over(batch)
                    continue
                if found := self.journal.waiting(last, limit=WINDOW):
                    last = found[-1].number
                    for event in found:
                        self._begin(self._order.add(event))
                    continue
                if not (again := self._again()):  # after what is new: it holds up nothing else
                    break
                self._hand_over(again)
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

    def transcribed(self, number: int, text: str) -> None:
        """The daemon has put a voice note into words."""
        if asked := self._asked.pop(number, None):
            asked.set_result(text)

    # --- files, beside the order

    def _begin(self, events: Sequence[Waiting]) -> None:
        """Make these ready, and count that as a delivery: it may be what ends us."""
        for event in events:
            counted = self.journal.hand_out([event.number])
            if not counted:  # gone meanwhile
                self._finished.put((event, None))
            elif counted[0].deliveries > 1 and event.unfetched:  # nothing else is fetched meanwhile
                self._fetch(event, counted[0])
            elif event.unfetched:
                self._fetchers.submit(self._fetch, event, counted[0])
            else:
                self._listeners.submit(self._listen, event, counted[0])

    def _fetch(self, event: Waiting, entry: Entry) -> None:
        with self._contained(event):
            permitted = self._permitted(entry)
            if permitted is None:
                self._finish(event, None)
                return
            fetched = self._with_file(permitted)
            if "voice" in json.loads(fetched.payload):
                self._listeners.submit(self._listen, event, fetched)
            else:
                self._finish(event, fetched)

    def _listen(self, event: Waiting, entry: Entry) -> None:
        with self._contained(event):
            self._finish(event, self._with_words(entry))

    @contextmanager
    def _contained(self, event: Waiting) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # contained here, and only here: one file's trouble
            _log.exception("the file of message %d", event.number)
            self.came_back(event.number, words_of(error))
            self._finish(event, None)

    def _finish(self, event: Waiting, entry: Entry | None) -> None:
        self._finished.put((event, entry))
        self.more.set()

    # --- what goes out

    def _next(self) -> list[Entry]:
        """What is to be handed over next; nothing, if all that there is waits for files."""
        while not self._finished.empty():
            event, entry = self._finished.get()
            if entry is not None:
                self._made[event.number] = entry
            self._begin(self._order.finished(event))
        batch: list[Entry] = []
        while self._order.due and not batch:
            batch = self._count(self._take())
        return batch

    def _again(self) -> list[Entry]:
        """One that came back and is still open, if there is one."""
        while not self._returned.empty():
            if again := self.journal.hand_out_again(self._returned.get()):
                return [again]
        return []

    def _take(self) -> list[Waiting]:
        """The next ones that are due, together; one that was delivered before is taken alone."""
        taken: list[Waiting] = []
        while self._order.due and len(taken) < WINDOW:
            event = self._order.due[0]
            made = self._made.get(event.number)
            alone = event.deliveries > 0 if made is None else made.deliveries > 1
            if alone and taken:
                break
            taken.append(self._order.due.popleft())
            if alone:
                break
        return taken

    def _count(self, taken: Sequence[Waiting]) -> list[Entry]:
        """Their entries, as far as they are still open. What was made ready is counted already."""
        made = [self._made.pop(each.number) for each in taken if each.number in self._made]
        ready = {each.number for each in made}
        fresh = [each.number for each in taken if each.number not in ready and not each.unready]
        return sorted([*made, *self.journal.hand_out(fresh)], key=lambda entry: entry.number)

    def _hand_over(self, batch: Sequence[Entry]) -> None:
        """Deliver these. One that was delivered before is waited for: nothing else is in hand with it."""
        alone = batch[0].deliveries > 1 if batch else False
        if alone:
            self._settled.clear()
            self._alone = batch[0].number
        ready: list[dict[str, object]] = []
        for entry in batch:
            try:
                if line := self._line(entry):
                    ready.append(line)
            except Exception as error:  # contained here, and only here: one message's trouble
                _log.exception("message %d could not be delivered", entry.number)
                self.came_back(entry.number, words_of(error))
        self.out.say_all(ready)
        if alone:
            self._settled.wait()

    def _line(self, entry: Entry) -> dict[str, object] | None:
        payload = json.loads(entry.payload)
        if "aside" in payload:
            return {"line": "aside", "number": entry.number, **payload["aside"]}
        if payload.keys() & {"claim", "media", "voice"}:  # it came back before it was ready
            permitted = self._permitted(entry)
            if permitted is None:
                return None
            payload = json.loads(self._with_words(self._with_file(permitted)).payload)
        message = lines.fitted(lines.message_in(payload["message"]))
        return {"line": "message", "number": entry.number, "message": lines.message_out(message)}

    def _permitted(self, entry: Entry) -> Entry | None:
        """The entry, if it is from somebody who may say it: what another wrote only an admin of the group
        takes back. Otherwise None, and it is done with. Raises `Unknown`: then it comes back."""
        payload = json.loads(entry.payload)
        if "claim" not in payload:
            return entry
        message, who = payload["message"], payload.pop("claim")
        if may_take_back(self._members.of(message["chat"]), who, message["sender"]):
            return self._become(entry, payload)
        _log.warning("%s may not take back what %s wrote", who, message["sender"])
        self.acknowledged([entry.number])
        return None

    def _become(self, entry: Entry, payload: dict[str, Any]) -> Entry:
        text = json.dumps(payload)
        self.journal.rewrite(entry.number, text)
        return attrs.evolve(entry, payload=text)

    def _with_file(self, entry: Entry) -> Entry:
        """The entry with its message's file fetched, or a word about why that failed."""
        payload = json.loads(entry.payload)
        if "media" not in payload:
            return entry
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
            text = f"[{told.kind}, not fetched: {reason}] {words}".strip()
            return self._become(entry, {"message": {**message, "text": text}})
        kept = Attachment(path=name, media_type=told.media_type, size=size, name=told.name)
        become: dict[str, Any] = {"message": {**message, "attachments": [attrs.asdict(kept)]}}
        if told.kind == "voice":
            become["voice"] = name
        return self._become(entry, become)

    def _with_words(self, entry: Entry) -> Entry:
        """The entry with what its voice note says, or why that is not known."""
        payload = json.loads(entry.payload)
        if "voice" not in payload:
            return entry
        message = payload["message"]
        if entry.deliveries > TRIES:
            text = (
                "[voice note: could not be transcribed (Pynchy ended each time while it was at it)]"
            )
        else:
            text = self._ask_for_words(entry.number, message["chat"], payload["voice"])
        text = f"{text} {message['text']}".strip()
        return self._become(entry, {"message": {**message, "text": text}})

    def _ask_for_words(self, number: int, chat: str, name: str) -> str:
        answer = self._asked[number] = Future[str]()
        self.out.say("transcribe", number=number, chat=chat, file=name)
        try:
            return answer.result(VOICE.time + ANSWER)
        except TimeoutError:
            return "[voice note: could not be transcribed (no answer)]"
        finally:
            self._asked.pop(number, None)
