"""A daemon cut down to what its clients talk to: control socket with all ops, console, store, receiver.

Its agent is a few lines of the test's own.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from itertools import count
from typing import Any

import attrs
import trio

from pynchy.actions.effects import NOTHING, Effects
from pynchy.chat import receiver
from pynchy.chat.channel import ChatSeen
from pynchy.chat.console import Console, open_console
from pynchy.config.paths import Home
from pynchy.container import folders
from pynchy.control import server
from pynchy.control.ops.acting import Acting
from pynchy.control.ops.console import ConsoleOps
from pynchy.control.ops.groups import GroupOps
from pynchy.control.ops.looking import LookingOps
from pynchy.control.ops.status import Live, StatusOps
from pynchy.control.subscriptions import Watching
from pynchy.model import ChatId, GroupId, Message, Micros, Seq, TurnId, TurnTold
from pynchy.store import groups, messages, outbox
from pynchy.store.connection import StoreError
from pynchy.store.database import Store, open_store
from tests.transactions import at

MAIN = ChatId("console:main")


@attrs.define
class Daemon:
    """Enough of one."""

    home: Home
    store: Store
    console: Console
    new_id: Callable[[], str]
    nursery: trio.Nursery
    script: Callable[["Daemon", Message, Seq], Any]
    turns: Any = attrs.field(factory=lambda: count(1))
    heard: list[Message] = attrs.field(factory=list)
    sending: trio.Lock = attrs.field(factory=trio.Lock)
    stopped: list[GroupId] = attrs.field(factory=list)
    paused: list[tuple[GroupId, bool]] = attrs.field(factory=list)
    watching: Watching = attrs.field(factory=lambda: Watching(now))
    joined: list[ChatSeen] | None = None  # what a messenger answers when it is asked for its groups
    changes: int = 0

    async def refresh(self) -> list[ChatSeen] | None:
        await trio.lowlevel.checkpoint()
        return self.joined

    def stored(self, message: Message, received: messages.Received) -> None:
        self.console.stored(message, seq=received.seq, folder=received.folder, wakes=received.wakes)
        self.heard.append(message)
        if received.wakes and received.seq is not None:
            self.nursery.start_soon(self.script, self, message, received.seq)

    async def reply(self, chat: ChatId, text: str, turn: TurnId | None) -> int:
        """What the outbox and the sender do: one at a time, recorded before and after."""
        async with self.sending:
            (entry,) = await self.store.call(
                at(now(), outbox.enqueue), outbox.Author(GroupId("main"), chat), [text]
            )
            row = await self.store.call(at(now(), outbox.take), entry)
            assert row is not None
            await self.console.send(attrs.evolve(row, turn=turn))
            await self.store.call(at(now(), outbox.sent), entry)
            return entry


def now() -> Micros:
    return Micros(1_700_000_000_000_000)


async def echo(daemon: Daemon, message: Message, seq: Seq) -> None:
    """Says one thing in mid-turn, and one at its end."""
    turn = TurnId(next(daemon.turns))
    daemon.console.turn(TurnTold(message.chat, turn, "started", seqs=(seq,)))
    await daemon.console.set_typing(message.chat, True)
    await daemon.reply(message.chat, "one moment", turn)
    # The turn is over before its last words are on their way.
    daemon.console.turn(TurnTold(message.chat, turn, "done", replies=(2,)))
    await daemon.console.set_typing(message.chat, False)
    assert await daemon.reply(message.chat, f"\x1b[31mecho {message.text}", turn) == 2


@asynccontextmanager
async def running(home: Home, script: Any = echo) -> AsyncIterator[Daemon]:
    home.make()
    ids = (f"{n:032x}" for n in count(1))

    def new_id() -> str:
        return next(ids)

    with trio.fail_after(60):
        async with (
            open_store(home.database) as store,
            open_console(now=now, new_id=new_id) as console,
            trio.open_nursery() as nursery,
        ):
            await store.call(at(now(), groups.ensure_main), name="Main", trigger="Pynchy")
            daemon = Daemon(home, store, console, new_id, nursery, script)

            async def carry_out(effects: Effects) -> None:
                await trio.lowlevel.checkpoint()
                daemon.stopped += [each.group for each in effects.stopped]
                daemon.paused += [(group, True) for group in effects.paused]
                daemon.paused += [(group, False) for group in effects.resumed]
                daemon.changes += effects.registered

            acting = Acting(store, carry_out)
            status = StatusOps(
                store=store,
                home=str(home.root),
                assistant="Pynchy",
                containers=5,
                started_at=now(),
                live=lambda: Live("bwrap", "offline", (), {"console": "connected"}),
            )
            group_ops = GroupOps(acting, "Pynchy", partial(folders.scaffold, home), daemon.refresh)
            looking = LookingOps(store, home.backups, "UTC")

            await nursery.start(
                receiver.Receiver(
                    console,
                    store,
                    on_command=lambda tx, asked: NOTHING,
                    carry_out=carry_out,
                    stored=daemon.stored,
                ).run
            )
            await nursery.start(daemon.watching.run)
            await nursery.start(
                partial(
                    server.run,
                    home.control_socket,
                    {
                        **server.ops_of(ConsoleOps(console), status, group_ops, daemon.watching),
                        "history": looking.history,
                    },
                    fatal=(StoreError,),
                )
            )
            yield daemon
            nursery.cancel_scope.cancel()
