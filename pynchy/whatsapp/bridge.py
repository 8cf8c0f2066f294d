"""The WhatsApp process: ``python -m pynchy.whatsapp.bridge STORE``.

The library is a Go program behind a C door, and it can end, or hang, the process that it is in. So
this process is made to be lost. One process connects once, in one client: there is no second connect,
no stop and no fork, which are what brings it down; whatever ends the connection for good ends the
process, by ``os._exit``, and the daemon starts another. Go is called only between the first
*connected* and the end. Python's own exit is never taken: it would wait for Go for ever.

An event is in the journal before its callback returns; the library has told WhatsApp by then, so
what is lost if this process is killed is what waited in its queue. A polite end (our input closes)
disconnects, takes in what is left there, and goes.

The rule that keeps it so: protobuf ends here, nothing is decided here, and file descriptors 1 and 2
belong to Go's prints: our lines have one of their own.
"""

from __future__ import annotations

import argparse
import base64
import fcntl
import importlib.metadata
import importlib.util
import json
import logging
import mimetypes
import os
import queue
import secrets
import subprocess
import sys
import threading
import time
import types
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, NoReturn

import attrs

from pynchy.config import cores
from pynchy.limits import WHATSAPP
from pynchy.model import Attachment, Message
from pynchy.whatsapp import lines, session
from pynchy.whatsapp import read as reading
from pynchy.whatsapp import write as writing
from pynchy.whatsapp.journal import Entry, Journal

SESSION: Final = session.NAME  # the library's, named from within its folder: it makes a URL of it
JOURNAL: Final = "whatsapp-journal.db"
LOCK: Final = "whatsapp.lock"
LOG_LIMIT: Final = 1024 * 1024  # bytes of Go's own prints that are kept over a start
LOCK_WAIT: Final = 20.0  # for an earlier bridge to be gone
UNLINKED: Final = 5.0  # for the library to take its row away, once the phone has ended the link
SERVER_WAIT: Final = 25.0  # for WhatsApp's word on a link that we have
GOODBYE: Final = 3.0  # from the end of our input to our own
QUIET: Final = 0.2  # without an event after a disconnect: the queue is empty
FETCH_WAIT: Final = WHATSAPP.fetch
TRANSCRIBE_WAIT: Final = WHATSAPP.transcribe
UNREAD: Final = WHATSAPP.unread
WINDOW: Final = 200  # entries read from the journal at once

_log = logging.getLogger("bridge")


def main(arguments: Sequence[str]) -> NoReturn:
    parser = argparse.ArgumentParser(prog="pynchy.whatsapp.bridge")
    parser.add_argument("store", type=Path)
    parser.add_argument("--log", type=Path, default=Path("/dev/null"))
    parser.add_argument("--pair", action="store_true")
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--phone", default="")
    options = parser.parse_args(arguments)
    os.umask(0o077)
    cores.switch_off()
    out = Lines(os.dup(1))
    _keep_prints(options.log.absolute())
    options.store.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.chdir(options.store)
    try:
        _lock(Path(LOCK))
        if options.pair:
            pair(out, phone=options.phone, again=options.again)
        else:
            Bridge(out).run()
    except Exception as error:  # contained here, and only here: the daemon is to hear why
        _log.exception("the bridge failed")
        out.say(line="state", state="disconnected", detail=f"{type(error).__name__}: {error}")
    finally:
        os._exit(1)


class Lines:
    """The way up. Lines for a reader that is gone go nowhere: our input closes too, and ends us."""

    def __init__(self, fd: int) -> None:
        self._file = os.fdopen(fd, "wb")
        self._lock = threading.Lock()

    def say(self, **line: object) -> None:
        self.say_all([line])

    def say_all(self, many: Sequence[dict[str, object]]) -> None:
        with self._lock:
            try:
                self._file.write(b"".join(map(lines.encode, many)))
                self._file.flush()
            except OSError:
                self._file = open(os.devnull, "wb")  # noqa: SIM115 - for what is left of this life


def _keep_prints(log: Path) -> None:
    """Give descriptors 1 and 2 to a file: a pipe without a reader would kill us at Go's next print."""
    if log.is_file() and log.stat().st_size > LOG_LIMIT:
        log.replace(log.with_suffix(".old"))
    fd = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.dup2(fd, 1)
    os.dup2(fd, 2)
    # Before the library is imported: it would set the root logger up for itself, and log all.
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    logging.getLogger("neonize.utils.log").setLevel(logging.ERROR)


def _lock(path: Path) -> None:
    """Be the one bridge of this store, to our end: two on one link throw each other out."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    deadline = time.monotonic() + LOCK_WAIT
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            if time.monotonic() > deadline:
                raise TimeoutError("another bridge holds the WhatsApp link") from None
            time.sleep(0.1)
        else:
            return


def load() -> Any:
    """Import the library, which must be whole: it may not fetch its shared object from anywhere."""

    def never() -> NoReturn:
        raise RuntimeError("the WhatsApp library is not whole; install Pynchy again")

    shim = types.ModuleType("neonize.download")
    shim.__dict__.update(
        __GONEONIZE_VERSION__=importlib.metadata.version("neonize"), download=never
    )
    sys.modules.setdefault("neonize.download", shim)
    import neonize.client

    return neonize.client


class Bridge:
    """The bridge of a linked account. `run` never returns."""

    def __init__(self, out: Lines) -> None:
        self.out = out
        self.journal = Journal(Path(JOURNAL))
        self.own = reading.Own(number="", lid="", name="")
        self.client: Any = None
        self.up = threading.Event()  # connected once: from now on Go may be called
        self.more = threading.Event()  # in the journal
        self.chats: dict[str, str] = {}  # registered chat -> its media folder
        self.media_limit = 0
        self.transcribe: list[str] = []
        self.ready = threading.Event()  # the daemon takes messages
        self.settled = threading.Event()  # what was delivered alone is acknowledged, or came back
        self.last_event = 0.0
        self.ending = False
        self.cleaning = False  # the library is about to take its row away
        self._courtesies: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()  # in order
        self._alone = 0  # the number of the entry that was delivered alone
        self._returned: queue.SimpleQueue[int] = queue.SimpleQueue()  # to be delivered again
        self._numbers: dict[str, str] = {}
        self._unread: dict[str, list[tuple[str, str]]] = {}  # chat -> (sender, id), the newest

    def run(self) -> NoReturn:
        start = lines.decode(sys.stdin.buffer.readline() or b"{}")
        if start.get("line") != "start":
            os._exit(0)
        self.chats = dict(start["chats"])
        self.media_limit = int(start["media_limit"])
        self.transcribe = list(start["transcribe"])
        self.journal.forget_aside(self.chats)
        sys.unraisablehook = self._on_unraisable
        threading.Thread(target=self._guard, args=(self._deliver,), daemon=True).start()
        threading.Thread(target=self._guard, args=(self._be_courteous,), daemon=True).start()
        self._look_for_link(start["name"])
        while raw := sys.stdin.buffer.readline(lines.LONGEST):
            self._obey(lines.decode(raw))
        self._leave()

    def _look_for_link(self, name: str) -> None:
        """Connect, if an account is linked. The library is not loaded yet: the database is ours alone."""
        try:
            session.settle(Path(SESSION))
            account = session.linked(Path(SESSION), ours=True)
        except session.Unreadable as error:
            self._end("unreadable", str(error))
            return
        if account is None:
            self._end("logged_out", "not linked")
            return
        number, lid = reading.plain(account.number), reading.plain(account.lid)
        self.own = reading.Own(number=number, lid=lid, name=name)
        self.out.say(line="me", number=number)
        threading.Thread(target=self._guard, args=(self._connect,), daemon=True).start()

    def _be_courteous(self) -> None:
        while True:
            self._courtesies.get()()

    def _guard(self, task: Callable[[], None]) -> None:
        try:
            task()
        except Exception as error:
            _log.exception("the bridge failed")
            self.out.say(
                line="state", state="disconnected", detail=f"{type(error).__name__}: {error}"
            )
            os._exit(1)

    def _leave(self) -> NoReturn:
        """Hang up, take in what the library has acknowledged already, and go."""
        deadline = time.monotonic() + GOODBYE
        if self.up.is_set():
            hang_up = threading.Thread(target=self.client.disconnect, daemon=True)
            hang_up.start()
            hang_up.join(GOODBYE)
            while (now := time.monotonic()) < min(deadline, self.last_event + QUIET):
                time.sleep(min(QUIET, deadline - now))
        os._exit(0)

    def _end(self, state: str, detail: str) -> None:
        """It is over for this process, as soon as the daemon has what is in the journal."""
        self.ending = True
        self.out.say(line="state", state=state, detail=detail)
        self._go_if_done()

    def _unlinked(self, detail: str) -> None:
        """The link is over. The library takes its row away after this callback, or the next start
        would try it again: so this process stays a little."""
        self.cleaning = True
        self._end("logged_out", detail)

        def go() -> None:
            _until_unlinked()
            self.cleaning = False
            self._go_if_done()

        threading.Thread(target=self._guard, args=(go,), daemon=True).start()

    def _go_if_done(self) -> None:
        if self.ending and not self.cleaning and self.journal.count_open() == 0:
            os._exit(0)

    # --- up: connection and events, on the library's thread

    def _connect(self) -> None:
        self.out.say(line="state", state="connecting", detail="")
        library = load()
        self.client = library.NewClient(SESSION, uuid="pynchy")
        self.subscribe()
        error = ""
        try:
            self.client.connect()
        except Exception as failure:  # the library's one way to say it could not
            error = str(failure)
        # Returned: the pump is dead, whatever the socket does. Only a new process helps.
        self.out.say(line="state", state="disconnected", detail=error or "the connection ended")
        os._exit(2)

    def subscribe(self) -> None:
        """Hand over the callbacks: all before `connect`, plain functions that nothing collects.

        Receipts and chat presence are left out: a kind of them that the binding does not know ends
        the pump.
        """
        import neonize.events

        events: Any = neonize.events

        def on(kind: Any, handle: Callable[[Any], None]) -> None:
            def handler(_: Any, event: Any) -> None:
                self.last_event = time.monotonic()
                try:
                    handle(event)
                except Exception as error:  # contained here, and only here: one event's trouble
                    _log.exception("an event was not understood")
                    if kind is events.MessageEv:
                        self._set_aside(event, error)

            self.client.event(kind)(handler)

        def state(name: str, detail: str = "") -> Callable[[Any], None]:
            return lambda _: self.out.say(line="state", state=name, detail=detail)

        def end(name: str, detail: str) -> Callable[[Any], None]:
            return lambda _: self._end(name, detail)

        on(events.MessageEv, self._on_message)
        on(events.ConnectedEv, lambda _: self._on_connected())
        on(events.KeepAliveRestoredEv, state("connected"))
        on(events.DisconnectedEv, state("disconnected", "the library connects again"))
        on(events.KeepAliveTimeoutEv, state("disconnected", "no sign of life from WhatsApp"))
        on(events.LoggedOutEv, lambda _: self._unlinked("the phone unlinked it"))
        on(events.StreamReplacedEv, end("replaced", "another program uses this link"))
        on(events.ClientOutdatedEv, end(*reading.failure_state(6)))
        on(
            events.TemporaryBanEv,
            lambda ban: self._end("banned", f"for {max(1, round(ban.Expire / 60))} min"),
        )
        on(
            events.ConnectFailureEv,
            lambda failure: self._refused(*reading.failure_state(int(failure.Reason))),
        )
        on(events.JoinedGroupEv, lambda joined: self._tell_group(joined.GroupInfo))
        on(
            events.GroupInfoEv,
            lambda change: (
                self._tell_chat(change.JID, change.Name.Name) if change.Name.Name else None
            ),
        )
        on(events.UndecryptableMessageEv, self._on_undecryptable)

    def _refused(self, name: str, detail: str) -> None:
        if name == "logged_out":
            self._unlinked(detail)
        else:
            self._end(name, detail)

    def _on_connected(self) -> None:
        self.up.set()
        self.out.say(line="state", state="connected", detail="")
        threading.Thread(target=self._announce, daemon=True).start()

    def _announce(self) -> None:
        """Say that we are there, and learn the groups' names. Not on the library's thread."""
        from neonize.utils.enum import Presence

        try:
            self.client.send_presence(Presence.AVAILABLE)
        except Exception as error:
            _log.warning("presence: %s", error)
        self._tell_groups()

    def _tell_groups(self, request: int | None = None) -> None:
        """Tell the groups that the account is in, one by one; with a request all of them as its answer."""
        found: list[tuple[str, str]] | None = None
        try:
            found = joined_groups(self.client)
        except Exception as error:
            _log.warning("groups: %s", error)
        self.out.say_all(
            [{"line": "chat", "chat": chat, "name": name} for chat, name in found or ()]
        )
        if request is not None:
            self.out.say(line="answer", request=request, groups=found)

    def _tell_group(self, group: Any) -> None:
        self._tell_chat(group.JID, group.GroupName.Name)

    def _tell_chat(self, jid: Any, name: Any) -> None:
        name = name if isinstance(name, str) else bytes(name).decode("utf-8", "replace")
        self.out.say(line="chat", chat=reading.text_id(jid), name=lines.short(name, lines.NAME))

    def _on_undecryptable(self, event: Any) -> None:
        source = event.Info.MessageSource
        _log.warning("a message in %s could not be decrypted", reading.text_id(source.Chat))

    def _on_message(self, event: Any) -> None:
        """Into the journal, and only then back to the library."""
        read = reading.read(event, own=self.own, number_of=self._number_of)
        if read is None:
            return
        message = lines.fitted(self._ours_named(read.message))
        payload: dict[str, Any] = {}
        if message.chat not in self.chats:  # a name and a time, never content
            if message.edits or message.revokes:
                return
            message = attrs.evolve(message, text="", quoted=None, mentions_me=False)
        elif read.media is not None:
            payload["media"] = attrs.asdict(read.media)
            payload["source"] = base64.b64encode(event.Message.SerializeToString()).decode()
        payload["message"] = lines.message_out(message)
        kept = self.journal.put(
            json.dumps([message.chat, message.sender, message.id]),
            json.dumps(payload),
            wa_id=message.id,
            own=(message.chat, read.message.text) if message.from_me else None,
            said_by=reading.text_id(event.Info.MessageSource.Sender),
        )
        if kept:
            self.more.set()
        if kept and message.chat in self.chats and not message.from_me:
            unread = self._unread.setdefault(message.chat, [])
            unread.append((reading.text_id(event.Info.MessageSource.Sender), message.id))
            del unread[:-UNREAD]

    def _set_aside(self, event: Any, error: Exception) -> None:
        """Keep a message that could not be read, and have it told. The library brings it only once."""
        source = event.Info.MessageSource
        chat, who = reading.text_id(source.Chat), reading.text_id(source.Sender)
        ours = chat in self.chats
        self._note_aside(
            json.dumps([chat, who, lines.short_id(str(event.Info.ID))]),
            chat=chat,
            payload=base64.b64encode(event.SerializePartialToString()).decode() if ours else "",
            reason=f"{type(error).__name__}: {error}",
        )

    def _on_unraisable(self, args: Any) -> None:
        """An exception that nobody could be told of: the library's, of an event that is not even
        one of its protobufs, or our own."""
        error = args.exc_value or args.exc_type()
        _log.error("%s: %r", args.err_msg or "an exception", args.object, exc_info=error)
        if type(error).__name__ == "DecodeError":
            identity = json.dumps(["", "", secrets.token_hex(16)])
            self._note_aside(identity, chat="", payload="", reason="it is damaged")

    def _note_aside(self, identity: str, *, chat: str, payload: str, reason: str) -> None:
        try:
            told = self.journal.put_aside(identity, chat=chat, payload=payload, reason=reason[:500])
        except Exception:  # a full disk: what cannot be kept can still be logged
            _log.exception("and it could not be set aside")
        else:
            if told:
                self.more.set()

    def _ours_named(self, message: Message) -> Message:
        """A quote of what we said names it as the daemon does, who chose that id."""
        quoted = message.quoted
        ours = None if quoted is None else self.journal.ours(quoted.id)
        if quoted is None or ours is None:
            return message
        return attrs.evolve(message, quoted=attrs.evolve(quoted, id=ours))

    def _number_of(self, lid: str) -> str | None:
        if lid not in self._numbers:
            found = session.number_of(Path(SESSION), lid.partition("@")[0])
            if found is None:
                _log.warning("the number behind %s is not known", lid)
                return None
            self._numbers[lid] = f"{found.partition('@')[0]}@{reading.PEOPLE}"
        return self._numbers[lid]

    # --- up: delivery, on a thread of its own

    def _deliver(self) -> None:
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

    def _hand_over(self, batch: Sequence[Entry]) -> None:
        """Deliver these. One that was delivered before is waited for: nothing else is in hand with it."""
        alone = batch[0].deliveries > 1 if batch else False
        if alone:
            self.settled.clear()
            self._alone = batch[0].number
        ready: list[dict[str, object]] = []
        for entry in batch:
            try:
                ready.append(self._delivery(entry))
            except Exception as error:  # contained here, and only here: one message's trouble
                _log.exception("message %d could not be delivered", entry.number)
                self._came_back(entry.number, f"{type(error).__name__}: {error}")
        self.out.say_all(ready)
        if alone:
            self.settled.wait()

    def _came_back(self, number: int, reason: str) -> None:
        self.journal.failed(number, reason[:500])
        self._returned.put(number)
        self._settle([number])
        self.more.set()

    def _settle(self, numbers: Sequence[int]) -> None:
        if self._alone in numbers:
            self.settled.set()

    def _delivery(self, entry: Entry) -> dict[str, object]:
        payload = json.loads(entry.payload)
        if "aside" in payload:
            return {"line": "aside", "number": entry.number, **payload["aside"]}
        if "media" in payload:
            payload = self._with_media(payload)
            self.journal.rewrite(entry.number, json.dumps(payload))
        message = lines.fitted(lines.message_in(payload["message"]))
        return {"line": "message", "number": entry.number, "message": lines.message_out(message)}

    def _with_media(self, payload: dict[str, Any]) -> dict[str, Any]:
        message, media = payload["message"], reading.Media(**payload["media"])
        folder = self.chats.get(message["chat"])
        words = message["text"]
        try:
            if folder is None:
                raise _NotFetchedError("the chat is not registered any more")
            name, size = self._fetch(media, payload["source"], Path(folder))
        except (_NotFetchedError, OSError) as reason:
            message["text"] = f"[{media.kind}, not fetched: {reason}] {words}".strip()
        else:
            kept = Attachment(path=name, media_type=media.media_type, size=size, name=media.name)
            message["attachments"] = [attrs.asdict(kept)]
            if media.kind == "voice" and self.transcribe:
                spoken = self._transcript(Path(folder) / name)
                message["text"] = f"[voice note] {spoken}" if spoken else words
        return {"message": message}

    def _fetch(self, media: reading.Media, source: str, folder: Path) -> tuple[str, int]:
        """Fetch a file into the group's media folder, under a name of ours, or say why not."""
        if media.size > self.media_limit:
            raise _NotFetchedError(f"{media.size} bytes are too many")
        if not self.up.wait(FETCH_WAIT):
            raise _NotFetchedError("WhatsApp is not connected")
        content: list[bytes] = []
        problem: list[str] = ["no answer"]

        def fetch() -> None:
            from neonize.proto.waE2E.WAWebProtobufsE2E_pb2 import Message

            try:
                message = Message.FromString(base64.b64decode(source))
                content.append(self.client.download_any(message))
            except Exception as error:
                problem[0] = str(error)

        worker = threading.Thread(target=fetch, daemon=True)
        worker.start()
        worker.join(FETCH_WAIT)
        if not content:
            raise _NotFetchedError(problem[0])
        if len(content[0]) > self.media_limit:
            raise _NotFetchedError(f"{len(content[0])} bytes are too many")
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        name = secrets.token_hex(8) + (mimetypes.guess_extension(media.media_type) or ".bin")
        (folder / name).write_bytes(content[0])
        return name, len(content[0])

    def _transcript(self, path: Path) -> str:
        try:
            done = subprocess.run(
                [*self.transcribe, str(path)],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=TRANSCRIBE_WAIT,
                check=True,
            )
        except (OSError, subprocess.SubprocessError) as error:
            _log.warning("transcription: %s", error)
            return ""
        return done.stdout.decode(errors="replace").strip()

    # --- down: what the daemon asks

    def _obey(self, line: dict[str, Any]) -> None:
        """Take a line. Nothing here may wait for the daemon to read: it may wait for us to."""
        match line.get("line"):
            case "ready":
                self.ready.set()
            case "ack":
                numbers = [int(each) for each in line["numbers"]]
                self.journal.acknowledge(numbers)
                self._settle(numbers)
                self._go_if_done()
            case "reject":
                self._came_back(int(line["number"]), str(line["reason"]))
            case "bye":
                self.journal.give_back()
            case "chats":
                self.chats = dict(line["chats"])
                self.journal.forget_aside(self.chats)
            case "send":
                threading.Thread(target=self._send, args=(line,), daemon=True).start()
            case "was_sent":
                threading.Thread(target=self._tell_if_sent, args=(line,), daemon=True).start()
            case "typing" if self.up.is_set():
                self._courtesies.put(partial(self._type, line))
            case "read" if self.up.is_set():
                self._courtesies.put(partial(self._mark_read, line))
            case "groups" if self.up.is_set():
                asked = (line["request"],)
                threading.Thread(target=self._tell_groups, args=asked, daemon=True).start()
            case "groups":
                self.out.say(line="answer", request=line["request"], groups=None)

    def _tell_if_sent(self, line: dict[str, Any]) -> None:
        known = self.journal.was_sent(line["message_id"])
        self.out.say(line="answer", request=line["request"], sent=known)

    def _send(self, line: dict[str, Any]) -> None:
        message_id, outcome, reason = line["message_id"], "sent", ""
        if not self.up.is_set() or self.ending:
            outcome = "not_connected"
        elif self.journal.begin(message_id, chat=line["chat"], text=line["text"]):
            try:
                self.journal.sent(message_id, self._transmit(line))
            except OSError as error:
                outcome, reason = "refused", str(error)
            except Exception as error:  # the library has one sort of error, with words in it
                reason = str(error)
                outcome = reading.outcome(reason)
            if outcome == "uncertain":
                self.journal.doubt(message_id)
            elif outcome != "sent":
                self.journal.refused(message_id)
            self.more.set()  # what was held may go on
        self.out.say(line="answer", request=line["request"], outcome=outcome, reason=reason)

    def _transmit(self, line: dict[str, Any]) -> str:
        """Send it, whatever it is, and return WhatsApp's id for it."""
        from neonize.proto.waE2E import WAWebProtobufsE2E_pb2 as wa
        from neonize.utils.jid import build_jid

        user, _, server = line["chat"].rpartition("@")
        target = self._target(line)
        if line["kind"] == "file":
            message = self._file(wa, line, quotes=target)
        elif line["kind"] == "reaction":
            if target is None:
                raise FileNotFoundError("there is nothing to react to")
            moment = time.time_ns() // 1_000_000
            message = writing.reaction(wa, line["text"], to=target, at_ms=moment)
        else:
            message = writing.words(wa, line["text"], quotes=target)
        return str(self.client.send_message(build_jid(user, server), message).ID)

    def _target(self, line: dict[str, Any]) -> writing.Target | None:
        """What is quoted or reacted to, with its sender's id as it came: in a chat of hidden ids phones
        look for that one."""
        chat, target, who = line["chat"], line.get("target"), line.get("target_sender") or ""
        if not target or not (who or line["kind"] == "reaction"):
            return None
        raw = self.journal.said_by(json.dumps([chat, who, target]))
        text = line.get("target_text") or ""
        return writing.Target(chat, target, raw or who, ours=who == self.own.number, text=text)

    def _file(self, wa: Any, line: dict[str, Any], *, quotes: writing.Target | None) -> Any:
        from neonize.utils.enum import MediaType

        path, caption = Path(line["path"]), line["text"]
        content = path.read_bytes()
        media_type = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
        kind = writing.kind_of(media_type, captioned=bool(caption))
        size = writing.size_of(content) if kind == "image" else None
        if kind == "image" and size is None:
            _log.warning("as a document, for it is no image")
            kind = "document"
        kinds = {
            "image": MediaType.MediaImage,
            "video": MediaType.MediaVideo,
            "audio": MediaType.MediaAudio,
            "document": MediaType.MediaDocument,
        }
        return writing.file(
            wa,
            kind,
            self.client.upload(content, kinds[kind]),
            media_type=media_type,
            name=path.name,
            caption=caption,
            quotes=quotes,
            size=size,
        )

    def _mark_read(self, line: dict[str, Any]) -> None:
        from neonize.utils.enum import ReceiptType
        from neonize.utils.jid import build_jid

        by_sender: dict[str, list[str]] = {}
        for who, message_id in self._unread.pop(line["chat"], []):
            by_sender.setdefault(who, []).append(message_id)
        chat = build_jid(*line["chat"].split("@"))
        for who, ids in by_sender.items():
            try:
                self.client.mark_read(
                    *ids, chat=chat, sender=build_jid(*who.split("@")), receipt=ReceiptType.READ
                )
            except Exception as error:
                _log.info("read receipt: %s", error)

    def _type(self, line: dict[str, Any]) -> None:
        from neonize.utils.enum import ChatPresence, ChatPresenceMedia
        from neonize.utils.jid import build_jid

        user, _, server = line["chat"].rpartition("@")
        state = (
            ChatPresence.CHAT_PRESENCE_COMPOSING
            if line["on"]
            else ChatPresence.CHAT_PRESENCE_PAUSED
        )
        media = ChatPresenceMedia.CHAT_PRESENCE_MEDIA_TEXT
        try:
            self.client.send_chat_presence(build_jid(user, server), state, media)
        except Exception as error:
            _log.info("typing: %s", error)


def joined_groups(client: Any) -> list[tuple[str, str]]:
    """Id and name of every group that the account is in, as WhatsApp says now."""
    found = [
        (reading.text_id(each.JID), lines.short(each.GroupName.Name, lines.NAME))
        for each in client.get_joined_groups()
    ]
    return [(chat, name) for chat, name in found if chat]


class _NotFetchedError(Exception):
    """Why a file was not fetched, for the agent to read."""


# --- linking, in a process that is thrown away -------------------------------------------------


def _until_unlinked() -> None:
    """Wait for the library to take its row away; not for ever."""
    deadline = time.monotonic() + UNLINKED
    while time.monotonic() < deadline:
        try:
            if session.linked(Path(SESSION), ours=False) is None:
                return
        except session.Unreadable:
            pass  # it is at it
        time.sleep(0.1)


def pair(out: Lines, *, phone: str, again: bool) -> NoReturn:
    """Link an account, or say that one is linked: WhatsApp's word decides, where it can be had.

    Without one, or with ``again``, codes are shown until a phone takes one. Leaves by `os._exit`: a
    connect that waits for a phone cannot be stopped in any other way.
    """
    path = Path(SESSION)
    try:
        session.settle(path)
        account = None if again else session.linked(path, ours=True)
    except session.Unreadable as error:
        if not again:
            out.say(line="failed", reason=f"{error}; to link anew: pynchy auth whatsapp --again")
            os._exit(1)
        account = None
    if again:
        session.put_aside(path)
    library = load()
    import neonize.events

    events: Any = neonize.events
    client = library.NewClient(SESSION, uuid="pynchy")
    asked = threading.Event()

    def ask_for_code() -> None:
        try:
            out.say(line="code", code=client.PairPhone(phone, True))
        except Exception as error:
            out.say(line="failed", reason=str(error))
            os._exit(1)

    def tell_groups() -> None:
        try:
            for chat, name in joined_groups(client):
                out.say(line="chat", chat=chat, name=name)
        except Exception as error:  # main can be chosen later
            _log.warning("groups: %s", error)

    def on_qr(_: Any, data: bytes) -> None:
        if account is not None:  # the library has no account after all
            unlinked()
        elif not phone:
            out.say(line="qr", data=data.decode())
        elif not asked.is_set():
            asked.set()
            threading.Thread(target=ask_for_code, daemon=True).start()

    def on_status(_: int, status: int) -> None:
        import ctypes

        word = ctypes.string_at(status).decode(errors="replace") if status else ""
        if word and word != "success":
            out.say(line="failed", reason=word)
            os._exit(1)

    said = threading.Lock()  # one word about an account that we have

    def say_linked(number: str, **more: object) -> None:
        if said.acquire(blocking=False):
            out.say(line="linked", number=reading.plain(number), **more)

    def unlinked() -> None:
        if said.acquire(blocking=False):
            _until_unlinked()
            out.say(line="unlinked")
            os._exit(0)

    def doubt(reason: str) -> None:
        assert account is not None
        say_linked(account.number, new=False, doubt=reason)
        os._exit(0)

    def on_connected(_: Any, __: Any) -> None:
        threading.Thread(target=tell_link, daemon=True).start()

    def tell_link() -> None:
        found = account or _new_account()
        if found is None:
            out.say(line="failed", reason="the library connected, and did not keep the link")
            os._exit(1)
        say_linked(found.number, new=account is None)
        tell_groups()
        # The phone sends its first keys now; a link that is dropped at once looks broken to it.
        time.sleep(5.0 if account is None else 0.0)
        os._exit(0)

    def on_refused(name: str, detail: str) -> None:
        if name == "logged_out":
            threading.Thread(target=unlinked, daemon=True).start()
        elif account is not None:
            doubt(detail)

    if account is not None:
        threading.Timer(SERVER_WAIT, doubt, ("WhatsApp did not answer",)).start()
        client.event(events.LoggedOutEv)(lambda _, __: on_refused("logged_out", ""))
        client.event(events.ConnectFailureEv)(
            lambda _, failure: on_refused(*reading.failure_state(int(failure.Reason)))
        )
    client.event.qr(on_qr)
    client._NewClient__onLoginStatus = on_status  # the one way to hear of it
    client.event(events.ConnectedEv)(on_connected)
    threading.Thread(target=_until_eof, daemon=True).start()
    try:
        client.connect()
    except Exception as error:
        if account is not None:
            doubt(str(error))
        out.say(line="failed", reason=str(error))
    os._exit(1)


def _new_account() -> session.Account | None:
    """The account that was linked just now, once the library has written it down."""
    deadline = time.monotonic() + UNLINKED
    while time.monotonic() < deadline:
        try:
            if (found := session.linked(Path(SESSION), ours=False)) is not None:
                return found
        except session.Unreadable:
            pass  # it is at it
        time.sleep(0.1)
    return None


def _until_eof() -> None:
    while sys.stdin.buffer.read(1):
        pass
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
