"""Which groups are held back because their agents did too much by themselves.

The rule: a group that comes to more than its bounds is held back by a row, through restarts, until a person
lets it go on. Main is told once, in the transaction that writes the row. People are answered all the while.
"""

from __future__ import annotations

import attrs

from pynchy.model import GroupId, Micros
from pynchy.policy.effect_limits import Bounds, Kind, told_to_main
from pynchy.store import audit, effect_counts, notices
from pynchy.store.database import Database, NewId


@attrs.frozen
class Held:
    """A group is held back. ``told``: since now, and main was told."""

    kind: Kind
    told: bool = False


def held(
    db: Database, folder: GroupId, kind: Kind, *, bounds: Bounds, now: Micros, new_id: NewId
) -> Held | None:
    """Whether the group may do one more thing of a kind now; if not, why. From the first time on that it may
    not, it is held back, and main knows."""
    row = db.execute("SELECT kind FROM breakers WHERE folder = ?", (folder,)).fetchone()
    if row is not None:
        return Held(row[0])
    kinds: tuple[Kind, ...] = (kind, "tokens") if kind == "turns" else (kind,)
    for each in kinds:
        bound = bounds.of(each)
        if bound and effect_counts.done(db, folder, each, now=now) >= bound:
            _hold_back(db, folder, each, bound, now=now, new_id=new_id)
            return Held(each, told=True)
    return None


def _hold_back(
    db: Database, folder: GroupId, kind: Kind, bound: int, *, now: Micros, new_id: NewId
) -> None:
    db.execute("INSERT INTO breakers (folder, kind, at) VALUES (?, ?, ?)", (folder, kind, now))
    detail = {"kind": kind, "limit": bound}
    audit.record(db, actor="host", action="group held back", folder=folder, detail=detail, now=now)
    text = told_to_main(folder, kind, bound)
    notices.tell_main(db, text, now=now, new_id=new_id)


def held_back(db: Database) -> dict[GroupId, Kind]:
    """The groups that are held back, and for what."""
    return {GroupId(row[0]): row[1] for row in db.execute("SELECT folder, kind FROM breakers")}


def let_go_on(db: Database, folder: GroupId, *, by: str, now: Micros) -> bool:
    """A person lets a group go on, with a new count; False if it was not held back."""
    gone = db.execute("DELETE FROM breakers WHERE folder = ?", (folder,)).rowcount == 1
    if gone:
        effect_counts.begin_anew(db, folder, now=now)
        audit.record(db, actor=by, action="group let go on", folder=folder, now=now)
    return gone
