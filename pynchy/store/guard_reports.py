"""Record what the mount and network guards report: an audit row, and a notice if someone must act.

The rule: every decision against a run has an audit row, written in the transaction that tells people of it. People
hear of one kind of trouble once within its cooldown.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

from pynchy.model import GroupId, Micros, RunId
from pynchy.policy import wording
from pynchy.store import audit, groups, notices
from pynchy.store.database import Tx


def mounts_refused(
    tx: Tx, *, folder: GroupId, run: RunId, refused: Sequence[tuple[str, str]]
) -> bool:
    """Mounts (name, reason) that a run goes on without; main is told, once for these until something about them
    changes. Whether it was told now."""
    for name, reason in refused:
        audit.record(
            tx,
            actor="daemon",
            action="mount refused",
            folder=folder,
            detail={"run": run, "mount": name, "reason": reason[:300]},
        )
    chat = groups.main_chat(tx)
    if chat is None:
        return False
    shown = "".join(sorted(f"{name}\0{reason}\0" for name, reason in refused))
    kind = f"mounts of {folder}: {sha256(shown.encode()).hexdigest()[:16]}"
    tx.execute(
        "DELETE FROM notices WHERE chat = ? AND class GLOB ? AND class <> ?",
        (chat, f"mounts of {folder}: *", kind),
    )
    if not refused:
        return False
    text = wording.mounts_refused(folder, refused)
    return notices.tell_once(tx, chat, kind, text, since=Micros(0))


def budget_used_up(tx: Tx, *, folder: GroupId, run: RunId, reason: str) -> None:
    """A budget is used up. Whoever asked hears of it when the turn that needs it fails."""
    audit.record(
        tx,
        actor="gateway",
        action="budget used up",
        folder=folder,
        detail={"run": run, "reason": reason[:300]},
    )


def egress_refused(tx: Tx, *, folder: GroupId, run: RunId, what: str, times: int) -> None:
    """A run was refused something by the gateway, so many times."""
    audit.record(
        tx,
        actor=f"agent of {folder}",
        action="gateway refused",
        folder=folder,
        detail={"run": run, "what": what[:300], "count": times},
    )
