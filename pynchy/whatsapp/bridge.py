"""The WhatsApp process: ``python -m pynchy.whatsapp.bridge STORE``.

The library is a Go program behind a C door, and it can end, or hang, the process that it is in. So
this process is made to be lost. One process connects once, in one client: there is no second connect,
no stop and no fork, which are what brings it down; whatever ends the connection for good ends the
process, by ``os._exit``, and the daemon starts another. Python's own exit is never taken: it would
wait for Go for ever.

An event is in the journal before its callback returns; the library has told WhatsApp by then, so
what is lost if this process is killed is what waited in its queue. A polite end (our input closes)
disconnects, takes in what is left there, and goes.

Nothing is decided here, and file descriptors 1 and 2 belong to Go's prints: our lines have one of
their own.
"""

from __future__ import annotations

import argparse
import logging
import os
import queue
import sys
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

from pynchy.config import cores
from pynchy.files.disk import space_of
from pynchy.store import whatsapp_session as session
from pynchy.whatsapp import lines, media
from pynchy.whatsapp import process as own_process
from pynchy.whatsapp import read as reading
from pynchy.whatsapp.delivery import Delivery
from pynchy.whatsapp.intake import Intake, Orders
from pynchy.whatsapp.journal import Journal
from pynchy.whatsapp.pairing import SESSION, pair
from pynchy.whatsapp.presence import Presence
from pynchy.whatsapp.process import ToDaemon, start
from pynchy.whatsapp.sending import Sending

if TYPE_CHECKING:
    from pynchy.whatsapp.library import Client

JOURNAL: Final = "whatsapp-journal.db"
LOCK: Final = "whatsapp.lock"
SPARE: Final = 32 * 1024 * 1024  # bytes on the disk, below which nothing is taken from WhatsApp
SILENCE: Final = 180.0  # of the daemon, which asks for a sign of life far more often
FULL: Final = "the disk is nearly full: free some space; WhatsApp keeps what comes"
GOODBYE: Final = 3.0  # from the end of our input to our own
QUIET: Final = 0.2  # without an event after a disconnect: the queue is empty

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
    out = ToDaemon(os.dup(1))
    own_process.keep_prints(options.log.absolute())
    options.store.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.chdir(options.store)
    try:
        own_process.lock(Path(LOCK))
        if options.pair:
            pair(out, phone=options.phone, again=options.again)
        first = lines.decode(sys.stdin.buffer.readline() or b"{}")
        if first.pop("line", None) != "start":
            os._exit(0)
        Bridge(out, Orders(**first)).run()
    except Exception as error:  # contained here, and only here: the daemon is to hear why
        out.failed(error)
    finally:
        os._exit(1)


class Bridge:
    """The bridge of a linked account. `run` never returns."""

    def __init__(self, out: ToDaemon, orders: Orders) -> None:
        self.out = out
        self.orders = orders
        self.journal = Journal(Path(JOURNAL))
        more = threading.Event()
        own = reading.Own(number="", lid="", name=orders.name)
        self.intake = Intake(self.journal, orders, own, more, partial(session.number_of, SESSION))
        self.delivery = Delivery(self.journal, orders, out, more, self._connected_client)
        self.client: Client | None = None  # once it may be asked things
        self.up = threading.Event()  # connected once: from now on Go may be called
        self.last_event = 0.0
        self._turn = threading.Lock()  # to send
        self._told = threading.Event()  # something, by the daemon
        self.ending = False
        self.cleaning = False  # the library is about to take its row away
        self._courtesies: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()  # in order
        later = self._courtesies.put
        self.presence = Presence(orders.shared, self._connected_client, later)

    def run(self) -> NoReturn:
        self.journal.forget_aside(self.orders.chats)
        sys.unraisablehook = self.intake.unraisable
        self.out.guard(self.delivery.run)
        self.out.guard(self._be_courteous)
        self.out.guard(self._watch_daemon)
        self._look_for_link()
        while raw := sys.stdin.buffer.readline(lines.LONGEST):
            self._told.set()
            self._obey(lines.decode(raw))
        self._leave()

    def _watch_daemon(self) -> None:
        """Leave a daemon that stands still: what comes now is better kept by WhatsApp, which believes us that
        it was delivered."""
        while self._told.wait(SILENCE):
            self._told.clear()
        _log.warning("no word from the daemon for %.0f s", SILENCE)
        self._leave()

    def _look_for_link(self) -> None:
        """Connect, if an account is linked. The library is not loaded yet: the database is ours alone."""
        try:
            session.settle(SESSION)
            account = session.linked(SESSION, ours=True)
        except session.Unreadable as error:
            self._end("unreadable", str(error))
            return
        if account is None:
            self._end("logged_out", "not linked")
            return
        if _is_full():
            self._end("disconnected", FULL)
            return
        number, lid = reading.plain(account.number), reading.plain(account.lid)
        self.intake.own = reading.Own(number=number, lid=lid, name=self.orders.name)
        self.out.say("me", number=number)
        self.out.guard(self._connect)

    def _be_courteous(self) -> None:
        while True:
            try:
                self._courtesies.get()()
            except Exception as error:
                _log.info("a courtesy: %s", error)

    def _leave(self) -> NoReturn:
        """Disconnect, take in what the library has acknowledged already, and exit."""
        deadline = time.monotonic() + GOODBYE
        if self.up.is_set():
            assert self.client is not None
            start(self.client.disconnect).join(GOODBYE)
            while (now := time.monotonic()) < min(deadline, self.last_event + QUIET):
                time.sleep(min(QUIET, deadline - now))
        os._exit(0)

    def _end(self, state: str, detail: str) -> None:
        """It is over for this process, as soon as the daemon has what is in the journal."""
        self.ending = True
        self.out.state(state, detail)
        self._go_if_done()

    def _end_or_unlink(self, state: str, detail: str) -> None:
        """The same. A link that is over the library takes away after this callback, or the next start
        would try it again: so this process stays a little."""
        self.cleaning = state == "logged_out"
        self._end(state, detail)
        if self.cleaning:
            self.out.guard(self._await_unlinked)

    def _await_unlinked(self) -> None:
        session.wait_until(SESSION, lambda account: account is None)
        self.cleaning = False
        self._go_if_done()

    def _go_if_done(self) -> None:
        if self.ending and not self.cleaning and self.journal.count_open() == 0:
            os._exit(0)

    # --- up: connection and events, on the library's thread

    def _connect(self) -> None:
        self.out.state("connecting")
        from pynchy.whatsapp.library import Client  # now: it takes the database, and a second

        self.client = Client(session.NAME)
        self._subscribe(self.client)
        error = self.client.connect()
        # Returned: the pump is dead, whatever the socket does. Only a new process helps.
        self.out.state("disconnected", error or "the connection ended")
        os._exit(2)

    def _subscribe(self, client: Client) -> None:
        """Hand over the callbacks, all before the client connects.

        Receipts and chat presence are left out: a kind of them that the binding does not know ends
        the pump.
        """
        handlers: dict[str, Callable[[Any], None]] = {
            "MessageEv": self.intake.message,
            "ConnectedEv": lambda _: self._on_connected(),
            "KeepAliveRestoredEv": self._state("connected"),
            "DisconnectedEv": self._state("disconnected", "the library connects again"),
            "KeepAliveTimeoutEv": self._state("disconnected", "no sign of life from WhatsApp"),
            "LoggedOutEv": lambda _: self._end_or_unlink("logged_out", "the phone unlinked it"),
            "StreamReplacedEv": lambda _: self._end("replaced", "another program uses this link"),
            "ClientOutdatedEv": lambda _: self._end(*reading.failure_state(6)),
            "TemporaryBanEv": self._on_ban,
            "ConnectFailureEv": self._on_refused,
            "JoinedGroupEv": self._on_joined,
            "GroupInfoEv": self._on_changed,
            "UndecryptableMessageEv": self._on_undecryptable,
        }
        for event, handle in handlers.items():
            client.on(event, partial(self._hear, handle))

    def _hear(self, handle: Callable[[Any], None], event: Any) -> None:
        self.last_event = time.monotonic()
        if self.presence.owed:
            self._courtesies.put(self.presence.settle_if_owed)
        try:
            handle(event)
        except Exception:  # contained here, and only here: one event's trouble
            _log.exception("an event was not understood")
        if not self.ending and _is_full():  # what follows is kept by WhatsApp, and not by us
            self.ending = True
            self.out.state("disconnected", FULL)
            start(self._leave)

    def _state(self, name: str, detail: str = "") -> Callable[[Any], None]:
        return lambda _: self.out.state(name, detail)

    def _on_ban(self, ban: Any) -> None:
        self._end("banned", f"for {max(1, round(ban.Expire / 60))} min")

    def _on_refused(self, failure: Any) -> None:
        self._end_or_unlink(*reading.failure_state(int(failure.Reason)))

    def _on_connected(self) -> None:
        self.up.set()
        self._courtesies.put(self.presence.connected)  # before the daemon asks for anything
        self.out.state("connected")
        start(self._tell_groups)  # not on the library's thread

    def _tell_groups(self) -> list[tuple[str, str]] | None:
        """Tell the groups that the account is in, one by one; and return them, if they can be had."""
        try:
            found = self._connected_client().groups()
        except Exception as error:
            _log.warning("groups: %s", error)
            return None
        self.out.say_all([{"line": "chat", "chat": chat, "name": name} for chat, name in found])
        return found

    def _on_joined(self, joined: Any) -> None:
        self._tell_chat(joined.GroupInfo.JID, joined.GroupInfo.GroupName.Name)

    def _on_changed(self, change: Any) -> None:
        if change.HasField("Ephemeral"):
            lasting = change.Ephemeral.DisappearingTimer if change.Ephemeral.IsEphemeral else 0
            self.intake.learn_expiration(reading.text_id(change.JID), int(lasting))
        if change.Name.Name:
            self._tell_chat(change.JID, change.Name.Name)

    def _tell_chat(self, jid: Any, name: Any) -> None:
        name = name if isinstance(name, str) else bytes(name).decode("utf-8", "replace")
        self.out.say("chat", chat=reading.text_id(jid), name=lines.short(name, lines.NAME))

    def _on_undecryptable(self, event: Any) -> None:
        source = event.Info.MessageSource
        _log.warning("a message in %s could not be decrypted", reading.text_id(source.Chat))

    def _connected_client(self) -> Client:
        if not self.up.wait(media.FETCH_WAIT):
            raise media.NotFetched("WhatsApp is not connected")
        assert self.client is not None
        return self.client

    # --- down: what the daemon asks

    def _obey(self, line: dict[str, Any]) -> None:
        """Take a line. Nothing here may wait for the daemon to read: it may wait for us to."""
        match line.get("line"):
            case "ready":
                self.delivery.ready.set()
            case "ack":
                self.delivery.acknowledged([int(each) for each in line["numbers"]])
                self._go_if_done()
            case "reject":
                self.delivery.came_back(int(line["number"]), str(line["reason"]))
            case "transcribed":
                self.delivery.transcribed(int(line["number"]), str(line["text"]))
            case "bye":
                self.journal.give_back()
            case "chats":
                self.orders.chats = dict(line["chats"])
                self.journal.forget_aside(self.orders.chats)
            case "pulse":
                self._answer(line)
            case "send":
                start(self._send, line)
            case "was_sent":
                start(self._tell_if_sent, line)
            case "groups":
                start(self._answer_groups, line)
            case "typing" if self.up.is_set():
                self._courtesies.put(partial(self._show_typing, line["chat"], on=line["on"]))
            case "read" if self.up.is_set():
                mark = self._connected_client().mark_read
                for who, ids in self.intake.take_unread(line["chat"]).items():
                    self._courtesies.put(partial(mark, line["chat"], who, ids))

    def _show_typing(self, chat: str, *, on: bool) -> None:
        if on:  # who is offline is not seen typing
            self.presence.answering(chat, on=True)
        try:
            self._connected_client().show_typing(chat, on=on)
        finally:
            if not on:
                self.presence.answering(chat, on=False)

    def _answer(self, line: dict[str, Any], **answer: object) -> None:
        self.out.say("answer", request=line["request"], **answer)

    def _tell_if_sent(self, line: dict[str, Any]) -> None:
        self._answer(line, sent=self.journal.was_sent(line["message_id"]))

    def _answer_groups(self, line: dict[str, Any]) -> None:
        self._answer(line, groups=self._tell_groups() if self.up.is_set() else None)

    def _send(self, line: dict[str, Any]) -> None:
        outcome, reason = "not_connected", ""
        if self.up.is_set() and not self.ending:
            own = self.intake.own.number
            sending = Sending(self._connected_client(), self.journal, own, self._turn)
            outcome, reason = sending.send(line)
            self.delivery.more.set()  # what was held may go on
        stuck = outcome == "stuck"
        self._answer(line, outcome="not_connected" if stuck else outcome, reason=reason)
        if stuck:
            self.out.state("disconnected", reason)
            self.journal.give_back()
            self._leave()


def _is_full() -> bool:
    return space_of(Path()).free < SPARE


if __name__ == "__main__":
    main(sys.argv[1:])
