"""How much a group's agents may do by themselves within an hour. Rules.

The rule that keeps it so: pure. The figures stand in the configuration (section ``effects``), what was
done stands in rows, and what was done is compared in one place, `store.breakers`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

import attrs

from pynchy.text.reply import NOTICE_PREFIX

Kind = Literal["turns", "messages", "files", "tokens"]

WORDS: Final[Mapping[Kind, str]] = {
    "turns": "turns that nobody asked for",
    "messages": "messages besides its answers",
    "files": "files sent",
    "tokens": "tokens of the model",
}


@attrs.frozen
class Bounds:
    """What one group may do within an hour; 0 is no limit. ``background``: whether there are slots for helpers
    that nobody waits for."""

    turns: int = 0
    messages: int = 0
    files: int = 0
    tokens: int = 0
    background: bool = True

    def of(self, kind: Kind) -> int:
        bound: int = getattr(self, kind)
        return bound


UNBOUNDED: Final = Bounds()


def told_to_main(folder: str, kind: Kind, bound: int) -> str:
    """What main hears when a group did too much."""
    return (
        f"{NOTICE_PREFIX}Group {folder} came to more than {bound} {WORDS[kind]} within an hour, so it is held back: "
        "its tasks do not run, and it sends nothing but answers to people. Look at its tasks "
        f"(pynchy tasks list {folder}) before you let it go on: /resume {folder}, or pynchy groups resume {folder}. "
        f"The limit is the setting effects.{kind}."
    )


def refusal(kind: Kind) -> str:
    """What its agent hears."""
    return (
        f"this group did too much by itself within an hour ({WORDS[kind]}) and is held back: nothing was done."
        " Answers to people still go out. The owner was told, and can let it go on; do not try again"
    )
