"""Who acts: the owner, a person in a chat, or a group's agent.

The rule that keeps it so: an actor is made from where a request arrived and from our own rows, never from what
the request says about itself.
"""

from __future__ import annotations

from typing import Final, Literal

import attrs

from pynchy.model import ChatId, GroupId
from pynchy.policy.tools import Caller


@attrs.frozen
class Actor:
    """Who acts. ``name`` stands in the audit: "owner", the id of a sender, "agent of FOLDER".

    ``folder`` is the group in which they act, None for the owner outside of any. ``trusted``: may do what is kept
    for main and those whom main trusts. ``chat`` is where a person speaks, ``caller`` the run and turn of an agent.
    """

    kind: Literal["owner", "person", "agent"]
    name: str
    folder: GroupId | None = None
    is_main: bool = False
    trusted: bool = False
    chat: ChatId | None = None
    caller: Caller | None = None

    @classmethod
    def agent(cls, caller: Caller) -> Actor:
        """The agent of a run."""
        return cls(
            "agent",
            f"agent of {caller.folder}",
            folder=caller.folder,
            is_main=caller.is_main,
            trusted=caller.trusted,
            chat=caller.chat,
            caller=caller,
        )

    @property
    def steps(self) -> int:
        """How far this is from a person's word; 0 if a person asks for it."""
        return 0 if self.caller is None else self.caller.steps

    def reaches(self, folder: GroupId) -> bool:
        """Whether what belongs to this group may be seen and changed."""
        return self.folder == folder or self.reaches_all

    @property
    def reaches_all(self) -> bool:
        """Whether what belongs to any group may be seen and changed."""
        return self.kind == "owner" or (self.is_main and self.trusted)


#: Whoever reaches the control socket, or types in the owner's terminal.
OWNER: Final = Actor("owner", "owner", trusted=True)
