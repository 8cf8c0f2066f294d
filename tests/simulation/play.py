"""One play: a world, the daemon's lives in it, the people who talk to it, and the verdict.

The daemon is the real one: `pynchy.daemon.wiring.serve` with its services, queue, turns and store. Only the
edges are the world's.
"""

from __future__ import annotations

import math
import random
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Final

import attrs
import trio
from loguru import logger

from pynchy.clock import World as Surroundings
from pynchy.config.paths import Home
from pynchy.config.settings import Assistant, Config, Container, Limits
from pynchy.daemon import wiring
from pynchy.daemon.edges import Edges
from pynchy.model import MAIN, MAIN_CONSOLE, ChatId, GroupId, TaskId
from pynchy.policy.authority import OWNER
from pynchy.schedule.times import parse
from pynchy.store import groups, tasks
from pynchy.store.connection import StoreError
from pynchy.store.database import Opened, Store, Tx
from tests.simulation import oracle
from tests.simulation.engine import Hold, simulate
from tests.simulation.world import (
    INSTALL,
    Killed,
    Life,
    SimAgents,
    SimChannel,
    SimRuntime,
    Swarm,
    World,
)

HOUR: Final = 3600.0
AFTERMATH: Final = 6 * HOUR  # the longest that calm may take to come
QUIET_WEEKS: Final = 0.2  # of the worlds, those with days in them in which little happens

#: When a world begins: on some day, or half an hour before the clocks change in one of the zones.
BEGINNINGS: Final = (1_800_000_000, 1_805_005_800, 1_806_193_800, 1_824_942_600)
ZONES: Final = ("Europe/Berlin", "America/New_York")
SCHEDULES: Final = (
    ("interval", "300"),
    ("interval", "5400"),
    ("cron", "*/10 * * * *"),
    ("cron", "30 2 * * *"),
    ("cron", "15 * * * *"),
    ("cron", "0 7 * * mon-fri"),
)


@attrs.frozen
class Verdict:
    """What a play came to."""

    seed: int
    violations: tuple[str, ...]
    digest: str
    schedule: str
    hours: float
    events: int
    points: int
    kills: int
    lives: int
    asked: int
    story: tuple[str, ...] = ()


def draw_swarm(seed: int) -> Swarm:
    """Which faults exist in the world of this seed."""
    dice = random.Random(f"swarm {seed}")

    def some(chance: float, *strengths: float, none: float = 0.0) -> float:
        return dice.choice(strengths) if dice.random() < chance else none

    swarm = Swarm(
        hours=dice.choice([1.0, 2.0, 4.0]),
        groups=dice.choice([1, 2, 3, 6]),
        capacity=dice.choice([1, 1, 2, 3]),
        talk=dice.choice([60.0, 240.0, 900.0]),
        burst=dice.choice([0.0, 0.3]),
        answers=dice.choice([0.0, 0.5, 0.9]),
        think=dice.choice([2.0, 20.0, 60.0]),
        kill_every=some(0.5, 120.0, 600.0, 1800.0, none=math.inf),
        kill_point=some(0.3, 0.0005, 0.002),
        stop_every=some(0.3, 600.0, none=math.inf),
        restart=dice.choice([0.5, 5.0, 60.0]),
        lost_ack=some(0.4, 0.05, 0.3),
        redeliver=some(0.4, 0.05, 0.3),
        disconnect_every=some(0.4, 300.0, 1800.0, none=math.inf),
        refuse=some(0.4, 0.05, 0.3),
        poison=some(0.2, 0.02),
        doubt=some(0.4, 0.05, 0.3),
        deaf=some(0.2, 0.02),
        channel_knows=dice.random() < 0.5,
        slow_send=dice.choice([0.02, 0.5, 5.0]),
        crash=some(0.4, 0.05, 0.3),
        hang=some(0.2, 0.05),
        provider=some(0.4, 0.05, 0.3),
        silent=some(0.4, 0.1),
        garbage=some(0.3, 0.1),
        twice=some(0.3, 0.2),
        early_exit=some(0.3, 0.1),
        afterthought=some(0.3, 0.1),
        says=some(0.5, 0.3),
        spawn=some(0.3, 0.1),
        spawn_leaves=some(0.5, 0.5),
        slow_start=dice.choice([0.3, 3.0]),
        slow_end=dice.choice([0.1, 3.0]),
        survivors=dice.random() < 0.5,
        disk_full=some(0.2, 0.001),
        slow_disk=some(0.3, 0.02),
        clock_jump_every=some(0.3, 1200.0, none=math.inf),
        slow_task=some(0.5, 0.002, 0.02),
        stop_orders=some(0.3, 0.05),
        long=some(0.2, 0.1),
        tasks=dice.choice([0, 0, 1, 3, 6]),
        prewarm=random.Random(f"prewarm {seed}").choice([0, 0, 1, 2]),
        begins=dice.choice(BEGINNINGS),
        disorder=some(0.2, 0.1),
        orders_every=some(0.4, 300.0, 1200.0, none=math.inf),
        io_error=some(0.2, 0.001),
    )
    return _quiet(swarm, dice) if dice.random() < QUIET_WEEKS else swarm


def _quiet(swarm: Swarm, dice: random.Random) -> Swarm:
    """The same world with days in it in which little happens, as in a family's."""
    rarer = 60.0
    return attrs.evolve(
        swarm,
        hours=dice.choice([24.0, 72.0, 168.0]),
        talk=dice.choice([3 * HOUR, 12 * HOUR]),
        kill_every=swarm.kill_every * rarer,
        stop_every=swarm.stop_every * rarer,
        disconnect_every=swarm.disconnect_every * rarer,
        clock_jump_every=swarm.clock_jump_every * rarer,
        orders_every=swarm.orders_every * rarer,
        look=30.0,
    )


def play(
    seed: int,
    *,
    home: Path,
    swarm: Swarm | None = None,
    kill_at: frozenset[int] = frozenset(),
    public: bool = False,
    traced: bool = False,
    told: bool = False,
    script: Callable[[World], Awaitable[None]] | None = None,
) -> Verdict:
    """Play a seed to its end. ``kill_at`` names points at which the daemon dies; ``script`` takes
    the place of the people (it is an async function of the world)."""
    swarm = swarm if swarm is not None else draw_swarm(seed)
    world = World(seed=seed, swarm=swarm, home=home)
    world.kill_at = kill_at
    world.told_story = script is not None
    if told:
        world.story = []
    hold = None
    if swarm.slow_task > 0 and not public:
        hold = Hold(chance=swarm.slow_task, means=(0.005, 0.2, 1.5))
    if not told:
        logger.disable("pynchy")
    try:
        ran = simulate(
            partial(_Play(world, script).run), seed=seed, hold=hold, public=public, traced=traced
        )
    finally:
        logger.enable("pynchy")
        world.db.close()
    return Verdict(
        seed=seed,
        violations=tuple(world.violations),
        digest=world.digest.hexdigest(),
        schedule=ran.schedule,
        hours=ran.seconds / HOUR,
        events=world.events,
        points=world.points,
        kills=world.kills,
        lives=world.lives,
        asked=len(world.asked),
        story=tuple(world.story or ()),
    )


def make_home(root: Path) -> Path:
    """What the daemon looks for on disk: its id and nothing else."""
    home = Home(root)
    home.install_id.parent.mkdir(parents=True, exist_ok=True)
    home.install_id.write_text(INSTALL + "\n", encoding="ascii")
    return root


class _Play:
    def __init__(self, world: World, script: Callable[[World], Awaitable[None]] | None) -> None:
        self.world = world
        self.swarm = world.swarm
        self.script = script
        self.watch = oracle.Watch(world)
        self.chats: list[ChatId] = []
        self.answers: dict[ChatId, str] = {}  # what the groups of these chats answer; else all
        self.resting: set[str] = set()  # groups that were told to
        self.stopping = False
        self.stopped = trio.Event()
        self.config = Config(
            home=Home(world.home),
            assistant=Assistant(name="Pynchy", timezone="UTC"),
            container=Container(prewarm=world.swarm.prewarm),
            limits=Limits(containers=world.swarm.capacity),
        )

    async def run(self) -> None:
        self._set_up()
        async with trio.open_nursery() as nursery:
            self.world.nursery = nursery
            async with trio.open_nursery() as fates:
                fates.start_soon(self._lives, name="lives")
                fates.start_soon(self._watch, name="watch")
                if self.script is not None:
                    await self.script(self.world)
                else:
                    await self._busy_hours()
                self.world.calm = True
                self.world.note("calm")
                await self._unschedule()
                await self._until_settled()
                await self._stop()
                fates.cancel_scope.cancel()
            nursery.cancel_scope.cancel()
        oracle.judge(self.world)

    def _set_up(self) -> None:
        world, db = self.world, self.world.db
        groups.ensure_main(Tx(db, world.now()), name="Main", trigger="Pynchy")
        groups.add_chat(db, MAIN, ChatId("4900@s.whatsapp.net"))
        self.chats = [ChatId("4900@s.whatsapp.net"), MAIN_CONSOLE]
        for number in range(1, self.swarm.groups):
            chats = [ChatId(f"{number}@g.us")]
            if number == 2:
                chats.append(ChatId(f"{number}00@g.us"))
            groups.register(
                Tx(db, world.now()),
                folder=GroupId(f"group{number}"),
                name=f"Group {number}",
                chats=tuple(chats),
                trigger="Pynchy",
                requires_trigger=True,
            )
            self.chats += chats
            answers = oracle.LADDER[number % 3]
            groups.update(db, GroupId(f"group{number}"), called_by=answers)
            self.answers |= dict.fromkeys(chats, answers)

        self._schedule()

    def _schedule(self) -> None:
        world, dice = self.world, self.world.dice("tasks")
        for number in range(self.swarm.tasks):
            folder, chat = dice.choice(
                world.db.execute(
                    "SELECT folder, chat FROM chats WHERE folder IS NOT NULL"
                ).fetchall()
            )
            kind, value = dice.choice(SCHEDULES)
            zone = dice.choice(ZONES)
            tasks.create(
                Tx(world.db, world.now()),
                tasks.Order(
                    id=TaskId(f"t{number}"),
                    folder=folder,
                    chat=chat,
                    prompt=f"Brief us [t{number}]",
                    schedule=parse(kind, value, timezone=zone, now=world.now(), from_main=True),
                    context=dice.choice(("group", "isolated")),
                    catch_up=dice.choice(("coalesce", "skip")),
                    creator=OWNER,
                ),
            )

    async def _unschedule(self) -> None:
        """Nothing falls due any more, once the daemon had the time to see to what was due so far."""
        up = 0
        while up < 3:
            await trio.sleep(60)
            life = self.world.life
            up = up + 1 if life is not None and life.is_up and not life.dead else 0
        self.world.tasks_paused = self.world.now()
        self.world.db.execute(
            "UPDATE tasks SET state = 'paused', reason = 'calm', next_run = NULL "
            "WHERE state = 'active'"
        )

    # --- people and weather ---

    async def _busy_hours(self) -> None:
        async with trio.open_nursery() as nursery:
            for chat in self.chats:
                nursery.start_soon(self._person, chat, name=f"person in {chat}")
                nursery.start_soon(self._answerer, chat, name=f"answerer in {chat}")
            nursery.start_soon(self._orders, name="orders")
            nursery.start_soon(self._kills, name="kills")
            nursery.start_soon(self._stops, name="stops")
            nursery.start_soon(self._disconnects, name="disconnects")
            nursery.start_soon(self._clock_jumps, name="clock jumps")
            await trio.sleep(self.swarm.hours * HOUR)
            nursery.cancel_scope.cancel()
        for folder in self.resting:
            self.world.say(MAIN_CONSOLE, f"/resume {folder}", asks=False)

    async def _person(self, chat: ChatId) -> None:
        dice = self.world.dice(f"person {chat}")
        while True:
            await trio.sleep(dice.expovariate(1 / self.swarm.talk))
            count = dice.randint(2, 5) if dice.random() < self.swarm.burst else 1
            for _ in range(count):
                if self.world.happens("stop orders", self.swarm.stop_orders):
                    self._order(chat, "/stop")
                    continue
                main = chat in self.chats[:2]
                asks = main or dice.random() >= self.swarm.context
                self._speak(chat, asks=asks)
                await trio.sleep(dice.random() * 2)

    def _speak(self, chat: ChatId, *, asks: bool) -> None:
        """Say something that asks this chat's group something, or does not, in one of the ways people have."""
        dice, shown = self.world.dice(f"ways {chat}"), self.world.phones.get(chat)
        ways = oracle.ways(self.answers.get(chat, "all"), asking=asks, spoke=bool(shown))
        text, quotes = dice.choice(ways)
        ours = shown[-1].id if shown else ""
        self.world.say(
            chat, text, asks=asks, quotes={"ours": ours, "theirs": "3EB0AA"}.get(quotes, "")
        )

    def _order(self, chat: ChatId, text: str) -> None:
        """An order that ends what its group is at: in whichever of its chats."""
        rows = self.world.db.execute(
            "SELECT chat FROM chats WHERE folder = (SELECT folder FROM chats WHERE chat = ?)",
            (chat,),
        )
        self.world.stopped.update(row[0] for row in rows)
        self.world.say(chat, text, asks=False)

    async def _orders(self) -> None:
        """Conversations begin anew, are shortened, and groups are told to rest for a while."""
        dice = self.world.dice("orders")
        while self.swarm.orders_every < math.inf:
            await trio.sleep(dice.expovariate(1 / self.swarm.orders_every))
            match dice.choice(("new", "compact", "rest")):
                case "new":
                    self._order(dice.choice(self.chats), "/new")
                case "compact":
                    self.world.say(dice.choice(self.chats), "/compact", asks=False)
                case "rest" if self.swarm.groups > 1:
                    folder = f"group{dice.randrange(1, self.swarm.groups)}"
                    self.resting.add(folder)
                    self.world.say(MAIN_CONSOLE, f"/pause {folder}", asks=False)
                    await trio.sleep(dice.expovariate(1 / 300))
                    self.world.say(MAIN_CONSOLE, f"/resume {folder}", asks=False)
                    self.resting.discard(folder)

    async def _answerer(self, chat: ChatId) -> None:
        """A person who answers what they see, exactly when wake-ups get lost."""
        dice = self.world.dice(f"answerer {chat}")
        while True:
            bell = self.world.talk_bell[chat] = trio.Event()
            await bell.wait()
            if dice.random() < self.swarm.answers:
                await trio.sleep(dice.choice([0.0, dice.random() * 0.1, dice.random() * 2]))
                self.world.say(chat, "@Pynchy and", asks=True)
            await trio.sleep(dice.random() * self.swarm.talk / 2)

    async def _kills(self) -> None:
        dice = self.world.dice("killer")
        while self.swarm.kill_every < math.inf:
            await trio.sleep(dice.expovariate(1 / self.swarm.kill_every))
            if (life := self.world.life) is not None and not life.dead:
                life.kill("from outside")

    async def _stops(self) -> None:
        dice = self.world.dice("stopper")
        while self.swarm.stop_every < math.inf:
            await trio.sleep(dice.expovariate(1 / self.swarm.stop_every))
            self.world.terminate()

    async def _disconnects(self) -> None:
        dice = self.world.dice("disconnects")
        while self.swarm.disconnect_every < math.inf:
            await trio.sleep(dice.expovariate(1 / self.swarm.disconnect_every))
            logged_out = dice.random() < 0.1  # until somebody pairs it again
            for up in (False, True):
                for channel in self.world.channels:
                    if channel.faulty:
                        channel.drop(up=up, logged_out=logged_out)
                        self.world.note("connected" if up else "disconnected", logged_out)
                if not up:
                    away = 1800 if logged_out else 60
                    await trio.sleep(dice.choice([0.1, dice.expovariate(1 / away)]))

    async def _clock_jumps(self) -> None:
        dice = self.world.dice("clock")
        while self.swarm.clock_jump_every < math.inf:
            await trio.sleep(dice.expovariate(1 / self.swarm.clock_jump_every))
            self.world.jumped = trio.current_time()
            self.world.offset += dice.choice([-3600, -10, 10, 3600])
            self.world.note("clock", self.world.offset)

    # --- the daemon ---

    async def _lives(self) -> None:
        world = self.world
        while True:
            world.lives += 1
            life = world.life = Life(world)
            world.note("boot", world.lives)
            with life.scope:
                try:
                    await self._live(life)
                except* Killed:
                    pass
                except* StoreError as group:
                    world.note("fell", group.exceptions[0])
            clean = not life.dead and not life.scope.cancelled_caught and life.ended
            self._part_from(life, clean=clean)
            if self.stopping and clean:
                self.stopped.set()
                return
            await trio.sleep(world.dice("restart").expovariate(1 / self.swarm.restart))

    async def _live(self, life: Life) -> None:
        world = self.world
        runtime = SimRuntime(life)
        world.channels = [
            SimChannel(life, "whatsapp", faulty=True),
            SimChannel(life, "console", faulty=False),
        ]

        def ready() -> None:
            life.is_up = True
            world.note("ready")

        world.signals, signals = trio.open_memory_channel[int](10)
        store = Store(Opened(world.db), life.run_sync, now=world.now, new_id=world.new_id)
        edges = Edges(
            store,
            runtime,  # type: ignore[arg-type]
            {channel.name: channel for channel in world.channels},
            SimAgents(life, runtime, store, self.config.limits.stop_grace),
            Surroundings(now=world.now, new_id=world.new_id, jitter=world.jitter),
            "simulated",
            renewal=self._renewal,
        )
        await wiring.serve(self.config, edges, signals=signals, ready=ready)
        life.ended = True

    async def _renewal(
        self,
        *,
        changed: Callable[[], Awaitable[None]],
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """In place of the service that takes up a new key."""
        task_status.started()
        while True:
            await self.world.renewed.wait()
            self.world.renewed = trio.Event()
            await changed()

    def _part_from(self, life: Life, *, clean: bool) -> None:
        world = self.world
        world.signals = None
        world.note("life over", life.number, "cleanly" if clean else "badly")
        mine = [box for box in world.alive() if box.life == life.number]
        if clean and mine:
            world.violated(f"I7: {len(mine)} containers left by a daemon that stopped in order")
        life.dead = True
        life.over.set()
        if not self.swarm.survivors:
            for box in mine:
                world.end_box(box, 137)

    async def _watch(self) -> None:
        while True:
            await trio.sleep(self.swarm.look)
            self.watch.look()

    async def _until_settled(self) -> None:
        for channel in self.world.channels:
            if not channel.connected:
                channel.drop(up=True)
        end = trio.current_time() + AFTERMATH
        while trio.current_time() < end and not self.world.violations:
            await trio.sleep(30)
            if oracle.settled(self.world):
                return
        if not self.world.violations:
            self.world.violated("I2: calm never came")

    async def _stop(self) -> None:
        """Stop in order. If the daemon dies over it, it is started and stopped once more."""
        self.stopping = True
        with trio.move_on_after(AFTERMATH):
            while not self.stopped.is_set():
                await trio.sleep(1)
                life = self.world.life
                if life is None or life.dead or not life.is_up:
                    continue
                self.world.terminate()
                with trio.move_on_after(120):
                    await life.over.wait()
                if not life.dead:
                    self.world.violated("the daemon does not stop")
                    life.kill("since it does not stop")
