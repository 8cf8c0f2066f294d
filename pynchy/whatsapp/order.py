"""The order in which messages go on: within a chat as they came, and no chat waits for another's file.

Pure. A message is unready while its file is fetched or its voice note put into words. It waits for that, and so do the
later ones of its chat.
"""

from __future__ import annotations

from collections import deque

import attrs


@attrs.frozen
class Waiting:
    """A message that was not handed out yet. ``deliveries`` it had so far, in earlier lives."""

    number: int
    deliveries: int
    chat: str
    unfetched: bool = False  # it speaks of a file, or of a right, that is still to be asked for
    unheard: bool = False  # it is a voice note whose words are not known yet

    @property
    def unready(self) -> bool:
        return self.unfetched or self.unheard


@attrs.define(eq=False)
class _Place:
    message: Waiting
    begun: bool = False
    ready: bool = False


@attrs.define(eq=False)
class ChatOrder:
    """``due`` has the messages that may go on, in order. Of one chat at most ``at_once`` are made ready at once."""

    at_once: int
    due: deque[Waiting] = attrs.field(factory=deque)
    _lanes: dict[str, deque[_Place]] = attrs.field(factory=dict)

    def add(self, message: Waiting) -> list[Waiting]:
        """The next message, in the order of their numbers. Returns those that are to be made ready now."""
        if not message.unready and message.chat not in self._lanes:
            self.due.append(message)
            return []
        lane = self._lanes.setdefault(message.chat, deque())
        lane.append(_Place(message, ready=not message.unready))
        return self._go_on(message.chat)

    def finished(self, message: Waiting) -> list[Waiting]:
        """It is ready, or never will be. Returns those that are to be made ready now."""
        for place in self._lanes[message.chat]:
            if place.message is message:
                place.ready = True
        return self._go_on(message.chat)

    def _go_on(self, chat: str) -> list[Waiting]:
        lane = self._lanes[chat]
        while lane and lane[0].ready:
            self.due.append(lane.popleft().message)
        if not lane:
            del self._lanes[chat]
        under_way = sum(place.begun and not place.ready for place in lane)
        next_ones = [place for place in lane if not place.begun and not place.ready]
        begun = next_ones[: max(0, self.at_once - under_way)]
        for place in begun:
            place.begun = True
        return [place.message for place in begun]
