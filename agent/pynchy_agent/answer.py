"""Decide which of an agent's words in a turn are the answer.

One answer of a model may come as several texts: its blocks within one message, and messages that continue each other
when an output limit or a broken stream ended one of them. The CLI's own `result` is the last block alone, so the
answer is put together here from what was heard. Pure rules; `claude` feeds them.
"""

from __future__ import annotations

from typing import Final

import attrs

#: Stops after which a message goes on in the next one, or is incomplete if none comes.
LIMITS: Final = frozenset({"max_tokens", "model_context_window_exceeded", "pause_turn"})


@attrs.define
class _Message:
    """One message of the model: its texts in order, None where something else stands between two of them."""

    id: str | None
    texts: list[str | None] = attrs.field(factory=list)
    uses_tools: bool = False
    stop: str | None = None

    @property
    def text(self) -> str:
        said = ""
        apart = False
        for text in self.texts:
            if text is None:
                apart = True
                continue
            said = _apart(said, text) if apart else said + text
            apart = False
        return said

    @property
    def goes_on(self) -> bool:
        """Whether what it says goes on in the message after it: a limit or a broken stream ended it."""
        return (self.stop is None or self.stop in LIMITS) and not self.uses_tools


class Answer:
    """The texts of one turn, from its start to its result."""

    def __init__(self) -> None:
        self._messages: list[_Message] = []
        self._sent: set[str] = set()  # texts that reached the chat by themselves
        self._begun = False  # a message has begun whose first block has not been heard

    def begin(self) -> None:
        """The model begins a message."""
        self._begun = True

    def text(self, message: str | None, text: str) -> None:
        """It said something."""
        self._in(message).texts.append(text)

    def other(self, message: str | None, *, tool: bool) -> None:
        """Something else than text: thinking, or a call of a tool."""
        found = self._in(message)
        found.texts.append(None)
        found.uses_tools |= tool

    def stop(self, reason: str | None) -> None:
        """Why the message that was heard last ended; it may have had no blocks."""
        if self._begun or not self._messages:
            self._in(None)
        self._messages[-1].stop = reason

    def sent(self, text: str) -> None:
        """This text was sent to the chat by a tool."""
        self._sent.add(text.strip())

    @property
    def last_stop(self) -> str | None:
        """Why the last message ended, if that was heard."""
        return self._messages[-1].stop if self._messages else None

    def words(self) -> str:
        """The answer: the last message with those that it continues; if that is empty, everything that was said and
        has not been sent."""
        parts = self._parts()
        if parts and parts[-1].strip():
            return parts[-1]
        said = ""
        for part in parts:
            if part.strip() and part.strip() not in self._sent:
                said = _apart(said, part.strip("\n"))
        return said

    def is_cut(self) -> bool:
        """Whether a limit ended the last thing that was said, and it was not continued."""
        speaking = [message for message in self._messages if message.text.strip()]
        return bool(speaking) and speaking[-1].stop in LIMITS

    def _parts(self) -> list[str]:
        """What was said, with messages joined that continue each other."""
        parts: list[str] = []
        goes_on = False
        for message in self._messages:
            if goes_on:
                parts[-1] += message.text
            else:
                parts.append(message.text)
            goes_on = message.goes_on
        return parts

    def _in(self, message: str | None) -> _Message:
        if self._begun or not self._messages or self._messages[-1].id != message:
            self._messages.append(_Message(message))
            self._begun = False
        return self._messages[-1]


def _apart(before: str, after: str) -> str:
    """Two texts as two paragraphs, unless white space separates them already."""
    if not before or not after or before[-1].isspace() or after[0].isspace():
        return before + after
    return f"{before}\n\n{after}"
