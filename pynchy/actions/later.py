"""Wait for a person or a helper, for a command that is answered later.

Procedure over rows. What is waited for stands in the store; a bell says only "look again", so one rung
too often, or before anybody listens, changes nothing. The rule that keeps it so: whether a call still
waits is decided by the store, in one transaction with what follows from it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import attrs
import trio

from pynchy.actions.call import Done
from pynchy.actions.effects import Awaits
from pynchy.actions.waiting import ASKED
from pynchy.model import TurnId
from pynchy.store import delegates, questions
from pynchy.store.database import Store


@attrs.define(eq=False)
class Bells:
    """One bell for each thing that is waited for."""

    _bells: dict[Awaits, trio.Event] = attrs.field(init=False, factory=dict)
    _listeners: Counter[Awaits] = attrs.field(init=False, factory=Counter)

    def ring(self, what: Awaits) -> None:
        """Let whoever waits for this look again."""
        if (bell := self._bells.pop(what, None)) is not None:
            bell.set()

    def next(self, what: Awaits) -> trio.Event:
        """Set by the next ring after this. Ask for it before the look that it is to repeat."""
        return self._bells.setdefault(what, trio.Event())

    @contextmanager
    def listening(self, what: Awaits) -> Iterator[None]:
        """Somebody waits for this; the bell goes when the last of them has."""
        self._listeners[what] += 1
        try:
            yield
        finally:
            self._listeners[what] -= 1
            if not self._listeners[what]:
                del self._listeners[what]
                self._bells.pop(what, None)


async def answer(store: Store, bells: Bells, what: Awaits) -> Done:
    """Wait for what a command waits for, and give the command's answer."""
    with bells.listening(what):
        match what.kind:
            case "answer":
                return await _persons(store, bells, what)
            case "delegate":
                return await _helpers(store, bells, what)


async def _persons(store: Store, bells: Bells, what: Awaits) -> Done:
    with trio.move_on_after(questions.PATIENCE):
        while True:
            bell = bells.next(what)
            asked = await store.call(questions.get, what.id)
            if asked is None or asked.state != "waiting":
                break
            await bell.wait()
    asked = await store.call(questions.wait_no_longer, what.id)
    if asked is None or asked.state == "dropped":
        return Done(ok=False, text="the question was withdrawn: it was stopped, or another asked")
    if asked.answer is None or asked.woke is not None:
        return Done(ok=True, text=ASKED)
    return Done(ok=True, text=f"{asked.sender_name or 'somebody'} answered: {asked.answer}")


async def _helpers(store: Store, bells: Bells, what: Awaits) -> Done:
    while True:
        bell = bells.next(what)
        came = await store.call(delegates.outcome, TurnId(int(what.id)))
        if came is not None:
            return Done(ok=came.ok, text=came.text)
        await bell.wait()
