"""Carry out what follows from an act: ring groups, end runs, tell people, wake the scheduler.

Procedure. An act changes rows and says in `Effects` what follows from that; here it is done, by whatever door the
act came. What the daemon itself finds (a channel's state, a full disk) is told from here, too. The rule that keeps
it so: everything here may be done once too often; what must not be lost is in rows.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress

import attrs
import trio

from pynchy.actions.effects import Awaits, Delegated, Effects, Stopped
from pynchy.actions.later import Bells
from pynchy.chat.channel import ADVICE, Channel, ChatSeen, NotConnected, Refreshable, StateChanged
from pynchy.chat.console import Console
from pynchy.groups import queue
from pynchy.model import MAIN_CONSOLE, ChatId, GroupId, Message, TurnTold, channel_of
from pynchy.store import holds, messages, notices, serving
from pynchy.store.database import Store
from pynchy.text.reply import NOTICE_PREFIX

RunKey = tuple[GroupId, queue.DelegateId | None]
"""A group's run, or that of one of its helpers."""


@attrs.frozen
class Bell:
    """Tells the queue which groups have something to do. ``look`` at the disk comes first."""

    feed: Callable[[queue.Event], Awaitable[None]]
    look: Callable[[], Awaitable[None]]
    changed: Callable[[], None]

    async def messages(self, group: GroupId) -> None:
        """There may be something for a session of the group."""
        await self._ring(queue.Arrived(group))

    async def tasks(self, group: GroupId) -> None:
        """There may be a task of the group to run."""
        await self._ring(queue.TaskDue(group))

    async def _ring(self, event: queue.Arrived | queue.TaskDue) -> None:
        await self.look()
        await self.feed(event)
        self.changed()

    async def resume(self, group: GroupId) -> None:
        """The group is served again, beginning with what has come meanwhile."""
        await self.feed(queue.Resumed(group))
        await self.feed(queue.Arrived(group))
        await self.feed(queue.TaskDue(group))

    async def delegate(self, asked: Delegated) -> None:
        """A helper is to be started."""
        parent = None if asked.parent is None else queue.DelegateId(str(asked.parent))
        await self.feed(
            queue.DelegateAsked(
                id=queue.DelegateId(str(asked.turn)),
                group=asked.group,
                parent=parent,
                waits=asked.waits,
            )
        )

    async def everything(self, store: Store) -> int:
        """At start: let the queue know all that waits; for how many groups something does."""
        for group in await store.call(serving.paused):
            await self.feed(queue.Paused(group))
        sessions, tasks = await store.call(serving.unfinished)
        for group in sessions:
            await self.messages(group)
        for group in tasks:
            await self.tasks(group)
        return len(sessions) + len(tasks)


@attrs.define(eq=False)
class StopButtons:
    """One for each run under way, from the moment it is ordered until its container is gone."""

    _buttons: dict[RunKey, trio.Event] = attrs.field(init=False, factory=dict)
    _over: dict[GroupId, trio.Event] = attrs.field(init=False, factory=dict)

    def make(self, run: RunKey) -> trio.Event:
        """The button of a run that begins; set when it is to end."""
        button = self._buttons[run] = trio.Event()
        return button

    def drop(self, run: RunKey, button: trio.Event) -> None:
        """This run is over."""
        if self._buttons.get(run) is button:  # the next run of the group may have begun
            del self._buttons[run]
        self._over.pop(run[0], trio.Event()).set()

    def press(self, group: GroupId) -> None:
        """End a group's runs."""
        for (folder, _), button in self._buttons.items():
            if folder == group:
                button.set()

    async def until_over(self, group: GroupId) -> None:
        """End a group's runs, and wait until they have."""
        self.press(group)
        while any(folder == group for folder, _ in self._buttons):
            await self._over.setdefault(group, trio.Event()).wait()


@attrs.frozen
class Notices:
    """What the daemon says by itself. ``spoke`` is told that the outbox has more; ``notify`` shows a text on the
    owner's desktop, if it has one."""

    store: Store
    nursery: trio.Nursery
    spoke: Callable[[], None]
    assistant: str
    notify: Callable[[str, str], Awaitable[None]] | None = None

    async def owner(self, text: str, kind: str) -> None:
        """Tell the owner, unless this is what they were told last of this kind."""
        words = f"{NOTICE_PREFIX}{text}"
        if await self.store.call(notices.tell_once, MAIN_CONSOLE, kind, words):
            self.alert(text)

    async def main(self, text: str, kind: str) -> None:
        """Tell main, unless this is what it was told last of this kind."""
        words = f"{NOTICE_PREFIX}{text}"
        if await self.store.call(notices.tell_main_once, kind, words):
            self.spoke()

    def alert(self, text: str) -> None:
        """The owner was told this in a chat, and is to hear of it on the desktop, too."""
        self.spoke()
        if self.notify is not None:
            self.nursery.start_soon(self.notify, self.assistant, text)


@attrs.define(eq=False)
class Channels:
    """The channels by name, and how each of them is. ``linked`` takes the name of one that is connected again."""

    by_name: Mapping[str, Channel]
    notices: Notices
    linked: trio.MemorySendChannel[str]
    changed: Callable[[], None]
    states: dict[str, str] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.states = {
            name: "connected" if name == "console" else "connecting" for name in self.by_name
        }

    def on_state(self, name: str, change: StateChanged) -> None:
        """A channel's state has changed."""
        self.states[name] = change.words
        self.changed()
        if change.state == "connected":
            with suppress(trio.WouldBlock):
                self.linked.send_nowait(name)
        elif change.state in ADVICE:
            text, kind = f"{name}: {change.words}", f"{name}:{change.state}"
            self.notices.nursery.start_soon(self.notices.owner, text, kind)

    async def typing(self, chat: ChatId, on: bool) -> None:
        """Show in a chat whether an answer is being written."""
        if (channel := self.by_name.get(channel_of(chat))) is not None:
            await channel.set_typing(chat, on)

    async def refresh(self) -> list[ChatSeen] | None:
        """Let the channels say anew which groups there are; None if none of them can."""
        seen: list[ChatSeen] | None = None
        for channel in self.by_name.values():
            if isinstance(channel, Refreshable):
                with suppress(NotConnected):  # it tells them when it connects
                    seen = [*(seen or ()), *await channel.refresh_groups()]
        return seen


@attrs.frozen
class Terminals:
    """People at the owner's terminals, who see what becomes of what they wrote."""

    console: Console | None

    def turn(self, told: TurnTold) -> None:
        """A turn has begun, or ended."""
        if self.console is not None:
            self.console.turn(told)

    def stored(self, message: Message, received: messages.Received) -> None:
        """A message is in the store."""
        if self.console is not None:
            self.console.stored(
                message, seq=received.seq, folder=received.folder, wakes=received.wakes
            )


@attrs.frozen
class AfterCommit:
    """Carries effects out. ``registered`` is called when the chats that are served have changed, ``spoke`` when the
    outbox has more, ``scheduled`` when tasks have changed."""

    store: Store
    nursery: trio.Nursery
    bell: Bell
    buttons: StopButtons
    channels: Channels
    terminals: Terminals
    waiting: Bells
    registered: Callable[[], None]
    spoke: Callable[[], None]
    scheduled: Callable[[], None]

    async def carry_out(self, effects: Effects) -> None:
        """Do what follows. When it returns, the queue knows, and runs that are to end have been told."""
        for each in effects.stopped:
            await self._stop(each)
        for group in effects.removed:
            await self.bell.feed(queue.Removed(group))
        if effects.registered:
            self.registered()
        if effects.speaks:
            self.spoke()
        if effects.schedules:
            self.scheduled()
        if effects.refreshes:
            self.nursery.start_soon(self.channels.refresh)  # a messenger may take its time
        for awaited in effects.answered:
            self.waiting.ring(awaited)
        for group in effects.paused:
            await self.bell.feed(queue.Paused(group))
        for group in effects.resumed:
            await self.bell.resume(group)
        # First what a run would begin with, then what is told in it.
        for group in effects.outdated:
            await self._outdated(group)
        for group in effects.look:
            await self.bell.messages(group)
        for group in effects.due:
            await self.bell.tasks(group)
        for helper in effects.delegated:
            await self.bell.delegate(helper)

    def soon(self, effects: Effects) -> None:
        """The same, for whoever cannot wait."""
        if effects:
            self.nursery.start_soon(self.carry_out, effects)

    def well_again(self, groups: Sequence[GroupId]) -> None:
        """Let these groups go on: what held their work back is over."""
        self.soon(Effects(look=tuple(groups), due=tuple(groups)))

    async def credential_changed(self) -> None:
        """Who waits for a credential tries the new one."""
        self.well_again(await self.store.call(holds.lift_kind, "credential"))

    async def run_over(self, kind: queue.Kind, run: RunKey) -> None:
        """A run has ended: wake the helper's parent, and look again at what waits for the group."""
        group, helper = run
        if helper is not None:
            self.waiting.ring(Awaits("delegate", helper))
            await self.bell.messages(group)
        elif kind is queue.Kind.TASK and await self.store.call(serving.woken, group):
            await self.bell.messages(group)

    async def _stop(self, what: Stopped) -> None:
        self.buttons.press(what.group)
        for told in what.told:
            self.terminals.turn(told)
        if what.told:  # what came behind them waits for nothing any more
            await self.bell.messages(what.group)

    async def _outdated(self, group: GroupId) -> None:
        """The group's settings have changed: end its warm run, and try again what waited for a budget."""
        self.well_again(await self.store.call(holds.lift_kind, "budget", folder=group))
        await self.bell.feed(queue.Outdated(group))
