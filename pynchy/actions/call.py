"""A command that passed the table, and what can come of it: the nouns of the handlers.

The rule that keeps it so: facts only; what a command does is in the module of its subject.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

import attrs

from pynchy.ipc.files import Staged, Unfit
from pynchy.model import Group, GroupId, Micros, TurnId
from pynchy.policy.effect_limits import UNBOUNDED, Bounds
from pynchy.policy.tools import Caller
from pynchy.store.database import Database, NewId


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


class Refused(Exception):
    """The command is not carried out; the text is for the agent to read. No row was written."""


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
