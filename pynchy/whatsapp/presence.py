"""Whether others see the account as online.

WhatsApp stops notifying the account's phone while another of its devices is online. So on a number that is shared with
a person we are offline except while we answer; on a number of our own, online.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from threading import Timer
from typing import TYPE_CHECKING, Final

import attrs

if TYPE_CHECKING:
    from pynchy.whatsapp.library import Client

AGAIN: Final = 60.0  # seconds from an attempt that failed to the next

_log = logging.getLogger("bridge")


@attrs.define(eq=False)
class Presence:
    """What is shown of us. One thread calls; ``later`` runs something on it.

    It cannot be shown before the account's name is known, which comes some time after linking. What failed is tried
    again: with whatever comes from WhatsApp, for that may have been the name, and after a minute.
    """

    shared: bool  # the number is a person's too
    _client: Callable[[], Client]
    _later: Callable[[Callable[[], None]], None]
    owed: bool = False  # it could not be shown
    _shown: bool | None = None
    _answering: set[str] = attrs.field(factory=set)  # chats
    _timer: Timer | None = None

    def connected(self) -> None:
        """Another connection: WhatsApp knows nothing of us."""
        self._shown = None
        self._answering.clear()  # the daemon says again where we are
        self.settle()

    def answering(self, chat: str, *, on: bool) -> None:
        """We begin to answer in this chat, or have ended."""
        (self._answering.add if on else self._answering.discard)(chat)
        self.settle()

    def settle(self) -> None:
        """Show what is to be shown, unless it is."""
        self.owed = False
        wanted = not self.shared or bool(self._answering)
        if wanted == self._shown:
            return
        try:
            self._client().show_presence(available=wanted)
        except Exception as error:  # the library has one sort of error, with words in it
            _log.info("presence: %s", error)
            self.owed = True
            if self._timer is None or self._timer.finished.is_set():
                self._timer = Timer(AGAIN, self._later, (self.settle_if_owed,))
                self._timer.daemon = True
                self._timer.start()
        else:
            self._shown = wanted

    def settle_if_owed(self) -> None:
        if self.owed:
            self.settle()
