"""The types that action handlers share: a permitted command, its context, and its possible outcomes.

The rule that keeps it so: facts only; what a command does is in the module of its subject.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import attrs

from pynchy.actions.effects import Awaits, Delegated, Effects, Stopped
from pynchy.ipc.files import Staged, Unfit
from pynchy.model import Group, GroupId, Micros
from pynchy.policy.effect_limits import UNBOUNDED, Bounds
from pynchy.policy.tools import Caller
from pynchy.store.database import Database, NewId


@attrs.frozen
class Done:
    """What came of a command.

    ``speaks``: there is something new in the outbox. ``schedules``: tasks were made or changed, and
    ``due`` names a group that has one to run. ``fresh``: it was carried out now, and not before.
    ``paused`` says of a group whether it is paused now, ``removed`` that one is gone, ``outdated`` that
    runs of one are begun with something else from now on.
    ``refreshes``: channels are to say anew which groups there are.
    ``delegated`` is a helper to be started. ``awaits``: this is not the answer yet, see `later`; it is
    what a second delivery is told.
    ``wakes`` names a group that has a new turn, besides messages.
    ``offence`` is a word for the audit if the command should never have been given.
    """

    ok: bool
    text: str
    speaks: bool = False
    schedules: bool = False
    due: GroupId | None = None
    paused: tuple[GroupId, bool] | None = None
    removed: GroupId | None = None
    outdated: GroupId | None = None
    fresh: bool = False
    refreshes: bool = False
    delegated: Delegated | None = None
    awaits: Awaits | None = None
    wakes: GroupId | None = None
    offence: str | None = None

    @property
    def effects(self) -> Effects:
        """What follows, apart from the answer."""
        gone = () if self.removed is None else (self.removed,)
        group, pausing = self.paused or (None, False)
        changed = () if group is None else (group,)
        return Effects(
            speaks=self.speaks,
            schedules=self.schedules,
            refreshes=self.refreshes,
            registered=self.ok and self.fresh,
            look=() if self.wakes is None else (self.wakes,),
            due=() if self.due is None else (self.due,),
            paused=changed if pausing else (),
            resumed=() if pausing else changed,
            removed=gone,
            outdated=() if self.outdated is None else (self.outdated,),
            stopped=tuple(Stopped(each) for each in gone),
            delegated=() if self.delegated is None else (self.delegated,),
        )


@contextmanager
def undone_if_refused(db: Database) -> Iterator[None]:
    """What is refused has written nothing, wherever in the handler the refusal came from."""
    db.execute("SAVEPOINT command")
    try:
        yield
    except BaseException:
        db.execute("ROLLBACK TO command")
        raise
    finally:
        db.execute("RELEASE command")


Scaffold = Callable[[Group], None]
"""Makes the folders of a group that is being registered, see `container.folders.scaffold`."""


def no_folders(group: Group) -> None:
    """Where groups are rows alone."""


@attrs.frozen
class Call:
    """A command that passed the table, with everything that its handler may need."""

    db: Database
    caller: Caller
    args: Mapping[str, Any]
    now: Micros
    new_id: NewId
    file: Staged | Unfit | None
    timezone: str = "UTC"
    scaffold: Scaffold = no_folders
    bounds: Bounds = UNBOUNDED
