"""What follows from an act once its transaction is committed.

The rule that keeps it so: facts only, which can be compared and added up; `daemon.effects` carries them out.
"""

from __future__ import annotations

from typing import Any, Final, Literal

import attrs

from pynchy.model import GroupId, TurnId, TurnTold


@attrs.frozen
class Awaits:
    """What the answer of a command waits for: a question's ``id``, or that of a helper's turn."""

    kind: Literal["answer", "delegate"]
    id: str


@attrs.frozen
class Delegated:
    """A helper was asked for: its turn, and the turn of the helper that asked, if one did."""

    group: GroupId
    turn: TurnId
    parent: TurnId | None
    waits: bool


@attrs.frozen
class Stopped:
    """The runs of a group are to end. ``told`` is what became of turns that no run holds; of the others their
    runs tell, at their end."""

    group: GroupId
    told: tuple[TurnTold, ...] = ()


@attrs.frozen
class Effects:
    """What follows from one act, or from several: ``a + b`` is both.

    ``speaks``: there is something new in the outbox. ``schedules``: tasks were made or changed, or may run again.
    ``refreshes``: channels are to say anew which groups there are. ``registered``: other chats are answered now, or
    in another way. Of the groups named, ``look`` have something new to answer and ``due`` a task to run; ``paused``
    are served no more for now, ``resumed`` are again, ``removed`` are gone; runs of ``outdated`` ones would begin
    with something else from now on. A group whose runs have to end before it is removed is in ``stopped``, too.
    ``delegated`` are helpers to be started, ``answered`` calls that wait for what is there now.
    """

    speaks: bool = False
    schedules: bool = False
    refreshes: bool = False
    registered: bool = False
    look: tuple[GroupId, ...] = ()
    due: tuple[GroupId, ...] = ()
    paused: tuple[GroupId, ...] = ()
    resumed: tuple[GroupId, ...] = ()
    removed: tuple[GroupId, ...] = ()
    outdated: tuple[GroupId, ...] = ()
    stopped: tuple[Stopped, ...] = ()
    delegated: tuple[Delegated, ...] = ()
    answered: tuple[Awaits, ...] = ()

    def __add__(self, other: Effects) -> Effects:
        both: dict[str, Any] = {}
        for name in (field.name for field in attrs.fields(Effects)):
            mine, others = getattr(self, name), getattr(other, name)
            both[name] = mine or others if isinstance(mine, bool) else mine + others
        return Effects(**both)

    def __bool__(self) -> bool:
        """Whether anything follows."""
        return self != NOTHING


NOTHING: Final = Effects()
