"""The world outside the daemon: a messenger's server with phones, containers with agents, people, a
disk and a clock. It survives the daemon, which lives in it again and again.

Everything that the daemon does to the world goes through a `Life`: each such moment is a point,
counted, at which that life may end as by SIGKILL. From then on every point raises `Killed`, so that
no ``finally`` of a dead daemon can touch anything.

What is true is kept here and never asked of the daemon: what the server was told, what the phones
show, which containers exist. `oracle` judges by that.
"""

from __future__ import annotations

import hashlib
import math
import random
import re
import signal
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, closing, contextmanager, nullcontext
from functools import cache
from pathlib import Path
from typing import Final, TypeVar

import attrs
import trio

from pynchy.chat.channel import (
    ChannelEvent,
    Incoming,
    NotConnected,
    SendRefused,
    SendUncertain,
    State,
    StateChanged,
)
from pynchy.container.engines.runtime import ContainerGone, SpawnFailed
from pynchy.container.session import Session, Traffic, open_session
from pynchy.ipc import watcher
from pynchy.ipc.spool import Scan
from pynchy.model import (
    ChatId,
    Group,
    GroupId,
    Message,
    Micros,
    Outgoing,
    Quoted,
    RunId,
    SenderId,
)
from pynchy.policy.failures import CallResult
from pynchy.store import authority
from pynchy.store.connection import Connection, StoreBroken, StoreFull, configure
from pynchy.store.database import Store, open_memory
from pynchy_agent import wire

T = TypeVar("T")

EPOCH: Final = 1_800_000_000  # the wall clock at virtual second 0, where nothing else is said
INSTALL: Final = "51a51a51"
OWNER: Final = SenderId("4900@s.whatsapp.net")
MOST_AGAIN: Final = (
    8  # a server comes again with a message so often; a bug must not make it endless
)
ASK: Final = re.compile(r"\[m\d+\]")
MOST_NAMED: Final = (
    64  # prompts in one result, as with the CLI that ships: of the others nothing is ever said
)
TASK: Final = re.compile(r"\[t\d+\]")


class Killed(BaseException):
    """The daemon is dead. Not an `Exception`, so that nothing contains it."""


@attrs.frozen
class Swarm:
    """Which faults exist in this world, and how strong. A chance of 0 is a fault that does not exist.

    Intervals are mean seconds of virtual time.
    """

    hours: float = 1.0
    groups: int = 2
    capacity: int = 2
    prewarm: int = 0
    talk: float = 240.0  # between two messages of a person
    burst: float = 0.2  # chance of several in a row
    context: float = 0.3  # chance that a message asks for nothing
    answers: float = 0.3  # chance that a person answers a reply at once
    think: float = 20.0  # how long an agent works
    kill_every: float = math.inf
    kill_point: float = 0.0  # chance per point
    stop_every: float = math.inf  # SIGTERM and start again
    restart: float = 5.0
    lost_ack: float = 0.0
    redeliver: float = 0.0
    disconnect_every: float = math.inf
    refuse: float = 0.0
    poison: float = 0.0  # refused for good
    doubt: float = 0.0  # the word about a send is lost, whether it was sent or not
    deaf: float = 0.0  # a send that never returns
    channel_knows: bool = True  # whether the channel can tell afterwards
    slow_send: float = 0.05
    crash: float = 0.0  # chances per turn of an agent …
    hang: float = 0.0
    provider: float = 0.0  # a call of the model fails by itself
    outage_every: float = math.inf  # the model does not answer anybody for a while …
    outage_lasts: float = 600.0
    refusals: float = (
        0.0  # … or the turn's own failures: refused, cut, empty, too long, a history refused
    )
    lies: float = 0.0  # an agent says that the model failed, which the gateway did not see
    silent: float = 0.05
    garbage: float = 0.0
    twice: float = 0.0  # names a prompt that it has answered before
    early_exit: float = 0.0  # exits with 0 and owes an answer
    afterthought: float = 0.0
    says: float = 0.0  # chance that an agent says something while it works
    spawn: float = 0.0  # the engine refuses
    spawn_leaves: float = 0.0  # … and leaves a container behind
    slow_start: float = 1.0
    slow_end: float = 0.5
    survivors: bool = True  # containers outlive the daemon
    disk_full: float = 0.0  # chance per transaction
    slow_disk: float = 0.0
    clock_jump_every: float = math.inf
    slow_task: float = 0.0  # the engine holds tasks back
    stop_orders: float = 0.0  # chance that a message is /stop
    long: float = 0.0  # chance of an answer of several pieces
    disorder: float = 0.0  # chance that a message is overtaken on its way in
    orders_every: float = math.inf  # between two orders of a person, such as /new
    io_error: float = 0.0  # chance per transaction that its outcome is not known
    tasks: int = 0  # scheduled ones
    begins: int = EPOCH  # the wall clock at the start
    look: float = 5.0  # seconds between two looks of the watch


@attrs.define
class Sent:
    """A message on a phone."""

    id: str
    text: str
    at: float


@attrs.define
class Mail:
    """A message on the server: kept until it is acknowledged."""

    number: int
    message: Message
    token: str
    asks: bool
    acknowledged: bool = False
    again: int = 0  # how often the server came again with it


@attrs.define(eq=False)
class Box:
    """A container."""

    name: str
    group: GroupId
    kind: str
    stdin: trio.MemorySendChannel[bytes]
    lines: trio.MemoryReceiveChannel[bytes]
    stdout: trio.MemorySendChannel[bytes]
    output: trio.MemoryReceiveChannel[bytes]
    ending: trio.Event = attrs.Factory(trio.Event)  # told to end, in whatever way
    gone: trio.Event = attrs.Factory(trio.Event)
    status: int = 0
    busy: bool = True  # what the agent knows of itself
    life: int = 0

    @property
    def run(self) -> str:
        return self.name.rpartition("-")[2]


@cache
def _schema() -> bytes:
    with closing(open_memory()) as empty:
        return empty.serialize()


def fresh_database() -> Connection:
    """A database in memory with the whole schema; the steps to it are taken once for all worlds."""
    db = sqlite3.connect(":memory:", isolation_level=None, factory=Connection)
    db.deserialize(_schema())
    configure(db)
    return db


class World:
    """Ground truth."""

    def __init__(self, *, seed: int, swarm: Swarm, home: Path) -> None:
        self.seed = seed
        self.swarm = swarm
        self.home = home
        self.digest = hashlib.blake2b(digest_size=16)
        self.events = 0
        self.story: list[str] | None = None  # kept only when somebody wants to read it
        self.db = fresh_database()
        self.offset = 0.0  # what the wall clock was moved by
        self.jumped = -math.inf  # when it was last moved
        self.ids = 0
        self.points = 0
        self.kill_at: frozenset[int] = frozenset()
        self.calm = False  # no more faults, nobody talks
        self.plan: list[str] = []  # faults that a script wants next, in this order
        self.signals: trio.MemorySendChannel[int] | None = None
        self.lives = 0
        self.kills = 0
        self.life: Life | None = None
        self.channels: list[SimChannel] = []
        self.mail: dict[str, list[Mail]] = {"whatsapp": [], "console": []}
        self.phones: dict[ChatId, list[Sent]] = {}
        self.shown: set[str] = set()
        self.boxes: dict[str, Box] = {}
        self.living: dict[str, Box] = {}
        self.spool: dict[GroupId, dict[str, bytes]] = {}
        self.spooled: dict[GroupId, list[str]] = {}  # every command ever given, in order
        self.spool_bell: dict[GroupId, trio.Event] = {}
        self.trouble: tuple[str, float] | None = (
            None  # what every call of the model meets, and until when
        )
        self.calls: dict[str, CallResult] = {}  # how the newest call of each run ended
        self.met: list[tuple[float, str]] = []  # when a call met trouble, and in which group
        self.own_trouble: dict[
            str, list[str]
        ] = {}  # token -> what its next turns meet, in this order
        self.spoiled: dict[str, str] = {}  # sessions that the model takes no more, and why
        self.renewed = trio.Event()  # the owner has put in a new key
        self.checks: list[Callable[[World], None]] = []  # what a script wants to be judged besides
        self.halves = 0
        self.told_story = False  # a scenario: one story, in which more can be expected
        self.spoken_for: dict[str, str] = {}  # token -> what was surely said in its turn
        self.failures: dict[str, int] = {}  # token -> how often an agent broke over it
        self.said_ok: set[str] = set()  # texts an agent was told are sent
        self.remembered: dict[str, set[str]] = {}  # session -> what its agent has heard
        self.tokens = 0
        self.asked: dict[str, Mail] = {}
        self.silences: set[str] = set()  # tokens whose answer was "nothing"
        self.long: dict[str, str] = {}  # token -> the last words of the newest long answer to it
        self.task_silences = 0  # scheduled turns whose answer was that
        self.tasks_paused = Micros(0)  # from when on nothing scheduled falls due any more
        self.stopped: set[ChatId] = set()
        self.violations: list[str] = []
        self.talk_bell: dict[ChatId, trio.Event] = {}
        self.unread: dict[str, trio.Event] = {}
        self._dice: dict[str, random.Random] = {}
        self.nursery: trio.Nursery  # set by whoever runs the world

    # --- chance, time, and the record ---

    def dice(self, name: str) -> random.Random:
        """A generator of its own for each purpose, so that one more throw moves nothing else."""
        if name not in self._dice:
            self._dice[name] = random.Random(f"{self.seed} {name}")
        return self._dice[name]

    def happens(self, name: str, chance: float) -> bool:
        """Whether a fault happens. In calm times none does."""
        if self.plan and self.plan[0] == name.removeprefix("agent "):
            self.plan.pop(0)
            return True
        return chance > 0 and not self.calm and self.dice(name).random() < chance

    def note(self, *facts: object) -> None:
        """Something that happened; the same seed must make the same list."""
        self.events += 1
        line = f"{trio.current_time():.6f} " + " ".join(map(str, facts))
        self.digest.update(line.encode())
        if self.story is not None:
            self.story.append(line)

    def now(self) -> Micros:
        return Micros(
            self.swarm.begins * 1_000_000 + round((trio.current_time() + self.offset) * 1e6)
        )

    def new_id(self) -> str:
        self.ids += 1
        return f"{self.dice('ids').getrandbits(96):024x}{self.ids:08x}"

    def jitter(self) -> float:
        return self.dice("jitter").uniform(-1, 1)

    def violated(self, what: str) -> None:
        self.note("VIOLATION", what)
        self.violations.append(f"{trio.current_time():.3f} s: {what}")

    def terminate(self) -> None:
        """Ask the daemon to stop, if there is one; it is started again after a while."""
        if self.signals is not None:
            self.signals.send_nowait(signal.SIGTERM)

    def what_is_wrong(self) -> str | None:
        """What a call of the model meets now."""
        if self.trouble is not None and trio.current_time() >= self.trouble[1]:
            self.trouble = None
        return None if self.trouble is None or self.calm else self.trouble[0]

    def next_own_trouble(self, tokens: Iterable[str]) -> str | None:
        """What a turn about these messages meets now, because of one of them."""
        for token in tokens:
            if self.own_trouble.get(token):
                return self.own_trouble[token].pop(0)
        return None

    # --- the messenger's server ---

    def say(
        self, chat: ChatId, text: str, *, asks: bool, sender: SenderId = OWNER, quotes: str = ""
    ) -> Mail:
        """A person sends a message, which may quote the one of an id."""
        self.tokens += 1
        token = f"[{'m' if asks else 'c'}{self.tokens}]"
        channel = "console" if chat.startswith("console:") else "whatsapp"
        message = Message(
            chat=chat,
            id=f"{self.tokens:04X}{self.dice('message ids').getrandbits(64):016X}",
            sender=sender,
            sender_name="Al & <Bo>",
            sent_at=Micros(self.now() // 1_000_000 * 1_000_000),  # whole seconds, as WhatsApp's
            text=text if text.startswith("/") else f"{text} {token}",  # an order is nothing else
            quoted=Quoted(quotes, "someone", "what they said") if quotes else None,
        )
        mail = Mail(len(self.mail[channel]) + 1, message, token, asks)
        self.mail[channel].append(mail)
        if asks:
            self.asked[token] = mail
        self.note("said", chat, token)
        self.unread.setdefault(channel, trio.Event()).set()
        return mail

    def show(self, chat: ChatId, id: str, text: str) -> None:
        """The server has a message of ours; a repeated id is dropped."""
        if id in self.shown:
            self.note("repeated", chat, id[-8:])
            return
        self.shown.add(id)
        self.phones.setdefault(chat, []).append(Sent(id, text, trio.current_time()))
        self.note("shown", chat, id[-8:], text[:60])
        self.talk_bell.setdefault(chat, trio.Event()).set()

    # --- commands ---

    def command(self, folder: GroupId, name: str, args: dict[str, object]) -> str:
        """An agent gives a command; its id."""
        id = f"{self.now() * 1000:016x}{self.dice('commands').getrandbits(64):016x}"
        data = wire.encode_command(wire.Command(name=name, args=args))
        self.spool.setdefault(folder, {})[f"{id}.json"] = data
        self.spooled.setdefault(folder, []).append(id)
        self.note("command", folder, id[-8:])
        self.spool_bell.setdefault(folder, trio.Event()).set()
        return id

    # --- containers ---

    def alive(self) -> list[Box]:
        return list(self.living.values())

    def end_box(self, box: Box, status: int) -> None:
        """A container is gone for good."""
        if box.gone.is_set():
            return
        del self.living[box.name]
        box.status = status
        box.ending.set()
        box.gone.set()
        box.stdout.close()
        self.note("box gone", box.name[-16:], status)

    async def linger(self, box: Box, status: int) -> None:
        """It takes a while from the kill until it is gone."""
        box.ending.set()
        delay = self.dice("ends").expovariate(1 / self.swarm.slow_end)
        await trio.sleep(min(delay, 8.0))
        self.end_box(box, status)


class Life:
    """One life of the daemon, and its only way to touch the world."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.number = world.lives
        self.dead = False
        self.is_up = False
        self.ended = False  # by itself, in order
        self.over = trio.Event()
        self.scope = trio.CancelScope()

    def point(self, name: str) -> None:
        """A moment at which this life may end."""
        world = self.world
        if self.dead:
            raise Killed(name)
        world.points += 1
        if world.points in world.kill_at or world.happens("kills", world.swarm.kill_point):
            self.kill(f"at {name}")
            raise Killed(name)

    def kill(self, how: str) -> None:
        self.dead = True
        self.world.kills += 1
        self.world.note("killed", how)
        self.scope.cancel("killed")

    # --- the database ---

    async def run_sync(
        self, sync_fn: Callable[[], T], /, *, limiter: trio.CapacityLimiter | None = None
    ) -> T:
        """In place of the store's thread: as uncancellable, and as slow as the disk likes."""
        assert limiter is not None
        await trio.lowlevel.checkpoint_if_cancelled()
        owner = object()
        await limiter.acquire_on_behalf_of(owner)
        try:
            return await self._transact(sync_fn)
        finally:
            limiter.release_on_behalf_of(owner)

    async def _transact(self, sync_fn: Callable[[], T]) -> T:
        world = self.world
        with trio.CancelScope(shield=True):
            await trio.sleep(world.dice("disk").random() * 0.002)
            self.point("begin")
            if world.happens("full", world.swarm.disk_full):
                raise StoreFull("the disk is full")
            if world.happens("io error", world.swarm.io_error):
                if world.dice("io error").random() < 0.5:
                    sync_fn()
                    self.point("committed, and it seems not")
                raise StoreBroken("disk I/O error")
            value = sync_fn()
            self.point("committed")
            if world.happens("slow disk", world.swarm.slow_disk):
                await trio.sleep(world.dice("slow disk").expovariate(1.0))
            await trio.lowlevel.checkpoint()
            self.point("returned")
        return value


class SimChannel:
    """A channel of one life, over the server that outlives it. Shaped like `Channel`."""

    def __init__(self, life: Life, name: str, *, faulty: bool) -> None:
        self.life = life
        self.world = life.world
        self.name = name
        self.faulty = faulty
        self.connected = True
        self.news: list[StateChanged] = [StateChanged("connected")]
        self.handed = 0  # of the server's messages, how many were looked at on this connection
        self.again: list[Mail] = []

    def fault(self, name: str, chance: float) -> bool:
        return self.faulty and self.world.happens(name, chance)

    def _next(self) -> ChannelEvent | None:
        if self.news:
            return self.news.pop(0)
        if not self.connected:
            return None
        if self.again:
            mail = self.again.pop(0)
            self.world.note("redelivered", mail.token)
            return Incoming(mail.message, mail.number)
        mails = self.world.mail[self.name]
        while self.handed < len(mails):
            mail = mails[self.handed]
            self.handed += 1
            if not mail.acknowledged:
                if self.handed < len(mails) and self.fault("disorder", self.world.swarm.disorder):
                    self.again.append(mail)  # what is next overtakes it
                    continue
                self.world.note("delivered", mail.token)
                return Incoming(mail.message, mail.number)
        return None

    async def receive(self) -> ChannelEvent:
        while True:
            await trio.lowlevel.checkpoint()
            self.life.point("receive")
            if (event := self._next()) is not None:
                return event
            bell = self.world.unread[self.name] = trio.Event()
            await bell.wait()

    async def acknowledge(self, number: int) -> None:
        self.life.point("acknowledge")
        await trio.lowlevel.checkpoint()
        self.life.point("acknowledging")
        if not self.connected:
            raise NotConnected
        mail = self.world.mail[self.name][number - 1]
        if mail.again < MOST_AGAIN and self.fault("lost ack", self.world.swarm.lost_ack):
            self._come_again(mail)
        else:
            mail.acknowledged = True
            self.world.note("acknowledged", mail.token)
            if mail.again < MOST_AGAIN and self.fault("redeliver", self.world.swarm.redeliver):
                self._come_again(mail)
        self.life.point("acknowledged")

    def _come_again(self, mail: Mail) -> None:
        mail.again += 1
        self.again.append(mail)
        self.world.unread[self.name].set()

    async def send(self, out: Outgoing) -> None:
        world, swarm = self.world, self.world.swarm
        self.life.point("send")
        if not self.connected:
            await trio.lowlevel.checkpoint()
            raise NotConnected
        await trio.sleep(world.dice("send").expovariate(1 / swarm.slow_send))
        self.life.point("sending")
        if not self.connected:
            raise SendUncertain("the connection broke")
        if self.fault("refuse", swarm.refuse):
            raise SendRefused("try later")
        if self.fault("poison", swarm.poison):
            raise SendRefused("never", permanent=True)
        doubt = self.fault("doubt", swarm.doubt)
        if not doubt or world.dice("doubt").random() < 0.5:
            world.show(out.chat, out.message_id, out.text)
            self.life.point("sent")
        if self.fault("deaf", swarm.deaf):
            await trio.sleep_forever()
        if doubt:
            raise SendUncertain("no word")
        await trio.lowlevel.checkpoint()
        self.life.point("send returns")

    async def set_typing(self, chat: ChatId, on: bool) -> None:
        await trio.lowlevel.checkpoint()
        self.life.point("typing")

    async def was_sent(self, message_id: str) -> bool | None:
        await trio.lowlevel.checkpoint()
        self.life.point("was sent")
        if not self.world.swarm.channel_knows or not self.connected:
            return None
        return message_id in self.world.shown

    def drop(self, *, up: bool, logged_out: bool = False) -> None:
        """The connection is lost, or there again; what was not acknowledged comes again."""
        self.connected = up
        lost: State = "logged_out" if logged_out else "disconnected"
        self.news.append(StateChanged("connected" if up else lost))
        if up:
            self.handed = 0
        self.world.unread.setdefault(self.name, trio.Event()).set()


class SimRuntime:
    """The container engine as one life sees it. Shaped like `Runtime`."""

    name = "simulated"
    owner = (1000, 1000)

    def __init__(self, life: Life) -> None:
        self.life = life
        self.world = life.world

    @asynccontextmanager
    async def open(
        self, name: str, group: GroupId, kind: str, *, grace: float
    ) -> AsyncIterator[SimContainer]:
        world, swarm = self.world, self.world.swarm
        self.life.point("spawn")
        await trio.sleep(world.dice("spawn").random() * 0.05)
        self.life.point("spawning")
        down = world.what_is_wrong() == "machine"
        if down:
            world.met.append((trio.current_time(), group))
            raise SpawnFailed("simulated", "the engine is down")
        refused = world.happens("spawn", swarm.spawn)
        if refused and not world.happens("spawn leaves", swarm.spawn_leaves):
            raise SpawnFailed("simulated", "no such luck")
        box = self._create(name, group, kind)
        try:
            self.life.point("spawned")
            if refused:
                raise SpawnFailed("simulated", "it was made and then it failed")
            yield SimContainer(self.life, box)
        finally:
            # Leaving by whatever road: told to end, then killed, then looked for until it is gone.
            with trio.CancelScope(shield=True):
                self.life.point("end")
                box.stdin.close()
                with trio.move_on_after(grace):
                    await box.gone.wait()
                self.life.point("kill")
                if not box.gone.is_set():
                    await world.linger(box, 137)
                self.life.point("verified gone")

    def _create(self, name: str, group: GroupId, kind: str) -> Box:
        world = self.world
        stdin, lines = trio.open_memory_channel[bytes](math.inf)
        stdout, output = trio.open_memory_channel[bytes](math.inf)
        box = Box(name, group, kind, stdin, lines, stdout, output, life=self.life.number)
        alive = world.alive()
        if len(alive) >= world.swarm.capacity:
            world.violated(f"G7: {len(alive) + 1} containers, {world.swarm.capacity} allowed")
        if any(other.group == group for other in alive):
            world.violated(f"G7: a second container of {group}")
        if name in world.boxes:
            world.violated(f"a container name was used again: {name}")
        world.boxes[name] = world.living[name] = box
        world.note("box", name[-16:], group, kind)
        world.nursery.start_soon(Agent(world, box).live, name=f"agent {name[-16:]}")
        return box

    async def list(self) -> list[str]:
        await trio.lowlevel.checkpoint()
        self.life.point("list")
        return sorted(box.name for box in self.world.alive())

    async def remove(self, name: str) -> None:
        self.life.point("remove")
        box = self.world.boxes.get(name)
        if box is not None and not box.gone.is_set():
            await self.world.linger(box, 137)
        await trio.lowlevel.checkpoint()
        self.life.point("removed")

    async def versions(self) -> dict[str, str]:
        await trio.lowlevel.checkpoint()
        return {}

    async def has_image(self) -> bool:
        return True

    async def storage_driver(self) -> str:
        return ""

    async def limits_held(self) -> dict[str, str]:
        return {}


class SimContainer:
    """A container as one life holds it. Shaped like `Container`."""

    def __init__(self, life: Life, box: Box) -> None:
        self.life = life
        self.box = box

    @property
    def name(self) -> str:
        return self.box.name

    async def send(self, data: bytes) -> None:
        await trio.lowlevel.checkpoint()
        self.life.point("stdin")
        if self.box.gone.is_set():
            raise ContainerGone
        self.box.stdin.send_nowait(data)

    async def receive(self) -> bytes:
        try:
            data = await self.box.output.receive()
        except trio.EndOfChannel:
            data = b""
        self.life.point("stdout")
        return data

    def stderr_tail(self) -> bytes:
        return b""

    async def wait(self) -> int:
        await self.box.gone.wait()
        self.life.point("exit")
        return self.box.status

    def kill(self) -> None:
        self.life.point("kill now")
        if not self.box.ending.is_set():
            self.life.world.nursery.start_soon(self.life.world.linger, self.box, 137)


class Exits(Exception):
    """The agent's process ends."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class Agent:
    """What lives in a container: it follows the wire, and breaks as the swarm likes."""

    def __init__(self, world: World, box: Box) -> None:
        self.world = world
        self.box = box
        self.dice = world.dice(f"agent {len(world.boxes)}")
        self.waiting: list[wire.Prompt] = []
        self.answered: list[str] = []
        self.session = ""
        self.closing = False
        self.interrupted = False
        self.eof = False
        self.saying: dict[str, tuple[str, list[str]]] = {}  # commands under way, and for whom

    def happens(self, name: str, chance: float) -> bool:
        return self.world.happens(f"agent {name}", chance)

    def say(self, frame: wire.Frame) -> None:
        if not self.box.gone.is_set():
            self.box.stdout.send_nowait(wire.encode_frame(frame))

    async def live(self) -> None:
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._until_ended, scope, name="agent's end")
                try:
                    await self._serve()
                except Exits as exits:
                    self.box.busy = False
                    if not self.box.ending.is_set():
                        self.world.end_box(self.box, exits.status)
                nursery.cancel_scope.cancel()

    async def _until_ended(self, scope: trio.CancelScope) -> None:
        await self.box.ending.wait()
        scope.cancel()

    async def _serve(self) -> None:
        await self._take(trio.current_time() + 1e9)
        await trio.sleep(self.dice.expovariate(1 / self.world.swarm.slow_start))
        if self.happens("never starts", self.world.swarm.hang / 4):
            await self._hang()
        tokens = [token for each in self.waiting for token in asked_in(each.text)]
        if any(self.world.own_trouble.get(each) == ["slow start"] for each in tokens):
            self.say(wire.Progress(what="starting"))
            await trio.sleep(280)
        self.say(wire.Ready())
        if not self.waiting:
            self._rest()
        while True:
            while self.waiting:
                await self._turn()
            if self.closing:
                raise Exits(0)
            await self._take(math.inf)

    def _rest(self) -> None:
        self.box.busy = False
        self.say(wire.Idle())

    async def _take(self, until: float) -> None:
        """Read one line, or none in time."""
        if self.eof:
            raise Exits(0)
        with trio.move_on_at(until):
            try:
                line = await self.box.lines.receive()
            except trio.EndOfChannel:
                self.eof = True
                raise Exits(0) from None
            self._heard(wire.decode_line(line.rstrip(b"\n")))

    def _heard(self, said: wire.ToContainer) -> None:
        match said:
            case wire.Start(session=session, prompts=prompts):
                self.session = session or _uuid(self.dice)
                self.world.remembered.setdefault(self.session, set())
                self.waiting += prompts
            case wire.Prompt():
                self.waiting.append(said)
                self.box.busy = True
            case wire.Compact(id):
                self.waiting.append(wire.Prompt(id=id, text=""))
                self.box.busy = True
            case wire.Interrupt():
                self.interrupted = True
            case wire.Close():
                self.closing = True
            case wire.Answer(id, ok):
                if ok and id in self.saying:
                    half, tokens = self.saying[id]
                    self.world.said_ok.add(half)
                    self.world.spoken_for.update(dict.fromkeys(tokens, half))

    def _expect_resumed(self, prompt: wire.Prompt) -> None:
        """What was said in a turn that broke off is told to whoever goes on with it."""
        if not self.world.told_story:
            return  # where tasks are held back, a command can overtake the result before it
        for token in asked_in(prompt.text):
            half = self.world.spoken_for.get(token)
            if half is not None and f"<said>meanwhile {half}" not in prompt.text:
                self.world.violated(f"I3: {token} is asked anew, although {half} was said")

    def _broke(self, taken: list[wire.Prompt]) -> None:
        """What nobody knows is tried once more and no oftener, but for what a dead daemon never saw end."""
        for token in asked_in(taken[0].text) if self.world.told_story else ():
            failures = self.world.failures[token] = self.world.failures.get(token, 0) + 1
            if failures > 2 + self.world.lives - 1:
                self.world.violated(f"I8: {token} was tried {failures} times")

    def _speak(self, tokens: list[str]) -> None:
        self.world.halves += 1
        text = f"meanwhile [h{self.world.halves}]"
        id = self.world.command(self.box.group, "send_message", {"text": text})
        self.saying[id] = f"[h{self.world.halves}]", tokens

    async def _turn(self) -> None:
        """Answer what waits, and what comes while working on it."""
        swarm = self.world.swarm
        self.box.busy = True
        self.interrupted = False
        taken = [self.waiting.pop(0)]
        self._expect_resumed(taken[0])
        self.say(wire.Accepted(prompts=(taken[0].id,)))
        # The session is known before anything is answered.
        self.say(wire.Progress(what="thinking", session=self.session))
        end = trio.current_time() + self.dice.expovariate(1 / swarm.think)
        if self.happens("says", swarm.says):
            self._speak(asked_in(taken[0].text))
            await self._take(min(end, trio.current_time() + 2))
        if self.happens("crashes", swarm.crash):
            await trio.sleep(self.dice.random() * max(0.0, end - trio.current_time()))
            self._broke(taken)
            raise Exits(1)
        if self.happens("hangs", swarm.hang):
            await self._hang()
        if self.happens("garbage", swarm.garbage):
            self.box.stdout.send_nowait(
                b"noise\n" + wire.START_MARKER + b"\n{]\n" + wire.END_MARKER + b"\n"
            )
        while trio.current_time() < end and not self.interrupted:
            await self._take(end)
            if self.waiting and self.dice.random() < 0.5:
                more = self.waiting.pop(0)  # steered: one answer for both
                taken.append(more)
                self.say(wire.Accepted(prompts=(more.id,)))
        if self.interrupted:
            ids = tuple(each.id for each in taken)
            self.say(wire.Error(kind="interrupted", message="stopped", prompts=ids))
            self.waiting.clear()
            self._rest()
            return
        if self.happens("early exit", swarm.early_exit):
            self._broke(taken)
            raise Exits(0)
        if self._fails(taken):
            self._rest()
            return
        self.world.calls[self.box.run] = CallResult()
        self._answer(taken)
        if not self.waiting:
            self._rest()

    def _fails(self, taken: list[wire.Prompt]) -> bool:
        """Whether the model fails over it, in one of the ways in which models do."""
        swarm, world = self.world.swarm, self.world
        ids = tuple(each.id for each in taken)
        kind = world.what_is_wrong()
        if kind is None and self.happens("provider", swarm.provider):
            kind = "outage"
        if kind is not None and kind != "machine":
            world.met.append((trio.current_time(), self.box.group))
            world.note("the model fails", kind, self.box.group)
            over = world.trouble[1] if world.trouble is not None and kind == "rate_limit" else None
            moment = None if over is None else world.now() / 1e6 + over - trio.current_time()
            world.calls[self.box.run] = CallResult(kind, kind, moment)
            self.say(wire.Error(kind=_as_the_guest_says(kind), message=kind, prompts=ids))
            return True
        kind = world.spoiled.get(self.session)
        if kind is None:
            kind = world.next_own_trouble(token for each in taken for token in asked_in(each.text))
        if kind is None and self.happens("lies", swarm.lies):
            kind = "lie"
        if kind is None and self.happens("refusals", swarm.refusals):
            kind = self.dice.choice(OWN)
        if kind is None or kind == "slow start":
            return False
        self._fails_by_itself(kind, taken)
        return True

    def _fails_by_itself(self, kind: str, taken: list[wire.Prompt]) -> None:
        """A failure that is this conversation's, or this message's."""
        world, ids = self.world, tuple(each.id for each in taken)
        world.met.append((trio.current_time(), self.box.group))
        world.note("fails by itself", kind, self.box.group)
        if kind == "lie":
            said = wire.Error(kind="outage", message="so it says", prompts=ids)
            world.calls[self.box.run] = CallResult()
            self.say(said)
            return
        word, _, how = kind.partition(" ")
        if word in ("history", "context") and not how:
            world.spoiled[self.session] = kind  # until it is let go of
        seen = word in ("context", "history", "policy")
        world.calls[self.box.run] = CallResult(word, word) if seen else CallResult()
        text = None
        if how == "after words":
            tokens = [token for each in taken for token in asked_in(each.text)]
            world.remembered[self.session].update(tokens)
            text = f"re {' '.join(tokens)} so far"
        self.say(wire.Error(kind=word, message=word, prompts=ids, text=text))

    def _answer(self, taken: list[wire.Prompt]) -> None:
        swarm = self.world.swarm
        tokens = [token for each in taken for token in asked_in(each.text)]
        ids = tuple(each.id for each in taken)
        if self.happens("twice", swarm.twice) and self.answered:
            ids += (self.answered[-1],)
        ids = ids[:MOST_NAMED]
        self.answered += ids
        self.world.remembered[self.session].update(tokens)
        if not all(each.text for each in taken):
            self.say(wire.Progress(what="compact_boundary"))
        text: str | None = f"re {' '.join(tokens)}"
        if not any(each.text for each in taken):
            text = None  # to shorten a conversation is nothing to talk about
        elif self.happens("silent", swarm.silent):
            text = None
            self.world.silences.update(tokens)
            self.world.task_silences += any(TASK.search(each) for each in tokens)
        elif self.happens("long", swarm.long):
            text = f"{text}\n\n" + "\n\n".join("and so on " * 60 for _ in range(12))
            last = f"that was all of {self.box.name[-16:]}-{len(self.answered)}"
            text = f"{text}\n\n{last}"
            self.world.long.update(dict.fromkeys(tokens, last))
        self.world.note("answer", self.box.name[-16:], text and text[:40])
        self.say(wire.Result(text=text, answered=ids, session=self.session))
        if self.happens("afterthought", swarm.afterthought):
            self.say(wire.Result(text="by the way", answered=(), session=self.session))

    async def _hang(self) -> None:
        self.world.note("hangs", self.box.name[-16:])
        while True:
            await self._take(math.inf)


#: How a turn fails by itself.
OWN: Final = (
    "refusal",
    "refusal after words",
    "output_limit",
    "output_limit after words",
    "empty",
    "context",
    "history",
    "policy",
    "agent",
)


def _as_the_guest_says(kind: str) -> str:
    """A kind of trouble as the agent itself would call it: not every one does it know."""
    return "agent" if kind == "billing" else kind


def asked_in(prompt: str) -> list[str]:
    """The tokens of the messages that a prompt asks about."""
    found = []
    for part in prompt.split("<message ")[1:]:
        head, _, body = part.partition(">")
        if 'asks="yes"' in head:
            found += ASK.findall(body.partition("</text>")[0])
    return found or TASK.findall(prompt.partition("<task ")[2])


def _uuid(dice: random.Random) -> str:
    digits = f"{dice.getrandbits(128):032x}"
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


class SimSpool:
    """A group's command folder as one life sees it."""

    def __init__(self, life: Life, folder: GroupId) -> None:
        self.life = life
        self.files = life.world.spool.setdefault(folder, {})
        self.folder = folder

    def scan(self) -> Scan:
        self.life.point("scan")
        return Scan(tuple(sorted(self.files)), (), whole=True)

    def read(self, name: str) -> bytes | None:
        self.life.point("read")
        return self.files.get(name)

    def remove(self, name: str | bytes) -> bool:
        assert isinstance(name, str)
        self.life.point("remove command")
        self.files.pop(name, None)
        self.life.point("removed command")
        return True

    @contextmanager
    def watched(self) -> Iterator[SimWatch]:
        yield SimWatch(self.life.world, self.folder)


@attrs.define
class SimWatch:
    world: World
    folder: GroupId
    told: bool = True

    async def changed(self) -> None:
        """As inotify: what came since the last call is remembered."""
        count = self.world.spooled.setdefault(self.folder, [])
        if len(count) == self.seen:
            bell = self.world.spool_bell[self.folder] = trio.Event()
            await bell.wait()
        await trio.lowlevel.checkpoint()
        self.seen = len(count)

    seen: int = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.seen = len(self.world.spooled.setdefault(self.folder, []))


@attrs.frozen
class SimAgents:
    """How agents come to life here. Shaped like the daemon's `Agents`."""

    life: Life
    runtime: SimRuntime
    store: Store
    grace: float

    def _inbox(self, folder: GroupId) -> watcher.Inbox:
        world = self.life.world
        nowhere = world.home / "nowhere"
        return watcher.Inbox(
            folder=folder,
            commands=nowhere,
            work=nowhere,
            outgoing=nowhere,
            errors=world.home / "errors",
            open_spool=lambda path: nullcontext(SimSpool(self.life, folder)),
        )

    def last_call(self, run: RunId) -> CallResult | None:
        return self.life.world.calls.get(run)

    async def sweep(self, group: GroupId, commands: watcher.CommandService) -> None:
        run = await self.store.call(authority.last_run, group, but=None)
        await commands.sweep(self._inbox(group), run)

    @asynccontextmanager
    async def open(
        self,
        group: Group,
        run: RunId,
        start: wire.Start,
        heard: trio.MemorySendChannel[Traffic],
        commands: watcher.CommandService,
    ) -> AsyncIterator[Session]:
        name = f"pynchy-{INSTALL}-{run}"
        kind = "task" if start.scheduled else "session"
        inbox = self._inbox(group.folder)
        async with (
            commands.swept(inbox, run),
            self.runtime.open(name, group.folder, kind, grace=self.grace) as container,
            open_session(container, heard, start) as session,
            commands.open(inbox, run, answer=session.tell),
        ):
            yield session
