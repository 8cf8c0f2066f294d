"""The control op that shows the daemon's state."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Final

import attrs

import pynchy
from pynchy.actions import usage
from pynchy.control.ops.groups import shown_groups
from pynchy.control.ops.looking import bill_of
from pynchy.control.server import Client, op
from pynchy.limits import LISTS
from pynchy.model import GroupId, Micros
from pynchy.policy import failures
from pynchy.store import holds, messages, outbox, runs, turns
from pynchy.store.database import Store, Tx

PROTOCOL: Final = 1


@attrs.frozen
class Live:
    """What only the running daemon knows, at this moment."""

    runtime: str
    model: str
    queue: tuple[GroupId, ...]  # groups that wait for a slot, first come first
    channels: Mapping[str, str]  # name -> state
    warnings: tuple[str, ...] = ()  # what is wrong with what it stands on
    disk: Mapping[str, object] = attrs.field(factory=dict)  # how much room there is


@attrs.frozen
class StatusOps:
    """``live`` says what only the running daemon knows."""

    store: Store
    home: str
    assistant: str
    containers: int
    started_at: Micros
    live: Callable[[], Live]
    costs: usage.Terms = usage.NO_TERMS

    @op("status")
    async def status(self, client: Client) -> object:
        """How the daemon is, and what it is doing."""
        live = self.live()
        now, stored = await self.store.call(_stored, self.costs)
        return {
            "running": True,
            "protocol": PROTOCOL,
            "assistant": self.assistant,
            "version": pynchy.__version__,
            "pid": os.getpid(),
            "uptime": round((now - self.started_at) / 1e6, 1),
            "home": self.home,
            "containers": self.containers,
            **attrs.asdict(live),
            **stored,
        }


def _stored(tx: Tx, costs: usage.Terms) -> tuple[Micros, dict[str, object]]:
    shown = shown_groups(tx)
    return tx.now, {
        "groups": shown,
        "bills": [
            bill_of(tx, GroupId(str(each["folder"])), costs) for each in shown[: LISTS.bills]
        ],
        "runs": [
            {
                "run": run.id,
                "folder": run.folder,
                "kind": run.kind,
                "state": run.state,
                "seconds": round((tx.now - run.started_at) / 1e6, 1),
                "turns": [turn.id for turn in turns.held(tx, run.id)],
            }
            for run in runs.live(tx)
        ],
        "unanswered": messages.waiting_groups(tx),
        "retrying": turns.count_waiting(tx),
        "retries": turns.retried(tx, limit=LISTS.retries),
        "held": [_held(hold) for hold in holds.everything(tx)],
        "outbox": {"pending": 0, "sending": 0, "uncertain": 0} | outbox.open_by_state(tx),
    }


def _held(hold: holds.Hold) -> dict[str, object]:
    """What holds groups back, in words, and when it is tried again; ``at`` is null while that is being done, or where
    it waits for a change."""
    row = failures.row_of(hold.kind)
    waits = hold.prober is not None or row.again is failures.Again.CHANGE
    return {
        "scope": hold.scope,
        "kind": hold.kind,
        "words": row.status,
        "reason": hold.reason,
        "since": hold.since,
        "at": None if waits else hold.probe_at,
        "trying": hold.prober is not None,
    }
