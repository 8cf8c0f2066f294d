"""The types that action handlers share: a permitted command, its context, and its possible outcomes.

The rule that keeps it so: facts only; what a command does is in the module of its subject.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import attrs

from pynchy.actions.actor import Actor
from pynchy.actions.effects import NOTHING, Awaits, Effects
from pynchy.model import Group, GroupId, Micros, RunId, Staged, Unfit
from pynchy.policy.effect_limits import UNBOUNDED, Bounds
from pynchy.policy.tools import Caller
from pynchy.schedule.times import spell
from pynchy.store.database import Tx
from pynchy_agent import wire


@attrs.frozen
class Done:
    """What came of an agent's command: the answer, and what follows from it.

    ``fresh``: it was carried out now, and not before. ``awaits``: this is not the answer yet, see `later`; it is
    what a second delivery is told. ``offence`` is a word for the audit if the command should never have been given.
    """

    ok: bool
    text: str
    effects: Effects = NOTHING
    fresh: bool = False
    awaits: Awaits | None = None
    offence: str | None = None

    @classmethod
    def now(cls, text: str, effects: Effects = NOTHING, awaits: Awaits | None = None) -> Done:
        """It was carried out, now."""
        return cls(ok=True, text=text, effects=effects, fresh=True, awaits=awaits)


Scaffold = Callable[[Group], None]
"""Makes the folders of a group that is being registered, see `container.folders.scaffold`."""


def no_folders(group: Group) -> None:
    """Where groups are rows alone."""


@attrs.frozen
class Host:
    """What the machine has for commands: the people's time zone, what makes a group's folders, the bounds on what an
    agent does by itself, and whether the model API may search the web."""

    timezone: str = "UTC"
    scaffold: Scaffold = no_folders
    bounds: Bounds = UNBOUNDED
    searches: bool = True


HOST: Final = Host()


@attrs.frozen
class Given:
    """A command as it arrived in a group's folder. ``file`` is what it wants to send, if it does; ``found`` what
    its search came to, if it is one."""

    command: wire.Command
    folder: GroupId
    run: RunId
    id: str
    sha256: str
    file: Staged | Unfit | None = None
    found: Done | None = None


@attrs.frozen
class Call:
    """A command that passed the table, with everything that its handler may need."""

    tx: Tx
    caller: Caller
    args: Mapping[str, Any]
    file: Staged | Unfit | None = None
    host: Host = HOST

    def spell(self, at: Micros) -> str:
        """A moment, in the people's time."""
        return spell(at, self.host.timezone)

    @property
    def actor(self) -> Actor:
        """The agent that gives it."""
        return Actor.agent(self.caller)
