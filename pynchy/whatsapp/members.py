"""Who is in a group, as WhatsApp says now, and who may take back what others wrote there: its admins."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from functools import partial
from typing import Final, Protocol

import attrs

from pynchy.whatsapp.questions import NoAnswer, Questions

FRESH: Final = 60.0  # seconds that an answer is used for
WAIT: Final = 20.0  # seconds for an answer

_asked: Final = Questions(
    8, "too many other questions were not answered", about="who is in the group: "
)


class Unknown(Exception):
    """WhatsApp did not say who is in the group."""


@attrs.frozen
class Member:
    """A person in a group: all their ids."""

    ids: frozenset[str]
    admin: bool


class Directory(Protocol):
    """Who can be asked for the members of a group: the WhatsApp library."""

    def members(self, group: str) -> list[Member]: ...


def may_take_back(members: Collection[Member], who: str, author: str) -> bool:
    """Whether ``who`` may take back what ``author`` wrote: an admin, or the same person under another id."""
    return any(who in each.ids and (each.admin or author in each.ids) for each in members)


@attrs.define(eq=False)
class Members:
    """The members of groups. What was asked for lately is not asked for again."""

    _client: Callable[[], Directory]  # which waits for it to be connected, or raises
    _known: dict[str, tuple[float, Collection[Member]]] = attrs.field(factory=dict)

    def of(self, group: str) -> Collection[Member]:
        """Those of a group. Raises `Unknown`; takes no longer than `WAIT` once we are connected."""
        asked, found = self._known.get(group, (-FRESH, ()))
        if time.monotonic() - asked < FRESH:
            return found
        client = self._client()
        try:
            found = _asked.ask(partial(client.members, group), WAIT)
        except NoAnswer as none:
            raise Unknown(str(none)) from None
        self._known[group] = time.monotonic(), found
        return found
