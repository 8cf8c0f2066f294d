"""Ask the WhatsApp library what it may never answer: for a bounded time, and few at once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import attrs

T = TypeVar("T")


class NoAnswer(Exception):
    """Why the library gave none, in words."""


@attrs.define(eq=False)
class Questions:
    """Questions of one kind. One that was given up counts as open until the library comes back from it."""

    at_once: int
    too_many: str  # the words, when so many are open
    about: str = ""  # what stands before the other words
    _free: threading.BoundedSemaphore = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._free = threading.BoundedSemaphore(self.at_once)

    def ask(self, question: Callable[[], T], seconds: float) -> T:
        """Its answer, within so many seconds. Raises `NoAnswer`."""
        if not self._free.acquire(blocking=False):
            raise NoAnswer(self.too_many)
        asked = ThreadPoolExecutor(1).submit(question)  # not waited for: it may never come back
        asked.add_done_callback(lambda _: self._free.release())
        try:
            return asked.result(seconds)
        except TimeoutError:
            raise NoAnswer(f"{self.about}no answer") from None
        except Exception as error:  # the library has one sort of error, with words in it
            raise NoAnswer(f"{self.about}{error}") from None
