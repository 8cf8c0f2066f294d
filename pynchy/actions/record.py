"""Check who may act, and write the audit row."""

from __future__ import annotations

from typing import Final

from pynchy.actions.actor import Actor
from pynchy.actions.refused import Refused
from pynchy.model import GroupId
from pynchy.store import audit, groups
from pynchy.store.database import Tx


def note(tx: Tx, actor: Actor, action: str, folder: GroupId, **detail: object) -> None:
    """Write down who did what to a group; of an agent, in which run and turn, too. No secrets, no message text."""
    caller = actor.caller
    where = {} if caller is None else {"run": caller.run, "turn": caller.turn}
    audit.record(tx, actor=actor.name, action=action, folder=folder, detail={**detail, **where})


def check_reach(tx: Tx, actor: Actor, folder: GroupId) -> None:
    """Raise `Refused` if the actor has nothing to say in this group, or there is none of that folder."""
    if not actor.reaches(folder):
        raise Refused(_MAINS)
    _check_there(tx, folder)


def check_main(tx: Tx, actor: Actor, folder: GroupId) -> None:
    """Raise `Refused` if the actor may not do what is kept for main, or there is no group of that folder."""
    if not actor.reaches_all:
        raise Refused(_MAINS)
    _check_there(tx, folder)


_MAINS: Final = "only main may do that, in a turn that its owner or people they trust asked for"


def _check_there(tx: Tx, folder: GroupId) -> None:
    if groups.get(tx, folder) is None:
        raise Refused(f"{folder[:80]!r} is not a group", "unknown_group")
