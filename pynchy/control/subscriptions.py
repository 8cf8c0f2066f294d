"""The control op ``watch``: tell subscribers that something changed.

A client that watches is told ``{"event": "changed", "steps": […]}`` soon after anything changed that an
op would show, at most a few times a second, and asks for what it wants to see. Steps are what the
agents of runs under way said they do, a word or two each, never what was said in a chat.

Service. The rule that keeps it so: nothing here is kept for long or believed to be whole. A change may be told
twice and two as one; steps are the newest few of each run, and gone with it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final, NoReturn

import attrs
import trio

from pynchy.control.server import Client, op
from pynchy.model import GroupId, Micros

PAUSE: Final = 0.25  # seconds between two tellings
KEPT: Final = 20  # steps of one run
FRESH: Final = 100  # steps of one telling

RunKey = tuple[GroupId, str | None]
"""A group's run, or its helper's by the helper's id."""


@attrs.frozen
class Step:
    """Something a run does, in its agent's words."""

    run: RunKey
    at: Micros
    what: str

    def shown(self) -> dict[str, object]:
        group, helper = self.run
        return {"group": group, "helper": helper, "at": self.at, "what": self.what}


@attrs.define(eq=False)
class Watching:
    """Who watches, and what they have not been told yet."""

    _now: Callable[[], Micros]
    _clients: dict[Client, None] = attrs.field(factory=dict)
    _steps: dict[RunKey, deque[Step]] = attrs.field(factory=dict)
    _fresh: deque[Step] = attrs.field(factory=lambda: deque(maxlen=FRESH))
    _rung: trio.Event = attrs.field(factory=trio.Event)

    @op("watch")
    async def watch(self, client: Client) -> object:
        """From now on tell this client that something changed; the answer has the steps of the runs under way."""
        await trio.lowlevel.checkpoint()
        if client not in self._clients:
            self._clients[client] = None
            client.when_gone(lambda: self._clients.pop(client, None))
        return {"steps": [step.shown() for steps in self._steps.values() for step in steps]}

    # --- what the daemon says ---

    def changed(self) -> None:
        """Something that an op shows has changed. Costs nothing while nobody watches."""
        if self._clients:
            self._rung.set()

    def step(self, run: RunKey, what: str) -> None:
        """A run does something."""
        step = Step(run, self._now(), what)
        self._steps.setdefault(run, deque(maxlen=KEPT)).append(step)
        if self._clients:
            self._fresh.append(step)
            self._rung.set()

    def over(self, run: RunKey) -> None:
        """A run has ended, and what it did is no news any more."""
        self._steps.pop(run, None)
        self.changed()

    async def run(
        self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> NoReturn:
        """Tell them, as long as there is something to tell. Runs until cancelled."""
        task_status.started()
        while True:
            await self._rung.wait()
            self._rung = trio.Event()
            fresh = [step.shown() for step in self._fresh]
            self._fresh.clear()
            for client in list(self._clients):
                client.tell({"event": "changed", "steps": fresh})
            await trio.sleep(PAUSE)  # what comes meanwhile is told at once, as one
