"""Who acts: the owner, a person in a chat, or a group's agent.

The rule that keeps it so: an actor is made from where a request arrived and from our own rows, never from what
the request says about itself.
"""

from __future__ import annotations

from typing import Final, Literal

import attrs

from pynchy.model import ChatId, GroupId, RunId, TurnId


@attrs.frozen
class Actor:
    """Who acts. ``name`` stands in the audit: "owner", the id of a sender, "agent of FOLDER".

    ``folder`` is the group in which they act, None for the owner outside of any. ``trusted``: may do what is kept
    for main and those whom main trusts. ``chat``, ``run``, ``turn`` are where an agent, or a person, speaks;
    ``steps`` is how far an agent's turn is from a person's word, ``depth`` how many helpers stand above it.
    """

    kind: Literal["owner", "person", "agent"]
    name: str
    folder: GroupId | None = None
    is_main: bool = False
    trusted: bool = False
    chat: ChatId | None = None
    run: RunId | None = None
    turn: TurnId | None = None
    steps: int = 0
    depth: int = 0

    def reaches(self, folder: GroupId) -> bool:
        """Whether what belongs to this group may be seen and changed."""
        return self.folder == folder or self.reaches_all

    @property
    def reaches_all(self) -> bool:
        """Whether what belongs to any group may be seen and changed."""
        return self.kind == "owner" or (self.is_main and self.trusted)


#: Whoever reaches the control socket, or types in the owner's terminal.
OWNER: Final = Actor("owner", "owner", trusted=True)
