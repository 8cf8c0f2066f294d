"""Standard scenarios, in which the daemon is killed at every single point, and at pairs of points.

A scenario is a few minutes of a quiet world with one story in it. It is played once to count its
points; then once for each point, with a kill there.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Final

import attrs
import trio

from pynchy.model import MAIN_CONSOLE, ChatId
from tests.simulation.play import Verdict, play
from tests.simulation.world import Swarm, World

SOON: Final = 120  # points after the first kill in which a second one may come: a whole recovery
ONE, TWO = ChatId("1@g.us"), ChatId("2@g.us")
QUIET: Final = Swarm(
    groups=3, capacity=2, think=4.0, restart=0.5, silent=0.0, slow_start=0.2, slow_end=0.2
)


async def one_answer(world: World) -> None:
    world.say(MAIN_CONSOLE, "hello", asks=True)
    await trio.sleep(20)


async def a_follow_up(world: World) -> None:
    world.say(ONE, "some context", asks=False)
    world.say(ONE, "@Pynchy hello", asks=True)
    await trio.sleep(2)
    world.say(ONE, "@Pynchy and also", asks=True)
    await trio.sleep(20)


async def a_failure(world: World) -> None:
    world.plan += ["crashes", "provider"]
    world.say(ONE, "@Pynchy hello", asks=True)
    world.say(ONE, "@Pynchy anybody?", asks=True)
    await trio.sleep(60)


async def given_up(world: World) -> None:
    world.plan += ["crashes"] * 8
    world.say(ONE, "@Pynchy hello", asks=True)
    await trio.sleep(400)


async def giving_way(world: World) -> None:
    for chat in (MAIN_CONSOLE, ONE, TWO):
        world.say(chat, "@Pynchy hello", asks=True)
    await trio.sleep(15)
    world.say(MAIN_CONSOLE, "@Pynchy again", asks=True)
    await trio.sleep(30)


async def a_long_answer(world: World) -> None:
    world.plan += ["long"]
    world.say(ONE, "@Pynchy tell me all", asks=True)
    await trio.sleep(40)


async def a_doubtful_send(world: World) -> None:
    world.plan += ["doubt", "refuse"]
    world.say(ONE, "@Pynchy hello", asks=True)
    await trio.sleep(60)


async def an_engine_that_fails(world: World) -> None:
    world.plan += ["spawn", "spawn leaves"]
    world.say(ONE, "@Pynchy hello", asks=True)
    await trio.sleep(30)


async def an_agent_that_speaks(world: World) -> None:
    world.plan += ["says", "crashes"]
    world.say(ONE, "@Pynchy hello", asks=True)
    await trio.sleep(60)


async def an_agent_that_leaves(world: World) -> None:
    world.plan += ["early exit"] * 8
    world.say(ONE, "@Pynchy hello", asks=True)
    await trio.sleep(400)


async def a_stop_order(world: World) -> None:
    world.say(ONE, "@Pynchy hello", asks=True)
    await trio.sleep(2)
    world.stopped.add(ONE)
    world.say(ONE, "/stop", asks=False)
    world.say(ONE, "@Pynchy something else", asks=True)
    await trio.sleep(20)


async def an_orderly_restart(world: World) -> None:
    world.say(ONE, "@Pynchy hello", asks=True)
    await trio.sleep(2)
    world.terminate()
    await trio.sleep(3)
    world.say(ONE, "@Pynchy are you there", asks=True)
    await trio.sleep(30)


async def a_crowd(world: World) -> None:
    """More messages during one turn than a result can name."""
    world.say(ONE, "@Pynchy hello", asks=True)
    await trio.sleep(1)
    for number in range(150):
        world.say(ONE, f"@Pynchy and {number}", asks=True)
        await trio.sleep(0.01)
    await trio.sleep(30)


SCENARIOS: Final[tuple[Callable[[World], Awaitable[None]], ...]] = (
    one_answer,
    a_follow_up,
    a_failure,
    given_up,
    giving_way,
    a_long_answer,
    a_doubtful_send,
    an_engine_that_fails,
    an_agent_that_speaks,
    an_agent_that_leaves,
    a_stop_order,
    an_orderly_restart,
    a_crowd,
)


@attrs.frozen
class Crash:
    """One play of a scenario with kills."""

    scenario: int
    kill_at: tuple[int, ...]

    @property
    def name(self) -> str:
        points = "+".join(map(str, self.kill_at))
        return f"{SCENARIOS[self.scenario].__name__} {points}"


def play_crash(crash: Crash, *, home: Path, told: bool = False) -> Verdict:
    return play(
        crash.scenario,
        home=home,
        swarm=QUIET,
        kill_at=frozenset(crash.kill_at),
        script=SCENARIOS[crash.scenario],
        told=told,
    )


def points(scenario: int, *, home: Path) -> int:
    """How many points a scenario has. Raises if it fails without any kill."""
    verdict = play_crash(Crash(scenario, ()), home=home)
    if verdict.violations:
        raise AssertionError(f"{SCENARIOS[scenario].__name__}: {verdict.violations}")
    return verdict.points


def singles(*, home: Path) -> Iterator[Crash]:
    """Every single point of every scenario."""
    for scenario in range(len(SCENARIOS)):
        for point in range(1, points(scenario, home=home) + 1):
            yield Crash(scenario, (point,))


def pairs(count: int, *, home: Path, seed: int) -> Iterator[Crash]:
    """So many random pairs: a second kill soon after the first, often during the recovery from it."""
    dice = random.Random(f"pairs {seed}")
    ends = [points(scenario, home=home) for scenario in range(len(SCENARIOS))]
    for _ in range(count):
        scenario = dice.randrange(len(SCENARIOS))
        first = dice.randint(1, ends[scenario])
        yield Crash(scenario, (first, first + dice.randint(1, SOON)))


def all_pairs(*, home: Path) -> Iterator[Crash]:
    """Every pair of which the second kill comes soon after the first: some hundred thousand."""
    for crash in singles(home=home):
        (first,) = crash.kill_at
        for after in range(1, SOON + 1):
            yield Crash(crash.scenario, (first, first + after))
