"""Link an account, in a process that is thrown away."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

from pynchy.store import whatsapp_session as session
from pynchy.whatsapp import read as reading
from pynchy.whatsapp.process import ToDaemon, start

if TYPE_CHECKING:
    from pynchy.whatsapp.library import Client

SESSION: Final = Path(session.NAME)  # in the folder that this process is in
SERVER_WAIT: Final = 25.0  # for WhatsApp's word on a link that we have
CONNECT_WAIT: Final = 60.0  # for a connection, once a phone has taken a code
FIRST_KEYS: Final = (
    5.0  # for the phone to send them: a link that is dropped at once looks broken to it
)

_log = logging.getLogger("bridge")


def pair(out: ToDaemon, *, phone: str, again: bool) -> NoReturn:
    """Link an account, or say that one is linked: WhatsApp's word decides, where it can be had.

    Without one, or with ``again``, codes are shown until a phone takes one. Leaves by `os._exit`: a
    connect that waits for a phone cannot be stopped in any other way.
    """
    account = None
    try:
        session.settle(SESSION)
        account = None if again else session.linked(SESSION, ours=True)
    except session.Unreadable as error:
        if not again:
            out.say("failed", reason=f"{error}; to link anew: pynchy auth whatsapp --again")
            os._exit(1)
    if again:
        session.put_aside(SESSION)
    from pynchy.whatsapp.library import Client  # now that the database is not ours any more

    client = Client(session.NAME)
    start(_until_eof)
    if account is None:
        _Linking(out, client, phone).run()
    _Checking(out, client, account).run()


class _Pairing(ABC):
    """One client, from connecting to what it tells of the link."""

    def __init__(self, out: ToDaemon, client: Client) -> None:
        self.out = out
        self.client = client
        client.on_login(self._on_login)
        client.on("ConnectedEv", lambda _: start(self.connected))

    @abstractmethod
    def connected(self) -> None:
        """Say what is to be said once WhatsApp has let us in."""

    def _on_login(self, word: str) -> None:
        if word and word != "success":
            self.fail(word)

    def fail(self, reason: str) -> NoReturn:
        self.out.say("failed", reason=reason)
        os._exit(1)

    def tell_groups(self) -> None:
        try:
            for chat, name in self.client.groups():
                self.out.say("chat", chat=chat, name=name)
        except Exception as error:  # main can be chosen later
            _log.warning("groups: %s", error)


class _Linking(_Pairing):
    """Show codes until a phone takes one. With a ``phone``, its owner types the code in instead of scanning it."""

    def __init__(self, out: ToDaemon, client: Client, phone: str) -> None:
        super().__init__(out, client)
        self._phone = phone
        self._asked = False
        self._connected = False
        client.on_code(self._on_code)

    def run(self) -> NoReturn:
        if error := self.client.connect():
            self.fail(error)
        os._exit(1)

    def _on_login(self, word: str) -> None:
        super()._on_login(word)
        if word == "success":
            self.out.say("taken")
            limit = threading.Timer(CONNECT_WAIT, self._give_up)
            limit.daemon = True
            limit.start()

    def _give_up(self) -> None:
        if not self._connected:
            self.fail("no connection")

    def connected(self) -> None:
        self._connected = True
        account = session.wait_until(SESSION, lambda found: found is not None)
        if account is None:
            self.fail("the library connected, and did not keep the link")
        self.out.say("linked", number=reading.plain(account.number), new=True)
        self.tell_groups()
        time.sleep(FIRST_KEYS)
        os._exit(0)

    def _on_code(self, code: str) -> None:
        if not self._phone:
            self.out.say("qr", data=code)
        elif not self._asked:
            self._asked = True
            start(self._ask_for_code)

    def _ask_for_code(self) -> None:
        try:
            self.out.say("code", code=self.client.pairing_code(self._phone))
        except Exception as error:
            self.fail(str(error))


class _Checking(_Pairing):
    """Ask WhatsApp whether an account is still linked, and say so once."""

    def __init__(self, out: ToDaemon, client: Client, account: session.Account) -> None:
        super().__init__(out, client)
        self._number = reading.plain(account.number)
        self._said = threading.Lock()
        client.on("LoggedOutEv", lambda _: start(self._unlinked))
        client.on("ConnectFailureEv", self._on_refused)
        client.on_code(lambda _: self._unlinked())  # the library has no account after all

    def run(self) -> NoReturn:
        threading.Timer(SERVER_WAIT, self._doubt, ("WhatsApp did not answer",)).start()
        if error := self.client.connect():
            self._doubt(error)
        os._exit(1)

    def connected(self) -> None:
        self._linked()
        self.tell_groups()
        os._exit(0)

    def _linked(self, **more: str) -> None:
        if self._said.acquire(blocking=False):
            self.out.say("linked", number=self._number, new=False, **more)

    def _doubt(self, reason: str) -> NoReturn:
        self._linked(doubt=reason)
        os._exit(0)

    def _unlinked(self) -> None:
        if self._said.acquire(blocking=False):
            session.wait_until(SESSION, lambda found: found is None)
            self.out.say("unlinked")
            os._exit(0)

    def _on_refused(self, failure: Any) -> None:
        state, detail = reading.failure_state(int(failure.Reason))
        if state == "logged_out":
            start(self._unlinked)
        else:
            self._doubt(detail)


def _until_eof() -> None:
    while sys.stdin.buffer.read(1):
        pass
    os._exit(0)
