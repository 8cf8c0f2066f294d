"""Which groups are held back because their agents did too much by themselves.

The rule: a group that comes to more than its bounds is held back by a row, through restarts, until a person
lets it go on. Main is told once, in the transaction that writes the row. People are answered all the while.
"""

from __future__ import annotations

import attrs

from pynchy.model import GroupId
from pynchy.policy.effect_limits import Bounds, Kind, told_to_main
from pynchy.store import audit, effect_counts, notices
from pynchy.store.database import Database, Tx
from pynchy.store.rows import column, read_one


@attrs.frozen
class Held:
    """A group is held back. ``told``: since now, and main was told."""

    kind: Kind
    told: bool = attrs.field(default=False, metadata=column("0"))


def held(tx: Tx, folder: GroupId, kind: Kind, *, bounds: Bounds) -> Held | None:
    """Whether the group may do one more thing of a kind now; if not, why. From the first time on that it may
    not, it is held back, and main knows."""
    known = read_one(tx, Held, "FROM breakers WHERE folder = ?", (folder,))
    if known is not None:
        return known
    kinds: tuple[Kind, ...] = (kind, "tokens") if kind == "turns" else (kind,)
    for each in kinds:
        bound = bounds.of(each)
        if bound and effect_counts.done(tx, folder, each) >= bound:
            _hold_back(tx, folder, each, bound)
            return Held(each, told=True)
    return None


def _hold_back(tx: Tx, folder: GroupId, kind: Kind, bound: int) -> None:
    tx.insert("breakers", folder=folder, kind=kind, at=tx.now)
    detail = {"kind": kind, "limit": bound}
    audit.record(tx, actor="host", action="group held back", folder=folder, detail=detail)
    notices.tell_main(tx, told_to_main(folder, kind, bound))


def held_back(db: Database) -> dict[GroupId, Kind]:
    """The groups that are held back, and for what."""
    return dict(db.execute("SELECT folder, kind FROM breakers").fetchall())


def let_go_on(tx: Tx, folder: GroupId) -> bool:
    """A person lets a group go on, with a new count; False if it was not held back."""
    gone = tx.execute("DELETE FROM breakers WHERE folder = ?", (folder,)).rowcount == 1
    if gone:
        effect_counts.begin_anew(tx, folder)
    return gone
