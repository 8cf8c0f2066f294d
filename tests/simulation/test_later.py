"""A call that waits for a person: the bell, the two minutes, and who gets an answer that comes just then."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from pynchy.actions import later
from pynchy.actions.call import Done
from pynchy.actions.effects import Awaits
from pynchy.actions.later import Bells
from pynchy.store import questions
from tests.rules.test_store_waiting import Asking, ask

T = TypeVar("T")


class Inline:
    """The store as the procedure calls it, with no thread."""

    def __init__(self, asking: Asking) -> None:
        self._db = asking.world.db

    async def call(self, function: Callable[..., T], *args: Any, **more: Any) -> T:
        await trio.lowlevel.checkpoint()
        return function(self._db, *args, **more)


def answered(
    said: str | None, *, after: float, by_clock: bool = False, rings: bool = True
) -> tuple[Asking, Done]:
    """What a call gets if somebody says ``said`` so many seconds after its question."""
    asking = ask("Tea", "Coffee")
    what = Awaits("answer", asking.id)
    bells = Bells()
    got: list[Done] = []

    async def main() -> None:
        async def call() -> None:
            got.append(await later.answer(Inline(asking), bells, what))  # type: ignore[arg-type]

        async with trio.open_nursery() as nursery:
            nursery.start_soon(call)
            await wait_all_tasks_blocked()
            await trio.sleep(after)
            if by_clock:
                asking.world.passes(after)
            if said is not None:
                asking.hear(said)
            if rings:
                bells.ring(what)
        assert not bells._bells, "nobody listens any more"

    trio.run(main, clock=MockClock(autojump_threshold=0))
    return asking, got[0]


def test_the_call_answers_as_soon_as_somebody_has() -> None:
    _, done = answered("coffee", after=10)
    assert done == Done(ok=True, text="Anna answered: Coffee")


def test_a_bell_without_an_answer_changes_nothing() -> None:
    asking, done = answered(None, after=10)
    assert "You will be woken" in done.text
    assert asking.now().state == "open"
    assert asking.hear("tea").wakes


def test_an_answer_that_nobody_rang_for_is_found_at_the_end() -> None:
    # invariant 171
    _, done = answered("tea", after=10, rings=False)
    assert done.text == "Anna answered: Tea"


def test_an_answer_at_the_last_moment_goes_one_way_only() -> None:
    asking, done = answered("tea", after=questions.PATIENCE - 0.001, by_clock=True)
    woken = bool(asking.notices())
    assert woken == ("You will be woken" in done.text)
    assert woken != ("answered: Tea" in done.text)
